"""The plain regressors behind the baselines, each with one fixed, ordinary setting: no search, nothing tuned here.

Inputs are ``(n, D)`` features, targets standardised ``(n,)``. Linear and kernel methods see standardised features;
trees see them as they are. scikit-learn is imported when a regressor is made.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.baselines.base import Regression
from aiop.finetune.views import Views

__all__ = ["MOST_OF_A_PROCESS", "Kind", "PlainRegression", "ranks_averaged", "regressor"]

Array = npt.NDArray[Any]
Kind = Literal["ridge", "gp", "trees", "forest", "xgboost"]

MOST_OF_A_PROCESS = 1000
"""Labels that a Gaussian process is fitted to at most: its time grows with their cube."""

_TREES = 300
_ALPHAS = np.logspace(-2, 4, 25)


def regressor(kind: Kind, seed: int) -> Any:
    """Return an object with ``fit(X, y)`` and ``predict(X)``.

    ridge: the penalty by leave-one-out among 25 from 0.01 to 10,000. gp: a Matern 5/2 kernel of one length and a
    noise, both by marginal likelihood, on a drawn part of more than `MOST_OF_A_PROCESS` labels. trees: 300 extra
    trees. forest: 300 trees with half of the features at a split and two labels in a leaf. xgboost: 300 trees of
    depth 4 at rate 0.05, four fifths of labels and features each.
    """
    if kind == "ridge":
        from sklearn.linear_model import RidgeCV
        from sklearn.preprocessing import StandardScaler

        return _pipeline(StandardScaler(), RidgeCV(alphas=_ALPHAS))
    if kind == "gp":
        return _Process(seed)
    if kind == "trees":
        from sklearn.ensemble import ExtraTreesRegressor

        return ExtraTreesRegressor(_TREES, random_state=seed)
    if kind == "forest":
        from sklearn.ensemble import RandomForestRegressor

        return RandomForestRegressor(_TREES, random_state=seed, min_samples_leaf=2, max_features=0.5)
    return _boosted(seed)


def ranks_averaged(predictions: Array) -> Array:
    """Return ``(m,)`` values ordered by the mean rank of ``(k, m)`` predictions: their sorted mean, in that order.

    >>> ranks_averaged(np.array([[0.0, 1.0, 2.0], [0.0, 5.0, 4.0], [1.0, 3.0, 0.0]])).round(2)
    array([0.33, 3.  , 2.  ])
    """
    from scipy.stats import rankdata

    ranks = rankdata(predictions, axis=1).mean(axis=0)
    mean = predictions.mean(axis=0)
    # by the mean among equal ranks, so that the order of the networks does not matter
    order = np.lexsort((mean, ranks))
    values = np.empty_like(mean)
    values[order] = np.sort(mean)
    return np.asarray(values)


def _pipeline(*steps: Any) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*steps)


class _Process:
    """A Gaussian process on standardised features, of which constant ones are left out."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, features: Array, targets: Array) -> _Process:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        if len(targets) > MOST_OF_A_PROCESS:
            kept = np.random.default_rng(self.seed).permutation(len(targets))[:MOST_OF_A_PROCESS]
            features, targets = features[kept], targets[kept]
        self.centre, deviation = features.mean(axis=0), features.std(axis=0)
        self.scale = np.where(deviation > 1e-9, 1.0 / np.maximum(deviation, 1e-9), 0.0)
        # typical distances grow with the root of the number of features
        reach = math.sqrt(max(1, int(np.count_nonzero(self.scale))))
        kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(reach, (0.2 * reach, 20.0 * reach), nu=2.5)
        self.process = GaussianProcessRegressor(
            kernel + WhiteKernel(0.1, (1e-3, 2.0)), random_state=self.seed
        )
        with warnings.catch_warnings():  # a length at its bound is a flat function: no news
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.process.fit(self._seen(features), targets)
        return self

    def predict(self, features: Array) -> Array:
        return np.asarray(self.process.predict(self._seen(features)))

    def _seen(self, features: Array) -> Array:
        return np.asarray((features - self.centre) * self.scale)


def _boosted(seed: int) -> Any:
    try:
        from xgboost import XGBRegressor
    except ImportError as error:
        raise AiopError(
            'baseline "xgboost" needs the package xgboost, which is not installed: '
            'install it with `pip install "aiop[baselines]"`'
        ) from error
    return XGBRegressor(
        n_estimators=300, max_depth=4, learning_rate=0.05, subsample=0.8, colsample_bytree=0.8, random_state=seed,
        n_jobs=1,
    )  # fmt: skip


class PlainRegression(Regression):
    """A baseline that is one `regressor` of its ``kind`` on a matrix of networks."""

    kind: Kind

    def _fit(self, views: Views, targets: Array) -> None:
        self._regressor = regressor(self.kind, self.seed)
        self._regressor.fit(self._matrix(views), targets)

    def _predict(self, views: Views) -> Array:
        return np.asarray(self._regressor.predict(self._matrix(views)))

    def _matrix(self, views: Views) -> Array:
        """Return what the regressor sees of n networks, ``(n, D)``."""
        raise NotImplementedError
