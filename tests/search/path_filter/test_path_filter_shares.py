"""Which candidates survive: how many, of which ranges of cost, and that true fronts do."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.search.path_filter import hypervolume, kept, on_front
from aiop.search.path_filter.shares import standing


def candidates(count=100, seed=0):
    random = np.random.default_rng(seed)
    macs = random.permutation(np.geomspace(1e8, 1e10, count))
    return random.normal(size=count), macs


@pytest.mark.parametrize(
    ("share", "count"), [(0.5, 50), (0.2, 20), (0.05, 5), (0.001, 1), (0.201, 21), (1.0, 100)]
)
def test_the_share_is_exact(share, count):
    assert kept(*candidates(), share).sum() == count


def test_every_range_keeps_three_quarters_of_its_share():
    # 200 candidates and 40 survivors: 8 ranges of 25, of each of which at least 30 / 8 survive, to within one
    scores, macs = candidates(200)
    keep = kept(scores, macs, 0.2)[np.argsort(macs)]
    counts = keep.reshape(8, 25).sum(axis=1)
    assert counts.min() >= 3
    assert counts.sum() == 40


def test_a_score_that_grows_with_cost_does_not_empty_the_cheap_ranges():
    scores, macs = candidates(200)
    keep = kept(scores + 5.0 * np.log2(macs), macs, 0.2)[np.argsort(macs)]
    assert keep.reshape(8, 25).any(axis=1).all()


def test_the_best_of_every_range_survives_where_scores_do_not_depend_on_cost():
    scores, macs = candidates(200)
    order = np.argsort(macs)
    # each range has one that is far better than all before it
    scores[order[12::25]] = 10.0 + np.arange(8)
    assert kept(scores, macs, 0.2)[order[12::25]].all()


def test_the_cheapest_survives():
    scores, macs = candidates()
    scores[np.argmin(macs)] = -100.0
    assert kept(scores, macs, 0.1)[np.argmin(macs)]


@pytest.mark.parametrize("seed", range(4))
def test_with_true_scores_the_front_survives(seed):
    noise, macs = candidates(400, seed)
    values = np.log2(macs) + noise
    keep = kept(values, macs, 0.2)
    assert on_front(macs, values).sum() <= 80
    worst = (macs.max(), values.min())
    whole = hypervolume(macs, values, worst)
    assert hypervolume(macs[keep], values[keep], worst) == pytest.approx(whole)


def test_standing_by_hand():
    macs, scores = np.array([4.0, 1.0, 2.0, 3.0]), np.array([7.0, 5.0, 1.0, 6.0])
    # by cost 5, 1, 6, 7: nothing cheaper; 1 - 5; 6 - 5; 7 - 6; with one neighbour the third is 6 - 1
    assert standing(scores, macs, 3).tolist() == [1.0, np.inf, -4.0, 1.0]
    assert standing(scores, macs, 1).tolist() == [1.0, np.inf, -4.0, 5.0]


def test_of_equal_macs_the_better_stands_first():
    assert standing(np.array([1.0, 3.0]), np.array([2.0, 2.0]), 5).tolist() == [-2.0, np.inf]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_other_shares_are_refused(share):
    with pytest.raises(AiopError, match="one candidate in five"):
        kept(*candidates(), share)


def test_lengths_must_agree_and_nothing_leaves_nothing():
    with pytest.raises(AiopError, match="give one of each per candidate"):
        kept(np.ones(3), np.ones(2), 0.5)
    assert kept(np.zeros(0), np.zeros(0), 0.5).tolist() == []
