import json

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from aiop.errors import AiopError
from aiop.finetune.head import FewShotHead
from aiop.finetune.views import Views
from aiop.finetune.zero_labels import zero_label_ranks

SOURCES = (
    "classification/a/x", "segmentation/b/y", "video/c/z", "latency/a/phone", "throughput/b/gpu",
)  # fmt: skip


def views(count, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 4)) + shift
    mixing = np.random.default_rng(99).normal(size=(4, 12))
    outputs = np.stack(
        [hidden[:, 1], hidden[:, 1] + 0.3 * hidden[:, 2], -hidden[:, 3], hidden[:, 0], -hidden[:, 0]], axis=1
    )
    return Views(
        names=tuple(f"network {seed} {i}" for i in range(count)),
        embedding=np.tanh(hidden @ mixing).astype(np.float32),
        outputs=outputs.astype(np.float32),
        graph=np.concatenate([hidden[:, [0, 2]], rng.normal(size=(count, 5))], axis=1).astype(np.float32),
        macs=np.exp(18 + hidden[:, 0]),
        params=np.exp(13 + hidden[:, 0] + 0.3 * hidden[:, 2]),
        sources=SOURCES,
    )


def values_of(seen, noise=0.1):
    """Grows with costs, and falls with the source video/c/z."""
    clean = 70 + np.log(seen.macs) - 2.0 * seen.outputs[:, 2]
    return clean + noise * np.random.default_rng(len(seen)).normal(size=len(seen))


@pytest.fixture(scope="module")
def fitted():
    known = views(40)
    return FewShotHead().fit(known, values_of(known)), known


def test_labels_teach_what_costs_do_not_know(fitted):
    head, _ = fitted
    new = views(300, seed=1)
    values = values_of(new)
    assert spearmanr(head.predict(new), values)[0] > 0.9 > spearmanr(new.macs, values)[0] + 0.3
    assert np.abs(head.predict(new) - values).mean() < 0.4 * values.std()


def test_a_source_that_counts_against_has_a_negative_weight(fitted):
    head, _ = fitted
    assert set(head.sources_) == set(SOURCES)
    assert min(head.sources_, key=head.sources_.__getitem__) == "video/c/z"
    assert head.sources_["video/c/z"] < -0.2
    assert sum(head.weights_.values()) == pytest.approx(1)
    assert min(head.weights_.values()) >= 0


def test_held_out_predictions_are_honest(fitted):
    head, known = fitted
    errors = np.abs(head.held_out_ - values_of(known)).mean()
    new = views(300, seed=1)
    fresh = np.abs(head.predict(new) - values_of(new)).mean()
    inside = np.abs(head.predict(known) - values_of(known)).mean()
    assert inside < errors < 2 * fresh


def test_noise_sources_do_not_hurt():
    known, new = views(40), views(300, seed=1)
    rng = np.random.default_rng(0)

    def noised(seen):
        return Views(
            seen.names, rng.normal(size=seen.embedding.shape), rng.normal(size=seen.outputs.shape), seen.graph,
            seen.macs, seen.params, seen.sources,
        )  # fmt: skip

    known, new = noised(known), noised(new)
    values = np.log(known.macs)
    head = FewShotHead().fit(known, values)
    assert spearmanr(head.predict(new), new.macs)[0] > 0.95


@pytest.mark.parametrize("count", [10, 40, 150])
def test_intervals_cover_what_they_say(count):
    covered = []
    for seed in range(6):
        known, new = views(count, seed=10 + seed), views(200, seed=100 + seed)
        rng = np.random.default_rng(seed)
        head = FewShotHead(members=["costs", "gp"])
        head.fit(known, values_of(known, 0) + rng.normal(size=count))
        low, high = head.interval(new)
        values = values_of(new, 0) + rng.normal(size=200)
        assert ((low <= head.predict(new)) & (head.predict(new) <= high)).all()
        covered.append(np.mean((low <= values) & (values <= high)))
    assert 0.72 < np.mean(covered) < 0.9


def test_three_labels_give_no_interval():
    known = views(3)
    low, high = FewShotHead().fit(known, values_of(known)).interval(views(5, seed=1))
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()


def test_costs_are_predicted_by_ratio():
    known, new = views(30), views(200, seed=1)
    latency = known.macs / 1e6
    head = FewShotHead(direction="min", transform="log", cost_sign=1).fit(known, latency)
    predicted = head.predict(new)
    assert (predicted > 0).all()
    assert np.median(np.abs(np.log(predicted / (new.macs / 1e6)))) < 0.15
    assert (head.interval(new)[0] > 0).all()


