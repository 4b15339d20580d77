"""How well predictions rank and how far they are off: pure functions over arrays, nan labels left out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["auroc", "coverage", "kendall_tau", "label_efficiency", "mae", "regret", "scores", "srcc"]

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


def regret(predicted: Array, measured: Array, k: int = 1, direction: Literal["max", "min"] = "max") -> float:
    """How much the best of the ``k`` networks that are predicted best is worse than the best of all ``(n,)``.

    In the unit of the labels, never negative; 0 where ``k`` is at least ``n``, nan where there is no pair. Of networks
    that are predicted equal the first ones are taken.

    >>> regret(np.array([3.0, 2.0, 1.0]), np.array([70.0, 72.0, 75.0]), k=2)
    3.0
    """
    predicted, measured = _paired(predicted, measured)
    if not len(measured):
        return float("nan")
    sign = 1.0 if direction == "max" else -1.0
    best = np.argsort(-sign * predicted, kind="stable")[: max(1, k)]
    return float(np.max(sign * measured) - np.max(sign * measured[best]))


def coverage(low: Array, high: Array, measured: Array) -> float:
    """Share of ``(n,)`` measurements inside their closed intervals; nan where none is known."""
    low, high, measured = (np.asarray(part, np.float64) for part in (low, high, measured))
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(measured)
    if not known.any():
        return float("nan")
    return float(np.mean((measured[known] >= low[known]) & (measured[known] <= high[known])))


def auroc(outside: Array, inside: Array) -> float:
    """Area under the ROC curve of a score that should be larger ``outside``, ``(n,)``, than ``inside``, ``(m,)``.

    The probability that one of the outside scores more than one of the inside, ties counted half (Mann and Whitney
    1947); nan where either is empty.

    >>> auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    outside, inside = np.asarray(outside, np.float64), np.asarray(inside, np.float64)
    if not len(outside) or not len(inside):
        return float("nan")
    ranks = stats.rankdata(np.concatenate([outside, inside]))[: len(outside)]
    count = len(outside)
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(inside)))


def label_efficiency(score: float, labels: int, baseline: Mapping[int, float]) -> tuple[float, bool]:
    """How many times as many labels a baseline needs for the ``score`` that was reached with ``labels``.

    ``baseline`` maps numbers of labels, at least one, to scores, larger better. Between them the score is linear in
    the logarithm of the labels, and more labels never count as worse. Beyond the largest number nothing is known: the
    factor is then that of the largest, and the second answer is True (it is at least this). Below the smallest
    number the factor is that of the smallest (it is at most this).

    >>> label_efficiency(0.8, 20, {10: 0.5, 100: 0.8})
    (5.0, False)
    >>> label_efficiency(0.9, 20, {10: 0.5, 100: 0.8})
    (5.0, True)
    """
    known = sorted((count, value) for count, value in baseline.items() if count > 0 and math.isfinite(value))
    if not known or not math.isfinite(score):
        return float("nan"), False
    counts = [count for count, _ in known]
    values = np.maximum.accumulate([value for _, value in known])
    place = int(np.searchsorted(values, score, side="left"))
    if place == len(counts):
        return counts[-1] / labels, True
    if place == 0:
        return counts[0] / labels, False
    share = (score - values[place - 1]) / (values[place] - values[place - 1])
    needed = math.exp((1 - share) * math.log(counts[place - 1]) + share * math.log(counts[place]))
    return round(needed, 9) / labels, False
