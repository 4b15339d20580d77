"""The plan of batches: complete passes, right shares, no memory."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.pretrain.sampling import BatchPlan, shares

SIZES = (40, 10, 7)


def plan(single: bool, steps: int = 300, seed: int = 0, power: float = 0.5) -> BatchPlan:
    return BatchPlan(SIZES, shares(SIZES, power), batch_size=8, steps=steps, seed=seed, single=single)


def test_shares() -> None:
    np.testing.assert_allclose(shares([100, 25], 0), [0.5, 0.5])
    np.testing.assert_allclose(shares([100, 25], 1), [0.8, 0.2])
    np.testing.assert_allclose(shares([100, 25], 0.5), [2 / 3, 1 / 3])
    np.testing.assert_allclose(shares([100, 25], 0, [1, 3]), [0.25, 0.75])


@pytest.mark.parametrize("single", [True, False])
def test_every_pass_sees_every_row_once(single: bool) -> None:
    batches = [plan(single).rows(step) for step in range(300)]
    for corpus, size in enumerate(SIZES):
        stream = np.concatenate([batch[corpus] for batch in batches])
        passes = len(stream) // size
        assert passes > 3
        for number in range(passes):
            part = stream[number * size : (number + 1) * size]
            assert sorted(part) == list(range(size))
        assert not np.array_equal(stream[:size], stream[size : 2 * size])


@pytest.mark.parametrize("single", [True, False])
def test_shares_are_kept(single: bool) -> None:
    counts = np.array([[len(rows) for rows in plan(single).rows(step)] for step in range(300)])
    tolerance = 0.1 if single else 0.005
    np.testing.assert_allclose(counts.sum(axis=0) / counts.sum(), shares(SIZES, 0.5), atol=tolerance)
    if single:
        assert ((counts > 0).sum(axis=1) == 1).all()
        assert (counts.sum(axis=1) == 8).all()
    else:
        assert (np.abs(counts.sum(axis=1) - 8) <= 2).all()


@pytest.mark.parametrize("single", [True, False])
def test_a_step_needs_no_step_before_it(single: bool) -> None:
    ahead = plan(single)
    for step in (250, 3, 120):
        for left, right in zip(ahead.rows(step), plan(single).rows(step), strict=True):
            np.testing.assert_array_equal(left, right)


def test_the_seed_decides() -> None:
    first, second = (np.concatenate(plan(False, seed=seed).rows(0)) for seed in (0, 1))
    assert not np.array_equal(first, second)
