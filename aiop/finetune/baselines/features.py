"""Baselines on hand-made features of whole graphs: counts of operators, the longest path, and costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.finetune.baselines.base import register
from aiop.finetune.baselines.estimators import PlainRegression
from aiop.finetune.views import Views
from aiop.graph_ir.features import COSTS, GRAPH_FEATURES

__all__ = ["Boosting", "Forest", "Process", "Ridge", "forest_features", "forest_predict", "hand_made"]

Array = npt.NDArray[Any]

_COUNTS = tuple(i for i, name in enumerate(GRAPH_FEATURES) if name.startswith("count_"))
_HAND_MADE = (*range(*COSTS.indices(len(GRAPH_FEATURES))), *_COUNTS)


def hand_made(graph: Array) -> Array:
    """Return costs, sizes, the longest path and counts of operators out of graph features ``(n, G)``."""
    return np.asarray(graph, np.float64)[:, _HAND_MADE]


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


class _OnFeatures(PlainRegression):
    def _matrix(self, views: Views) -> Array:
        return hand_made(views.graph)


@register("forest")
class Forest(_OnFeatures):
    """A random forest on `hand_made` features."""

    kind = "forest"


@register("gp")
class Process(_OnFeatures):
    """A Gaussian process on `hand_made` features."""

    kind = "gp"


@register("ridge")
class Ridge(_OnFeatures):
    """Ridge regression on `hand_made` features."""

    kind = "ridge"


@register("xgboost")
class Boosting(_OnFeatures):
    """XGBoost on `hand_made` features; needs the extra ``aiop[baselines]``."""

    kind = "xgboost"
