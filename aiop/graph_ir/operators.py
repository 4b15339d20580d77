"""The canonical operator vocabulary, and what every ONNX operator maps to.

The vocabulary names what an operation does to a network, not how a file spells it: ``MaxPool`` of any rank is
``MaxPool``, ``Gemm`` and a ``MatMul`` with constant weights are ``Linear``, a convolution with as many groups as
channels is ``DepthwiseConv``. Entries are only ever appended: weights are trained against their indices.
"""

from __future__ import annotations

__all__ = ["INDEX", "VIEWS", "VOCABULARY", "canonical"]

VOCABULARY: tuple[str, ...] = (
    "Unknown", "Input",
    # weighted
    "Conv", "DepthwiseConv", "ConvTranspose", "Linear", "MatMul", "Attention", "LSTM", "GRU", "RNN", "Embedding",
    # normalisation
    "BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm", "RMSNorm", "LpNorm", "LRN",
    # activation
    "Relu", "Clip", "Sigmoid", "HardSigmoid", "SiLU", "HardSwish", "Mish", "Gelu", "Tanh", "LeakyRelu", "PRelu", "Elu",
    "Softplus", "Softmax", "Erf", "Exp", "Log", "Sqrt", "Pow", "Abs", "Neg", "Reciprocal", "Round", "Trigonometric",
    # element-wise with several inputs
    "Add", "Sub", "Mul", "Div", "Min", "Max", "Compare", "Logical", "Where",
    # pooling and reduction
    "MaxPool", "AvgPool", "GlobalAvgPool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceOther",
    "ArgReduce", "Cumulative",
    # movement
    "Concat", "Split", "Slice", "Pad", "Gather", "Scatter", "Transpose", "Reshape", "Expand", "Resize",
    "DepthToSpace", "SpaceToDepth", "RoiAlign", "GridSample", "Sort", "NonMaxSuppression", "Cast", "Identity",
    "Quantize", "Random", "Sequence", "Control", "Zero", "Affine", "Signal", "Tree",
)  # fmt: skip
"""Canonical operators, in the order of their indices."""

INDEX: dict[str, int] = {name: index for index, name in enumerate(VOCABULARY)}

