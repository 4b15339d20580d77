"""The members of a few-shot head: simple learners on the views that suit them, each with predictions held out.

A member is fitted to standardised targets and predicts them. ``held_out`` is what it says of every labelled network
without that network's label, and is what the combination weights it by. Members are data: arrays and a JSON document
restore them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from aiop.finetune.costs import log_costs
from aiop.finetune.network_member import NetworkMember
from aiop.finetune.process_member import CountingProcess, Process, Ridge, WarpedProcess
from aiop.finetune.tree_member import TreeMember
from aiop.finetune.tuned_member import TunedMember
from aiop.finetune.views import Views

__all__ = ["MEMBERS", "CostMember", "Member"]

Array = npt.NDArray[Any]
State = tuple[dict[str, Array], dict[str, Any]]

_PRIOR_SLOPE, _PRIOR_LABELS = 0.5, 4.0


class Member(Protocol):
    """One learner of a head."""

    held_out: Array

    @classmethod
    def fit(cls, views: Views, targets: Array, *, seed: int, sign: int) -> Self:
        """Fit to n networks and standardised targets ``(n,)``; ``sign`` is that of the trend with costs expected."""

    def predict(self, views: Views) -> Array:
        """Return targets ``(m,)``."""

    def to_state(self) -> State:
        """Return arrays and a JSON document."""

    @classmethod
    def from_state(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        """Restore what `to_state` returned, all but ``held_out``."""


@dataclass(eq=False)
class CostMember:
    """A line in the mean of standardised log MACs and log parameters.

    Its slope has a prior of half a deviation per deviation, of the expected sign, that weighs like four labels: the
    labels can turn it over.
    """

    centre: Array
    scale: Array
    slope: float
    held_out: Array

    @classmethod
    def fit(cls, views: Views, targets: Array, *, seed: int, sign: int) -> Self:
        costs = log_costs(views)
        deviation = costs.std(axis=0)
        scale = np.where(deviation > 1e-6, 1.0 / np.where(deviation > 1e-6, deviation, 1.0), 0.0)
        found = cls(costs.mean(axis=0), scale, 0.0, np.zeros(len(targets)))
        x = found._trend(views)
        along, square = float(x @ targets), float(x @ x)
        pull = _PRIOR_LABELS * _PRIOR_SLOPE * sign
        found.slope = (along + pull) / (square + _PRIOR_LABELS)
        slopes = (along - x * targets + pull) / (square - x * x + _PRIOR_LABELS)
        centres = (targets.sum() - targets) / (len(targets) - 1)
        found.held_out = centres + slopes * x
        return found

    def predict(self, views: Views) -> Array:
        return self.slope * self._trend(views)

    def _trend(self, views: Views) -> Array:
        return np.asarray(np.clip((log_costs(views) - self.centre) * self.scale, -4.0, 4.0).mean(axis=1))

    def to_state(self) -> State:
        return {"centre": self.centre, "scale": self.scale}, {"slope": self.slope}

    @classmethod
    def from_state(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        return cls(arrays["centre"], arrays["scale"], float(document["slope"]), np.zeros(0))


MEMBERS: dict[str, type[Member]] = {
    "costs": CostMember,
    "ridge": Ridge,
    "gp": Process,
    "gp-warped": WarpedProcess,
    "gp-counting": CountingProcess,
    "trees": TreeMember,
    "mlp": NetworkMember,
    "tuned": TunedMember,
}
"""Members by the names that `FewShotHead` takes."""
