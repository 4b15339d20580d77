"""Multiply-accumulates of an operation, and which of its constants are parameters.

MACs are counted for convolutions, transposed convolutions, matrix products (Gemm, MatMul, Einsum, attention) and
recurrent layers, as published counts do; bias, normalisation, activation, pooling and element-wise work count none.
FLOPs are twice the MACs.
"""

from __future__ import annotations

import math

from aiop.graph_ir.shapes import einsum_extents
from aiop.graph_ir.values import Node, Shape

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
    """Return the multiply-accumulates of one node with known shapes."""
    kind = node.type
    if kind in ("Conv", "QLinearConv", "ConvInteger"):
        weights = node.inputs[3 if kind == "QLinearConv" else 1]
        return math.prod(outputs[0]) * math.prod(weights.shape[1:]) if weights else 0
    if kind == "ConvTranspose":
        data, weights = node.inputs[0], node.inputs[1]
        return data.elements * math.prod(weights.shape[1:]) if data and weights else 0
    if kind == "Gemm":
        left = node.inputs[0]
        return left.elements * outputs[0][1] if left else 0
    if kind in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        left = node.inputs[0]
        return math.prod(outputs[0]) * left.shape[-1] if left else 0
    if kind == "Einsum":
        extents, operands, _ = einsum_extents(node)
        return math.prod(extents.values()) if len(operands) == 2 else 0
    if kind in ("LSTM", "GRU", "RNN"):
        return _recurrent(node)
    if kind == "Attention":
        return _attention(node, outputs)
    return 0


def _recurrent(node: Node) -> int:
    data, weights, recurrence = node.inputs[:3]
    if data is None or weights is None or recurrence is None:
        return 0
    steps = data.shape[0] * data.shape[1]  # sequence length x batch, in either layout
    return steps * (weights.elements + recurrence.elements)


def _attention(node: Node, outputs: list[Shape]) -> int:
    query, key, value = node.inputs[:3]
    if query is None or key is None or value is None:
        return 0
    rows = query.shape[-2]
    columns = key.shape[-2]
    batch = query.shape[0]
    heads_q = int(node.get("q_num_heads", 0)) or query.shape[1]
    width_qk = query.shape[-1] if len(query.shape) == 4 else query.shape[-1] // heads_q
    width_v = outputs[0][-1] if len(outputs[0]) == 4 else outputs[0][-1] // heads_q
    return batch * heads_q * rows * columns * (width_qk + width_v)
