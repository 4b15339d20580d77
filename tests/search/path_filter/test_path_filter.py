"""The filter finds what is good at its cost where cost explains all else, and says what it cannot use."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from aiop.errors import AiopError
from aiop.search.path_filter import PathFilter, pairwise_accuracy
from aiop.search.path_filter.kernel_ranker import _solved
from aiop.search.path_filter.pairs import DOUBT, Pairs, similar

LEVELS = 6


def confounded(count, seed=0):
    """Six costs; a costlier network is better and has less of the feature that makes it better at its cost."""
    random = np.random.default_rng(seed)
    level = np.arange(count) % LEVELS
    good = random.normal(size=count)
    features = np.column_stack([good - 3.0 * level, random.normal(size=(count, 3))])
    return features, 1e8 * 2.0**level, 10.0 * level + good


def accuracy(scores, macs, values):
    return pairwise_accuracy(scores, macs, values, LEVELS)


def test_the_signal_within_a_cost_is_found_although_it_runs_against_the_whole():
    features, macs, values = confounded(240)
    others, costs, truth = confounded(240, seed=1)
    assert np.corrcoef(others[:, 0], truth)[0, 1] < -0.9
    assert accuracy(costs, costs, truth) == 0.5  # all of a range cost the same
    path_filter = PathFilter.fitted(features, macs, values)
    assert accuracy(path_filter.score(others, costs), costs, truth) > 0.93


def test_a_handful_of_networks_is_enough_to_fit():
    features, macs, values = confounded(12)
    scores = PathFilter.fitted(features, macs, values).score(*confounded(30, seed=2)[:2])
    assert scores.shape == (30,)
    assert np.isfinite(scores).all()


def test_it_is_the_same_each_time_and_whatever_it_is_asked_together_with():
    features, macs, values = confounded(60)
    first, again = (PathFilter.fitted(features, macs, values, seed=3) for _ in range(2))
    others, costs, _ = confounded(20, seed=4)
    assert np.array_equal(first.score(others, costs), again.score(others, costs))
    assert np.allclose(first.score(others[:5], costs[:5]), first.score(others, costs)[:5])
    assert np.array_equal(first.held_out_, again.held_out_)


def test_the_unit_of_values_and_macs_does_not_matter():
    features, macs, values = confounded(60)
    others, costs, _ = confounded(20, seed=4)
    plain = PathFilter.fitted(features, macs, values).score(others, costs)
    scaled = PathFilter.fitted(features, macs / 1e9, 7.0 * values - 100.0).score(others, costs / 1e9)
    assert np.allclose(plain, scaled, atol=1e-4)


def test_conditioning_changes_what_is_learnt():
    features, macs, values = confounded(60)
    ours, blunt = (PathFilter.fitted(features, macs, values, conditioned=flag) for flag in (True, False))
    assert not np.allclose(ours.score(features, macs), blunt.score(features, macs))


def test_keep_takes_the_share_and_the_good_of_every_cost():
    features, macs, values = confounded(240)
    others, costs, truth = confounded(240, seed=1)
    keep = PathFilter.fitted(features, macs, values).keep(others, costs, 0.25)
    assert keep.sum() == 60
    good = truth - 10.0 * (np.arange(240) % LEVELS)
    assert good[keep].mean() > good[~keep].mean() + 0.8
    assert all(keep[costs == cost].any() for cost in np.unique(costs))


def test_blocks_count_alike_however_wide():
    features, macs, values = confounded(120)
    noise = np.random.default_rng(9).normal(size=(240, 400))
    wide = np.column_stack([features, noise[:120]])
    path_filter = PathFilter.fitted(wide, macs, values, blocks=(4, 400))
    others, costs, truth = confounded(120, seed=1)
    apart = path_filter.score(np.column_stack([others, noise[120:]]), costs)
    together = PathFilter.fitted(wide, macs, values).score(np.column_stack([others, noise[120:]]), costs)
    assert accuracy(apart, costs, truth) > accuracy(together, costs, truth)


def test_the_solution_is_that_of_a_general_optimiser():
    random = np.random.default_rng(0)
    x = random.normal(size=(14, 3))
    kernel = x @ x.T + np.exp(-((x[:, None] - x[None]) ** 2).sum(axis=2))
    pairs = Pairs.of(random.normal(size=14), random.normal(size=14), bins=3)

    def objective(weights):
        away = (kernel @ weights)[:, None] - (kernel @ weights)[None]
        loss = np.logaddexp(0, away / DOUBT) - pairs.chance * away / DOUBT
        return 0.5 * (pairs.weight * loss).sum() + 0.05 * weights @ kernel @ weights

    found = minimize(objective, np.zeros(14), method="BFGS", options={"gtol": 1e-8, "maxiter": 5000})
    assert np.allclose(kernel @ _solved(kernel, pairs, 0.1), kernel @ found.x, atol=2e-3)


def test_the_weight_of_a_pair_falls_with_the_difference_of_its_costs():
    weight = similar(np.log2(1e8 * 1.1 ** np.arange(40)), bins=4)
    assert np.allclose(weight, weight.T)
    assert (np.diff(weight[0, :30]) < 0).all()
    # 40 networks in 4 bins: the 5th neighbour, half a bin away, is one deviation away at both ends of the pair
    assert weight[15, 20] == pytest.approx(np.exp(-0.5 * 25 / 9), abs=1e-6)


BAD = {
    "shape": (lambda x, m, y: (x[0], m, y), r"give \(n, d\) features"),
    "macs": (lambda x, m, y: (x, m[:-1], y), "n numbers of MACs"),
    "values": (lambda x, m, y: (x, m, y[:-1]), "give one each"),
    "nan": (lambda x, m, y: (x, m, np.where(y == y[3], np.nan, y)), "values of the path filter are not all"),
    "infinite": (lambda x, m, y: (np.full_like(x, np.inf), m, y), "features of the path filter are not"),
    "zero": (lambda x, m, y: (x, m * 0, y), "not all above 0"),
    "constant": (lambda x, m, y: (x, m, y * 0), "values that differ"),
    "one": (lambda x, m, y: (x[:1], m[:1], y[:1]), "values that differ"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_learnt_from_is_refused_in_one_line(case):
    spoil, message = BAD[case]
    with pytest.raises(AiopError, match=message) as raised:
        PathFilter.fitted(*spoil(*confounded(20)))
    assert "\n" not in str(raised.value)


def test_settings_and_candidates_that_do_not_fit_are_refused():
    features, macs, values = confounded(20)
    with pytest.raises(AiopError, match="at least 1 range"):
        PathFilter.fitted(features, macs, values, bins=0)
    with pytest.raises(AiopError, match="add up"):
        PathFilter.fitted(features, macs, values, blocks=(1, 2))
    path_filter = PathFilter.fitted(features, macs, values)
    with pytest.raises(AiopError, match="fitted to 4"):
        path_filter.score(features[:, :2], macs)
    with pytest.raises(AiopError, match="share 0 is not above 0"):
        path_filter.keep(features, macs, 0)
