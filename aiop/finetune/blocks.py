"""The views of networks as blocks of numbers on one scale: what the members of a head compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.views import Views

__all__ = ["BLOCKS", "Block", "costs_of", "raw_block"]

Array = npt.NDArray[Any]

BLOCKS = ("costs", "graph", "embedding", "outputs")
"""``costs``: log2 of MACs and parameters; the others are the fields of `Views`."""

_CLIP = 4.0
_FLAT = 1e-6
_FLOOR = 0.02  # squared correlation that every column is granted


def costs_of(views: Views) -> Array:
    """Return log2 of one plus MACs and parameters, ``(n, 2)``."""
    return np.log2(1.0 + np.stack([views.macs, views.params], axis=1))


def raw_block(views: Views, name: str) -> Array:
    """Return a block as float64 ``(n, D)``; not finite ones are an `AiopError`."""
    block = costs_of(views) if name == "costs" else np.asarray(getattr(views, name), np.float64)
    if not np.isfinite(block).all():
        rows = np.flatnonzero(~np.isfinite(block).all(axis=1))
        raise AiopError(
            f"view {name!r} of network {views.names[rows[0]]!r} is not finite: leave out such networks ({len(rows)})"
        )
    return block


@dataclass(frozen=True, eq=False)
class Block:
    """Standardised columns, each stretched by how much it has to do with the labels.

    ``centre``, ``scale``: ``(D,)``; scale 0 leaves out what does not vary among the labelled networks. The squared
    length of a typical row is 1, however many columns there are.
    """

    name: str
    centre: Array
    scale: Array
    stretch: Array

    @classmethod
    def fit(cls, views: Views, name: str, targets: Array, power: float = 0.0) -> Block:
        """Fit to labelled networks.

        With ``power`` above 0 a column's stretch is (r^2 + 0.02)^(power / 2), where r^2 is its squared correlation
        with the targets ``(n,)`` less what chance gives: soft screening of columns, sources among them.
        """
        raw = raw_block(views, name)
        deviation = raw.std(axis=0)
        varies = deviation > _FLAT * np.maximum(1.0, np.abs(raw).max(axis=0, initial=0.0))
        scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        centre = raw.mean(axis=0)
        stretch = np.ones(raw.shape[1])
        if power > 0 and len(raw) > 2:
            columns = np.clip((raw - centre) * scale, -_CLIP, _CLIP)
            away = targets - targets.mean()
            spread = np.sqrt((columns**2).sum(axis=0) * max(1e-12, float(away @ away)))
            squared = ((columns.T @ away) / np.where(spread > 0, spread, 1.0)) ** 2
            chance = 1.0 / (len(raw) - 1)
            stretch = (np.clip((squared - chance) / (1.0 - chance), 0.0, 1.0) + _FLOOR) ** (power / 2)
        size = np.sqrt(np.sum((stretch * varies) ** 2))
        return cls(name, centre, scale, stretch / size if size > 0 else stretch)

    def __call__(self, views: Views) -> Array:
        """Return the block of networks, ``(m, D)``."""
        raw = raw_block(views, self.name)
        return np.asarray(np.clip((raw - self.centre) * self.scale, -_CLIP, _CLIP) * self.stretch)

    def arrays(self) -> dict[str, Array]:
        """Return centre, scale and stretch, for saving."""
        return {"centre": self.centre, "scale": self.scale, "stretch": self.stretch}
