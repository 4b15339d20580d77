"""Where the elements of a tensor come from when it is cut, regrouped, permuted or repeated from another.

Reshape, Transpose, Slice, Split, Expand and the like, in whatever order a file writes them, come to one description:
for every axis the counters ("digits") it is made of, each with its extent and with how far apart its steps lie in the
flattened source. Two chains that do the same have the same digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Digit", "Strided", "box", "merged", "whole"]

Digit = tuple[int, int]
"""(Extent of at least 2, stride in the flattened source; 0 where elements repeat)."""


@dataclass(frozen=True, slots=True)
class Strided:
    """A tensor as elements of the flattened tensor ``source``: from ``offset``, one group of digits for every axis."""

    source: str
    offset: int
    axes: tuple[tuple[Digit, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of every axis."""
        return tuple(math.prod(extent for extent, _ in axis) for axis in self.axes)

    @property
    def digits(self) -> tuple[Digit, ...]:
        """Digits in order, those that count on without a gap joined."""
        return merged(digit for axis in self.axes for digit in axis)

    def permuted(self, order: Sequence[int]) -> Strided:
        """Return the axes in another order."""
        return Strided(self.source, self.offset, tuple([self.axes[axis] for axis in order]))

    def grouped(self, shape: Sequence[int]) -> Strided | None:
        """Return the same elements in ``shape``; ``None`` where an axis would begin within a digit."""
        digits = list(self.digits)[::-1]
        axes: list[tuple[Digit, ...]] = []
        for extent in shape:
            axis: list[Digit] = []
            need = extent
            while need > 1:
                if not digits:
                    return None
                size, stride = digits.pop()
                if not size:
                    return None
                if need % size == 0:
                    axis.append((size, stride))
                    need //= size
                elif size % need == 0:
                    axis.append((need, stride * (size // need)))
                    digits.append((size // need, stride))
                    need = 1
                else:
                    return None
            axes.append(tuple(axis))
        return None if digits else Strided(self.source, self.offset, tuple(axes))

    def cut(self, axis: int, start: int, step: int, count: int) -> Strided | None:
        """Return ``count`` elements of an axis, from ``start``; ``None`` where that cuts through a digit."""
        size = math.prod(extent for extent, _ in self.axes[axis])
        if count < 1 or not (0 <= start < size and 0 <= start + step * (count - 1) < size):
            return None
        found = _cut(merged(self.axes[axis]), start, step, count)
        if found is None:
            return None
        axes = (*self.axes[:axis], merged(found[1]), *self.axes[axis + 1 :])
        return Strided(self.source, self.offset + found[0], axes)

    def repeated(self, shape: Sequence[int]) -> Strided | None:
        """Return the elements broadcast to, or tiled into, ``shape``; ``None`` where that is not possible."""
        own = self.shape
        if len(shape) < len(own):
            return None
        axes: list[tuple[Digit, ...]] = []
        filled = ((),) * (len(shape) - len(own)) + self.axes
        for extent, axis in zip(shape, filled, strict=True):
            size = math.prod(count for count, _ in axis)
            if extent < 1 or size < 1 or extent % size:
                return None
            axes.append((((extent // size, 0),) if extent > size else ()) + axis)
        return Strided(self.source, self.offset, tuple(axes))


def whole(source: str, shape: Sequence[int]) -> Strided:
    """Return a tensor as itself."""
    axes: list[tuple[Digit, ...]] = []
    stride = 1
    for extent in reversed(shape):
        axes.append(((extent, stride),) if extent != 1 else ())
        stride *= extent
    return Strided(source, 0, tuple(reversed(axes)))


def merged(digits: Iterable[Digit]) -> tuple[Digit, ...]:
    """Return digits in the same order, those that count on from the one before without a gap joined to it."""
    kept: list[Digit] = []
    for extent, stride in digits:
        if kept and kept[-1][1] == extent * stride:
            kept[-1] = (kept[-1][0] * extent, stride)
        else:
            kept.append((extent, stride))
    return tuple(kept)


def _cut(digits: Sequence[Digit], start: int, step: int, count: int) -> tuple[int, tuple[Digit, ...]] | None:
    """Return (offset, digits) of ``count`` numbers from ``start`` counted by ``digits``."""
    if count == 1:
        offset = 0
        for extent, stride in reversed(digits):
            start, at = divmod(start, extent)
            offset += at * stride
        return offset, ()
    (_, stride), within = digits[0], digits[1:]
    inner = math.prod(extent for extent, _ in within)
    if step % inner == 0:
        found = _cut(digits, start, 1, 1)
        return None if found is None else (found[0], ((count, stride * (step // inner)),))
    if step == 1 and start % inner == 0 and count % inner == 0:
        outer = ((count // inner, stride),) if count > inner else ()
        return start // inner * stride, (*outer, *within)
    if start // inner != (start + step * (count - 1)) // inner:
        return None
    found = _cut(within, start % inner, step, count)
    return None if found is None else (start // inner * stride + found[0], found[1])


def box(elements: int, offset: int, digits: Sequence[Digit]) -> list[tuple[int, int, int, int]] | None:
    """Return a cut out of a flattened tensor of ``elements`` as (size, start, step, count) of every axis.

    ``digits`` by falling stride. The sizes multiply to ``elements``: the axes that the cut runs along.
    """
    axes: list[tuple[int, int, int, int]] = []
    rest, left = elements, offset
    for extent, stride in digits:
        if stride < 1 or rest % stride:
            return None
        axes.append((rest // stride, left // stride, 1, extent))
        rest, left = stride, left % stride
    if rest > 1:
        axes.append((rest, left, 1, 1))
    if any(start + count > size for size, start, _, count in axes):
        return None
    return axes
