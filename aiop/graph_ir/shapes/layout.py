"""Output shapes of operators that move, repeat, cut and join elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aiop.graph_ir.shapes.base import ShapeError, axes_of, axis_of, first, rules
from aiop.graph_ir.values import Node, Shape, UnknownValue

__all__ = ["RULES"]


def _concat(node: Node) -> list[Shape]:
    shapes = [tensor.shape for tensor in node.inputs if tensor is not None]
    shape = shapes[0]
    axis = axis_of(int(node.get("axis", 1)), len(shape))
    before, after = shape[:axis], shape[axis + 1 :]
    for other in shapes:
        if len(other) != len(shape) or other[:axis] != before or other[axis + 1 :] != after:
            raise ShapeError(f"concatenates {[list(shape) for shape in shapes]} on axis {axis}")
    return [(*before, sum(other[axis] for other in shapes), *after)]


def _split(node: Node) -> list[Shape]:
    shape = first(node).shape
    axis = axis_of(int(node.get("axis", 0)), len(shape))
    sizes = node.integers("split", 1)
    if sizes is None:
        count = int(node.get("num_outputs", node.output_count))
        if count != node.output_count:
            raise ShapeError(f"splits into {count} tensors but has {node.output_count} outputs")
        step = -(-shape[axis] // count)
        sizes = [step] * (count - 1) + [shape[axis] - step * (count - 1)]
    if sum(sizes) != shape[axis] or len(sizes) < node.output_count:
        raise ShapeError(f"splits {shape[axis]} elements into {sizes}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _slice(node: Node) -> list[Shape]:
    shape = list(first(node).shape)
    starts, ends = node.integers("starts", 1) or [], node.integers("ends", 2) or []
    axes = node.integers("axes", 3) or list(range(len(starts)))
    steps = node.integers("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise ShapeError("slices with step 0")
        at = axis_of(axis, len(shape))
        extent = shape[at]
        stop = None if step < 0 and end < -extent else end
        shape[at] = len(range(*slice(start, stop, step).indices(extent)))
    return [tuple(shape)]


def _reshape(node: Node) -> list[Shape]:
    tensor = first(node)
    target = node.integers("shape", 1)
    if target is None:
        raise UnknownValue("has no shape")
    if not node.get("allowzero", 0):
        target = [tensor.shape[i] if extent == 0 else extent for i, extent in enumerate(target)]
    if target.count(-1) > 1 or min(target, default=1) < -1:
        raise ShapeError(f"reshapes to {target}")
    known = math.prod(extent for extent in target if extent != -1)
    if -1 in target:
        if known == 0 or tensor.elements % known:
            raise ShapeError(f"reshapes {list(tensor.shape)} to {target}")
        target[target.index(-1)] = tensor.elements // known
    elif known != tensor.elements:
        raise ShapeError(f"reshapes {list(tensor.shape)} to {target}")
    return [tuple(target)]


def _flatten(node: Node) -> list[Shape]:
    shape = first(node).shape
    axis = int(node.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis <= len(shape):
        raise ShapeError(f"flattens {list(shape)} at axis {axis}")
    return [(math.prod(shape[:axis]), math.prod(shape[axis:]))]


def _transpose(node: Node) -> list[Shape]:
    shape = first(node).shape
    order = node.get("perm") or range(len(shape))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise ShapeError(f"transposes {list(shape)} by {list(order)}")
    return [tuple(shape[i] for i in order)]


def _squeeze(node: Node) -> list[Shape]:
    shape = first(node).shape
    axes = node.integers("axes", 1)
    if axes is None:
        return [tuple(extent for extent in shape if extent != 1)]
    gone = axes_of(axes, len(shape))
    if any(shape[i] != 1 for i in gone):
        raise ShapeError(f"squeezes axes {sorted(gone)} of {list(shape)}, not all of size 1")
    return [tuple(extent for i, extent in enumerate(shape) if i not in gone)]


def _unsqueeze(node: Node) -> list[Shape]:
    shape = first(node).shape
    axes = node.integers("axes", 1) or []
    rank = len(shape) + len(axes)
    at = axes_of(axes, rank)
    if len(at) < len(axes):
        raise ShapeError(f"adds the axes {axes}, one of them twice")
    rest = iter(shape)
    return [tuple(1 if i in at else next(rest) for i in range(rank))]


def _pad(node: Node) -> list[Shape]:
    shape = list(first(node).shape)
    pads = node.integers("pads", 1) or node.get("paddings") or []
    axes = node.integers("axes", 3) or list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"pads {list(pads)} do not fit {len(axes)} axes")
    for i, axis in enumerate(axes):
        shape[axis_of(axis, len(shape))] += pads[i] + pads[len(axes) + i]
    return [tuple(shape)]


def _resize(node: Node) -> list[Shape]:
    shape = list(first(node).shape)
    scales_at = 1 if node.type == "Upsample" or node.opset < 11 else 2
    sizes = node.input(3) if scales_at == 2 else None
    axes = [axis_of(axis, len(shape)) for axis in node.get("axes") or range(len(shape))]
    if sizes is not None and sizes.elements:
        if sizes.value is None:
            raise UnknownValue("sizes are not a known constant")
        for axis, size in zip(axes, sizes.value, strict=True):
            shape[axis] = int(size)
        return [tuple(shape)]
    tensor = node.input(scales_at)
    scales: Any = node.get("scales") if tensor is None else tensor.value
    if scales is None:
        raise UnknownValue("scales are not a known constant")
    for axis, scale in zip(axes, scales, strict=True):
        shape[axis] = math.floor(shape[axis] * float(scale) + 1e-6)
    return [tuple(shape)]


def _gather(node: Node) -> list[Shape]:
    shape, indices = first(node).shape, (node.input(1) or first(node)).shape
    axis = axis_of(int(node.get("axis", 0)), len(shape))
    return [shape[:axis] + indices + shape[axis + 1 :]]


def _gather_elements(node: Node) -> list[Shape]:
    return [(node.input(1) or first(node)).shape]


def _expand(node: Node) -> list[Shape]:
    target = node.integers("shape", 1) or []
    try:
        return [tuple(int(extent) for extent in np.broadcast_shapes(first(node).shape, tuple(target)))]
    except ValueError as error:
        raise ShapeError(f"expands {list(first(node).shape)} to {target}") from error


def _tile(node: Node) -> list[Shape]:
    repeats = node.integers("repeats", 1) or []
    return [tuple(extent * count for extent, count in zip(first(node).shape, repeats, strict=True))]


def _constant_of_shape(node: Node) -> list[Shape]:
    return [tuple(node.integers("shape", 0) or [])]


RULES = {
    **rules(_concat, "Concat"),
    **rules(_split, "Split"),
    **rules(_slice, "Slice"),
    **rules(_reshape, "Reshape"),
    **rules(_flatten, "Flatten"),
    **rules(_transpose, "Transpose"),
    **rules(_squeeze, "Squeeze"),
    **rules(_unsqueeze, "Unsqueeze"),
    **rules(_pad, "Pad"),
    **rules(_resize, "Resize Upsample"),
    **rules(_gather, "Gather"),
    **rules(_gather_elements, "GatherElements"),
    **rules(_expand, "Expand"),
    **rules(_tile, "Tile"),
    **rules(_constant_of_shape, "ConstantOfShape"),
}
