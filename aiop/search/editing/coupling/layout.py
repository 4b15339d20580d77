"""Rules of operators that join, cut, repeat and reorder axes."""

from __future__ import annotations

from collections.abc import Sequence

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
    integers,
    text,
)
from aiop.search.editing.coupling.rules import rule


@rule("Concat")
def concat(links: Links, node: ir.Node) -> list[Axes]:
    """Channels side by side; all other axes are the same."""
    parts = [links.axes(value) for value in node.inputs]
    place = integer(node, "axis", 0) % len(parts[0])
    result: Axes = []
    for at in range(len(parts[0])):
        here = [part[at] for part in parts]
        if at == place:
            result.append(_joined(links, here))
            continue
        for other in here[1:]:
            links.link(here[0], other)
        result.append(here[0])
    return [result]


def _joined(links: Links, parts: Sequence[Axis]) -> Axis:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        for part in known:
            links.freeze(part, "stands beside something of a size left open")
        return None
    if all(links.is_still(part) for part in known):
        return links.still(sum(len(part) for part in known))
    return np.concatenate(known)


@rule("Split")
def split(links: Links, node: ir.Node) -> list[Axes]:
    """Parts of an axis; their sizes become explicit when they change."""
    axes = links.axes(node.inputs[0])
    place = integer(node, "axis", 0) % len(axes)
    axis = axes[place]
    if axis is None:
        raise UnhandledError("cuts an axis of a size left open")
    lengths: list[int] = []
    for output in node.outputs:
        shape = links.network.shape(output)
        extent = shape[place] if shape is not None else None
        if extent is None:
            raise UnhandledError("cuts into parts of unknown sizes")
        lengths.append(extent)
    if sum(lengths) != len(axis):
        raise UnhandledError("cuts into parts that do not add up")
    ends = np.cumsum(lengths)
    parts = [axis[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def resize(changes: Changes, node: ir.Node, counts: list[int]) -> None:
        changes.drop_attribute(node, "num_outputs")
        changes.set_constant(node, 1, counts)

    if not links.is_still(axis):
        links.fix(node, parts, resize)
    return [[*axes[:place], part, *axes[place + 1 :]] for part in parts]


@rule("Slice")
def cut(links: Links, node: ir.Node) -> list[Axes]:
    """A constant stretch of some axes; starts and ends move with what is left before them."""
    axes = links.axes(node.inputs[0])
    starts, ends = links.constant(node, 1), links.constant(node, 2)
    if starts is None or ends is None:
        raise UnhandledError("lacks an input")
    chosen = links.constant(node, 3) or list(range(len(starts)))
    steps = links.constant(node, 4) or [1] * len(starts)
    shape = links.network.shape(node.outputs[0])
    result = list(axes)
    watched: list[Axis] = []
    moved: list[int] = []
    for entry, place in enumerate(place % len(axes) for place in chosen):
        axis = axes[place]
        if axis is None or links.is_still(axis):
            extent = shape[place] if shape is not None else None
            result[place] = None if extent is None else links.still(extent)
            continue
        first, last, step = slice(starts[entry], ends[entry], steps[entry]).indices(len(axis))
        part = axis[slice(starts[entry], ends[entry], steps[entry])]
        if step == 1 and last > first:
            watched += [axis[:first], axis[:last]]
            moved.append(entry)
        elif step == -1 and len(part) == len(axis):
            pass
        else:
            links.freeze(axis, f"goes to {described(node)}, which takes every {abs(step)}th entry")
        result[place] = part

    def move(changes: Changes, node: ir.Node, counts: list[int]) -> None:
        new_starts, new_ends = list(starts), list(ends)
        for at, entry in enumerate(moved):
            new_starts[entry], new_ends[entry] = counts[2 * at], counts[2 * at + 1]
        changes.set_constant(node, 1, new_starts)
        changes.set_constant(node, 2, new_ends)

    if watched:
        links.fix(node, watched, move)
    return [result]


@rule("Gather")
def gather(links: Links, node: ir.Node) -> list[Axes]:
    """Constant indices into an axis follow it; with computed ones the axis stays."""
    axes, indices = links.axes(node.inputs[0]), node.inputs[1]
    place = integer(node, "axis", 0) % len(axes)
    axis = axes[place]
    constant = links.network.constant(indices)
    shape = links.network.shape(indices)
    if shape is None:
        raise UnhandledError("takes indices of unknown rank")
    if axis is not None and constant is not None and constant.ndim == 1 and not links.is_still(axis):
        entries = constant.astype(np.int64) % len(axis)
        part = axis[entries]
        if not links.is_still(part):
            _follow(links, node, axis, entries, part)
            return [[*axes[:place], part, *axes[place + 1 :]]]
    links.freeze(axis, f"goes to {described(node)}, which picks single entries")
    picked: Axes
    if constant is None and links.has_axes(indices):  # type: ignore[arg-type]
        picked = links.axes(indices)
    else:
        picked = [None if extent is None else links.still(extent) for extent in shape]
    if _is_table(node.inputs[0]):
        for other in axes[place + 1 :]:
            links.makes(node, other)
    return [[*axes[:place], *picked, *axes[place + 1 :]]]


def _is_table(value: ir.Value | None) -> bool:
    return value is not None and value.producer() is None and value.const_value is not None


def _follow(links: Links, node: ir.Node, axis: Atoms, entries: Atoms, part: Atoms) -> None:
    def renumber(changes: Changes, node: ir.Node, counts: list[int]) -> None:
        def make(mask: Atoms) -> Atoms:
            left = mask[axis].astype(bool)
            new: Atoms = (np.cumsum(left) - 1)[entries[left[entries]]]
            return new

        changes.set_kept(node, 1, make, counts[1])

    links.fix(node, [axis, part], renumber)


@rule("Transpose")
def transpose(links: Links, node: ir.Node) -> list[Axes]:
    """Axes in another order."""
    axes = links.axes(node.inputs[0])
    order = integers(node, "perm") or list(range(len(axes)))[::-1]
    return [[axes[place] for place in order]]


@rule("Pad")
def pad(links: Links, node: ir.Node) -> list[Axes]:
    """Padding beside channels can go with the channels it is added to."""
    axes = links.axes(node.inputs[0])
    amounts = links.constant(node, 1)
    if amounts is None:
        raise UnhandledError("lacks an input")
    chosen = links.constant(node, 3) or list(range(len(axes)))
    places = [place % len(axes) for place in chosen]
    plain = text(node, "mode", "constant") == "constant"
    result = list(axes)
    watched: list[Axis] = []
    moved: list[int] = []
    for entry, place in enumerate(places):
        axis, before, after = axes[place], amounts[entry], amounts[len(places) + entry]
        if not before and not after:
            continue
        if axis is None or links.is_still(axis) or not plain or before < 0 or after < 0:
            links.freeze(axis, f"goes to {described(node)}, which adds to it or cuts it")
            result[place] = None if axis is None else links.still(len(axis) + before + after)
            continue
        head, tail = links.fresh(before), links.fresh(after)
        result[place] = np.concatenate([head, axis, tail])
        watched += [head, tail]
        moved.append(entry)

    def refill(changes: Changes, node: ir.Node, counts: list[int]) -> None:
        new = list(amounts)
        for at, entry in enumerate(moved):
            new[entry], new[len(places) + entry] = counts[2 * at], counts[2 * at + 1]
        changes.set_constant(node, 1, new)

    links.fix(node, watched, refill)
    return [result]


@rule("Tile")
def tile(links: Links, node: ir.Node) -> list[Axes]:
    """Every repetition shrinks with what is repeated."""
    axes, repeats = links.axes(node.inputs[0]), links.constant(node, 1)
    if repeats is None:
        raise UnhandledError("lacks an input")
    return [
        [
            axis if times == 1 or axis is None else np.tile(axis, times)
            for axis, times in zip(axes, repeats, strict=True)
        ]
    ]


@rule("Expand")
def expand(links: Links, node: ir.Node) -> list[Axes]:
    """Axes that are there pass; copies along a new one can be fewer."""
    axes, target = links.axes(node.inputs[0]), links.constant(node, 1)
    shape = links.network.shape(node.outputs[0])
    if target is None or shape is None:
        raise UnhandledError("makes a shape that is unknown")
    padded = [links.still(1)] * (len(shape) - len(axes)) + axes
    result: Axes = []
    for axis, extent in zip(padded, shape, strict=True):
        if extent is None or axis is None:
            result.append(None)
        else:
            result.append(axis if len(axis) == extent else links.fresh(extent))
    offset = len(shape) - len(target)

    def rewrite(changes: Changes, node: ir.Node, counts: list[int]) -> None:
        new = [
            size if size == 1 or count < 0 else count
            for size, count in zip(target, counts[offset:], strict=True)
        ]
        changes.set_constant(node, 1, new)

    links.fix(node, result, rewrite)
    return [result]
