"""Baselines on architecture codes, from scratch: NCP's perceptron, trees, a Gaussian process and ridge regression.

Each comes with and without the logarithms of MACs and parameters beside the code (``...-costs``). Which of them is best
on a task is for whoever compares to say: `FROM_SCRATCH` lists them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.finetune.baselines.base import Regression, Transform, register
from aiop.finetune.baselines.codes import code_matrix
from aiop.finetune.baselines.estimators import PlainRegression
from aiop.finetune.costs import log_costs
from aiop.finetune.views import Views

__all__ = ["FROM_SCRATCH", "OnCodes", "Perceptron", "coded"]

Array = npt.NDArray[Any]

FROM_SCRATCH = (
    "ncp", "ncp-costs", "code-trees", "code-trees-costs", "code-gp", "code-gp-costs", "code-ridge", "code-ridge-costs",
    "code-xgboost", "code-xgboost-costs",
)  # fmt: skip
"""Names of the baselines that know nothing but codes, costs and labels."""


def coded(views: Views, costs: bool) -> Array:
    """Return the code vectors of networks ``(n, D)``, with `log_costs` as the last two columns where asked for."""
    codes = code_matrix(views.names)
    return np.concatenate([codes, log_costs(views)], axis=1) if costs else codes


class OnCodes(PlainRegression):
    """A plain regressor on codes."""

    costs = False

    def _matrix(self, views: Views) -> Array:
        return coded(views, self.costs)


@register("code-trees")
class Trees(OnCodes):
    """Extra trees on codes."""

    kind = "trees"


@register("code-trees-costs")
class TreesWithCosts(Trees):
    """Extra trees on codes and log costs."""

    costs = True


@register("code-gp")
class CodeProcess(OnCodes):
    """A Gaussian process on codes."""

    kind = "gp"


@register("code-gp-costs")
class CodeProcessWithCosts(CodeProcess):
    """A Gaussian process on codes and log costs."""

    costs = True


@register("code-ridge")
class CodeRidge(OnCodes):
    """Ridge regression on codes."""

    kind = "ridge"


@register("code-ridge-costs")
class CodeRidgeWithCosts(CodeRidge):
    """Ridge regression on codes and log costs."""

    costs = True


@register("code-xgboost")
class CodeBoosting(OnCodes):
    """XGBoost on codes; needs the extra ``aiop[baselines]``."""

    kind = "xgboost"


@register("code-xgboost-costs")
class CodeBoostingWithCosts(CodeBoosting):
    """XGBoost on codes and log costs."""

    costs = True


@register("ncp")
class Perceptron(Regression):
    """NCP's predictor (Ding et al., ICLR 2022) on codes: the value in one head, MACs and parameters in another.

    Layers and training are as published (`CodeMLP`). The authors' third group, the second metrics of their tables, is
    not there: few-shot tasks have one label per network. Parameters and MACs are standardised as they are.
    """

    costs = False

    def __init__(self, *, seed: int = 0, transform: Transform = "identity", epochs: int = 200) -> None:
        super().__init__(seed=seed, transform=transform)
        self.epochs = epochs

    def _fit(self, views: Views, targets: Array) -> None:
        from aiop.finetune.baselines.code_mlp import CodeMLP

        outputs = np.stack([targets, views.macs, views.params], axis=1).astype(np.float64)
        self._perceptron = CodeMLP(self.seed, self.epochs, groups=(1, 2), dropouts=(0.5, 0.0))
        self._perceptron.fit(coded(views, self.costs), outputs)

    def _predict(self, views: Views) -> Array:
        return self._perceptron.predict(coded(views, self.costs))[:, 0]


@register("ncp-costs")
class PerceptronWithCosts(Perceptron):
    """NCP's predictor on codes and log costs."""

    costs = True
