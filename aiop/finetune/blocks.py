"""The views of networks as blocks of numbers on one scale: what the members of a head compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.costs import log_costs
from aiop.finetune.views import Views
from aiop.graph_ir.structure import STRUCTURE_PARTS

__all__ = ["BLOCKS", "Block", "home_sources", "raw_block"]

Array = npt.NDArray[Any]

BLOCKS = ("costs", "graph", "embedding", "outputs", "home", "structure")
"""``costs``: log2 of MACs and parameters; ``home``: outputs of the sources that were learnt on networks like the
labelled ones; the others are the fields of `Views`, counts of ``structure`` as log2 of one plus the count."""

_SPARSE = ("structure",)
"""Blocks of many columns of which few vary among some labelled networks: the others are not kept."""

_CLIP = 4.0
_NEAR = 1.5
_FLAT = 1e-6
_FLOOR = 0.02  # squared correlation that every column is granted


def raw_block(views: Views, name: str, columns: Array | None = None) -> Array:
    """Return a block as float64 ``(n, D)``, or some of its columns.

    Raises:
        AiopError: for a block that is not finite, or has fewer columns.
    """
    block = _numbers(name, _given(views, name, columns))
    if not np.isfinite(block).all():
        rows = np.flatnonzero(~np.isfinite(block).all(axis=1))
        raise AiopError(
            f"view {name!r} of network {views.names[rows[0]]!r} is not finite: leave out such networks ({len(rows)})"
        )
    return block


def _given(views: Views, name: str, columns: Array | None) -> Array:
    """Columns of a view as they are stored."""
    if name == "costs":
        given = log_costs(views)
    elif name == "structure" and views.structure is None:
        given = np.zeros((len(views), 0), np.uint8)
    elif name == "home":
        given = views.outputs
    else:
        given = np.asarray(getattr(views, name))
    if columns is None:
        return given
    if given.shape[1] <= columns.max(initial=-1):
        raise AiopError(
            f"view {name!r} has {given.shape[1]} columns, fewer than that of the labelled networks: see all networks "
            "with the same predictor"
        )
    return given[:, columns]


def _numbers(name: str, given: Array) -> Array:
    numbers = given.astype(np.float64)
    return np.asarray(np.log2(1.0 + numbers)) if name == "structure" else numbers


@dataclass(frozen=True, eq=False)
class Block:
    """Standardised columns, each stretched by how much it has to do with the labels.

    ``columns``: ``(D,)``, which columns of the view; ``centre``, ``scale``: ``(D,)``; scale 0 leaves out what does not
    vary among the labelled networks. The squared length of a typical row is 1, however many columns there are; of
    ``structure`` every round has the same share of it: later ones have many more labels than earlier ones.
    """

    name: str
    columns: Array
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
        columns = np.arange(raw.shape[1])
        if name in _SPARSE:
            columns = np.flatnonzero(np.ptp(raw, axis=0) > 0)
        elif name == "home":
            columns = np.flatnonzero(home_sources(views))
        raw = raw[:, columns]
        deviation = raw.std(axis=0)
        varies = deviation > _FLAT * np.maximum(1.0, np.abs(raw).max(axis=0, initial=0.0))
        scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        centre = raw.mean(axis=0)
        stretch = np.ones(raw.shape[1])
        if power > 0 and len(raw) > 2:
            standard = np.clip((raw - centre) * scale, -_CLIP, _CLIP)
            away = targets - targets.mean()
            spread = np.sqrt((standard**2).sum(axis=0) * max(1e-12, float(away @ away)))
            squared = ((standard.T @ away) / np.where(spread > 0, spread, 1.0)) ** 2
            chance = 1.0 / (len(raw) - 1)
            stretch = (np.clip((squared - chance) / (1.0 - chance), 0.0, 1.0) + _FLOOR) ** (power / 2)
        part = _parts(name, columns)
        sizes = np.bincount(part, (stretch * varies) ** 2)
        shares = sizes[part] * max(1, int(np.count_nonzero(sizes)))
        return cls(name, columns, centre, scale, stretch / np.sqrt(np.where(shares > 0, shares, 1.0)))

    def __call__(self, views: Views) -> Array:
        """Return the block of networks, ``(m, D)``."""
        return self._standardised(raw_block(views, self.name, self.columns))

    def counts(self, views: Views) -> Array | None:
        """Return the whole numbers that the block of networks is made of, uint8 ``(m, D)``, where it is of such."""
        return _given(views, self.name, self.columns).astype(np.uint8) if self.name in _SPARSE else None

    def of_counts(self, counts: Array) -> Array:
        """Return the block of networks with these `counts`, ``(m, D)``."""
        return self._standardised(_numbers(self.name, counts))

    def _standardised(self, raw: Array) -> Array:
        return np.asarray(np.clip((raw - self.centre) * self.scale, -_CLIP, _CLIP) * self.stretch)

    def arrays(self) -> dict[str, Array]:
        """Return columns, centre, scale and stretch, for saving: the arguments by name, all but the first."""
        return {
            "columns": self.columns.astype(np.int32),
            "centre": self.centre,
            "scale": self.scale,
            "stretch": self.stretch,
        }


def home_sources(views: Views) -> Array:
    """Return which sources were learnt on networks like these, ``(S,)``: most are near enough."""
    if views.remoteness is None or not len(views):
        return np.zeros(len(views.sources), bool)
    return np.asarray(np.median(views.remoteness, axis=0) <= _NEAR)


def _parts(name: str, columns: Array) -> Array:
    """Return which part of its block every column belongs to, ``(D,)``: of structure, the direction and round."""
    if name != "structure":
        return np.zeros(len(columns), np.int64)
    return np.searchsorted(np.cumsum(list(STRUCTURE_PARTS.values())), columns, side="right")
