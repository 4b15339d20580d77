"""Multiply-accumulates of an operation, and which of its constants are parameters.

MACs are counted for convolutions, transposed convolutions, matrix products (Gemm, MatMul, Einsum, attention) and
recurrent layers, as published counts do; bias, normalisation, activation, pooling and element-wise work count none.
FLOPs are twice the MACs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aiop.graph_ir.shapes import einsum_extents
from aiop.graph_ir.values import Node, Shape, UnknownValue

__all__ = ["WEIGHT_SLOTS", "buffer_slots", "macs"]

WEIGHT_SLOTS = frozenset(
    "Conv ConvTranspose Gemm MatMul Einsum LSTM GRU RNN BatchNormalization LayerNormalization InstanceNormalization "
    "GroupNormalization RMSNormalization PRelu QLinearConv QLinearMatMul ConvInteger MatMulInteger".split()
)
"""ONNX operators whose constant inputs are trained tensors wherever the file keeps them."""

_BUFFERS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Gather": (1,),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "Reshape": (1,),
    "Where": (0,),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (4, 5, 6)),
}


def buffer_slots(onnx_type: str) -> tuple[int, ...]:
    """Return the input positions of an operator that never hold parameters (running statistics, sizes, limits)."""
    return _BUFFERS.get(onnx_type, ())


def macs(node: Node, outputs: list[Shape]) -> int:
    """Return the multiply-accumulates of one node with known shapes; 0 for operators that have none."""
    rule = _RULES.get(node.type)
    return rule(node, outputs) if rule is not None else 0


def _convolution(node: Node, outputs: list[Shape]) -> int:
    weights = node.input(3 if node.type == "QLinearConv" else 1)
    return math.prod(outputs[0]) * math.prod(weights.shape[1:]) if weights else 0


def _transposed_convolution(node: Node, outputs: list[Shape]) -> int:
    data, weights = node.input(0), node.input(1)
    return data.elements * math.prod(weights.shape[1:]) if data and weights else 0


def _gemm(node: Node, outputs: list[Shape]) -> int:
    left = node.input(0)
    return left.elements * outputs[0][1] if left else 0


def _matmul(node: Node, outputs: list[Shape]) -> int:
    left = node.input(0)
    return math.prod(outputs[0]) * left.shape[-1] if left else 0


def _einsum(node: Node, outputs: list[Shape]) -> int:
    try:
        extents, operands, _ = einsum_extents(node)
    except UnknownValue:
        return 0
    return math.prod(extents.values()) if len(operands) == 2 else 0


def _recurrent(node: Node, outputs: list[Shape]) -> int:
    data, weights, recurrence = node.input(0), node.input(1), node.input(2)
    if data is None or weights is None or recurrence is None:
        return 0
    steps = data.shape[0] * data.shape[1]  # sequence length x batch, in either layout
    return steps * (weights.elements + recurrence.elements)


def _attention(node: Node, outputs: list[Shape]) -> int:
    query, key, value = node.input(0), node.input(1), node.input(2)
    if query is None or key is None or value is None:
        return 0
    rows = query.shape[-2]
    columns = key.shape[-2]
    batch = query.shape[0]
    heads_q = int(node.get("q_num_heads", 0)) or query.shape[1]
    width_qk = query.shape[-1] if len(query.shape) == 4 else query.shape[-1] // heads_q
    width_v = outputs[0][-1] if len(outputs[0]) == 4 else outputs[0][-1] // heads_q
    return batch * heads_q * rows * columns * (width_qk + width_v)


_RULES: dict[str, Callable[[Node, list[Shape]], int]] = {
    **dict.fromkeys(("Conv", "QLinearConv", "ConvInteger"), _convolution),
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    "Einsum": _einsum,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Attention": _attention,
}
