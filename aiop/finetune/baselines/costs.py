"""Counting costs: the baselines without labels, and a task's trend in MACs alone."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr

from aiop.finetune.baselines.base import checked_labels, register
from aiop.finetune.views import Views

__all__ = ["CostRank", "CostTrend", "Macs", "mean_cost_rank"]

Array = npt.NDArray[Any]
Sign = Literal["positive", "labels"]


def mean_cost_rank(macs: Array, params: Array) -> Array:
    """Return the mean of the ranks by MACs and by parameters, ``(n,)``: the larger, the better it is taken to be."""
    return np.asarray((rankdata(macs) + rankdata(params)) / 2)


class _Cost:
    """A score that needs no labels; with ``sign="labels"`` labels turn it round where more cost goes with less."""

    name = ""
    ranks_only = True
    least_labels = 0

    def __init__(self, *, sign: Sign = "positive") -> None:
        self.sign = sign
        self.factor = 1.0

    def fit(self, views: Views, values: Array) -> Self:
        labels = checked_labels(self.name, views, values, self.least_labels)
        self.factor = 1.0
        if self.sign == "labels" and len(labels) > 1 and np.ptp(labels) > 0:
            score = self._score(views)
            if np.ptp(score) > 0 and spearmanr(score, labels).statistic < 0:
                self.factor = -1.0
        return self

    def predict(self, views: Views) -> Array:
        """Return scores ``(m,)`` whose order is the prediction."""
        return self.factor * self._score(views)

    def _score(self, views: Views) -> Array:
        raise NotImplementedError


@register("macs")
class Macs(_Cost):
    """The logarithm of the MACs: the larger a network, the higher its value is taken to be.

    ``sign="labels"`` takes the sign of Spearman's correlation with the labels instead.
    """

    def _score(self, views: Views) -> Array:
        return np.log2(1.0 + np.asarray(views.macs, np.float64))


@register("cost-rank")
class CostRank(_Cost):
    """The mean of the ranks by MACs and by parameters, among the networks asked for; ``sign`` as in `Macs`."""

    def _score(self, views: Views) -> Array:
        return mean_cost_rank(views.macs, views.params)


class CostTrend:
    """A task's value as a smooth function of log MACs alone: a quadratic, between the values it was fitted on.

    Fitted by least squares on ``(n,)`` MACs and values (after the task's transform); fewer than 8 known values or
    constant MACs give the median everywhere.
    """

    def __init__(self, knots: Array, values: Array) -> None:
        self.knots = np.asarray(knots, np.float64)
        self.values = np.asarray(values, np.float64)

    @classmethod
    def fit(cls, macs: Array, values: Array) -> CostTrend:
        """Fit the trend; it is kept as 17 points over the range of log2 MACs."""
        x = np.log2(1.0 + np.asarray(macs, np.float64))
        values = np.asarray(values, np.float64)
        known = np.isfinite(x) & np.isfinite(values)
        x, y = x[known], values[known]
        if len(x) < 8 or np.ptp(x) < 1e-6:
            middle = float(np.median(y)) if len(y) else float("nan")
            return cls(np.zeros(1), np.full(1, middle))
        low, high = np.quantile(x, [0.01, 0.99])
        centre, scale = (low + high) / 2, max(1e-6, (high - low) / 2)
        fit = np.polynomial.Polynomial.fit((np.clip(x, low, high) - centre) / scale, y, 2, domain=[-1, 1])
        grid = np.linspace(-1.0, 1.0, 17)
        return cls(centre + scale * grid, np.clip(fit(grid), y.min(), y.max()))

    def predict(self, macs: Array) -> Array:
        """Return values for ``(n,)`` MACs; beyond the fitted range the value at its end."""
        return np.interp(np.log2(1.0 + np.asarray(macs, np.float64)), self.knots, self.values)

    def to_dict(self) -> dict[str, list[float]]:
        """Return what `from_dict` takes."""
        return {"knots": self.knots.tolist(), "values": self.values.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, list[float]]) -> CostTrend:
        """Restore a trend."""
        return cls(np.array(data["knots"]), np.array(data["values"]))
