"""What an operator's constant arguments say, whichever way a file gives them.

Opsets moved limits, axes and sizes from attributes to inputs and back, with defaults of their own; what is kept of
them in `Operation.attributes` is one spelling: axes counted from the front, limits resolved against the sizes they cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import accumulate

import numpy as np

from aiop.graph_ir.shapes.base import axis_of
from aiop.graph_ir.values import Node, Shape, Tensor, UnknownValue

__all__ = ["arguments"]

_LARGEST_KEPT = 64  # indices: more of them are kept as a digest

Arguments = dict[str, object]


def arguments(node: Node, outputs: list[Tensor]) -> Arguments:
    """Return the attributes of a node that moves, joins or reduces elements; nothing where they are not constants."""
    rule = _RULES.get(node.type)
    data = node.input(0)
    if rule is None or data is None:
        return {}
    try:
        return rule(node, data.shape, outputs)
    except UnknownValue:
        return {}


def _transpose(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    return {"perm": tuple(node.get("perm") or range(len(shape))[::-1])}


def _slice(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    """``starts`` and ``steps`` of every axis: the sizes are the output's."""
    starts, steps = [0] * len(shape), [1] * len(shape)
    given, ends = node.integers("starts", 1) or [], node.integers("ends", 2) or []
    axes = node.integers("axes", 3) or list(range(len(given)))
    strides = node.integers("steps", 4) or [1] * len(given)
    for start, end, axis, step in zip(given, ends, axes, strides, strict=True):
        at = axis_of(axis, len(shape))
        stop = None if step < 0 and end < -shape[at] else end
        starts[at], _, steps[at] = slice(start, stop, step).indices(shape[at])
    return {"starts": tuple(starts), "steps": tuple(steps)}


def _split(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    """``axis``, and as ``starts`` where along it every output that has a name begins."""
    axis = axis_of(int(node.get("axis", 0)), len(shape))
    ends = list(accumulate(output.shape[axis] for output in outputs))
    starts = [end - output.shape[axis] for end, output in zip(ends, outputs, strict=True) if output.name]
    return {"axis": axis, "starts": tuple(starts)}


def _gather(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    axis = axis_of(int(node.get("axis", 0)), len(shape))
    indices = node.input(1)
    if indices is None or not indices.constant or indices.value is None:
        return {"axis": axis}
    numbers = indices.value.astype(np.int64).reshape(-1)
    numbers = np.where(numbers < 0, numbers + shape[axis], numbers)
    steps = np.unique(np.diff(numbers))
    if numbers.size and len(steps) < 2 and 0 not in steps:
        return {"axis": axis, "start": int(numbers[0]), "step": int(steps[0]) if len(steps) else 1}
    if numbers.size <= _LARGEST_KEPT:
        return {"axis": axis, "indices": tuple(numbers.tolist())}
    return {"axis": axis, "indices": hashlib.blake2b(numbers.tobytes(), digest_size=8).hexdigest()}


def _axis(default: int) -> Callable[[Node, Shape, list[Tensor]], Arguments]:
    def rule(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
        return {"axis": axis_of(int(node.get("axis", default)), len(shape))} if shape else {}

    return rule


def _softmax(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    return _axis(1 if node.opset < 13 else -1)(node, shape, outputs)


def _concat(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    """``axis``, and as ``parts`` the sizes along it of every input, those of constants negative."""
    axis = axis_of(int(node.get("axis", 1)), len(shape))
    parts = [
        tensor.shape[axis] * (-1 if tensor.constant else 1) for tensor in node.inputs if tensor is not None
    ]
    return {"axis": axis, "parts": tuple(parts)}


def _product(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    """Which operands are transposed; of a weight it does not matter."""
    right = node.input(1)
    found: Arguments = {"transA": 1} if node.get("transA", 0) else {}
    if node.get("transB", 0) and right is not None and not right.constant:
        found["transB"] = 1
    return found


def _attention(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    """Whether some keys are hidden from some queries: by order, or by a constant that nothing was trained for."""
    mask = node.input(3) if node.type == "Attention" else None
    hidden = node.get("is_causal", 0) or (mask is not None and mask.constant and not mask.leaves)
    return {"masked": 1} if hidden else {}


def _sum(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    """Whether what is added is a mask that hides nothing: zeros, the same for every batch and head."""
    for tensor in node.inputs:
        if tensor is not None and tensor.constant and len(tensor.shape) == 4 and tensor.shape[:2] == (1, 1):
            value = tensor.value if tensor.elements > 1 else None
            if value is not None and not value.any():
                return {"zero": 1}
    return {}


def _pixels(node: Node, shape: Shape, outputs: list[Tensor]) -> Arguments:
    return {"mode": str(node.get("mode", "DCR"))} if node.type == "DepthToSpace" else {}


_RULES: dict[str, Callable[[Node, Shape, list[Tensor]], Arguments]] = {
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Concat": _concat,
    "DepthToSpace": _pixels,
    "Attention": _attention,
    "Add": _sum,
    "Gemm": _product,
    "FusedMatMul": _product,
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), _axis(0)),
}
