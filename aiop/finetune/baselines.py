"""What a predictor has to beat: counting costs, and trees on counts of operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from aiop.graph_ir.features import GRAPH_FEATURES

__all__ = ["CostTrend", "forest_features", "forest_predict", "mean_cost_rank"]

Array = npt.NDArray[Any]


def mean_cost_rank(macs: Array, params: Array) -> Array:
    """Return the mean of the ranks by MACs and by parameters, ``(n,)``: the larger, the better it is taken to be."""
    return np.asarray((rankdata(macs) + rankdata(params)) / 2)


def forest_features(graph: Array) -> Array:
    """Return counts of operators, log MACs and log parameters out of graph features ``(n, G)``."""
    columns = [
        i
        for i, name in enumerate(GRAPH_FEATURES)
        if name.startswith("count_") or name in ("log_macs", "log_params")
    ]
    return np.asarray(graph)[:, columns]


def forest_predict(train: Array, labels: Array, test: Array, *, seed: int = 0, trees: int = 300) -> Array:
    """Fit a random forest on ``train`` ``(n, D)`` with ``labels`` ``(n,)`` (nan left out) and predict ``test``."""
    from sklearn.ensemble import RandomForestRegressor

    known = np.isfinite(labels)
    forest = RandomForestRegressor(trees, random_state=seed, n_jobs=-1, min_samples_leaf=2, max_features=0.5)
    forest.fit(train[known], labels[known])
    return np.asarray(forest.predict(test))


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
