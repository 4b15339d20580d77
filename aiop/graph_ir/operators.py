"""The canonical operator vocabulary, and what every ONNX operator maps to.

The vocabulary names what an operation does to a network, not how a file spells it: ``MaxPool`` of any rank is
``MaxPool``, ``Gemm`` and a ``MatMul`` with constant weights are ``Linear``, a convolution with as many groups as
channels is ``DepthwiseConv``. Entries are only ever appended: weights are trained against their indices.

An operator is known by its domain and its type. Domains here: ``ai.onnx`` (every version, operators that were removed
again, and the experimental ones that onnxruntime still reads), ``ai.onnx.ml``, ``ai.onnx.preview`` and
``ai.onnx.preview.training``, and what onnxruntime's optimisers and quantisers, Olive and the exporters write:
``com.microsoft`` and the layout domains ``com.microsoft.nchwc`` and ``com.ms.internal.nhwc``.
"""

from __future__ import annotations

__all__ = ["INDEX", "STANDARD_DOMAINS", "VIEWS", "VOCABULARY", "add_operator", "canonical"]

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
    # kinds of their own
    "MoE", "LinearAttention", "GatedActivation", "RotaryEmbedding", "MatrixFunction", "Loss", "Text", "Optimizer",
    "Opaque",
)  # fmt: skip
"""Canonical operators, in the order of their indices."""

INDEX: dict[str, int] = {name: index for index, name in enumerate(VOCABULARY)}

_ONNX: dict[str, tuple[str, ...]] = {
    "Conv": ("Conv", "ConvInteger", "QLinearConv", "DeformConv"),
    "DepthwiseConv": ("CausalConvWithState",),
    "ConvTranspose": ("ConvTranspose",),
    "Linear": ("Gemm",),
    "MatMul": ("MatMul", "MatMulInteger", "QLinearMatMul", "Einsum"),
    "Attention": ("Attention",),
    "LinearAttention": ("LinearAttention",),
    "LSTM": ("LSTM",),
    "GRU": ("GRU",),
    "RNN": ("RNN",),
    "BatchNorm": ("BatchNormalization", "SpatialBN"),
    "LayerNorm": ("LayerNormalization", "MeanVarianceNormalization"),
    "InstanceNorm": ("InstanceNormalization",),
    "GroupNorm": ("GroupNormalization",),
    "RMSNorm": ("RMSNormalization", "SimplifiedLayerNormalization"),
    "LpNorm": ("LpNormalization",),
    "LRN": ("LRN",),
    "Relu": ("Relu", "ThresholdedRelu"),
    "Clip": ("Clip",),
    "Sigmoid": ("Sigmoid",),
    "HardSigmoid": ("HardSigmoid",),
    "SiLU": ("Swish",),
    "HardSwish": ("HardSwish",),
    "Mish": ("Mish",),
    "Gelu": ("Gelu",),
    "Tanh": ("Tanh", "Softsign", "ScaledTanh"),
    "LeakyRelu": ("LeakyRelu",),
    "PRelu": ("PRelu",),
    "Elu": ("Elu", "Selu", "Celu"),
    "Softplus": ("Softplus", "ParametricSoftplus"),
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
        "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
    ),
    "RotaryEmbedding": ("RotaryEmbedding",),
    "GatedActivation": ("SwiGLU", "GRUUnit"),
    "Add": ("Add", "Sum", "DisentangledAttention_TRT"),
    "Sub": ("Sub",),
    "Mul": ("Mul",),
    "Div": ("Div", "Mod"),
    "Min": ("Min",),
    "Max": ("Max",),
    "Compare": ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf"),
    "Logical": (
        "And", "Or", "Not", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseNot", "BitwiseXor",
    ),
    "Where": ("Where",),
    "MaxPool": ("MaxPool", "LpPool", "MaxUnpool", "MaxRoiPool"),
    "AvgPool": ("AveragePool",),
    "GlobalAvgPool": ("GlobalAveragePool",),
    "GlobalMaxPool": ("GlobalMaxPool", "GlobalLpPool"),
    "ReduceMean": ("ReduceMean", "Mean"),
    "ReduceSum": ("ReduceSum", "ReduceSumSquare"),
    "ReduceMax": ("ReduceMax", "ReduceMin"),
    "ReduceOther": ("ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"),
    "ArgReduce": ("ArgMax", "ArgMin"),
    "Cumulative": ("CumSum", "CumProd"),
    "Concat": ("Concat",),
    "Split": ("Split",),
    "Slice": ("Slice", "DynamicSlice", "Crop", "CenterCropPad", "Trilu", "Compress", "EyeLike"),
    "Pad": ("Pad", "Col2Im"),
    "Gather": ("Gather", "GatherElements", "GatherND", "NonZero", "OneHot", "Unique", "Range", "Shape", "Size"),
    "Scatter": ("Scatter", "ScatterElements", "ScatterND", "TensorScatter"),
    "Transpose": ("Transpose", "ReverseSequence"),
    "Reshape": ("Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    "Expand": ("Expand", "Tile", "ConstantOfShape", "Constant", "GivenTensorFill"),
    "Resize": ("Resize", "Upsample", "AffineGrid"),
    "DepthToSpace": ("DepthToSpace",),
    "SpaceToDepth": ("SpaceToDepth",),
    "RoiAlign": ("RoiAlign", "MultilevelCropAndResize_TRT", "PyramidROIAlign_TRT"),
    "GridSample": ("GridSample",),
    "Sort": ("TopK",),
    "NonMaxSuppression": ("NonMaxSuppression", "EfficientNMS_TRT"),
    "Cast": ("Cast", "CastLike", "BitCast"),
    "Identity": ("Identity", "Dropout", "MemcpyFromHost", "MemcpyToHost"),
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
    "Affine": ("Affine", "Scale", "ImageScaler"),
    "MatrixFunction": ("Det",),
    "Loss": ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"),
    "Text": ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
}  # fmt: skip

