"""Networks that do not depend on their input, as a head takes them: no better than the worst that it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from aiop.finetune.views import Views

__all__ = ["Chance", "ranked_last"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Chance:
    """Where blind networks are in a task of quality.

    level: the mean of those that are labelled, the worst label where none is, in the unit; None in tasks of cost.
    known: whether one was labelled. Otherwise the level is what they are at best.
    highest: whether larger values are better.
    """

    level: float | None
    known: bool
    highest: bool

    @classmethod
    def fit(cls, views: Views, labels: Array, *, quality: bool, direction: Literal["max", "min"]) -> Self:
        """Learn it from n labelled networks, ``(n,)``."""
        if not quality or views.blind is None or not len(labels):
            return cls(None, False, direction == "max")
        if views.blind.any():
            return cls(float(labels[views.blind].mean()), True, direction == "max")
        return cls(float(labels.min() if direction == "max" else labels.max()), False, direction == "max")

    def applied(self, views: Views, values: Array) -> Array:
        """Return predictions ``(m,)`` with blind networks put there."""
        if self.level is None or views.blind is None or not views.blind.any():
            return values
        at_best = np.minimum(values, self.level) if self.highest else np.maximum(values, self.level)
        return np.where(views.blind, self.level if self.known else at_best, values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; ``Chance(**values)`` reads them back."""
        return {"level": self.level, "known": self.known, "highest": self.highest}


def ranked_last(views: Views, scores: Array, direction: Literal["max", "min"]) -> Array:
    """Return scores ``(m,)`` of a task of quality, larger for larger values, with blind networks after all others."""
    if views.blind is None or not views.blind.any() or views.blind.all():
        return scores
    seeing = scores[~views.blind]
    last = seeing.min() - 1.0 if direction == "max" else seeing.max() + 1.0
    return np.where(views.blind, last, scores)
