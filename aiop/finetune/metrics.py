"""How well predictions rank and how far they are off: pure functions over arrays, nan labels left out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["kendall_tau", "mae", "scores", "srcc"]

Array = npt.NDArray[Any]


def _paired(predicted: Array, measured: Array) -> tuple[Array, Array]:
    predicted, measured = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    known = np.isfinite(predicted) & np.isfinite(measured)
    return predicted[known], measured[known]


def srcc(predicted: Array, measured: Array) -> float:
    """Spearman's rank correlation of ``(n,)`` arrays; nan for fewer than two pairs or a constant side.

    >>> round(srcc(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])), 3)
    0.5
    """
    predicted, measured = _paired(predicted, measured)
    if len(predicted) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.spearmanr(predicted, measured).statistic)


def kendall_tau(predicted: Array, measured: Array) -> float:
    """Kendall's tau-b of ``(n,)`` arrays; nan for fewer than two pairs or a constant side."""
    predicted, measured = _paired(predicted, measured)
    return float(stats.kendalltau(predicted, measured).statistic) if len(predicted) > 1 else float("nan")


def mae(predicted: Array, measured: Array) -> float:
    """Mean absolute error of ``(n,)`` arrays in the unit of the labels; nan where there is no pair."""
    predicted, measured = _paired(predicted, measured)
    return float(np.mean(np.abs(predicted - measured))) if len(predicted) else float("nan")


def scores(predicted: Array, measured: Array) -> dict[str, float]:
    """Return ``{"srcc", "tau", "mae", "n"}`` of predictions against measurements."""
    pairs = len(_paired(predicted, measured)[0])
    return {
        "srcc": srcc(predicted, measured),
        "tau": kendall_tau(predicted, measured),
        "mae": mae(predicted, measured),
        "n": pairs,
    }
