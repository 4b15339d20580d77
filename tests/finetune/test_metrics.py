import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from aiop.finetune.metrics import auroc, coverage, kendall_tau, label_efficiency, mae, regret, scores, srcc


def test_against_scipy_with_ties_and_missing_labels():
    rng = np.random.default_rng(0)
    measured = rng.integers(0, 12, 80).astype(float)
    predicted = measured + rng.normal(0, 3, 80)
    known = np.ones(80, bool)
    known[::7] = False
    holed = np.where(known, measured, np.nan)
    assert srcc(predicted, holed) == pytest.approx(
        stats.spearmanr(predicted[known], measured[known]).statistic
    )
    assert kendall_tau(predicted, holed) == pytest.approx(
        stats.kendalltau(predicted[known], measured[known]).statistic
    )
    assert mae(predicted, holed) == pytest.approx(np.abs(predicted[known] - measured[known]).mean())
    assert scores(predicted, holed)["n"] == known.sum()


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_a_correlation_that_does_not_exist_is_nan(values):
    assert np.isnan(srcc(np.array(values), np.array(values)))


def test_auroc_against_scikit_learn_with_ties():
    rng = np.random.default_rng(1)
    outside, inside = rng.integers(3, 15, 40), rng.integers(0, 12, 70)
    truth = np.r_[np.ones(40), np.zeros(70)]
    assert auroc(outside, inside) == pytest.approx(roc_auc_score(truth, np.r_[outside, inside]))
    assert np.isnan(auroc(outside, np.empty(0)))


@pytest.mark.parametrize(("k", "lost"), [(1, 5.0), (2, 5.0), (3, 1.0), (4, 0.0), (9, 0.0)])
def test_regret_is_what_the_best_of_the_chosen_lacks(k, lost):
    predicted, measured = np.array([9.0, 8.0, 7.0, 1.0]), np.array([5.0, 4.0, 9.0, 10.0])
    assert regret(predicted, measured, k) == lost
    assert regret(-predicted, -measured, k, "min") == lost


def test_regret_leaves_out_networks_that_were_not_measured():
    assert regret(np.array([3.0, 2.0]), np.array([np.nan, 1.0])) == 0.0
    assert np.isnan(regret(np.array([1.0]), np.array([np.nan])))


def test_coverage_counts_closed_intervals():
    low, high = np.zeros(5), np.ones(5)
    assert coverage(low, high, np.array([0.0, 1.0, 1.5, -1.0, np.nan])) == 0.5
    assert np.isnan(coverage(low, high, np.full(5, np.nan)))


def test_label_efficiency_between_and_beyond_the_measured_numbers():
    baseline = {10: 0.4, 20: 0.5, 50: 0.45, 100: 0.7}
    # .6 lies half-way from .5 (kept at 50, where the baseline fell) to .7: the geometric mean of 50 and 100
    assert label_efficiency(0.6, 20, baseline)[0] == pytest.approx(np.sqrt(50 * 100) / 20)
    assert label_efficiency(0.5, 20, baseline) == (1.0, False)
    assert label_efficiency(0.1, 20, baseline) == (0.5, False)
    assert label_efficiency(0.8, 20, baseline) == (5.0, True)
    assert np.isnan(label_efficiency(np.nan, 20, baseline)[0])
    assert np.isnan(label_efficiency(0.5, 20, {0: 0.3})[0])
