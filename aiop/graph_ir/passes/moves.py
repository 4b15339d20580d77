"""Operations that only move elements: read as a `Strided`, and written again in one way.

Whatever chain a file writes becomes at most three operations: ``Slice`` takes the elements out of the flattened
source (attributes ``offset`` and ``digits``), ``Transpose`` permutes them (``shape`` and ``perm``, axes that stay
together joined), ``Expand`` repeats them (``repeats``: every axis, and whether it repeats). They say nothing about how
the axes of the tensors around them are grouped, so views may be dropped on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aiop.graph_ir.graph import Operation
from aiop.graph_ir.operators import VIEWS
from aiop.graph_ir.passes.strided import Digit, Strided, box, merged

__all__ = ["MOVES", "Move", "moved", "moves_of"]

_MAY_DO_NOTHING = frozenset({"Pad", "Resize", "Concat", "Add", "Min", "Max"})
MOVES = _MAY_DO_NOTHING.union(
    VIEWS, ("Transpose", "Slice", "Split", "Gather", "Expand", "DepthToSpace", "SpaceToDepth")
)
"""Operators that may only move elements."""

_KEPT_RANK = 12  # moves of tensors of more axes are not remembered

Shape = tuple[int, ...]
Move = tuple[str, tuple[tuple[str, object], ...], Shape]
"""Canonical operator, attributes, shape of its output."""


def moved(operation: Operation, position: int, view: Strided, shape: Shape) -> Strided | None:
    """Return output ``position`` of an operation, of ``shape``, where its only input is ``view``.

    ``None`` where it does more than move elements, or cannot be said from the view's source on.
    """
    op = operation.op
    if len(operation.inputs) != 1 or 0 in shape:
        return None
    if op in _MAY_DO_NOTHING:
        if operation.weights or operation.scalars or any(operation.padding):
            return None
        return view.grouped(shape)
    # blocks repeat, and so do their moves
    work = _moved if max(len(shape), len(view.axes)) > _KEPT_RANK else _moved_before
    kind = operation.onnx_type if op == "Expand" else op
    found = work(op, kind, operation.attributes, position, view.offset, view.axes, shape)
    return None if found is None else Strided(view.source, *found)


def _moved(
    op: str,
    kind: str,
    attributes: tuple[tuple[str, object], ...],
    position: int,
    offset: int,
    axes: tuple[tuple[Digit, ...], ...],
    shape: Shape,
) -> tuple[int, tuple[tuple[Digit, ...], ...]] | None:
    """Return offset and axes of what an operation makes of a view, as `moved` does."""
    view = Strided("", offset, axes)
    found = view if op in VIEWS else _work(op, kind, dict(attributes), position, view, shape)
    if found is not None and found.shape != shape:
        found = found.grouped(shape)
    return None if found is None else (found.offset, found.axes)


_moved_before = lru_cache(maxsize=4096)(_moved)


def _work(
    op: str, kind: str, given: dict[str, Any], position: int, view: Strided, shape: Shape
) -> Strided | None:
    if "perm" in given and op in ("Transpose", "DepthToSpace", "SpaceToDepth"):
        laid = view.grouped(given["shape"]) if "shape" in given else view
        return None if laid is None or len(laid.axes) != len(given["perm"]) else laid.permuted(given["perm"])
    if op == "Slice":
        return _sliced(given, view, shape)
    if op in ("Split", "Gather") and given.get("axis", 0) >= len(view.axes):
        return None
    if op == "Split" and len(given.get("starts", ())) > position and len(shape) == len(view.axes):
        return view.cut(given["axis"], given["starts"][position], 1, shape[given["axis"]])
    if op == "Gather" and "start" in given and "axis" in given:
        axis = given["axis"]
        if 0 in view.shape:
            return None
        count = math.prod(shape) * view.shape[axis] // math.prod(view.shape)
        return view.cut(axis, given["start"], given["step"], count)
    if op == "Expand":
        return _expanded(kind, given, view, shape)
    if op in ("DepthToSpace", "SpaceToDepth") and len(view.axes) == 4 and given.get("blocksize", 0) > 0:
        return _pixels(op, given, view)
    return None


def _sliced(given: dict[str, Any], view: Strided, shape: Shape) -> Strided | None:
    found: Strided | None = view
    if "digits" in given:
        axes = box(math.prod(view.shape), given["offset"], given["digits"])
        found = None if axes is None else view.grouped([size for size, *_ in axes])
        for axis, (_, start, step, count) in enumerate(axes or ()):
            found = None if found is None else found.cut(axis, start, step, count)
        return found
    if "starts" not in given or len(shape) != len(view.axes) or len(given["starts"]) != len(shape):
        return None
    own = view.shape
    for axis, (start, step) in enumerate(zip(given["starts"], given["steps"], strict=True)):
        if found is not None and (start or step != 1 or shape[axis] != own[axis]):
            found = found.cut(axis, start, step, shape[axis])
    return found


def _expanded(kind: str, given: dict[str, Any], view: Strided, shape: Shape) -> Strided | None:
    if "repeats" in given:
        laid = view.grouped([extent for extent, repeats in given["repeats"] if not repeats])
        if laid is None:
            return None
        rest = iter(laid.axes)
        axes = tuple(((extent, 0),) if repeats else next(rest) for extent, repeats in given["repeats"])
        return Strided(view.source, view.offset, axes)
    return view.repeated(shape) if kind in ("Expand", "Tile") else None


def _pixels(op: str, given: dict[str, Any], view: Strided) -> Strided | None:
    batch, channels, height, width = view.shape
    block = given["blocksize"]
    if op == "SpaceToDepth":
        laid = view.grouped((batch, channels, height // block, block, width // block, block))
        return None if laid is None else laid.permuted((0, 3, 5, 1, 2, 4))
    rest = channels // (block * block)
    if given.get("mode") == "CRD":
        laid = view.grouped((batch, rest, block, block, height, width))
        return None if laid is None else laid.permuted((0, 1, 4, 2, 5, 3))
    laid = view.grouped((batch, block, block, rest, height, width))
    return None if laid is None else laid.permuted((0, 3, 4, 1, 5, 2))


def moves_of(view: Strided, elements: int) -> tuple[Move, ...]:
    """Return the operations that make a view out of its source of ``elements``; none where it is the whole."""
    return _moves_before(view.offset, view.digits, elements)  # of few digits, whatever the rank


@lru_cache(maxsize=4096)
def _moves_before(offset: int, digits: tuple[Digit, ...], elements: int) -> tuple[Move, ...]:
    found: list[Move] = []
    real = [digit for digit in digits if digit[1]]
    order = sorted(range(len(real)), key=lambda at: -abs(real[at][1]))
    taken = merged(real[at] for at in order)
    if offset or taken != (((elements, 1),) if elements > 1 else ()):
        shape = tuple(extent for extent, _ in taken)
        found.append(("Slice", (("digits", taken), ("offset", offset)), shape))
    strides = [0] * len(real)
    reach = 1
    for at in reversed(order):
        strides[at] = reach
        reach *= real[at][0]
    laid = merged((extent, stride) for (extent, _), stride in zip(real, strides, strict=True))
    if len(laid) > 1:
        found.append(_permutation(laid))
    if len(real) < len(digits):
        repeats = _repeats(digits)
        shape = tuple(extent for extent, _ in repeats)
        found.append(("Expand", (("repeats", repeats),), shape))
    return tuple(found)


def _permutation(digits: Sequence[tuple[int, int]]) -> Move:
    order = sorted(range(len(digits)), key=lambda at: -digits[at][1])
    shape = tuple(digits[at][0] for at in order)
    places = {at: place for place, at in enumerate(order)}
    perm = tuple(places[at] for at in range(len(digits)))
    result = tuple(extent for extent, _ in digits)
    pixels = _block(shape, perm)
    if pixels is None:
        return "Transpose", (("perm", perm), ("shape", shape)), result
    op, block, result = pixels
    return op, (("blocksize", block), ("perm", perm), ("shape", shape)), result


def _block(shape: Shape, perm: Shape) -> tuple[str, int, Shape] | None:
    """Return (operator, block size, output shape) where a permutation moves square blocks of pixels into channels."""
    batch = perm[0] == 0 and len(shape) in (5, 6) and perm in _BATCHED
    at = tuple(axis - 1 for axis in perm[1:]) if batch else perm
    known = _BLOCKS.get(at)
    if known is None:
        return None
    op, first, second, channels, rows, columns = known
    own = shape[1:] if batch else shape
    block = own[first]
    if own[second] != block:
        return None
    deep = own[channels] if channels >= 0 else 1
    size = (deep, own[rows] * block, own[columns] * block)
    if op == "SpaceToDepth":
        size = (deep * block * block, own[rows], own[columns])
    return op, block, (shape[0] if batch else 1, *size)


# permutation -> operator, and which axes are the block's rows and columns, the channels, the rows and columns outside
_BLOCKS: dict[Shape, tuple[str, int, int, int, int, int]] = {
    (0, 3, 1, 4, 2): ("DepthToSpace", 1, 2, 0, 3, 4),
    (2, 3, 0, 4, 1): ("DepthToSpace", 0, 1, 2, 3, 4),
    (2, 0, 3, 1): ("DepthToSpace", 0, 1, -1, 2, 3),
    (0, 2, 4, 1, 3): ("SpaceToDepth", 2, 4, 0, 1, 3),
    (2, 4, 0, 1, 3): ("SpaceToDepth", 2, 4, 0, 1, 3),
    (1, 3, 0, 2): ("SpaceToDepth", 1, 3, -1, 0, 2),
}
_BATCHED = frozenset((0, *(axis + 1 for axis in perm)) for perm in _BLOCKS)


def _repeats(digits: Sequence[tuple[int, int]]) -> tuple[tuple[int, bool], ...]:
    kept: list[tuple[int, bool]] = []
    for extent, stride in digits:
        if kept and kept[-1][1] == (stride == 0):
            kept[-1] = (kept[-1][0] * extent, stride == 0)
        else:
            kept.append((extent, stride == 0))
    return tuple(kept)
