"""Operations on single elements: what an operation computes besides multiply-accumulates.

One element operation is one addition, multiplication (with or without an addition after it), division, comparison,
rounding or elementary function (exp, log, sqrt, tanh, erf, sin, ...) of one element. An operation's count is the
elements it writes times the operations that its formula takes for one of them: 1 for Relu or an addition, 4 for
``1 / (1 + exp(-x))``, 5 for a softmax (largest, difference, exp, sum, division), 2 for a batch norm (one for the
normalisation, one for scale and shift), 5 for a layer, group or instance norm (mean, difference, square, product with
the inverse deviation, scale and shift; 4 without the last). A pool takes one per element of its window, a reduction
one or two per element it reads, an interpolation one per source element it weighs, a bias one per element. fvcore
counts norms, bilinear upsampling and adaptive pools alike. Moving, choosing and regrouping elements takes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from aiop.graph_ir.costs.contrib import experts
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.operators import canonical
from aiop.graph_ir.shapes.attention import FORMS, attention_form
from aiop.graph_ir.shapes.contrib_products import linear_attention
from aiop.graph_ir.values import Node, Tensor

__all__ = ["FREE", "MULTIPLYING", "element_operations", "is_declared"]

_Rule = Callable[[Operation, Node, Tensor], int]
"""Operation, its node, its first output -> element operations without bias and what is fused."""

MULTIPLYING: frozenset[str] = frozenset(
    "Conv DepthwiseConv ConvTranspose Linear MatMul Attention LinearAttention MoE LSTM GRU RNN".split()
)
"""Canonical operators that have multiply-accumulates; all others have none."""

FREE: dict[str, frozenset[str]] = {
    "inputs": frozenset({"Input"}),
    "moves, copies or chooses elements": frozenset(
        "Concat Split Slice Pad Gather Scatter Transpose Expand DepthToSpace SpaceToDepth Embedding Zero".split()
    ),
    "regroups or renames elements": frozenset("Reshape Identity Cast".split()),
    "how much it takes depends on the data": frozenset({"NonMaxSuppression"}),
    "holds tensors": frozenset({"Sequence"}),
    "what it runs is counted by itself": frozenset({"Control"}),
    "works on texts": frozenset({"Text"}),
    "hides what it computes, or is unknown": frozenset({"Opaque", "Unknown"}),
}
"""Why nothing is counted -> canonical operators."""

_PER_OUTPUT: dict[str, int] = {
    **dict.fromkeys(
        "Relu Tanh Erf Exp Log Sqrt Pow Abs Neg Reciprocal Round Trigonometric Sub Mul Div Compare Logical Where "
        "Cumulative Affine Random".split(),
        1,
    ),
    **dict.fromkeys("Clip LeakyRelu PRelu BatchNorm LpNorm".split(), 2),
    **dict.fromkeys("HardSigmoid Elu Softplus RotaryEmbedding Quantize".split(), 3),
    **dict.fromkeys("Sigmoid HardSwish".split(), 4),
    **dict.fromkeys("SiLU Gelu Mish Softmax".split(), 5),
    "GatedActivation": 6,
}
_PER_INPUT: dict[str, int] = {
    **dict.fromkeys("GlobalAvgPool GlobalMaxPool ReduceMean ReduceSum ReduceMax ArgReduce".split(), 1),
    "ReduceOther": 2,
    "Loss": 5,
}
_FUSED: dict[str, int] = {
    **dict.fromkeys(
        "BiasGelu BiasSplitGelu BiasSoftmax BiasDropout BitmaskBiasDropout GatedAdd BiasAdd".split(), 1
    ),
    **dict.fromkeys(
        "SkipLayerNormalization SkipSimplifiedLayerNormalization SkipGroupNorm GatedRMSNorm".split(), 1
    ),
    "EmbedLayerNormalization": 7,  # two sums and a layer norm
    "QEmbedLayerNormalization": 7,
    "GatherBlockQuantized": 2,
}
"""What operators of onnxruntime do besides their canonical operator, per element."""

_SOFTMAX = 5
_TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}


def is_declared(name: str) -> bool:
    """Return whether it is said what element operations a canonical operator takes."""
    return (
        name in _PER_OUTPUT
        or name in _PER_INPUT
        or name in _RULES
        or any(name in names for names in FREE.values())
    )


def element_operations(operation: Operation, node: Node, outputs: Sequence[Tensor]) -> int:
    """Return the element operations of an operation, read from ``node``, that writes ``outputs``."""
    name = operation.op
    written = outputs[0].elements
    if (factor := _PER_OUTPUT.get(name)) is not None:
        count = factor * written
    elif (factor := _PER_INPUT.get(name)) is not None:
        count = factor * _read(node)
    elif (rule := _RULES.get(name)) is not None:
        count = rule(operation, node, outputs[0])
    else:
        count = 0
    if operation.bias:
        count += written
    if node.domain:
        count += _fused(node) * written
    return count


def _read(node: Node) -> int:
    data = node.input(0)
    return data.elements if data is not None else 0


def _fused(node: Node) -> int:
    """Return what is done to every element besides: a residual, a dequantisation, an activation."""
    activation = node.attributes.get("activation")
    if node.type in ("GroupNorm", "SkipGroupNorm") and activation == 1:
        activation = "Swish"
    if not isinstance(activation, str):
        return _FUSED.get(node.type, 0)
    return _FUSED.get(node.type, 0) + _PER_OUTPUT.get(canonical(activation), 0)


# -- rules by canonical operator


def _sum(operation: Operation, node: Node, out: Tensor) -> int:
    if node.type not in ("Sum", "Min", "Max"):
        return out.elements
    return out.elements * max(0, sum(tensor is not None for tensor in node.inputs) - 1)


def _norm(operation: Operation, node: Node, out: Tensor) -> int:
    return out.elements * (5 if len(node.inputs) > 1 else 4)


def _rms_norm(operation: Operation, node: Node, out: Tensor) -> int:
    return out.elements * (3 if len(node.inputs) > 1 else 2)


def _response_norm(operation: Operation, node: Node, out: Tensor) -> int:
    """A sum of squares over some channels, a power of it with scale and shift, a division."""
    return out.elements * (max(1, int(node.get("size", 1))) + 3)


def _window(operation: Operation, node: Node, out: Tensor) -> int:
    return out.elements * math.prod(operation.kernel) if operation.kernel else _read(node)


def _resize(operation: Operation, node: Node, out: Tensor) -> int:
    """One per source element that an interpolated one is weighed of; axes that keep their size are not interpolated."""
    data = node.input(0)
    if data is None or node.type == "AffineGrid":
        return 3 * out.elements
    resized = sum(old != new for old, new in zip(data.shape, out.shape, strict=False))
    return int(out.elements * _TAPS.get(str(node.get("mode", "nearest")), 2) ** resized)


def _grid_sample(operation: Operation, node: Node, out: Tensor) -> int:
    data = node.input(0)
    axes = len(data.shape) - 2 if data is not None else 2
    return int(out.elements * _TAPS.get(str(node.get("mode", "linear")), 2) ** axes)


def _region(operation: Operation, node: Node, out: Tensor) -> int:
    """Bilinear samples, ``sampling_ratio`` a side (1 where the size of each region decides)."""
    return out.elements * 4 * max(1, int(node.get("sampling_ratio", 1))) ** 2


def _sort(operation: Operation, node: Node, out: Tensor) -> int:
    data = node.input(0)
    if data is None or not data.shape:
        return 0
    axis = int(node.get("axis", -1))
    extent = data.shape[axis] if -len(data.shape) <= axis < len(data.shape) else data.elements
    return data.elements * max(1, extent - 1).bit_length()


def _spectrum(operation: Operation, node: Node, out: Tensor) -> int:
    """A fast Fourier transform of n numbers: 5 n log2 n."""
    data = node.input(0)
    if node.type in ("DFT", "Rfft", "Irfft", "STFT") and data is not None:
        frame = node.input(3) if node.type == "STFT" else data
        length = frame.shape[-1] if frame is not None and frame.shape else 2
        return 5 * out.elements // 2 * max(1, length - 1).bit_length()
    return 3 * out.elements  # a window: a scaled cosine


def _matrix(operation: Operation, node: Node, out: Tensor) -> int:
    """Elimination: a third of n cubed for a determinant, n cubed for an inverse."""
    data = node.input(0)
    size = data.shape[-1] if data is not None and data.shape else 0
    return _read(node) * size if node.type == "Inverse" else _read(node) * size // 3


def _trees(operation: Operation, node: Node, out: Tensor) -> int:
    """One comparison per level of every tree, taken as balanced, and one addition per tree and output."""
    data = node.input(0)
    nodes = len(node.get("nodes_treeids") or node.get("nodes_featureids") or ())
    roots = node.get("tree_roots") or set(node.get("nodes_treeids") or ())
    trees = max(1, len(roots))
    rows = math.prod(data.shape[:-1]) if data is not None else 0
    return rows * trees * (max(1, nodes // trees).bit_length() + 1)


def _optimizer(operation: Operation, node: Node, out: Tensor) -> int:
    """Per weight: decay, one or two running averages, a step (Adam: with a root and a division)."""
    per_weight = {"Momentum": 5, "Adagrad": 6, "Adam": 11}
    count = (len(node.inputs) - 2) // (4 if node.type == "Adam" else 3)
    weights = sum(tensor.elements for tensor in node.inputs[2 : 2 + count] if tensor is not None)
    return per_weight.get(node.type, 6) * weights


def _convolution(operation: Operation, node: Node, out: Tensor) -> int:
    """A deformable convolution interpolates what it reads: four taps per element of every window."""
    data, weights = node.input(0), node.input(1)
    if node.type != "DeformConv" or data is None or weights is None:
        return 0
    positions = out.elements // max(1, weights.shape[0])
    return 4 * positions * data.shape[1] * math.prod(weights.shape[2:])


def _attention(operation: Operation, node: Node, out: Tensor) -> int:
    """Scale and softmax of every score."""
    if node.type not in FORMS.get(node.domain, ()):
        return 0
    return attention_form(node).scores * (1 + _SOFTMAX)


def _linear_attention(operation: Operation, node: Node, out: Tensor) -> int:
    """Decay of the state at every token, where there is any."""
    if node.domain not in ("", "ai.onnx", "com.microsoft"):
        return 0
    sizes = linear_attention(node)
    decays = node.type == "GatedDeltaNet" or "gated" in str(node.get("update_rule", ""))
    return sizes.tokens * sizes.heads_kv * sizes.width_qk * sizes.width_v * decays


def _experts(operation: Operation, node: Node, out: Tensor) -> int:
    """Activation and gate of the inner layers of the chosen experts, and the weighted sum of what they give."""
    if node.domain != "com.microsoft":
        return 0
    runs, inner = experts(node)
    factor = _PER_OUTPUT.get(canonical(str(node.get("activation_type", "relu")).capitalize()), 6)
    data = node.input(0)
    return runs * (inner * factor + (data.shape[-1] if data is not None else 0))


def _gates(operation: Operation, node: Node, out: Tensor) -> int:
    """Sum of the two products and an activation for every gate, and what becomes of them."""
    per_unit = {"LSTM": 4 * 2 + 3 * 4 + 2 + 3, "GRU": 3 * 2 + 2 * 4 + 1 + 4, "RNN": 3}
    return per_unit[operation.op] * out.elements


def _none(operation: Operation, node: Node, out: Tensor) -> int:
    return 0


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Add", "Min", "Max"), _sum),
    **dict.fromkeys(("LayerNorm", "GroupNorm", "InstanceNorm"), _norm),
    "RMSNorm": _rms_norm,
    "LRN": _response_norm,
    **dict.fromkeys(("MaxPool", "AvgPool"), _window),
    "Resize": _resize,
    "GridSample": _grid_sample,
    "RoiAlign": _region,
    "Sort": _sort,
    "Signal": _spectrum,
    "MatrixFunction": _matrix,
    "Tree": _trees,
    "Optimizer": _optimizer,
    "Conv": _convolution,
    **dict.fromkeys(("DepthwiseConv", "ConvTranspose", "Linear", "MatMul"), _none),  # a bias is counted
    "Attention": _attention,
    "LinearAttention": _linear_attention,
    "MoE": _experts,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _gates),
}
