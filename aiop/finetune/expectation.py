"""What is expected of networks before a label is seen: what the sources of their own space agree on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aiop.finetune.blocks import home_sources
from aiop.finetune.views import Views
from aiop.finetune.zero_labels import COST_DOMAINS

__all__ = ["Expectation"]

Array = npt.NDArray[Any]

_CLIP = 3.0


@dataclass(frozen=True, eq=False)
class Expectation:
    """The mean of sources of quality that were learnt on networks like the labelled ones, in deviations among these.

    Only tasks of quality have one: how devices go together is less than a constant slope says.

    ``columns``: ``(k,)``, which sources; ``centre``, ``scale``: of their mean.
    """

    columns: Array
    centre: float
    scale: float

    @classmethod
    def fit(cls, views: Views, *, quality: bool) -> Self:
        """Choose the sources by n labelled networks."""
        of_quality = np.array([name.split("/")[0] not in COST_DOMAINS for name in views.sources], bool)
        columns = np.flatnonzero(home_sources(views) & of_quality) if quality else np.zeros(0, np.int64)
        if not len(columns):
            return cls(columns, 0.0, 0.0)
        mean = views.outputs[:, columns].mean(axis=1, dtype=np.float64)
        deviation = float(mean.std())
        return cls(columns, float(mean.mean()), 1.0 / deviation if deviation > 1e-6 else 0.0)

    def added(self, views: Views) -> Views:
        """Return the views with what is expected of each network, ``(m,)`` within +-3; 0 where nothing is."""
        expected = np.zeros(len(views))
        if self.scale:
            mean = views.outputs[:, self.columns].mean(axis=1, dtype=np.float64)
            expected = np.clip((mean - self.centre) * self.scale, -_CLIP, _CLIP)
        return replace(views, expected=expected)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; ``Expectation.from_dict`` reads them back."""
        return {"columns": self.columns.tolist(), "centre": self.centre, "scale": self.scale}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(np.array(values["columns"], np.int64), float(values["centre"]), float(values["scale"]))