_ML: dict[str, tuple[str, ...]] = {
    "Linear": ("LinearClassifier", "LinearRegressor"),
    "MatMul": ("SVMClassifier", "SVMRegressor"),
    "Tree": ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    "Affine": ("Scaler",),
    "LpNorm": ("Normalizer",),
    "Compare": ("Binarizer",),
    "Where": ("Imputer",),
    "Gather": ("ArrayFeatureExtractor", "CategoryMapper", "LabelEncoder", "OneHotEncoder"),
    "Concat": ("FeatureVectorizer",),
    "Sequence": ("CastMap", "DictVectorizer", "ZipMap"),
}

_PREVIEW: dict[str, tuple[str, ...]] = {"Attention": ("FlexAttention",)}

_TRAINING: dict[str, tuple[str, ...]] = {
    "Optimizer": ("Adagrad", "Adam", "Momentum"),
    "Control": ("Gradient",),
}

_MICROSOFT: dict[str, tuple[str, ...]] = {
    "Conv": ("FusedConv", "NhwcConv", "NhwcFusedConv", "QLinearConv", "WordConvEmbedding"),
    "DepthwiseConv": ("CausalConvWithState", "VarlenCausalConvWithState"),
    "ConvTranspose": ("ConvTransposeWithDynamicPads", "QLinearConvTranspose"),
    "Linear": (
        "FusedGemm", "QGemm", "GemmFastGelu", "GemmFloat8", "MatMulNBits", "MatMulNBitsMlp", "MatMulNBitsQkv",
        "MatMulBnb4", "MatMulFpQ4", "MatMulBlockQuantizedFp4Weight", "MatMulBlockQuantizedFp8Weight",
        "GatedRelativePositionBias",
    ),
    "MatMul": (
        "FusedMatMul", "FusedMatMulActivation", "TransposeMatMul", "MatMulInteger16", "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul", "QLinearMatMul", "QOrderedMatMul", "SparseToDenseMatMul", "CDist",
        "HyperConnectionPostMix",
    ),
    "Attention": (
        "Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention", "PackedMultiHeadAttention",
        "DecoderAttention", "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "QAttention",
        "QOrderedAttention", "LongformerAttention", "QOrderedLongformerAttention", "SparseAttention",
        "DynamicSparseAttention", "PagedAttention", "SparsePagedAttention", "SparseAttentionIndexer",
        "PackedSparseAttentionIndexer",
    ),
    "LinearAttention": ("LinearAttention", "GatedDeltaNet"),
    "MoE": ("MoE", "QMoE"),
    "LSTM": ("DynamicQuantizeLSTM", "AttnLSTM"),
    "Embedding": (
        "TorchEmbedding", "GatherBlockQuantized", "EmbedLayerNormalization", "QEmbedLayerNormalization",
    ),
    "LayerNorm": ("SkipLayerNormalization", "QOrderedLayerNormalization"),
    "RMSNorm": ("SkipSimplifiedLayerNormalization", "BranchwiseRMSNorm", "GatedRMSNorm"),
    "GroupNorm": ("GroupNorm", "SkipGroupNorm"),
    "Sigmoid": ("QLinearSigmoid",),
    "SiLU": ("QuickGelu", "ScaledSiLU"),
    "Gelu": ("Gelu", "FastGelu", "BiasGelu", "QOrderedGelu"),
    "LeakyRelu": ("QLinearLeakyRelu",),
    "Softmax": ("BiasSoftmax", "QLinearSoftmax"),
    "GatedActivation": ("BiasSplitGelu", "LinearAttentionGate", "EngramGate"),
    "RotaryEmbedding": ("RotaryEmbedding", "MRotaryEmbedding", "GemmaRotaryEmbedding"),
    "Add": ("QLinearAdd", "BiasAdd", "GatedAdd", "BiasDropout", "BitmaskBiasDropout"),
    "Mul": ("QLinearMul", "MulInteger", "ComplexMul", "ComplexMulConj"),
    "Where": ("QLinearWhere",),
    "Compare": ("IsAllFinite",),
    "MaxPool": ("NhwcMaxPool", "MaxpoolWithMask"),
    "AvgPool": ("QLinearAveragePool",),
    "GlobalAvgPool": ("QLinearGlobalAveragePool",),
    "ReduceMean": ("QLinearReduceMean",),
    "ReduceSum": ("ReduceSumInteger", "HyperConnectionPreMix"),
    "Cumulative": ("DynamicTimeWarping",),
    "Concat": ("QLinearConcat",),
    "Slice": ("Trilu", "UnfoldTensor"),
    "Pad": ("Pad", "RestorePadding"),
    "Gather": ("GatherND", "Unique", "Range", "RelativePositionBias", "RemovePadding"),
    "Reshape": ("ExpandDims",),
    "RoiAlign": ("CropAndResize",),
    "GridSample": ("GridSample",),
    "Identity": ("BitmaskDropout", "SampleOp"),
    "Quantize": (
        "QuantizeLinear", "DequantizeLinear", "QuantizeBFP", "DequantizeBFP", "QuantizeWithOrder",
        "DequantizeWithOrder",
    ),
    "MatrixFunction": ("Inverse",),
    "Signal": ("Rfft", "Irfft"),
    "Text": (
        "Tokenizer", "MurmurHash3", "NGramHashMapping", "VarlenNGramHashMapping", "NGramRepeatBlock",
        "BifurcationDetector",
    ),
    "Opaque": ("EPContext", "Snpe", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
}  # fmt: skip


def _by_type(names: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {spelling: name for name, spellings in names.items() for spelling in spellings}


_STANDARD = _by_type(_ONNX)
_CANONICAL: dict[str, dict[str, str]] = {
    "": _STANDARD,
    "ai.onnx": _STANDARD,
    "ai.onnx.ml": _by_type(_ML),
    "ai.onnx.preview": _by_type(_PREVIEW),
    "ai.onnx.preview.training": _by_type(_TRAINING),
    "com.microsoft": _by_type(_MICROSOFT),
    "com.microsoft.nchwc": {**_STANDARD, "ReorderInput": "Slice", "ReorderOutput": "Slice"},
    "com.ms.internal.nhwc": {
        **_STANDARD,
        "QLinearConvTranspose": "ConvTranspose",
        "QLinearAveragePool": "AvgPool",
    },
}
"""Domain -> operator type -> canonical operator."""

STANDARD_DOMAINS: frozenset[str] = frozenset({"", "ai.onnx"})
"""How a file writes the domain of the ONNX standard."""

VIEWS: frozenset[str] = frozenset({"Reshape", "Identity", "Cast"})
"""Canonical operators that change how elements are named or stored, never their number."""


def canonical(onnx_type: str, domain: str = "") -> str:
    """Return the canonical operator of an operator type in its domain; ``Unknown`` where there is none.

    >>> canonical("Gemm"), canonical("BiasGelu", "com.microsoft"), canonical("Gemm", "acme")
    ('Linear', 'Gelu', 'Unknown')
    """
    types = _CANONICAL.get(domain)
    return "Unknown" if types is None else types.get(onnx_type, "Unknown")


def add_operator(domain: str, onnx_type: str, name: str) -> None:
    """Let an operator map to the canonical operator ``name``; `aiop.graph_ir.registry` checks what users add."""
    _CANONICAL.setdefault(domain, {})[onnx_type] = name
