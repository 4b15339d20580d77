"""Rules of operators that merge and split axes.

Axes of two shapes are brought to their common refinement: ``(12, 64) -> (3, 4, 64)`` has the factors 3, 4 and 64. An
axis of one shape is then a product of consecutive factors; one can shrink while the others stay (see `Product`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from aiop.search.editing.coupling.links import (
    Atoms,
    Axes,
    Axis,
    Changes,
    Links,
    UnhandledError,
    described,
    integer,
    text,
)
from aiop.search.editing.coupling.rules import rule

_OPEN = 1_000_003
"""Stands in for the one extent that may be left open: a prime, so that no product of others equals it."""


@rule("Reshape")
def reshape(links: Links, node: ir.Node) -> list[Axes]:
    """To a constant target, which changes where an axis that it names does."""
    target = links.constant(node, 1)
    axes = links.axes(node.inputs[0])
    before, after = links.network.shape(node.inputs[0]), links.network.shape(node.outputs[0])
    if target is None or before is None or after is None:
        raise UnhandledError("makes a shape that is unknown")
    result = refine(links, node, axes, before, after)

    def rewrite(changes: Changes, node: ir.Node, counts: list[int]) -> None:
        new = [
            size if size in (0, -1) or count < 0 else count
            for size, count in zip(target, counts, strict=True)
        ]
        changes.set_constant(node, 1, new)

    links.fix(node, result, rewrite)
    return [result]


@rule("Flatten")
def flatten(links: Links, node: ir.Node) -> list[Axes]:
    """To a matrix."""
    axes, before = links.axes(node.inputs[0]), links.network.shape(node.inputs[0])
    after = links.network.shape(node.outputs[0])
    if before is None or after is None or not before:
        raise UnhandledError("makes a shape that is unknown")
    return [refine(links, node, axes, before, after)]


@rule("Squeeze")
def squeeze(links: Links, node: ir.Node) -> list[Axes]:
    """Named axes of extent 1 vanish."""
    axes, chosen = links.axes(node.inputs[0]), links.constant(node, 1)
    if chosen is None:
        raise UnhandledError("takes out every axis of extent 1")
    places = {place % len(axes) for place in chosen}
    for place in places:
        links.freeze(axes[place], f"goes to {described(node)}, which needs it to be 1")
    return [[axis for place, axis in enumerate(axes) if place not in places]]


@rule("Unsqueeze")
def unsqueeze(links: Links, node: ir.Node) -> list[Axes]:
    """New axes of extent 1."""
    axes, chosen = links.axes(node.inputs[0]), links.constant(node, 1)
    if chosen is None:
        raise UnhandledError("lacks an input")
    rank = len(axes) + len(chosen)
    places = {place % rank for place in chosen}
    rest = iter(axes)
    return [[links.still(1) if place in places else next(rest) for place in range(rank)]]


@rule("DepthToSpace")
def depth_to_space(links: Links, node: ir.Node) -> list[Axes]:
    """Channels that end in the same channel go together."""
    axes, block = links.axes(node.inputs[0]), integer(node, "blocksize", 1)
    if any(axis is None for axis in axes[1:]):
        raise UnhandledError("has an image of a size left open")
    left = len(axes[1]) // block**2  # type: ignore[arg-type]
    first = text(node, "mode", "DCR") == "DCR"
    table = axes[1].reshape((block**2, left) if first else (left, block**2))  # type: ignore[union-attr]
    rows = table if first else table.T
    kept = np.ascontiguousarray(rows[0])
    for row in rows[1:]:
        links.link(kept, np.ascontiguousarray(row))
    return [[axes[0], kept, *_moved(links, node, axes, block, 1)]]


@rule("SpaceToDepth")
def space_to_depth(links: Links, node: ir.Node) -> list[Axes]:
    """A channel becomes several, which go together."""
    axes, block = links.axes(node.inputs[0]), integer(node, "blocksize", 1)
    if any(axis is None for axis in axes[1:]):
        raise UnhandledError("has an image of a size left open")
    return [[axes[0], np.tile(axes[1], block**2), *_moved(links, node, axes, 1, block)]]  # type: ignore[arg-type]


def _moved(links: Links, node: ir.Node, axes: Axes, times: int, parts: int) -> list[Atoms]:
    for axis in axes[2:]:
        links.freeze(axis, f"goes to {described(node)}, which exchanges it with channels")
    return [links.still(len(axis) * times // parts) for axis in axes[2:] if axis is not None]


def refine(
    links: Links,
    node: ir.Node,
    axes: Axes,
    before: Sequence[int | None],
    after: Sequence[int | None],
) -> Axes:
    """Return the axes of a tensor laid out anew in row-major order."""
    old, new = _closed(before, after)
    cuts = sorted(_cuts(old) | _cuts(new))
    reason = f"goes to {described(node)}, which cuts across it"
    if any(larger % smaller for smaller, larger in pairwise(cuts)):
        for axis in axes:
            links.freeze(axis, reason)
        return [None if extent is None else links.still(extent) for extent in after]
    factors: dict[int, Axis] = {}  # product of all that is to the right -> atoms
    right = 1
    for axis, extent in zip(reversed(axes), reversed(old), strict=True):
        inner = [cut for cut in cuts if right <= cut <= right * extent]
        extents = [outer // cut for cut, outer in pairwise(inner)]
        if len(extents) == 0:
            links.freeze(axis, f"goes to {described(node)}, which needs it to be 1")
        elif len(extents) == 1:
            factors[right] = axis
        elif axis is None:
            factors.update(dict.fromkeys(inner[:-1], None))
        else:
            factors.update(zip(inner[:-1], reversed(links.split(axis, extents[::-1])), strict=True))
        right *= extent
    result: Axes = []
    right = 1
    for extent, known in zip(reversed(new), reversed(after), strict=True):
        inner = [cut for cut in cuts if right <= cut < right * extent]
        parts = [factors[cut] for cut in reversed(inner)]
        result.append(_merged(links, parts, known, reason))
        right *= extent
    return result[::-1]


def _merged(links: Links, parts: Sequence[Axis], extent: int | None, reason: str) -> Axis:
    if extent is None or any(part is None for part in parts):
        for part in parts:
            links.freeze(part, reason)
        return None if extent is None else links.still(extent)
    if not parts:
        return links.still(1)
    return parts[0] if len(parts) == 1 else links.merge([part for part in parts if part is not None])


def _closed(before: Sequence[int | None], after: Sequence[int | None]) -> tuple[list[int], list[int]]:
    """Return both shapes with a number for the extent left open."""
    if before.count(None) > 1 or after.count(None) > 1:
        raise UnhandledError("has several sizes that the file leaves open")
    old = [_OPEN if extent is None else extent for extent in before]
    rest = math.prod(extent for extent in after if extent is not None)
    if 0 in old or rest == 0 or math.prod(old) % rest:
        raise UnhandledError("makes a shape that does not follow from its input")
    new = [math.prod(old) // rest if extent is None else extent for extent in after]
    if math.prod(new) != math.prod(old):
        raise UnhandledError("makes a shape that does not follow from its input")
    return old, new


def _cuts(shape: Sequence[int]) -> set[int]:
    cuts, right = {1}, 1
    for extent in reversed(shape):
        right *= extent
        cuts.add(right)
    return cuts
