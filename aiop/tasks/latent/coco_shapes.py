"""Shapes of COCO's format, polygons and run lengths: checked, then drawn into a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Fit", "Polygons", "Runs", "numbers", "read_shape", "run_lengths"]

Array = npt.NDArray[Any]
FINER = 4  # polygons are drawn on a grid this much finer, so that a pixel half covered is decided well
EDGES = 4096  # of a polygon at a time
_CHUNKS = 6  # of 5 bits: counts beyond 30 bits are of no image


@dataclass(frozen=True)
class Fit:
    """How an image of ``width`` x ``height`` fits into the middle of a square of ``size``: by its longer side."""

    width: int
    height: int
    size: int

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height after scaling."""
        scale = self.size / max(self.width, self.height)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    @property
    def corner(self) -> tuple[int, int]:
        """Left and top of the image in the square."""
        width, height = self.inner
        return (self.size - width) // 2, (self.size - height) // 2

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the square to one of the image, along x and y."""
        width, height = self.inner
        return width / self.width, height / self.height

    def points(self, points: Array) -> Array:
        """Points ``(n, 2)`` of the image in the square."""
        return np.asarray(points, dtype=np.float64) * self.scale + self.corner

    def square(self, inner: Array, outside: Any) -> Array:
        """What was scaled, ``(h, w, ...)``, with ``outside`` around it."""
        width, height = self.inner
        left, top = self.corner
        found = np.full((self.size, self.size, *inner.shape[2:]), outside, dtype=inner.dtype)
        found[top : top + height, left : left + width] = inner
        return found


@dataclass(frozen=True)
class Polygons:
    """One object's outlines, each float32 ``(n, 2)`` in pixels of the image; together they are its mask."""

    outlines: tuple[Array, ...]

    def mask(self, fit: Fit) -> Array:
        """Bool ``(size, size)``."""
        finer = max(1, min(FINER, 1024 // fit.size))
        side = fit.size * finer
        limits = np.array([fit.width, fit.height])
        covered = np.zeros((side, side), dtype=bool)
        for outline in self.outlines:
            covered |= _filled(fit.points(outline.clip(0, limits)) * finer, side)
        return np.asarray(covered.reshape(fit.size, finer, fit.size, finer).mean(axis=(1, 3)) >= 0.5)


def _filled(corners: Array, side: int) -> Array:
    """Cells of a grid whose middles lie inside a polygon, ``(n, 2)`` in cells: bool ``(side, side)``, rows first.

    Along a row, one is inside after every odd crossing of an edge.
    """
    crossings = np.zeros((side, side + 1), dtype=np.int32)
    middles = np.arange(side)[:, None] + 0.5
    starts, ends = corners, np.roll(corners, -1, axis=0)
    for part in range(0, len(corners), EDGES):
        (x, y), (to_x, to_y) = starts[part : part + EDGES].T, ends[part : part + EDGES].T
        rows, edges = np.nonzero((y <= middles) != (to_y <= middles))
        slope = (to_x[edges] - x[edges]) / (to_y[edges] - y[edges])
        at = x[edges] + (middles[rows, 0] - y[edges]) * slope
        np.add.at(crossings, (rows, np.ceil(at - 0.5).clip(0, side).astype(np.int64)), 1)
    return np.asarray(crossings[:, :-1].cumsum(axis=1) % 2 == 1)


@dataclass(frozen=True)
class Runs:
    """Lengths of runs of pixels outside and inside by turns, down the columns; they add up to the image."""

    lengths: Array

    def mask(self, fit: Fit) -> Array:
        """Bool ``(size, size)``."""
        from PIL import Image

        inside = np.arange(len(self.lengths)) % 2 == 1
        mask = np.repeat(inside, self.lengths).reshape(fit.width, fit.height).T
        if fit.inner == (fit.width, fit.height):
            return fit.square(mask, False)
        scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(fit.inner, Image.Resampling.BOX)
        return fit.square(np.asarray(scaled) >= 128, False)


def numbers(value: Any, count: int | None = None) -> list[float]:
    """A list of finite numbers, of that many where ``count`` is given.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, list):
        raise ValueError("no list of numbers")
    if count is not None and len(value) != count:
        raise ValueError(f"{len(value)} numbers where {count} belong")
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value):
        raise ValueError("no list of numbers")
    # A whole number may be too large for a float.
    if not all(abs(one) < 1e9 and math.isfinite(one) for one in value):
        raise ValueError("numbers that are not finite or far too large")
    return [float(one) for one in value]


def run_lengths(mask: Array) -> list[int]:
    """Lengths of the runs of a mask, bool ``(H, W)``, as COCO writes them for crowds.

    >>> run_lengths(np.array([[False, True], [True, True]]))
    [1, 3]
    """
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    starts = [0, *ends.tolist()]
    lengths = np.diff([*starts, len(flat)]).tolist()
    return [0, *lengths] if flat[0] else list(lengths)


def _packed(text: str) -> Array:
    """Lengths of runs from COCO's compressed text: 5 bits to a sign, differences to the one before the last."""
    signs = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if not len(signs) or signs.min() < 0 or signs.max() > 63 or signs[-1] & 32:
        raise ValueError("run lengths that are no text of COCO's")
    last = np.flatnonzero(~signs & 32)  # the last sign of every number lacks the mark that it goes on
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() >= _CHUNKS:
        raise ValueError("a run longer than any image")
    place = np.arange(len(signs)) - np.repeat(first, last - first + 1)
    lengths = np.add.reduceat((signs & 31) << (5 * place), first)
    lengths -= np.where(signs[last] & 16, 1 << (5 * (last - first + 1)), 0)  # its highest bit is the sign
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def read_shape(value: Any, width: int, height: int) -> Polygons | Runs:
    """The segmentation of an annotation of an image of that size.

    Raises:
        ValueError: what is wrong with it.
    """
    if isinstance(value, dict):
        counts = value.get("counts")
        if value.get("size") != [height, width]:
            raise ValueError(
                f"run lengths of size {value.get('size')!r} for an image of {height} x {width} (height x width)"
            )
        if isinstance(counts, str) and counts.isascii():
            lengths = _packed(counts)
        else:
            lengths = np.array(numbers(counts)).round().astype(np.int64)
        if (lengths < 0).any() or lengths.sum() != width * height:
            raise ValueError(f"run lengths that add up to {int(lengths.sum())} pixels, not {width * height}")
        return Runs(lengths)
    if not isinstance(value, list) or not value:
        raise ValueError("a segmentation that is neither polygons nor run lengths")
    return Polygons(tuple(_outline(one) for one in value))


def _outline(value: Any) -> Array:
    found: Sequence[float] = numbers(value)
    if len(found) % 2:
        raise ValueError(f"a polygon of {len(found)} numbers: x without y")
    if len(found) < 6:
        raise ValueError(f"a polygon of {len(found) // 2} points: 3 are the least")
    return np.array(found, dtype=np.float32).reshape(-1, 2)
