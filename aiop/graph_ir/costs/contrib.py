"""Multiply-accumulates of the operators of onnxruntime, ``com.microsoft``."""

from __future__ import annotations

import math

from aiop.graph_ir.costs.base import MacsRule, elements
from aiop.graph_ir.costs.standard import (
    attention,
    convolution,
    linear_attention_macs,
    recurrent,
    transposed_convolution,
)
from aiop.graph_ir.shapes.attention import FORMS
from aiop.graph_ir.shapes.contrib_products import product_of
from aiop.graph_ir.values import Node, Shape, UnknownValue

__all__ = ["PREVIEW", "RULES", "experts"]


def _product(node: Node, outputs: list[Shape]) -> int:
    try:
        return product_of(node).macs
    except UnknownValue:  # packed weights whose size the file does not tell
        left = node.input(0)
        return math.prod(outputs[0]) * left.shape[-1] if left else 0


def _shared_products(node: Node, outputs: list[Shape]) -> int:
    """Projections of one input: gate and up (of N each), or queries, keys and values."""
    widths = [shape[-1] for shape in outputs[:3]] if node.type == "MatMulNBitsQkv" else [outputs[0][-1]] * 2
    return elements(node, 0) * sum(widths)


def _attention_lstm(node: Node, outputs: list[Shape]) -> int:
    """An LSTM that at every step attends to a memory: query layer, one score and one sum per entry, output layer."""
    data, memory = node.input(0), node.input(11)
    if data is None or memory is None:
        return recurrent(node, outputs)
    steps = math.prod(data.shape[:2])
    _, length, depth = memory.shape
    width = elements(node, 10)  # of the attention, in all directions
    per_step = elements(node, 8) + length * (width + depth) + elements(node, 13)
    return recurrent(node, outputs) + steps * per_step + memory.elements * width


def experts(node: Node) -> tuple[int, int]:
    """Return (experts run in total, width of an expert's inner layer) of a mixture of experts."""
    data, first = node.input(0), node.input(2)
    if data is None or first is None:
        return 0, 0
    wide = first.shape[1] if node.type == "QMoE" or first.shape[2] == data.shape[-1] else first.shape[2]
    tokens = math.prod(data.shape[:-1])
    return tokens * max(1, int(node.get("k", 1))), wide // (2 if int(node.get("swiglu_fusion", 0)) else 1)


def _mixture(node: Node, outputs: list[Shape]) -> int:
    """Only the chosen experts of a token: two layers, the first twice as wide or with a third beside it if gated."""
    data = node.input(0)
    runs, inner = experts(node)
    if data is None:
        return 0
    gated = int(node.get("swiglu_fusion", 0)) or node.input(8 if node.type == "QMoE" else 6) is not None
    return runs * data.shape[-1] * inner * (3 if gated else 2)


def _words(node: Node, outputs: list[Shape]) -> int:
    """A convolution over the characters of every word, of which the largest response stays."""
    words, weights = node.input(0), node.input(1)
    if words is None or weights is None:
        return 0
    places = max(1, words.shape[-1] - weights.shape[-2] + 1)
    return math.prod(words.shape[:-1]) * places * weights.elements


def _gated_position(node: Node, outputs: list[Shape]) -> int:
    """A small layer on the width of one head, for every query and head."""
    weights = node.input(3)
    return elements(node, 0) * weights.shape[1] if weights else 0


def _mixed_streams(node: Node, outputs: list[Shape]) -> int:
    """Every stream a weighted sum of all of them, where there is a matrix to mix by."""
    mix = node.input(3)
    return elements(node, 0) * mix.shape[-1] if mix else 0


RULES: dict[str, MacsRule] = {
    **dict.fromkeys(FORMS["com.microsoft"], attention),
    **dict.fromkeys(
        "FusedMatMul FusedMatMulActivation TransposeMatMul MatMulInteger16 MatMulIntegerToFloat DynamicQuantizeMatMul "
        "QLinearMatMul QOrderedMatMul SparseToDenseMatMul CDist FusedGemm QGemm GemmFastGelu GemmFloat8 MatMulNBits "
        "MatMulBnb4 MatMulFpQ4 MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight".split(),
        _product,
    ),
    **dict.fromkeys(("MatMulNBitsMlp", "MatMulNBitsQkv"), _shared_products),
    **dict.fromkeys(
        "FusedConv NhwcConv NhwcFusedConv QLinearConv CausalConvWithState VarlenCausalConvWithState".split(),
        convolution,
    ),
    **dict.fromkeys(("ConvTransposeWithDynamicPads", "QLinearConvTranspose"), transposed_convolution),
    **dict.fromkeys(("LinearAttention", "GatedDeltaNet"), linear_attention_macs),
    "DynamicQuantizeLSTM": recurrent,
    "AttnLSTM": _attention_lstm,
    **dict.fromkeys(("MoE", "QMoE"), _mixture),
    "WordConvEmbedding": _words,
    "GatedRelativePositionBias": _gated_position,
    "HyperConnectionPostMix": _mixed_streams,
}
"""Rules of ``com.microsoft``."""

PREVIEW: dict[str, MacsRule] = dict.fromkeys(FORMS["ai.onnx.preview"], attention)
"""Rules of ``ai.onnx.preview``."""
