"""What a tuned network says, as one member of a head."""

import numpy as np
import pytest
from scipy import stats

from aiop.errors import AiopError
from aiop.finetune.head import FewShotHead
from aiop.finetune.tuned_member import TUNED, TunedMember, with_tuned
from aiop.finetune.views import Views


def make_views(count, seed=0):
    rng = np.random.default_rng(seed)
    macs = 10.0 ** rng.uniform(7, 9, count)
    return Views(
        names=tuple(f"net {row}" for row in range(count)),
        embedding=rng.normal(size=(count, 5)).astype(np.float32),
        outputs=rng.normal(size=(count, 2)).astype(np.float32),
        graph=rng.normal(size=(count, 4)).astype(np.float32),
        macs=macs,
        params=macs / 100,
        sources=("a", "b"),
        remoteness=np.full((count, 2), 0.5, np.float32),
    )


def test_a_source_is_added_and_nothing_else_changes():
    views, said = make_views(6), np.arange(6.0)
    more = with_tuned(views, said)
    assert more.sources == ("a", "b", TUNED)
    assert more.outputs[:, 2].tolist() == said.tolist()
    assert np.array_equal(more.outputs[:, :2], views.outputs)
    assert more.remoteness.shape == (6, 3)
    assert more.names == views.names
    with pytest.raises(AiopError, match="already"):
        with_tuned(more, said)


def test_the_line_leaves_each_label_out():
    rng = np.random.default_rng(1)
    said = rng.normal(size=30)
    targets = 0.5 * said + 0.3 + 0.1 * rng.normal(size=30)
    member = TunedMember.fit(with_tuned(make_views(30), said), targets, seed=0, sign=1)
    said32 = said.astype(np.float32).astype(np.float64)
    for left in (0, 17):
        others = np.arange(30) != left
        x, y = said32[others], targets[others]
        # least squares with ten labels' weight on a slope of 1: rows of the regressor at its own deviation
        heavy = np.sqrt(10 * x.var())
        matrix = np.concatenate([np.stack([x - x.mean(), np.ones(29)], axis=1), [[heavy, 0.0]]])
        slope, offset = np.linalg.lstsq(matrix, np.concatenate([y, [heavy]]), rcond=None)[0]
        assert member.held_out[left] == pytest.approx(offset + slope * (said32[left] - x.mean()))


def test_a_head_leans_on_it_where_it_is_right_and_not_where_it_is_noise():
    rng = np.random.default_rng(2)
    views = make_views(60)
    values = 70 + 5 * (np.log10(views.macs) - 8) + rng.normal(0, 2, 60)
    members = ("costs", "trees", "tuned")
    right = with_tuned(views, (values - 70) / 4 + 0.1 * rng.normal(size=60))
    head = FewShotHead(members=members).fit(right, values)
    assert head.weights_["tuned"] > 0.5
    assert stats.spearmanr(head.held_out_, values).statistic > 0.9
    noise = FewShotHead(members=members).fit(with_tuned(views, rng.normal(size=60)), values)
    assert noise.weights_["tuned"] < 0.3
    again = FewShotHead.from_state(*head.to_state())
    assert np.array_equal(again.predict(right), head.predict(right))


def test_without_the_source_there_is_one_line():
    with pytest.raises(AiopError, match="with_tuned"):
        FewShotHead(members=("tuned",)).fit(make_views(10), np.arange(10.0))
