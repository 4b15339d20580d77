"""Shapes to read where the true one depends on data: the most there can be, or what changes nothing.

What a detector keeps of its boxes, or which elements are not zero, is known only when the network runs. The network is
then read at the largest size that its input allows; a size that nothing bounds is read as 1. The reader notes it.
"""

from __future__ import annotations

import math

from aiop.graph_ir.shapes.base import ShapeRule, axis_of, first, rules
from aiop.graph_ir.values import Node, Shape, Tensor, UnknownValue

__all__ = ["BOUNDS", "LARGEST_RANK", "RANKED"]

LARGEST_RANK = 1024
"""Axes: a tensor of more is a fault of the file."""


def _length(tensor: Tensor | None) -> int:
    """Return the number of elements of an input that gives sizes or axes."""
    if tensor is None or len(tensor.shape) > 1:
        raise UnknownValue("its sizes are not given")
    return tensor.elements


def _same(node: Node) -> list[Shape]:
    return [first(node).shape] * node.output_count


def _non_zero(node: Node) -> list[Shape]:
    data = first(node)
    return [(len(data.shape), data.elements)]


def _unique(node: Node) -> list[Shape]:
    data = first(node)
    axis = node.get("axis")
    if axis is None:
        return [(data.elements,)] * 4
    extent = data.shape[axis_of(int(axis), len(data.shape))]
    return [data.shape, (extent,), (extent,), (extent,)]


def _compress(node: Node) -> list[Shape]:
    data = first(node)
    return [(data.elements,) if node.get("axis") is None else data.shape]


def _non_max_suppression(node: Node) -> list[Shape]:
    """``(selected, 3)``: at most every box of every class, or the number that the node allows of each."""
    scores = node.input(1)
    if scores is None or len(scores.shape) != 3:
        raise UnknownValue("its scores are not given")
    batch, classes, boxes = scores.shape
    limit = node.input(2)
    if limit is not None and limit.value is not None and limit.value.size:
        boxes = max(0, min(boxes, int(limit.value.reshape(-1)[0])))
    return [(batch * classes * boxes, 3)]


def _expand(node: Node) -> list[Shape]:
    shape = first(node).shape
    return [(1,) * (_length(node.input(1)) - len(shape)) + shape]


def _ones(node: Node) -> list[Shape]:
    return [(1,) * _length(node.input(0))]


def _one(node: Node) -> list[Shape]:
    return [(1,)]


def _reduce(node: Node) -> list[Shape]:
    """As many axes as stay; of which sizes they are is not known, so the first ones do."""
    shape = first(node).shape
    count = _length(node.input(1))
    if not count and not node.get("noop_with_empty_axes", 0):
        count = len(shape)
    gone = min(count, len(shape))
    if node.get("keepdims", 1):
        return [shape if gone < len(shape) else (1,) * len(shape)]
    return [shape[: len(shape) - gone]]


def _squeeze(node: Node) -> list[Shape]:
    shape = list(first(node).shape)
    for _ in range(_length(node.input(1))):
        shape.remove(1)
    return [tuple(shape)]


def _unsqueeze(node: Node) -> list[Shape]:
    return [(1,) * _length(node.input(1)) + first(node).shape]


def _split(node: Node) -> list[Shape]:
    shape = first(node).shape
    axis = axis_of(int(node.get("axis", 0)), len(shape))
    size = -(-shape[axis] // max(1, node.output_count))
    return [(*shape[:axis], size, *shape[axis + 1 :])] * node.output_count


def _one_hot(node: Node) -> list[Shape]:
    shape = first(node).shape
    axis = axis_of(int(node.get("axis", -1)), len(shape) + 1)
    return [(*shape[:axis], 1, *shape[axis:])]


def _affine_grid(node: Node) -> list[Shape]:
    count = _length(node.input(1))
    return [(first(node).shape[0], *(1,) * (count - 2), count - 2)]


def _unpool(node: Node) -> list[Shape]:
    return [(*first(node).shape[:2], *(1,) * (_length(node.input(2)) - 2))]


def _folded(node: Node) -> list[Shape]:
    """Of Col2Im: an image of one row, as long as there are blocks."""
    batch, columns, blocks = first(node).shape
    kernel = node.integers("block_shape", 2) or [1]
    rank = _length(node.input(1))
    return [(batch, max(1, columns // max(1, math.prod(kernel))), *(1,) * (rank - 1), blocks)]


BOUNDS: dict[str, ShapeRule] = {
    **rules(_same, "Slice Pad Resize Upsample Tile CenterCropPad TopK DFT"),
    **rules(_non_zero, "NonZero"),
    **rules(_unique, "Unique"),
    **rules(_compress, "Compress"),
    **rules(_non_max_suppression, "NonMaxSuppression"),
    **rules(_expand, "Expand"),
    **rules(_ones, "ConstantOfShape"),
    **rules(_one, "Range HannWindow HammingWindow BlackmanWindow"),
    **rules(
        _reduce,
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
        "ReduceSumSquare",
    ),
    **rules(_squeeze, "Squeeze"),
    **rules(_unsqueeze, "Unsqueeze"),
    **rules(_split, "Split"),
    **rules(_one_hot, "OneHot"),
    **rules(_affine_grid, "AffineGrid"),
    **rules(_unpool, "MaxUnpool"),
    **rules(_folded, "Col2Im"),
}
"""ONNX operator -> the shapes to read where a size depends on data and the file does not state it."""

RANKED: dict[str, int] = {
    **dict.fromkeys("Expand Reshape Squeeze Unsqueeze Tile Pad Slice AffineGrid Col2Im Upsample".split(), 1),
    **dict.fromkeys((name for name in BOUNDS if name.startswith("Reduce")), 1),
    **dict.fromkeys(("ConstantOfShape", "RandomNormal", "RandomUniform"), 0),
    "MaxUnpool": 2,
    "Resize": 3,
}
"""ONNX operator -> the input whose length is a number of axes."""
