"""Rules of operators that name sizes: what they become, and their results, where inputs have other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aiop.search.mutations.regrouping import regroup
from aiop.search.mutations.size_plan import Kernel, Shape

if TYPE_CHECKING:
    from aiop.search.mutations.following import Walk

__all__ = ["RULES", "WINDOWS", "integer", "written"]

Array = npt.NDArray[Any]

WINDOWS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})
_FEW = 5  # positions at an edge that slices and splits may name: class tokens and the like
_LARGE = 2**31 - 1  # ends of slices from here on mean the end


def _reshape(walk: Walk, node: ir.Node) -> list[Shape]:
    source, target = node.inputs[0], walk.numbers(node, 1)
    assert target is not None
    old = walk.old(node.outputs[0])
    new = regroup(walk.old(source), old, walk.new(source), walk.plan.regrouped, walk.learn)
    if new is None:
        sizes = f"{written(walk.old(source))} -> {written(old)}"
        walk.refuse(
            node, f"there is no one way for the reshape {sizes} to follow to {written(walk.new(source))}"
        )
    taken = walk.new(source)
    wanted = []
    for axis, number in enumerate(target):
        extent = new[axis]
        copies = number == 0 and axis < len(taken) and taken[axis] == extent
        wanted.append(number if number == -1 or copies or extent is None else extent)
    if wanted != target:
        walk.set_numbers(node, 1, wanted)
    return [new]


def _resize(walk: Walk, node: ir.Node) -> list[Shape] | None:
    source = node.inputs[0]
    sizes = walk.numbers(node, 3) if len(node.inputs) > 3 else None
    if not sizes:
        return None
    old_in, new_in, old_out = walk.old(source), walk.new(source), walk.old(node.outputs[0])
    attribute = node.attributes.get("axes")
    axes = (
        [axis % len(old_in) for axis in attribute.as_ints()]
        if attribute is not None
        else list(range(len(sizes)))
    )
    wanted = list(sizes)
    result = list(new_in)
    for place, axis in enumerate(axes):
        before, after, out = old_in[axis], new_in[axis], old_out[axis]
        if before is None or after is None or out is None:
            continue
        if before != after:
            if out * after % before:
                walk.refuse(node, f"a resize from {before} to {out} leaves a fraction at {after}")
            out = out * after // before
        wanted[place] = result[axis] = out
    walk.set_numbers(node, 3, wanted)
    return [tuple(result)]


def _expand(walk: Walk, node: ir.Node) -> list[Shape]:
    source, target = node.inputs[0], walk.numbers(node, 1)
    assert target is not None
    old, new = walk.old(source), walk.new(source)
    lead = len(target) - len(old)
    wanted = list(target)
    for axis in walk.changed_axes(source):
        place = axis + lead
        if place >= 0 and target[place] == old[axis]:
            extent = new[axis]
            assert extent is not None
            wanted[place] = extent
        elif place >= 0 and target[place] != 1:
            walk.refuse(node, "it expands to a fixed size")
    if wanted != target:
        walk.set_numbers(node, 1, wanted)
    return walk.infer(node, {1: np.array(wanted, np.int64)})


def _slice(walk: Walk, node: ir.Node) -> None:
    source = node.inputs[0]
    rank = len(walk.old(source))
    starts, ends = walk.numbers(node, 1) or [], walk.numbers(node, 2) or []
    axes = walk.numbers(node, 3) or list(range(len(starts)))
    steps = walk.numbers(node, 4) or [1] * len(starts)
    changed = walk.changed_axes(source)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % rank not in changed:
            continue
        open_end = end >= _LARGE or -_FEW <= end < 0
        at_start = 0 <= start <= _FEW and (open_end or end <= _FEW)
        if step < 0 or not (at_start or (-_FEW <= start < 0 and open_end)):
            walk.refuse(node, f"it takes the positions from {start} to {end}")


def _gather(walk: Walk, node: ir.Node) -> None:
    source = node.inputs[0]
    axis = integer(node, "axis", 0) % len(walk.old(source))
    if axis not in walk.changed_axes(source):
        return
    indices = walk.numbers(node, 1) or []
    if len(indices) != 1 or not -_FEW <= indices[0] < _FEW:
        walk.refuse(node, "it picks positions")


def _split(walk: Walk, node: ir.Node) -> list[Shape] | None:
    source = node.inputs[0]
    old, new = walk.old(source), walk.new(source)
    axis = integer(node, "axis", 0) % len(old)
    if axis not in walk.changed_axes(source):
        return None
    sizes = walk.numbers(node, 1)
    if sizes is None or len(sizes) != 2 or sizes[0] > _FEW:
        walk.refuse(node, f"it splits {old[axis]} positions at fixed places")
    rest = (new[axis] or 0) - sizes[0]
    walk.set_numbers(node, 1, [sizes[0], rest])
    return [(*new[:axis], part, *new[axis + 1 :]) for part in (sizes[0], rest)]


def _tile(walk: Walk, node: ir.Node) -> None:
    repeats = walk.numbers(node, 1) or []
    if any(repeats[axis] != 1 for axis in walk.changed_axes(node.inputs[0])):
        walk.refuse(node, "it repeats positions")


def _shape(walk: Walk, node: ir.Node) -> list[Shape]:
    rank = len(walk.old(node.inputs[0]))
    start, end = integer(node, "start", 0) % (rank + 1), integer(node, "end", rank)
    end = end + rank if end < 0 else min(end, rank)
    if walk.changed_axes(node.inputs[0]) & set(range(start, end)):
        walk.refuse(node, "what follows computes with sizes")
    return [walk.old(node.outputs[0])]


def _window(walk: Walk, node: ir.Node) -> list[Shape] | None:
    source = node.inputs[0]
    attribute = node.attributes.get("kernel_shape")
    sides = list(attribute.as_ints()) if attribute is not None else list(walk.old(node.inputs[1])[2:])
    old, new = walk.old(source)[2:], walk.new(source)[2:]
    if None in new:
        walk.refuse(node, "the shape of its input is not known")
    pads = _ints(node, "pads", (0,) * (2 * len(sides)))
    dilations = _ints(node, "dilations", (1,) * len(sides))
    if node.op_type == "ConvTranspose":
        return None
    whole = [side == extent and side != 1 for side, extent in zip(sides, old, strict=True)]
    if all(whole) and node.op_type.endswith("Pool") and not any(pads):
        kernel = tuple(int(extent or 0) for extent in new)
        walk.plan.kernels.append(Kernel(node.name or "", kernel))
        return [walk.old(node.outputs[0])]
    automatic = node.attributes.get("auto_pad")
    if automatic is not None and automatic.as_string().startswith("SAME"):
        return None
    for axis, (side, extent) in enumerate(zip(sides, new, strict=True)):
        reach = dilations[axis] * (int(side or 0) - 1) + 1
        if reach > int(extent or 0) + sum(pads[axis :: len(sides)]):
            walk.refuse(node, f"its kernel of {written(tuple(sides))} does not fit a map of {written(new)}")
    return None


RULES: dict[str, Callable[[Walk, ir.Node], list[Shape] | None]] = {
    "Reshape": _reshape,
    "Resize": _resize,
    "Expand": _expand,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Tile": _tile,
    "Shape": _shape,
    **dict.fromkeys(WINDOWS, _window),
}


def integer(node: ir.Node, name: str, default: int) -> int:
    """Return an attribute of a node."""
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else default


def written(shape: Sequence[object]) -> str:
    """Return a shape as 1x3x224x224."""
    return "x".join("?" if extent is None else str(extent) for extent in shape) or "a number"
