import numpy as np
import pytest
from scipy import stats

from aiop.finetune.metrics import kendall_tau, mae, scores, srcc


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
