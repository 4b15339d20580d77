"""How good predictions are, with how sure that is: scores of one row of a table, bootstrapped over networks."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from aiop.finetune.baselines import CostTrend, mean_cost_rank
from aiop.finetune.metrics import kendall_tau, mae, regret, srcc

__all__ = ["RESAMPLES", "SURE", "judge", "judge_costs", "number_or_none", "trend_held_out"]

Array = npt.NDArray[Any]
Direction = Literal["max", "min"]
Row = dict[str, Any]

SURE = 0.95
"""Confidence of the intervals of scores."""

RESAMPLES = 1000
"""Bootstrap samples; fewer where networks are many, whose scores hardly vary."""

_FEW = 4  # networks: resampling fewer says nothing
_MANY = 1000
_FOLDS = 100


def judge(predicted: Array, measured: Array, direction: Direction = "max", *, seed: int = 0) -> Row:
    """Score predictions ``(n,)`` against measurements ``(n,)``, both finite.

    Returns:
        ``n``, ``srcc``, ``tau``, ``mae`` (in the unit), ``regret5`` and ``regret10`` (None where there are no
        more networks), and under ``between`` the ends of the 95% interval of ``srcc``, ``tau`` and ``mae``:
        percentiles over networks drawn with replacement (Efron 1979). What does not exist (ranks of a constant,
        intervals of fewer than four) is None.
    """
    predicted, measured = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    return {
        "n": len(measured),
        "srcc": number_or_none(srcc(predicted, measured)),
        "tau": number_or_none(kendall_tau(predicted, measured)),
        "mae": number_or_none(mae(predicted, measured)),
        "regret5": _regret(predicted, measured, 5, direction),
        "regret10": _regret(predicted, measured, 10, direction),
        "between": _between(predicted, measured, seed),
    }


def judge_costs(
    macs: Array, params: Array, measured: Array, trend: Array | None, direction: Direction, *, seed: int = 0
) -> dict[str, Row]:
    """Score what counting says, beside which every other row must stand: ``macs`` and ``cost-rank``.

    MACs ``(n,)`` and the mean rank of MACs and parameters order the networks as they are, more costs for more of the
    metric; ``trend`` ``(n,)`` is what MACs say in the metric's unit, for the mean error.
    """
    rows = {
        "macs": judge(macs, measured, direction, seed=seed),
        "cost-rank": judge(mean_cost_rank(macs, params), measured, direction, seed=seed),
    }
    for row in rows.values():
        row["mae"] = row["between"]["mae"] = None
    if trend is not None:
        in_unit = judge(trend, measured, direction, seed=seed)
        rows["macs"]["mae"] = in_unit["mae"]
        rows["macs"]["between"]["mae"] = in_unit["between"]["mae"]
    return rows


def trend_held_out(macs: Array, scaled: Array) -> Array:
    """What the trend over MACs says of every network ``(n,)`` when fitted without it, or without its hundredth."""
    places = np.arange(len(macs)) % _FOLDS
    found = np.empty(len(macs))
    for part in range(min(_FOLDS, len(macs))):
        left_out = places == part
        found[left_out] = CostTrend.fit(macs[~left_out], scaled[~left_out]).predict(macs[left_out])
    return found


def _regret(predicted: Array, measured: Array, top: int, direction: Direction) -> float | None:
    return regret(predicted, measured, top, direction) if len(measured) > top else None


def _between(predicted: Array, measured: Array, seed: int) -> dict[str, list[float] | None]:
    count = len(measured)
    if count < _FEW:
        return dict.fromkeys(("srcc", "tau", "mae"))
    samples = RESAMPLES if count <= _MANY else RESAMPLES // 5
    draws = np.random.default_rng(seed).integers(0, count, (samples, count))
    one, other = predicted[draws], measured[draws]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw may hold one network only
        ranks = _correlations(rankdata(one, axis=1), rankdata(other, axis=1))
        taus = _taus(predicted, measured, draws)
    return {"srcc": _ends(ranks), "tau": _ends(taus), "mae": _ends(np.abs(one - other).mean(axis=1))}


def _correlations(one: Array, other: Array) -> Array:
    """Pearson's correlation of every row of one ``(b, n)`` with that of the other."""
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    lengths = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.asarray((one * other).sum(axis=1) / np.where(lengths > 0, lengths, np.nan))


def _taus(predicted: Array, measured: Array, draws: Array) -> Array:
    """Kendall's tau-b of every draw ``(b, n)``: sums over pairs, each as often as its two networks are drawn."""
    samples, count = draws.shape
    if count > _MANY:  # whose matrix of pairs would be large
        taus = (kendalltau(predicted[draw], measured[draw]).statistic for draw in draws)
        return np.fromiter(taus, np.float64, samples)
    times = np.zeros((samples, count))
    np.add.at(times, (np.arange(samples)[:, None], draws), 1)
    one, other = (np.sign(side[:, None] - side[None]) for side in (predicted, measured))
    agreeing, apart, measured_apart = (
        np.einsum("bi,bi->b", times @ pairs, times) for pairs in (one * other, np.abs(one), np.abs(other))
    )
    lengths = np.sqrt(apart * measured_apart)
    return np.asarray(agreeing / np.where(lengths > 0, lengths, np.nan))


def _ends(samples: Array) -> list[float] | None:
    known = samples[np.isfinite(samples)]
    if not len(known):
        return None
    return [float(end) for end in np.quantile(known, [(1 - SURE) / 2, (1 + SURE) / 2])]


def number_or_none(value: float) -> float | None:
    """Return what JSON can hold: None for a number that does not exist."""
    return value if np.isfinite(value) else None