def test_two_labels_follow_costs_with_the_sign_expected():
    known = views(2)
    up = np.array([1.0, 2.0]) if known.macs[1] > known.macs[0] else np.array([2.0, 1.0])
    new = views(50, seed=1)
    rank = spearmanr(FewShotHead().fit(known, up).predict(new), rankdata(new.macs) + rankdata(new.params))
    assert rank[0] > 0.95


def test_without_labels_there_are_ranks_and_nothing_else():
    new = views(60)
    head = FewShotHead().fit(new.rows([]), np.zeros(0))
    assert (head.predict(new) == zero_label_ranks(new)).all()
    assert np.isinf(head.interval(new)[0]).all()
    assert np.isnan(head.remoteness(new)).all()
    assert not len(head.held_out_)
    again = FewShotHead.from_state(*head.to_state())
    assert (again.predict(new) == head.predict(new)).all()


def test_what_is_unlike_the_labelled_networks_is_far(fitted):
    head, _ = fitted
    near, far = head.remoteness(views(200, seed=3)), head.remoteness(views(200, seed=4, shift=6.0))
    assert np.mean(near <= 1) > 0.8
    assert np.mean(far > 1) > 0.95


def test_state_is_json_and_arrays_and_predicts_the_same(fitted):
    head, _ = fitted
    arrays, document = head.to_state()
    again = FewShotHead.from_state(arrays, json.loads(json.dumps(document)))
    new = views(50, seed=1)
    assert (again.predict(new) == head.predict(new)).all()
    assert (np.array(again.interval(new)) == np.array(head.interval(new))).all()
    assert (again.remoteness(new) == head.remoteness(new)).all()
    assert (again.held_out_ == head.held_out_).all()
    assert again.weights_ == head.weights_
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays.values())


def test_the_same_labels_give_the_same_head(fitted):
    head, known = fitted
    again = FewShotHead().fit(known, values_of(known))
    assert (again.predict(known) == head.predict(known)).all()


def test_what_is_predicted_of_a_network_does_not_depend_on_the_others(fitted):
    head, _ = fitted
    new = views(20, seed=1)
    assert head.predict(new.rows([4])) == pytest.approx(head.predict(new)[[4]], abs=1e-9)
    assert head.predict(new.rows([])).shape == (0,)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, np.nan, 2.0], "1 of 3 labels are missing or infinite"),
        ([1.0, np.inf, 2.0], "1 of 3 labels are missing or infinite"),
        ([5.0, 5.0, 5.0], "all 3 labels are 5"),
        ([1.0, 2.0], "for 3 networks"),
        (["a", "b", "c"], "not all numbers"),
    ],
)
def test_labels_that_teach_nothing_are_refused_in_one_line(values, says):
    with pytest.raises(AiopError, match=says) as error:
        FewShotHead().fit(views(3), values)
    assert "\n" not in str(error.value)


def test_one_label_alone_is_refused():
    with pytest.raises(AiopError, match="one label alone"):
        FewShotHead().fit(views(1), [1.0])


def test_a_latency_of_nothing_has_no_logarithm():
    with pytest.raises(AiopError, match="1 of 3 labels are not above 0"):
        FewShotHead(transform="log").fit(views(3), [1.0, 0.0, 2.0])


def test_views_that_are_not_finite_are_refused():
    bad = views(4)
    bad.embedding[2, 0] = np.nan
    with pytest.raises(AiopError, match="network 0 2"):
        FewShotHead().fit(bad, np.arange(4.0))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"members": ["tree"]}, 'did you mean "trees"'),
        ({"members": []}, "no members"),
        ({"coverage": 80}, "between 0 and 1"),
        ({"direction": "maximum"}, "direction"),
        ({"transform": "log2"}, "transform"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings, says):
    with pytest.raises(AiopError, match=says):
        FewShotHead(**settings)


def test_another_predictor_and_an_unfitted_head_are_refused(fitted):
    head, known = fitted
    with pytest.raises(AiopError, match="another predictor"):
        head.predict(known.only([True, True, True, False, False]))
    with pytest.raises(AiopError, match="not been fitted"):
        FewShotHead().predict(known)


def test_a_state_of_another_version_or_with_a_hole_is_refused(fitted):
    head, _ = fitted
    arrays, document = head.to_state()
    with pytest.raises(AiopError, match="version 99"):
        FewShotHead.from_state(arrays, document | {"version": 99})
    del arrays["member/gp/weights"]
    with pytest.raises(AiopError, match="damaged"):
        FewShotHead.from_state(arrays, document)
