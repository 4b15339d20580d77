"""Output shapes of matrix products and recurrent layers."""

from __future__ import annotations

import math

from aiop.graph_ir.einsum import Einsum, EinsumError, parse_einsum
from aiop.graph_ir.shapes.base import ShapeError, broadcast, first, rules
from aiop.graph_ir.values import Node, Shape

__all__ = ["RULES", "einsum_of"]


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
            batch = broadcast(batch, b[:-2])
        except ShapeError as error:
            raise ShapeError(f"multiplies {list(left)} with {list(right)}") from error
    tail = (() if len(left) == 1 else (a[-2],)) + (() if len(right) == 1 else (b[-1],))
    return [batch + tail]


def einsum_of(node: Node) -> Einsum:
    """Return the equation of an Einsum over its inputs."""
    shapes = [tensor.shape for tensor in node.inputs if tensor is not None]
    try:
        return parse_einsum(str(node.get("equation", "")), shapes)
    except EinsumError as error:
        raise ShapeError(f"has the {error}") from error


def _einsum(node: Node) -> list[Shape]:
    return [einsum_of(node).shape]


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
