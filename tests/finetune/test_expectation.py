import numpy as np
import pytest
from scipy.stats import spearmanr

from aiop.finetune.blocks import Block
from aiop.finetune.expectation import Expectation
from aiop.finetune.head import FewShotHead
from aiop.finetune.views import Views

SOURCES = ("classification/a/x", "segmentation/a/y", "latency/a/phone", "classification/b/x")


def views(count=40, seed=0, near=(0.5, 1.0, 0.5, 7.0), truth=None):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(count, 4))
    if truth is not None:
        outputs[:, :2] = truth[:, None] + 0.1 * rng.normal(size=(count, 2))
    return Views(
        names=tuple(f"network {i}" for i in range(count)),
        embedding=rng.normal(size=(count, 6)).astype(np.float32),
        outputs=outputs.astype(np.float32),
        graph=rng.normal(size=(count, 5)).astype(np.float32),
        macs=np.exp(18 + rng.normal(size=count)),
        params=np.exp(13 + rng.normal(size=count)),
        sources=SOURCES,
        remoteness=None if near is None else np.tile(np.array(near, np.float32), (count, 1)),
    )


def test_it_is_the_standardised_mean_of_quality_at_home():
    known, new = views(), views(seed=1)
    expectation = Expectation.fit(known, quality=True)
    assert expectation.columns.tolist() == [0, 1]
    mean = known.outputs[:, :2].astype(np.float64).mean(axis=1)
    other = new.outputs[:, :2].astype(np.float64).mean(axis=1)
    wanted = np.clip((other - mean.mean()) / mean.std(), -3, 3)
    assert expectation.added(new).expected == pytest.approx(wanted)
    restored = Expectation.from_dict(expectation.to_dict())
    assert (restored.added(new).expected == expectation.added(new).expected).all()


@pytest.mark.parametrize(("near", "quality"), [(None, True), ((9, 9, 0.5, 9), True), ((0.5,) * 4, False)])
def test_nothing_is_expected_without_sources_at_home_or_of_costs(near, quality):
    seen = views(near=near)
    assert not Expectation.fit(seen, quality=quality).added(seen).expected.any()


def test_nothing_is_expected_of_a_predictor_without_sources():
    alone = views().only([False] * len(SOURCES))
    assert not Expectation.fit(alone, quality=True).added(alone).expected.any()


def test_the_block_of_home_holds_the_sources_that_are_near():
    assert Block.fit(views(), "home", np.zeros(40)).columns.tolist() == [0, 1, 2]
    assert Block.fit(views(near=None), "home", np.zeros(40))(views(near=None)).shape == (40, 0)


def test_sources_at_home_help_where_labels_are_few():
    truth = np.random.default_rng(7).normal(size=206)
    ranks = {}
    for name, near in (("home", (0.5, 0.5, 9, 9)), ("unknown", None)):
        seen = views(206, truth=truth, near=near)
        head = FewShotHead().fit(seen.rows(range(6)), truth[:6])
        ranks[name] = spearmanr(head.predict(seen.rows(range(6, 206))), truth[6:]).statistic
    assert ranks["home"] > ranks["unknown"] + 0.1


def test_a_restored_head_expects_the_same():
    truth = np.random.default_rng(7).normal(size=60)
    seen = views(60, truth=truth)
    head = FewShotHead().fit(seen.rows(range(12)), truth[:12])
    restored = FewShotHead.from_state(*head.to_state())
    assert (restored.predict(seen) == head.predict(seen)).all()
