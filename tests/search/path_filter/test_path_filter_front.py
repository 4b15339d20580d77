"""Fronts, hypervolumes and pairwise accuracy against hand-made numbers, counting, definitions and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from aiop.errors import AiopError
from aiop.search.path_filter import hypervolume, on_front, pairwise_accuracy


def test_hypervolume_by_hand():
    # (1, 2) and (3, 5) up to cost 4: 2 high over 3, then 3 more over 1; (2, 1) and (3, 4) are dominated
    macs, values = np.array([3.0, 1.0, 2.0, 3.0]), np.array([5.0, 2.0, 1.0, 4.0])
    assert hypervolume(macs, values, (4.0, 0.0)) == 2 * 3 + 3 * 1


def test_what_is_no_better_than_the_reference_adds_nothing():
    assert hypervolume(np.array([5.0, 1.0]), np.array([9.0, -1.0]), (4.0, 0.0)) == 0.0
    assert hypervolume(np.zeros(0), np.zeros(0), (4.0, 0.0)) == 0.0
    # a front that begins below the reference counts from the reference on
    assert hypervolume(np.array([1.0, 2.0]), np.array([-5.0, 3.0]), (4.0, 0.0)) == 6.0


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_counts_the_squares_below_the_front(seed):
    random = np.random.default_rng(seed)
    macs, values = random.integers(0, 12, 15), random.integers(0, 12, 15)
    squares = sum(
        any(m <= x and v >= y + 1 for m, v in zip(macs, values, strict=True))
        for x in range(11)
        for y in range(1, 13)
    )
    assert hypervolume(macs, values, (11.0, 1.0)) == squares


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_dominates(seed):
    random = np.random.default_rng(seed)
    macs, values = random.permutation(30).astype(float), random.integers(0, 9, 30).astype(float)
    dominated = [any((macs < macs[row]) & (values >= values[row])) for row in range(30)]
    assert on_front(macs, values).tolist() == [not one for one in dominated]


def test_of_equal_networks_one_is_on_the_front():
    assert on_front(np.array([1.0, 1.0]), np.array([2.0, 2.0])).tolist() == [True, False]


def test_lengths_must_agree():
    with pytest.raises(AiopError, match="2 costs and 1 values"):
        hypervolume(np.ones(2), np.ones(1), (1.0, 0.0))


def test_pairwise_accuracy_by_hand():
    # Two ranges of three: of the first, pairs 1<2 and 1<3 and 2<3 with scores 1, 3, 2: two of three right.
    # Of the second, values 5, 5, 6: two pairs; scores 0, 1, 1: one right, one tie.
    macs = np.array([1, 2, 3, 10, 11, 12.0])
    values, scores = np.array([1, 2, 3, 5, 5, 6.0]), np.array([1, 3, 2, 0, 1, 1.0])
    assert pairwise_accuracy(scores, macs, values, bins=2) == pytest.approx((2 + 1.5) / 5)
    assert math.isnan(pairwise_accuracy(scores, macs, np.ones(6)))


def test_over_one_range_it_is_kendalls_tau():
    random = np.random.default_rng(0)
    scores, values = random.normal(size=(2, 50))
    found = pairwise_accuracy(scores, np.arange(50.0) + 1, values, bins=1)
    assert found == pytest.approx((kendalltau(scores, values).statistic + 1) / 2)
