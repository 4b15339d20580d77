"""Output shapes of matrix products and recurrent layers."""

from __future__ import annotations

import math

import numpy as np

from aiop.graph_ir.shapes.base import ShapeError, first, rules
from aiop.graph_ir.values import Node, Shape, UnknownValue

__all__ = ["RULES", "einsum_extents"]


def _gemm(node: Node) -> list[Shape]:
    left, right = first(node).shape, (node.input(1) or first(node)).shape
    if len(left) > 2 and len(right) == 2 and node.opset < 7:  # old files flatten implicitly
        left = (left[0], math.prod(left[1:]))
    if len(left) != 2 or len(right) != 2:
        raise ShapeError(f"multiplies {list(left)} with {list(right)}")
    rows, inner = (left[1], left[0]) if node.get("transA", 0) else left
    inner_right, columns = (right[1], right[0]) if node.get("transB", 0) else right
    if inner != inner_right:
        raise ShapeError(f"multiplies {list(left)} with {list(right)}")
    return [(rows, columns)]


def _matmul(node: Node) -> list[Shape]:
    right_at = 3 if node.type == "QLinearMatMul" else 1
    left, right = first(node).shape, (node.input(right_at) or first(node)).shape
    if not left or not right:
        raise ShapeError("multiplies a scalar")
    a = (1, *left) if len(left) == 1 else left
    b = (*right, 1) if len(right) == 1 else right
    if a[-1] != b[-2]:
        raise ShapeError(f"multiplies {list(left)} with {list(right)}")
    batch = a[:-2]
    if batch != b[:-2]:
        try:
            batch = tuple(int(extent) for extent in np.broadcast_shapes(batch, b[:-2]))
        except ValueError as error:
            raise ShapeError(f"multiplies {list(left)} with {list(right)}") from error
    tail = (() if len(left) == 1 else (a[-2],)) + (() if len(right) == 1 else (b[-1],))
    return [batch + tail]


def einsum_extents(node: Node) -> tuple[dict[str, int], list[str], str]:
    """Return (extent of every index, the operands' indices, the output's indices) of an Einsum without ellipsis."""
    equation = str(node.get("equation", "")).replace(" ", "")
    left, _, right = equation.partition("->")
    operands = left.split(",")
    if "." in equation or len(operands) != len(node.inputs):
        raise UnknownValue(f"equation {equation!r} is not understood")
    extents: dict[str, int] = {}
    for letters, tensor in zip(operands, node.inputs, strict=True):
        if tensor is None or len(letters) != len(tensor.shape):
            raise ShapeError(f"equation {equation!r} does not fit its inputs")
        for letter, extent in zip(letters, tensor.shape, strict=True):
            known = extents.get(letter, 1)
            if known != extent and 1 not in (known, extent):
                raise ShapeError(f"equation {equation!r} does not fit its inputs")
            extents[letter] = extent if known == 1 else known
    if "->" not in equation:
        right = "".join(sorted(letter for letter in extents if left.count(letter) == 1))
    if not set(right) <= set(extents):
        raise ShapeError(f"equation {equation!r} names an output index that no input has")
    return extents, operands, right


def _einsum(node: Node) -> list[Shape]:
    extents, _, right = einsum_extents(node)
    return [tuple(extents[letter] for letter in right)]


def _recurrent(node: Node) -> list[Shape]:
    shape = first(node).shape
    weights = node.input(2)
    if len(shape) != 3:
        raise ShapeError(f"reads a tensor of shape {list(shape)}, not of 3 axes")
    directions = 2 if node.get("direction", "forward") == "bidirectional" else 1
    hidden = int(node.get("hidden_size", 0)) or (weights.shape[-1] if weights else 0)
    if node.get("layout", 0):
        batch, length = shape[:2]
        return [(batch, length, directions, hidden), (batch, directions, hidden), (batch, directions, hidden)]
    length, batch = shape[:2]
    return [(length, directions, batch, hidden), (directions, batch, hidden), (directions, batch, hidden)]


RULES = {
    **rules(_gemm, "Gemm"),
    **rules(_matmul, "MatMul MatMulInteger QLinearMatMul"),
    **rules(_einsum, "Einsum"),
    **rules(_recurrent, "LSTM GRU RNN"),
}
