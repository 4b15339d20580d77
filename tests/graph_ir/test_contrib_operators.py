"""Operators of onnxruntime: shapes against the outputs it computes, MACs by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from aiop.graph_ir import ComputeGraph, Operation, read_onnx

RNG = np.random.default_rng(0)
HALF = np.float32(0.5)
ZERO = np.uint8(128)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def bytes_(*shape: int) -> np.ndarray:
    return RNG.integers(0, 255, shape).astype(np.uint8)


def integers(*values: int, dtype: type = np.int64) -> np.ndarray:
    return np.array(values, dtype)


@dataclass
class Case:
    """One node: ``data`` are the network's inputs, ``weights`` its constants, both by position."""

    type: str
    data: dict[int, np.ndarray]
    macs: int
    op: str
    weights: dict[int, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    domain: str = "com.microsoft"

    def model(self) -> onnx.ModelProto:
        count = 1 + max([*self.data, *self.weights])
        names = [f"x{at}" if at in self.data or at in self.weights else "" for at in range(count)]
        outputs = [f"y{index}" for index in range(self.outputs)]
        node = helper.make_node(self.type, names, outputs, "node", domain=self.domain, **self.attributes)
        graph = helper.make_graph(
            [node],
            "network",
            [
                helper.make_tensor_value_info(
                    f"x{at}", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                )
                for at, array in self.data.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(np.asarray(array), f"x{at}") for at, array in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(self.domain, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def read(case: Case) -> tuple[ComputeGraph, Operation]:
    graph = read_onnx(case.model())
    return graph, next(operation for operation in graph.operations if operation.op == case.op)


def quantised(*shape: int) -> dict[int, np.ndarray]:
    return {0: bytes_(*shape)}


SCALES = {1: HALF, 2: ZERO, 4: HALF, 5: ZERO, 6: HALF, 7: ZERO}
QKV = {1: numbers(12, 24), 2: numbers(24)}
PAST = (numbers(2, 2, 3, 4), numbers(2, 2, 3, 4))

CASES = [
    # products
    Case("FusedMatMul", {0: numbers(3, 7, 5)}, 3 * 7 * 5 * 4, "Linear", {1: numbers(4, 5)},
         {"transB": 1, "alpha": 0.5}),
    Case("FusedMatMul", {0: numbers(2, 5, 7), 1: numbers(2, 5, 4)}, 2 * 7 * 5 * 4, "MatMul", {}, {"transA": 1}),
    Case("FusedMatMul", {0: numbers(3, 2, 5), 1: numbers(2, 5, 4)}, 2 * 3 * 5 * 4, "MatMul", {}, {"transBatchA": 1}),
    Case("TransposeMatMul", {0: numbers(5, 7), 1: numbers(5, 4)}, 7 * 5 * 4, "MatMul", {}, {"transA": 1}),
    Case("FusedGemm", {0: numbers(3, 5)}, 3 * 5 * 4, "Linear", {1: numbers(4, 5), 2: numbers(4)},
         {"transB": 1, "activation": "Relu"}),
    Case("MatMulNBits", {0: numbers(2, 3, 64)}, 2 * 3 * 64 * 8, "Linear", {1: bytes_(8, 2, 16), 2: numbers(16)},
         {"K": 64, "N": 8, "bits": 4, "block_size": 32}),
    Case("MatMulBnb4", {0: numbers(3, 64)}, 3 * 64 * 8, "Linear", {1: bytes_(256), 2: numbers(8)},
         {"K": 64, "N": 8, "block_size": 64, "quant_type": 1}),
    Case("DynamicQuantizeMatMul", {0: numbers(3, 5)}, 3 * 5 * 4, "Linear",
         {1: bytes_(5, 4), 2: HALF, 3: ZERO, 4: numbers(4)}),
    Case("MatMulIntegerToFloat", {0: bytes_(3, 5)}, 3 * 5 * 4, "Linear",
         {1: bytes_(5, 4), 2: HALF, 3: HALF, 4: ZERO, 5: ZERO}),
    Case("QGemm", quantised(3, 5), 3 * 5 * 4, "Linear",
         {1: HALF, 2: ZERO, 3: bytes_(5, 4), 4: HALF, 5: ZERO, 6: integers(1, 2, 3, 4, dtype=np.int32)}),
    Case("CDist", {0: numbers(6, 5), 1: numbers(7, 5)}, 6 * 7 * 5, "MatMul", {}, {"metric": "euclidean"}),
    # convolutions
    Case("FusedConv", {0: numbers(1, 3, 9, 9)}, 7 * 7 * 8 * 27, "Conv", {1: numbers(8, 3, 3, 3)},
         {"activation": "Relu"}),
    Case("NhwcMaxPool", {0: bytes_(1, 9, 9, 3)}, 0, "MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2]}),
    Case("QLinearConv", quantised(1, 9, 9, 3), 7 * 7 * 8 * 27, "Conv", {**SCALES, 3: bytes_(8, 3, 3, 3)},
         {"channels_last": 1}),
    Case("ConvTransposeWithDynamicPads", {0: numbers(1, 3, 4, 4)}, 16 * 3 * 8 * 9, "ConvTranspose",
         {1: numbers(3, 8, 3, 3), 2: integers(1, 1, 1, 1)}, {"strides": [2, 2]}),
    Case("CausalConvWithState", {0: numbers(2, 6, 10)}, 2 * 6 * 10 * 4, "DepthwiseConv", {1: numbers(6, 1, 4)},
         outputs=2),
    Case("WordConvEmbedding", {0: integers(*range(1, 9), dtype=np.int32).reshape(2, 4)}, 2 * 2 * 5 * 3 * 6, "Conv",
         {1: numbers(5, 1, 3, 6), 2: numbers(5), 3: numbers(30, 6)},
         {"embedding_size": 5, "conv_window_size": 3, "char_embedding_size": 6}),
    # attention: 2 sequences of 5, width 12 -> 2 heads of 4
    Case("Attention", {0: numbers(2, 5, 12)}, 10 * 12 * 24 + 2 * 2 * 5 * 5 * 8, "Attention", QKV, {"num_heads": 2}),
    Case("Attention", {0: numbers(2, 5, 12), 4: np.stack(PAST)}, 10 * 12 * 24 + 2 * 2 * 5 * 8 * 8, "Attention", QKV,
         {"num_heads": 2}, outputs=2),
    Case("QAttention", {0: bytes_(2, 5, 12)}, 10 * 12 * 24 + 2 * 2 * 5 * 5 * 8, "Attention",
         {1: bytes_(12, 24), 2: numbers(24), 3: HALF, 4: HALF, 6: ZERO, 7: ZERO}, {"num_heads": 2}),
    Case("MultiHeadAttention", {0: numbers(2, 5, 8), 1: numbers(2, 6, 8), 2: numbers(2, 6, 10)},
         2 * 2 * 5 * 6 * (4 + 5), "Attention", {}, {"num_heads": 2}),
    Case("MultiHeadAttention",
         {0: numbers(2, 5, 8), 1: numbers(2, 5, 8), 2: numbers(2, 5, 8), 6: PAST[0], 7: PAST[1]},
         2 * 2 * 5 * 8 * 8, "Attention", {}, {"num_heads": 2}, outputs=3),
    Case("GroupQueryAttention",
         {0: numbers(2, 1, 32), 1: numbers(2, 1, 16), 2: numbers(2, 1, 16), 3: numbers(2, 2, 3, 8),
          4: numbers(2, 2, 3, 8), 5: integers(3, 3, dtype=np.int32)},
         2 * 4 * 1 * 4 * 16, "Attention", {6: integers(4, dtype=np.int32)}, {"num_heads": 4, "kv_num_heads": 2},
         outputs=3),
    Case("GroupQueryAttention", {0: numbers(1, 5, 64), 5: integers(4, dtype=np.int32)}, 4 * 5 * 5 * 16, "Attention",
         {6: integers(5, dtype=np.int32)}, {"num_heads": 4, "kv_num_heads": 2}, outputs=3),
    Case("LinearAttention", {0: numbers(1, 5, 8), 1: numbers(1, 5, 8), 2: numbers(1, 5, 12)},
         5 * 4 * 6 * (2 + 2), "LinearAttention", {},
         {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear"}, outputs=2),
    Case("GatedDeltaNet", {0: numbers(5, 2, 4), 1: numbers(5, 2, 4), 2: numbers(5, 4, 6), 6: numbers(1, 4, 6, 4)},
         5 * 4 * 6 * (4 + 4 + 4), "LinearAttention", {}, {"update_rule": "gated_delta"}, outputs=2),
    # 7 tokens of 2 sequences of at most 5, 2 heads of 4
    Case("PackedAttention", {0: numbers(7, 12), 3: integers(*range(10), dtype=np.int32).reshape(2, 5),
                             4: integers(0, 3, 7, dtype=np.int32)},
         7 * 12 * 24 + 2 * 7 * 5 * 8, "Attention", QKV, {"num_heads": 2}),
    Case("PackedMultiHeadAttention",
         {0: numbers(7, 8), 1: numbers(7, 8), 2: numbers(7, 10), 4: integers(*range(10), dtype=np.int32).reshape(2, 5),
          5: integers(0, 3, 7, dtype=np.int32)}, 2 * 7 * 5 * (4 + 5), "Attention", {}, {"num_heads": 2}),
    # a cache for 8 tokens, of which 3 are used
    Case("DecoderMaskedMultiHeadAttention",
         {**{at: numbers(2, 1, 8) for at in range(3)}, 5: numbers(2, 2, 8, 4), 6: numbers(2, 2, 8, 4)},
         2 * 2 * 1 * 4 * 8, "Attention", {7: integers(3, dtype=np.int32)},
         {"num_heads": 2, "past_present_share_buffer": 1}, outputs=3),
    # local attention to 2 tokens on either side
    Case("LongformerAttention", {0: numbers(1, 16, 8), 3: numbers(1, 16), 6: np.zeros((1, 16), np.int32)},
         2 * 16 * 8 * 24 + 2 * 16 * 5 * 8, "Attention",
         {1: numbers(8, 24), 2: numbers(24), 4: numbers(8, 24), 5: numbers(24)}, {"num_heads": 2, "window": 2}),
    # 3 tokens, 2 sequences of up to 4 blocks of 8
    Case("PagedAttention",
         {0: numbers(3, 8), 1: numbers(3, 8), 2: numbers(3, 8), 3: numbers(9, 8, 2, 4), 4: numbers(9, 8, 2, 4),
          5: integers(0, 1, 3, dtype=np.int32), 6: integers(0, 0, dtype=np.int32),
          7: integers(*range(8), dtype=np.int32).reshape(2, 4)},
         2 * 3 * 32 * 8, "Attention", {}, {"num_heads": 2, "kv_num_heads": 2}, outputs=3),
    # blocks of 16 x 16, 3 of them in each of 2 layouts
    Case("SparseAttention",
         {0: numbers(1, 32, 32), 1: numbers(1, 32, 32), 2: numbers(1, 32, 32), 3: numbers(1, 2, 32, 16),
          4: numbers(1, 2, 32, 16), 8: integers(32, dtype=np.int32)},
         2 * 3 * 256 * 32, "Attention",
         {5: integers(0, 1, 3, dtype=np.int32).reshape(1, 3), 6: integers(0, 0, 1, dtype=np.int32).reshape(1, 3),
          7: integers(32, dtype=np.int32)},
         {"num_heads": 2, "kv_num_heads": 2, "sparse_block_size": 16}, outputs=3),
    Case("QMoE", {0: numbers(6, 16), 1: numbers(6, 4)}, 6 * 2 * 3 * 16 * 32, "MoE",
         {2: bytes_(4, 64, 8), 3: numbers(4, 64), 5: bytes_(4, 16, 16), 6: numbers(4, 16)},
         {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": 4}),
    Case("MatMulNBitsMlp", {0: numbers(3, 64)}, 2 * 3 * 64 * 8, "Linear",
         {3: bytes_(8, 2, 16), 4: numbers(16), 6: bytes_(8, 2, 16), 7: numbers(16)},
         {"K": 64, "N": 8, "bits": 4, "block_size": 32, "activation": "silu"}),
    Case("GemmFastGelu", {0: numbers(2, 3, 5)}, 6 * 5 * 4, "Linear", {1: numbers(5, 4), 2: numbers(4)}),
    Case("NhwcConv", {0: numbers(1, 9, 9, 6)}, 7 * 7 * 6 * 9, "DepthwiseConv", {1: numbers(6, 1, 3, 3)}, {"group": 6}),
    Case("Conv", {0: numbers(1, 9, 9, 3)}, 7 * 7 * 8 * 27, "Conv", {1: numbers(8, 3, 3, 3)},
         domain="com.ms.internal.nhwc"),
    # experts: 4 of width 16 -> 32 -> 16, 2 for each of 6 tokens
    Case("MoE", {0: numbers(6, 16), 1: numbers(6, 4)}, 6 * 2 * 2 * 16 * 32, "MoE",
         {2: numbers(4, 32, 16), 4: numbers(4, 16, 32)}, {"k": 2, "activation_type": "relu"}),
    # recurrent
    Case("DynamicQuantizeLSTM", {0: numbers(5, 2, 8)}, 10 * 4 * 3 * (8 + 3), "LSTM",
         {1: bytes_(1, 8, 12), 2: bytes_(1, 3, 12), 8: numbers(1), 9: bytes_(1), 10: numbers(1), 11: bytes_(1)},
         {"hidden_size": 3}, outputs=3),
    # none
    Case("BiasGelu", {0: numbers(2, 8)}, 0, "Gelu", {1: numbers(8)}),
    Case("FastGelu", {0: numbers(2, 8)}, 0, "Gelu"),
    Case("QuickGelu", {0: numbers(2, 8)}, 0, "SiLU"),
    Case("BiasSplitGelu", {0: numbers(1, 4, 8)}, 0, "GatedActivation", {1: numbers(8)}),
    Case("SkipLayerNormalization", {0: numbers(2, 5, 8), 1: numbers(2, 5, 8)}, 0, "LayerNorm",
         {2: numbers(8), 3: numbers(8)}),
    Case("SkipSimplifiedLayerNormalization", {0: numbers(2, 5, 8), 1: numbers(2, 5, 8)}, 0, "RMSNorm",
         {2: numbers(8)}),
    Case("SimplifiedLayerNormalization", {0: numbers(2, 5, 8)}, 0, "RMSNorm", {1: numbers(8)}, {"axis": -1}, domain=""),
    Case("EmbedLayerNormalization", {0: integers(1, 2, 3, 4, dtype=np.int32).reshape(2, 2)}, 0, "Embedding",
         {2: numbers(9, 8), 3: numbers(4, 8), 5: numbers(8), 6: numbers(8)}, outputs=2),
    Case("RotaryEmbedding", {0: numbers(1, 5, 16), 1: integers(0)}, 0, "RotaryEmbedding",
         {2: numbers(8, 4), 3: numbers(8, 4)}, {"num_heads": 2}),
    Case("GatherBlockQuantized", {1: integers(0, 3, 1)}, 0, "Embedding", {0: bytes_(6, 16), 2: numbers(6, 2)},
         {"block_size": 16, "quantize_axis": 1, "bits": 4}),
    Case("QLinearAdd", {0: bytes_(2, 8), 3: bytes_(2, 8)}, 0, "Add",
         {1: HALF, 2: ZERO, 4: HALF, 5: ZERO, 6: HALF, 7: ZERO}),
    Case("QLinearSigmoid", quantised(2, 8), 0, "Sigmoid", {1: HALF, 2: ZERO, 3: HALF, 4: ZERO}),
    Case("QLinearConcat", {2: bytes_(2, 8), 5: bytes_(2, 3)}, 0, "Concat",
         {0: HALF, 1: ZERO, 3: HALF, 4: ZERO, 6: HALF, 7: ZERO}, {"axis": 1}),
    Case("QLinearGlobalAveragePool", quantised(2, 4, 4, 8), 0, "GlobalAvgPool", {1: HALF, 2: ZERO, 3: HALF, 4: ZERO},
         {"channels_last": 1}),
    Case("QLinearAveragePool", quantised(2, 8, 4, 4), 0, "AvgPool", {1: HALF, 2: ZERO, 3: HALF, 4: ZERO},
         {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("QLinearReduceMean", quantised(2, 8), 0, "ReduceMean", {1: HALF, 2: ZERO, 3: HALF, 4: ZERO},
         {"axes": [1], "keepdims": 0}),
    Case("QLinearWhere", {0: np.array([[True, False]]), 1: bytes_(3, 2), 4: bytes_(3, 2)}, 0, "Where",
         {2: HALF, 3: ZERO, 5: HALF, 6: ZERO, 7: HALF, 8: ZERO}),
    Case("CropAndResize", {0: numbers(1, 3, 9, 9), 1: numbers(4, 4), 2: integers(0, 0, 0, 0, dtype=np.int32)}, 0,
         "RoiAlign", {3: integers(5, 6, dtype=np.int32)}),
    Case("Inverse", {0: numbers(2, 4, 4)}, 0, "MatrixFunction"),
    Case("Trilu", {0: numbers(4, 4)}, 0, "Slice"),
    Case("Unique", {0: numbers(6)}, 0, "Gather", outputs=3),
    Case("UnfoldTensor", {0: numbers(3, 10)}, 0, "Slice", {}, {"dim": 1, "size": 4, "step": 2}),
    Case("ExpandDims", {0: numbers(3, 4)}, 0, "Reshape", {1: np.int32(1)}),
    Case("MaxpoolWithMask", {0: numbers(1, 3, 8, 8), 1: integers(*[1] * 192, dtype=np.int32).reshape(1, 3, 8, 8)}, 0,
         "MaxPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("BiasSoftmax", {0: numbers(2, 3, 8), 1: numbers(2, 1, 8)}, 0, "Softmax", {},
         {"axis": -1, "is_inner_broadcast": 1}),
    Case("GroupNorm", {0: numbers(1, 4, 4, 8)}, 0, "GroupNorm", {1: numbers(8), 2: numbers(8)},
         {"groups": 2, "activation": 1}),
    Case("Pad", {0: numbers(3, 4)}, 0, "Pad", {1: integers(1, 0, 2, 0)}),
    Case("GridSample", {0: numbers(1, 3, 8, 8), 1: numbers(1, 5, 6, 2)}, 0, "GridSample"),
    Case("DynamicTimeWarping", {0: np.ones((4, 1), np.float32)}, 0, "Cumulative"),
    Case("BiasAdd", {0: numbers(2, 5, 320), 2: numbers(2, 5, 320)}, 0, "Add", {1: numbers(320)}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)
def test_macs(case: Case) -> None:
    graph, _ = read(case)
    assert case.domain in {operation.domain for operation in graph.operations[1:]}
    assert graph.macs == case.macs
    assert not [note for note in graph.notes if "shape" in note]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)
def test_shapes_are_those_that_onnxruntime_computes(case: Case) -> None:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    model = case.model()
    try:
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        outputs = session.run(None, {f"x{at}": array for at, array in case.data.items()})
    except Exception as error:
        pytest.skip(f"onnxruntime does not run it here: {str(error)[:80]}")
    graph = read_onnx(model)
    for name, array in zip([output.name for output in model.graph.output], outputs, strict=True):
        if name in graph.tensors:
            assert graph.tensors[name].shape == array.shape, name


def test_channels_last_has_the_geometry_of_channels_first() -> None:
    rows_first = Case(
        "Conv", {0: numbers(1, 3, 9, 9)}, 0, "Conv", {1: numbers(8, 3, 3, 3)}, {"pads": [1, 1, 0, 0]}
    )
    rows_first.domain = ""
    one = read(rows_first)[1]
    last = Case("Conv", {0: numbers(1, 9, 9, 3)}, 0, "Conv", {1: numbers(8, 3, 3, 3)}, {"pads": [1, 1, 0, 0]})
    last.domain = "com.ms.internal.nhwc"
    graph, two = read(last)
    assert graph.tensors["y0"].shape == (1, 8, 8, 8)
    for name in ("op", "kernel", "stride", "dilation", "padding", "groups", "macs", "params", "weights"):
        assert getattr(one, name) == getattr(two, name), name


@pytest.mark.parametrize("channels", [16, 32])
@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_a_network_costs_the_same_after_onnxruntime_optimised_it(tmp_path, level: str, channels: int) -> None:
    runtime = pytest.importorskip("onnxruntime")
    text = f"""<ir_version: 8, opset_import: ["": 17]> network (float[1,3,16,16] x) => (float[1,10] y) {{
        a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, stem, bias) b = Relu(a) s = Sigmoid(b) g = Mul(b, s)
        d = Conv<group={channels}, pads=[1,1,1,1]>(g, depth) e = Add(d, b) m = MaxPool<kernel_shape=[2,2]>(e)
        p = GlobalAveragePool(m) f = Flatten(p) h = MatMul(f, head) y = Add(h, shift) }}"""
    model = onnx.parser.parse_model(text)
    weights = {
        "stem": numbers(channels, 3, 3, 3), "bias": numbers(channels), "depth": numbers(channels, 1, 3, 3),
        "head": numbers(channels, 10), "shift": numbers(10),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    before, after = read_onnx(model), read_onnx(tmp_path / "optimised.onnx")
    assert after.macs == before.macs == 64 * channels * 27 + 64 * channels * 9 + channels * 10
    assert after.params == before.params
    assert not [operation.onnx_type for operation in after.operations if operation.op == "Unknown"]
