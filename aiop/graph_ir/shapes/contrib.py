"""Output shapes of the operators of ``com.microsoft`` that are neither products, attention nor quantised twins."""

from __future__ import annotations

import math

from aiop.graph_ir.shapes import layout, products, windows
from aiop.graph_ir.shapes.base import ShapeError, ShapeRule, axis_of, broadcast, first, rules
from aiop.graph_ir.shapes.channels_last import last
from aiop.graph_ir.shapes.quantised import twin
from aiop.graph_ir.values import Node, Shape, UnknownValue

__all__ = ["RULES"]


def _shape(node: Node, index: int) -> Shape:
    tensor = node.input(index)
    if tensor is None:
        raise ShapeError(f"has no input {index}")
    return tensor.shape


def _same(node: Node) -> list[Shape]:
    return [first(node).shape] * node.output_count


def _causal_convolution(node: Node) -> list[Shape]:
    """Depthwise, of one length in and out; the state holds what the next call sees of the past."""
    shape, weights = first(node).shape, _shape(node, 1)
    if len(weights) < 3:
        raise ShapeError(f"has weights {list(weights)}")
    rank = len(weights) - 2
    node.window = windows.Window(
        weights[2:], (1,) * rank, (1,) * (rank - 1) + (int(node.get("dilation", 1)),), (0,) * 2 * rank
    )
    past = node.input(4 if node.type.startswith("Varlen") else 3)
    kept = (weights[-1] - 1) * int(node.get("dilation", 1))
    if past is not None:
        state = past.shape
    else:
        state = (shape[0], kept, *shape[2:]) if node.get("channels_last", 0) else (*shape[:-1], kept)
    updates = (past.shape[0], int(node.get("state_update_capacity", 0)), shape[-1]) if past else ()
    return [shape, state, updates]


def _skip_norm(node: Node) -> list[Shape]:
    """Output, mean and inverse deviation of every row, and the sum that is normalised."""
    shape = first(node).shape
    rows = (*shape[:-1], 1)
    return [shape, rows, rows, shape]


def _embed(node: Node) -> list[Shape]:
    """Sum of word, position and segment embeddings, normalised; an index of the mask; the sum itself."""
    ids, words = first(node).shape, _shape(node, 2)
    out = (*ids, words[-1])
    return [out, ids[:1], out]


def _embedding(node: Node) -> list[Shape]:
    return [_shape(node, 1) + first(node).shape[1:]]


