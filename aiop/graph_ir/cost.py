"""Multiply-accumulates of an operation, and which of its constants are parameters.

MACs are counted for convolutions (transposed and deformable ones too), matrix products (Gemm, MatMul, Einsum,
attention, experts), recurrent layers and the quantised and fused twins of all these, as published counts do. Bias,
normalisation, activation, pooling and the like are counted apart (`aiop.graph_ir.elementwise`). FLOPs are twice the
MACs.
"""

from __future__ import annotations

from aiop.graph_ir.costs import MACS_RULES
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
    """Return the multiply-accumulates of one node with known shapes; 0 for operators that have none."""
    known = MACS_RULES.get(node.domain)
    rule = None if known is None else known.get(node.type)
    return 0 if rule is None else rule(node, outputs)
