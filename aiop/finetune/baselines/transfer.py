"""A floor for whatever transfers: tasks of one space help each other through trees on codes, without any graph.

Extra trees learn every *other* task of the space from the code. What they say of a network, its code and its log costs
are features of a Gaussian process, ridge regression and extra trees fitted to the few labels of the task itself. A
pretrained graph network that does not beat this with the same labels has learnt nothing that transfers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.baselines.base import Regression, Transform, register
from aiop.finetune.baselines.codes import code_matrix
from aiop.finetune.baselines.estimators import Kind, ranks_averaged, regressor
from aiop.finetune.costs import log_costs
from aiop.finetune.views import Views

__all__ = ["OtherTasks", "TransferFloor", "TransferProcess"]

Array = npt.NDArray[Any]

_LEAST = 20  # labels of another task, below which trees say nothing of it


class OtherTasks:
    """Extra trees that know the other tasks of a space: make it once, share it among draws of labels.

    Args:
        networks: names of N networks of one space.
        labels: task -> values ``(N,)``, nan where not known. Leave out the task itself and its near-copies (the same
            data by another metric), and hide (nan) whatever stands in the test set.
        seed: of the trees.

    Raises:
        AiopError: for no task with at least 20 labels, or labels of another number than the networks.
    """

    def __init__(self, networks: Sequence[str], labels: Mapping[str, Array], *, seed: int = 0) -> None:
        self.tasks: tuple[str, ...] = ()
        self._trees: list[Any] = []
        self._known: dict[str, Array] = {}
        codes = code_matrix(networks)
        for task, given in labels.items():
            values = np.asarray(given, np.float64)
            if values.shape != (len(networks),):
                raise AiopError(
                    f'other task "{task}" has labels of shape {values.shape} for {len(networks)} networks: give '
                    "one each"
                )
            known = np.isfinite(values)
            if known.sum() < _LEAST:
                continue
            scaled = (values[known] - values[known].mean()) / max(1e-12, float(values[known].std()))
            self._trees.append(regressor("trees", seed).fit(codes[known], scaled))
            self.tasks = (*self.tasks, task)
        if not self.tasks:
            raise AiopError(
                f"none of {len(labels)} other tasks has {_LEAST} labels: there is nothing to transfer"
            )

    def predict(self, names: Sequence[str]) -> Array:
        """Return standardised values of the T other tasks ``(n, T)``; a network is looked at once."""
        new = [name for name in dict.fromkeys(names) if name not in self._known]
        if new:
            codes = code_matrix(new)
            columns = np.stack([trees.predict(codes) for trees in self._trees], axis=1)
            self._known |= dict(zip(new, columns, strict=True))
        return np.array([self._known[name] for name in names]).reshape(len(names), len(self.tasks))


class _Transfer(Regression):
    kinds: tuple[Kind, ...]

    def __init__(
        self, *, others: OtherTasks | None = None, seed: int = 0, transform: Transform = "identity"
    ) -> None:
        super().__init__(seed=seed, transform=transform)
        self.others = others

    def _fit(self, views: Views, targets: Array) -> None:
        features = self._features(views)
        self._regressors = [regressor(kind, self.seed).fit(features, targets) for kind in self.kinds]

    def _predict(self, views: Views) -> Array:
        features = self._features(views)
        predictions = np.stack([regressor.predict(features) for regressor in self._regressors])
        return predictions[0] if len(predictions) == 1 else ranks_averaged(predictions)

    def _features(self, views: Views) -> Array:
        if self.others is None:
            raise AiopError(
                f'baseline "{self.name}" knows no other tasks: make it with others=OtherTasks(networks, labels)'
            )
        return np.concatenate(
            [self.others.predict(views.names), code_matrix(views.names), log_costs(views)], 1
        )


@register("transfer-floor")
class TransferFloor(_Transfer):
    """Gaussian process, ridge regression and extra trees, ranks averaged; values are their sorted mean in that order.

    The order of a network so depends on those it is asked for with.
    """

    kinds = ("gp", "ridge", "trees")


@register("transfer-gp")
class TransferProcess(_Transfer):
    """The Gaussian process alone on the same features."""

    kinds = ("gp",)