def _gather_blocks(node: Node) -> list[Shape]:
    """A Gather of weights of which several are packed to a byte along the last axis."""
    shape = first(node).shape
    if first(node).dtype == "uint8":
        shape = (*shape[:-1], shape[-1] * (8 // int(node.get("bits", 4))))
    axis = axis_of(int(node.get("gather_axis", 0)), len(shape))
    return [shape[:axis] + _shape(node, 1) + shape[axis + 1 :]]


def _split_gelu(node: Node) -> list[Shape]:
    shape = first(node).shape
    return [(*shape[:-1], shape[-1] // 2)]


def _word_embedding(node: Node) -> list[Shape]:
    return [(*first(node).shape[:-1], _shape(node, 1)[0])]


def _relative_position(node: Node) -> list[Shape]:
    query, key = node.integers("", 1), node.integers("", 2)
    if not query or not key:
        raise UnknownValue("the lengths are not known")
    return [(1, first(node).shape[1], query[0], key[0])]


def _gated_position(node: Node) -> list[Shape]:
    batch = first(node).shape[0] if node.input(6) is None else _shape(node, 6)[0]
    return [(batch, *_shape(node, 2)[1:])]


def _crop_and_resize(node: Node) -> list[Shape]:
    size = node.integers("", 3)
    if not size or len(size) != 2:
        raise UnknownValue("crop_size is not a known constant")
    return [(_shape(node, 1)[0], first(node).shape[1], *size)]


def _spectrum(node: Node) -> list[Shape]:
    shape, axes = first(node).shape, int(node.get("signal_ndim", 1))
    if node.type == "Rfft":
        onesided = bool(node.get("onesided", 1))
        return [(*shape[:-1], shape[-1] // 2 + 1 if onesided else shape[-1], 2)]
    if len(shape) < axes + 1:
        raise ShapeError(f"inverts {axes} axes of {list(shape)}")
    return [(*shape[:-2], (shape[-2] - 1) * 2 if node.get("onesided", 1) else shape[-2])]


def _unfold(node: Node) -> list[Shape]:
    shape, size = first(node).shape, int(node.get("size", 1))
    axis = axis_of(int(node.get("dim", -1)), len(shape))
    count = (shape[axis] - size) // max(1, int(node.get("step", 1))) + 1
    return [(*shape[:axis], count, *shape[axis + 1 :], size)]


def _expand_dims(node: Node) -> list[Shape]:
    shape, axes = first(node).shape, node.integers("", 1)
    if not axes:
        raise UnknownValue("the axis is not a known constant")
    axis = axis_of(axes[0], len(shape) + 1)
    return [(*shape[:axis], 1, *shape[axis:])]


def _remove_padding(node: Node) -> list[Shape]:
    """As if nothing were padding: how much is depends on the data."""
    batch, length, width = first(node).shape
    return [(batch * length, width), (batch, length), (batch + 1,), (1,)]


def _restore_padding(node: Node) -> list[Shape]:
    return [_shape(node, 1) + first(node).shape[1:]]


def _dynamic_pads(node: Node) -> list[Shape]:
    """A transposed convolution whose pads are an input: begins and ends of every spatial axis."""
    pads = node.integers("pads", 2)
    inner = Node(
        node.name, node.type, node.domain, {**node.attributes, **({"pads": pads} if pads else {})}, node.inputs[:2],
        node.output_count, node.opset,
    )  # fmt: skip
    shapes = windows.RULES["ConvTranspose"](inner)
    node.window = inner.window
    return shapes


def _pre_mix(node: Node) -> list[Shape]:
    shape, branches = first(node).shape, int(node.get("num_branches", 0))
    return [(*shape[:-1], shape[-1] // branches)] if branches else [(*shape[:-2], shape[-1])]


def _engram(node: Node) -> list[Shape]:
    return [first(node).shape] * 2


def _gates(node: Node) -> list[Shape]:
    return [first(node).shape] * 2


def _gemma(node: Node) -> list[Shape]:
    return [_shape(node, 1), _shape(node, 3)]


def _grid_sample(node: Node) -> list[Shape]:
    return [first(node).shape[:2] + _shape(node, 1)[1:-1]]


def _gather_nd(node: Node) -> list[Shape]:
    shape, indices = first(node).shape, _shape(node, 1)
    return [indices[:-1] + shape[indices[-1] :]]


def _range(node: Node) -> list[Shape]:
    start, limit, delta = (node.integers("", index) for index in range(3))
    if not start or not limit:
        raise UnknownValue("the limits are not known constants")
    return [(len(range(start[0], limit[0], (delta or [1])[0])),)]


def _finite(node: Node) -> list[Shape]:
    return [()]


def _warping(node: Node) -> list[Shape]:
    """The longest path there can be."""
    rows, columns = first(node).shape[-2:]
    return [(2, rows + columns - 1)]


def _complex(node: Node) -> list[Shape]:
    return [broadcast(first(node).shape, _shape(node, 1))]


def _whole(node: Node) -> list[Shape]:
    """Values as often as they differ, at most all of them; where each came from; how often it is there."""
    count = math.prod(first(node).shape)
    return [(count,)] * 3


RULES: dict[str, ShapeRule] = {
    **rules(
        _same,
        "Gelu FastGelu BiasGelu QuickGelu ScaledSiLU BiasSoftmax BiasAdd BiasDropout BitmaskDropout "
        "BitmaskBiasDropout GatedAdd GroupNorm SkipGroupNorm BranchwiseRMSNorm GatedRMSNorm Inverse SampleOp Trilu "
        "RotaryEmbedding MRotaryEmbedding QuantizeLinear DequantizeLinear QuantizeWithOrder DequantizeWithOrder MoE "
        "QMoE HyperConnectionPostMix MurmurHash3",
    ),
    **rules(_causal_convolution, "CausalConvWithState VarlenCausalConvWithState"),
    **rules(_skip_norm, "SkipLayerNormalization SkipSimplifiedLayerNormalization"),
    **rules(_embed, "EmbedLayerNormalization QEmbedLayerNormalization"),
    **rules(_embedding, "TorchEmbedding"),
    **rules(_gather_blocks, "GatherBlockQuantized"),
    **rules(_split_gelu, "BiasSplitGelu"),
    **rules(_word_embedding, "WordConvEmbedding"),
    **rules(_relative_position, "RelativePositionBias"),
    **rules(_gated_position, "GatedRelativePositionBias"),
    **rules(_crop_and_resize, "CropAndResize"),
    **rules(_spectrum, "Rfft Irfft"),
    **rules(_unfold, "UnfoldTensor"),
    **rules(_expand_dims, "ExpandDims"),
    **rules(_remove_padding, "RemovePadding"),
    **rules(_restore_padding, "RestorePadding"),
    **rules(_dynamic_pads, "ConvTransposeWithDynamicPads"),
    **rules(_pre_mix, "HyperConnectionPreMix"),
    **rules(_engram, "EngramGate"),
    **rules(_gates, "LinearAttentionGate"),
    **rules(_gemma, "GemmaRotaryEmbedding"),
    **rules(_grid_sample, "GridSample"),
    **rules(_gather_nd, "GatherND"),
    **rules(_range, "Range"),
    **rules(_finite, "IsAllFinite"),
    **rules(_warping, "DynamicTimeWarping"),
    **rules(_complex, "ComplexMul ComplexMulConj"),
    **rules(_whole, "Unique"),
    "FusedConv": windows.RULES["Conv"],
    "NhwcConv": last(windows.RULES["Conv"]),
    "NhwcFusedConv": last(windows.RULES["Conv"]),
    "NhwcMaxPool": last(windows.RULES["MaxPool"]),
    "MaxpoolWithMask": twin(windows.RULES["MaxPool"], (0,)),
    "Pad": layout.RULES["Pad"],
    **dict.fromkeys(("AttnLSTM", "DynamicQuantizeLSTM"), products.RULES["LSTM"]),
}