_ONNX: dict[str, tuple[str, ...]] = {
    "Conv": ("Conv", "ConvInteger", "QLinearConv", "FusedConv", "NhwcConv", "DeformConv"),
    "ConvTranspose": ("ConvTranspose",),
    "Linear": ("Gemm", "FusedGemm", "QGemm"),
    "MatMul": ("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "Einsum", "MatMulNBits", "Det"),
    "Attention": ("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention", "LinearAttention"),
    "LSTM": ("LSTM",),
    "GRU": ("GRU",),
    "RNN": ("RNN",),
    "BatchNorm": ("BatchNormalization", "SpatialBN"),
    "LayerNorm": ("LayerNormalization", "SkipLayerNormalization", "MeanVarianceNormalization"),
    "InstanceNorm": ("InstanceNormalization",),
    "GroupNorm": ("GroupNormalization", "GroupNorm"),
    "RMSNorm": ("RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    "LpNorm": ("LpNormalization",),
    "LRN": ("LRN",),
    "Relu": ("Relu", "ThresholdedRelu"),
    "Clip": ("Clip",),
    "Sigmoid": ("Sigmoid",),
    "HardSigmoid": ("HardSigmoid",),
    "SiLU": ("Swish", "QuickGelu"),
    "HardSwish": ("HardSwish",),
    "Mish": ("Mish",),
    "Gelu": ("Gelu", "FastGelu", "BiasGelu"),
    "Tanh": ("Tanh", "Softsign"),
    "LeakyRelu": ("LeakyRelu",),
    "PRelu": ("PRelu",),
    "Elu": ("Elu", "Selu", "Celu"),
    "Softplus": ("Softplus",),
    "Softmax": ("Softmax", "LogSoftmax", "Hardmax"),
    "Erf": ("Erf",),
    "Exp": ("Exp",),
    "Log": ("Log",),
    "Sqrt": ("Sqrt",),
    "Pow": ("Pow",),
    "Abs": ("Abs", "Sign", "Shrink"),
    "Neg": ("Neg",),
    "Reciprocal": ("Reciprocal",),
    "Round": ("Ceil", "Floor", "Round"),
    "Trigonometric": (
        "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "RotaryEmbedding",
    ),
    "Add": ("Add", "Sum", "QLinearAdd"),
    "Sub": ("Sub",),
    "Mul": ("Mul", "QLinearMul"),
    "Div": ("Div", "Mod"),
    "Min": ("Min",),
    "Max": ("Max",),
    "Compare": ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf"),
    "Logical": (
        "And", "Or", "Not", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseNot", "BitwiseXor",
    ),
    "Where": ("Where",),
    "MaxPool": ("MaxPool", "LpPool", "MaxUnpool", "MaxRoiPool"),
    "AvgPool": ("AveragePool", "QLinearAveragePool"),
    "GlobalAvgPool": ("GlobalAveragePool", "QLinearGlobalAveragePool"),
    "GlobalMaxPool": ("GlobalMaxPool", "GlobalLpPool"),
    "ReduceMean": ("ReduceMean", "Mean"),
    "ReduceSum": ("ReduceSum", "ReduceSumSquare"),
    "ReduceMax": ("ReduceMax", "ReduceMin"),
    "ReduceOther": ("ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"),
    "ArgReduce": ("ArgMax", "ArgMin"),
    "Cumulative": ("CumSum", "CumProd"),
    "Concat": ("Concat", "QLinearConcat"),
    "Split": ("Split",),
    "Slice": ("Slice", "CenterCropPad", "Trilu", "Compress", "EyeLike"),
    "Pad": ("Pad", "Col2Im"),
    "Gather": ("Gather", "GatherElements", "GatherND", "NonZero", "OneHot", "Unique", "Range", "Shape", "Size"),
    "Scatter": ("Scatter", "ScatterElements", "ScatterND", "TensorScatter"),
    "Transpose": ("Transpose", "ReverseSequence"),
    "Reshape": ("Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    "Expand": ("Expand", "Tile", "ConstantOfShape", "Constant"),
    "Resize": ("Resize", "Upsample", "AffineGrid"),
    "DepthToSpace": ("DepthToSpace",),
    "SpaceToDepth": ("SpaceToDepth",),
    "RoiAlign": ("RoiAlign",),
    "GridSample": ("GridSample",),
    "Sort": ("TopK",),
    "NonMaxSuppression": ("NonMaxSuppression",),
    "Cast": ("Cast", "CastLike", "BitCast"),
    "Identity": ("Identity", "Dropout"),
    "Quantize": ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    "Random": (
        "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
    ),
    "Control": ("If", "Loop", "Scan"),
    "Sequence": (
        "SequenceConstruct", "SequenceAt", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
        "SequenceMap", "SplitToSequence", "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement",
    ),
    "Signal": (
        "DFT", "STFT", "MelWeightMatrix", "HannWindow", "HammingWindow", "BlackmanWindow", "ImageDecoder",
    ),
}  # fmt: skip

_CANONICAL: dict[str, str] = {spelling: name for name, spellings in _ONNX.items() for spelling in spellings}

VIEWS: frozenset[str] = frozenset({"Reshape", "Identity", "Cast"})
"""Canonical operators that change how elements are named or stored, never their number."""


def canonical(onnx_type: str) -> str:
    """Return the canonical operator of an ONNX operator type; ``Unknown`` where there is none.

    >>> canonical("Gemm"), canonical("AveragePool"), canonical("Foo")
    ('Linear', 'AvgPool', 'Unknown')
    """
    return _CANONICAL.get(onnx_type, "Unknown")
