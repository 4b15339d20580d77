"""A member that takes over what a network tuned to the labels says: one source among the others, made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.views import Views

__all__ = ["TUNED", "TunedMember", "with_tuned"]

Array = npt.NDArray[Any]

TUNED = "tuned network"
"""Name of the source that `TunedMember` reads. Of labelled networks it holds predictions made without their labels."""

_PRIOR_LABELS = 10.0


def with_tuned(views: Views, predictions: Array) -> Views:
    """Return the views with one more source, ``(n,)`` predictions on the scale of the targets, called `TUNED`."""
    column = np.asarray(predictions, np.float32)[:, None]
    if TUNED in views.sources:
        raise AiopError(f"the views have a source {TUNED!r} already: add it once")
    far = views.remoteness
    return replace(
        views,
        outputs=np.concatenate([views.outputs, column], axis=1),
        sources=(*views.sources, TUNED),
        # It was learnt on networks like those that are asked for.
        remoteness=None if far is None else np.concatenate([far, np.zeros_like(column)], axis=1),
    )


@dataclass(eq=False)
class TunedMember:
    """A line in the tuned network's predictions, whose slope is taken to be 1 with the weight of ten labels."""

    column: int
    slope: float
    offset: float
    held_out: Array

    @classmethod
    def fit(cls, views: Views, targets: Array, *, seed: int, sign: int) -> Self:
        if TUNED not in views.sources:
            raise AiopError(f"the views have no source {TUNED!r}: add it with `with_tuned`")
        column = views.sources.index(TUNED)
        said = np.asarray(views.outputs[:, column], np.float64)
        slope, offset = _line(said, targets)
        found = cls(column, slope, offset, np.empty(len(targets)))
        for left in range(len(targets)):
            others = np.arange(len(targets)) != left
            slope, offset = _line(said[others], targets[others])
            found.held_out[left] = offset + slope * said[left]
        return found

    def predict(self, views: Views) -> Array:
        return self.offset + self.slope * np.asarray(views.outputs[:, self.column], np.float64)

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return {}, {"column": self.column, "slope": self.slope, "offset": self.offset}

    @classmethod
    def from_state(cls, arrays: dict[str, Array], document: dict[str, Any]) -> Self:
        numbers = int(document["column"]), float(document["slope"]), float(document["offset"])
        return cls(*numbers, np.zeros(0))


def _line(said: Array, targets: Array) -> tuple[float, float]:
    away, left = said - said.mean(), targets - targets.mean()
    variance = max(float(said.var()), 1e-12)
    pull = _PRIOR_LABELS * variance
    slope = (float(away @ left) + pull) / (float(away @ away) + pull)
    return slope, float(targets.mean() - slope * said.mean())
