"""Rules of pooling, resizing and reductions."""

from __future__ import annotations

import onnx_ir as ir

from aiop.search.editing.coupling.links import (
    Axes,
    Changes,
    Links,
    UnhandledError,
    described,
    integer,
    integers,
)
from aiop.search.editing.coupling.rules import rule


@rule("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pool(links: Links, node: ir.Node) -> list[Axes]:
    """Channels pass; a pool along an axis needs its neighbours, a global one does not."""
    axes = links.axes(node.inputs[0])
    if not node.op_type.startswith("Global"):
        for axis in axes[2:]:
            links.freeze(axis, f"goes to {described(node)}, which slides a window along it")
    return [[*axes[:2], *_sizes(links, node, len(axes))[2:]]]


def _sizes(links: Links, node: ir.Node, rank: int) -> Axes:
    shape = links.network.shape(node.outputs[0])
    if shape is None:
        return [None] * rank
    return [None if size is None else links.still(size) for size in shape]


@rule("Resize", "Upsample")
def resize(links: Links, node: ir.Node) -> list[Axes]:
    """Axes that keep their size pass."""
    axes = links.axes(node.inputs[0])
    after = _sizes(links, node, len(axes))
    sizes = links.constant(node, 3)
    places = integers(node, "axes") or list(range(len(axes)))
    result: Axes = []
    for before, now in zip(axes, after, strict=True):
        if before is None or now is None or len(before) != len(now):
            links.freeze(before, f"goes to {described(node)}, which resizes it")
            result.append(now)
        else:
            result.append(before)
    if sizes is not None:
        places = [place % len(axes) for place in places]

        def rewrite(changes: Changes, node: ir.Node, counts: list[int]) -> None:
            new = [count if count >= 0 else size for count, size in zip(counts, sizes, strict=True)]
            changes.set_constant(node, 3, new)

        links.fix(node, [result[place] for place in places], rewrite)
    return [result]


@rule(
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
def reduce(links: Links, node: ir.Node) -> list[Axes]:
    """Axes that are not reduced pass; those that are become one number and may shrink."""
    axes = links.axes(node.inputs[0])
    chosen = links.constant(node, 1) if len(node.inputs) > 1 else integers(node, "axes")
    if not chosen:
        chosen = [] if integer(node, "noop_with_empty_axes", 0) else list(range(len(axes)))
    places = {place % len(axes) for place in chosen}
    if integer(node, "keepdims", 1):
        return [[links.still(1) if place in places else axis for place, axis in enumerate(axes)]]
    return [[axis for place, axis in enumerate(axes) if place not in places]]


@rule("ArgMax", "ArgMin")
def locate(links: Links, node: ir.Node) -> list[Axes]:
    """The axis that is searched stays, since its indices are the result."""
    axes = links.axes(node.inputs[0])
    place = integer(node, "axis", 0) % len(axes)
    links.freeze(axes[place], f"goes to {described(node)}, which returns indices into it")
    if integer(node, "keepdims", 1):
        return [[links.still(1) if each == place else axis for each, axis in enumerate(axes)]]
    return [[axis for each, axis in enumerate(axes) if each != place]]


@rule("Softmax", "LogSoftmax", "Hardmax", "CumSum")
def softmax(links: Links, node: ir.Node) -> list[Axes]:
    """The axis that is normalised stays; all others pass."""
    axes = links.axes(node.inputs[0])
    if node.op_type == "CumSum":
        (place,) = links.constant(node, 1) or [0]
    else:
        place = integer(node, "axis", -1)
    links.freeze(axes[place], f"goes to {described(node)}, which weighs its entries against each other")
    return [axes]


@rule("GridSample")
def sample(links: Links, node: ir.Node) -> list[Axes]:
    """Channels pass."""
    axes, grid = links.axes(node.inputs[0]), links.axes(node.inputs[1])
    for axis in (*axes[2:], *grid[1:]):
        links.freeze(axis, f"goes to {described(node)}, which takes positions from it")
    if axes[0] is None or grid[0] is None:
        raise UnhandledError("has a batch of a size left open")
    return [[axes[0], axes[1], *grid[1:-1]]]


@rule("Shape", "Size")
def sizes(links: Links, node: ir.Node) -> list[Axes]:
    """What is computed from sizes follows them."""
    return [_sizes(links, node, 0)]
