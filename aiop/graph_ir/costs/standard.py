"""Multiply-accumulates of the operators of the ONNX standard."""

from __future__ import annotations

import math

from aiop.graph_ir.costs.base import MacsRule, elements
from aiop.graph_ir.shapes import einsum_of
from aiop.graph_ir.shapes.attention import attention_form
from aiop.graph_ir.shapes.contrib_products import linear_attention
from aiop.graph_ir.slots import slots
from aiop.graph_ir.values import Node, Shape

__all__ = [
    "RULES",
    "attention",
    "convolution",
    "linear_attention_macs",
    "recurrent",
    "transposed_convolution",
]


def convolution(node: Node, outputs: list[Shape]) -> int:
    """Every number written is a sum over one filter."""
    weights = node.input(slots(node.type).weights)
    return math.prod(outputs[0]) * math.prod(weights.shape[1:]) if weights else 0


def transposed_convolution(node: Node, outputs: list[Shape]) -> int:
    """Every number read is spread by one filter."""
    data, weights = node.input(0), node.input(slots(node.type).weights)
    return data.elements * math.prod(weights.shape[1:]) if data and weights else 0


def _gemm(node: Node, outputs: list[Shape]) -> int:
    return elements(node, 0) * outputs[0][1]


def _matmul(node: Node, outputs: list[Shape]) -> int:
    left = node.input(0)
    return math.prod(outputs[0]) * left.shape[-1] if left else 0


def _einsum(node: Node, outputs: list[Shape]) -> int:
    return einsum_of(node).macs


def recurrent(node: Node, outputs: list[Shape]) -> int:
    """Input and recurrence matrices once per step and sequence; element-wise gates and peepholes are no MACs."""
    data = node.input(0)
    if data is None:
        return 0
    steps = math.prod(data.shape[:2])  # sequence length x batch, in either layout
    return steps * (elements(node, 1) + elements(node, 2))


def attention(node: Node, outputs: list[Shape]) -> int:
    """Scores and weighted sum over all keys, cached ones too; a mask does not lower them."""
    return attention_form(node).macs


def linear_attention_macs(node: Node, outputs: list[Shape]) -> int:
    """A state per head, updated and read once per token."""
    rule = node.get("update_rule", "gated_delta" if node.type == "GatedDeltaNet" else "linear")
    return linear_attention(node).macs(str(rule))


RULES: dict[str, MacsRule] = {
    **dict.fromkeys(("Conv", "QLinearConv", "ConvInteger", "DeformConv", "CausalConvWithState"), convolution),
    "ConvTranspose": transposed_convolution,
    "Gemm": _gemm,
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    "Einsum": _einsum,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
    "Attention": attention,
    "LinearAttention": linear_attention_macs,
}
