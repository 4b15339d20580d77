"""Fused operators of onnxruntime come to the same network as the standard operators they stand for."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

IMAGE = "(float[1,16,8,8] x) => (float y)"
TEXT = "(float[2,5,8] x, float[2,5,8] s) => (float y)"
ONE = "(float[2,5,8] x) => (float y)"
CONV, VECTOR = {"w": (16, 16, 3, 3), "b": (16,)}, {"b": (8,)}
NORM = {"g": (8,), "t": (8,), "b": (8,)}

PAIRS = [
    (IMAGE, 'y = F.FusedConv<activation="Relu">(x, w, b)', "a = Conv(x, w, b) y = Relu(a)", CONV),
    (IMAGE, 'y = F.FusedConv<activation="HardSigmoid", activation_params=[0.2, 0.5]>(x, w, b)',
     "a = Conv(x, w, b) y = HardSigmoid(a)", CONV),
    (IMAGE, 'y = F.FusedConv<activation="Clip", activation_params=[0.0, 6.0]>(x, w, b)',
     "a = Conv(x, w, b) l = Constant<value_float=0.0>() h = Constant<value_float=6.0>() y = Clip(a, l, h)", CONV),
    (IMAGE, 'y = F.FusedConv<activation="Relu", pads=[1,1,1,1]>(x, w, b, x)',
     "a = Conv<pads=[1,1,1,1]>(x, w, b) s = Add(a, x) y = Relu(s)", CONV),
    (IMAGE, "y = F.FusedConv<pads=[1,1,1,1]>(x, w, b, x)", "a = Conv<pads=[1,1,1,1]>(x, w, b) y = Add(a, x)", CONV),
    (IMAGE, 'y = N.Conv<activation="Relu">(x, w, b)', "a = Conv(x, w, b) y = Relu(a)", CONV),
    ("(float[3,8] x) => (float y)", 'y = F.FusedGemm<transB=1, activation="LeakyRelu", activation_alpha=0.2>(x, w, b)',
     "a = Gemm<transB=1>(x, w, b) y = LeakyRelu<alpha=0.2>(a)", {"w": (4, 8), "b": (4,)}),
    (ONE, "y = F.FusedMatMul<transB=1>(x, w)", "t = Transpose<perm=[1,0]>(w) y = MatMul(x, t)", {"w": (4, 8)}),
    (TEXT, "y = F.FusedMatMul<transB=1, alpha=0.5>(x, s)",
     "t = Transpose<perm=[0,2,1]>(s) m = MatMul(x, t) h = Constant<value_float=0.5>() y = Mul(m, h)", {}),
    (TEXT, 'y = F.FusedMatMulActivation<transA=1, activation="Relu">(x, s)',
     "t = Transpose<perm=[0,2,1]>(x) m = MatMul(t, s) y = Relu(m)", {}),
    (ONE, "y = F.BiasGelu(x, b)", "a = Add(x, b) y = Gelu(a)", VECTOR),
    (ONE, "y = F.FastGelu(x, b)", 'a = Add(x, b) y = Gelu<approximate="tanh">(a)', VECTOR),
    (ONE, "y = F.FastGelu(x)", 'y = Gelu<approximate="tanh">(x)', {}),
    (ONE, "y = F.GemmFastGelu(x, w, b)", 'm = MatMul(x, w) a = Add(m, b) y = Gelu<approximate="tanh">(a)',
     {"w": (8, 4), "b": (4,)}),
    (TEXT, "y = F.SkipLayerNormalization(x, s, g, t)", "a = Add(x, s) y = LayerNormalization(a, g, t)", NORM),
    (TEXT, "y = F.SkipLayerNormalization(x, s, g, t, b)",
     "c = Add(x, b) a = Add(c, s) y = LayerNormalization(a, g, t)", NORM),
    (TEXT, "n, , , a = F.SkipLayerNormalization(x, s, g, t) y = Mul(n, a)",
     "a = Add(x, s) n = LayerNormalization(a, g, t) y = Mul(n, a)", NORM),
    (TEXT, "y = F.SkipSimplifiedLayerNormalization(x, s, g)", "a = Add(x, s) y = RMSNormalization(a, g)", NORM),
    (TEXT, "y = F.BiasAdd(x, b, s)", "a = Add(x, b) y = Add(a, s)", VECTOR),
    (TEXT, "y = F.BiasDropout(x, b, s)", "a = Add(x, b) y = Add(a, s)", VECTOR),
    (TEXT, "y = F.BiasSoftmax<axis=2>(x, s)", "a = Add(x, s) y = Softmax<axis=2>(a)", {}),
    (ONE, "y = F.Attention<num_heads=2>(x, w, b)",
     "m = MatMul(x, w) a = Add(m, b) q, k, v = Split<axis=2, num_outputs=3>(a) "
     "y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)", {"w": (8, 24), "b": (24,)}),
    (TEXT, "y = F.MultiHeadAttention<num_heads=2>(x, s, s)", "y = Attention<q_num_heads=2, kv_num_heads=2>(x, s, s)",
     {}),
    ("(float[2,5,8] x, float[2,1,5,5] s) => (float y)", "y = F.MultiHeadAttention<num_heads=2>(x, x, x, , , s)",
     "y = Attention<q_num_heads=2, kv_num_heads=2>(x, x, x, s)", {}),
]  # fmt: skip


@pytest.fixture
def read(network) -> Callable[..., ComputeGraph]:
    def read(flow: str, nodes: str, weights: dict[str, tuple[int, ...]]) -> ComputeGraph:
        nodes = nodes.replace("F.", "com.microsoft.").replace("N.", "com.microsoft.nchwc.")
        used = {name: shape for name, shape in weights.items() if f"{name})" in nodes or f"{name}," in nodes}
        model: onnx.ModelProto = network(f"{flow} {{ {nodes} }}", 23, **used)
        for domain in ("com.microsoft", "com.microsoft.nchwc"):
            model.opset_import.add(domain=domain, version=1)
        return read_onnx(model)

    return read


@pytest.mark.parametrize(("flow", "fused", "plain", "weights"), PAIRS, ids=[pair[1][:44] for pair in PAIRS])
def test_a_fused_operator_is_what_it_was_made_of(read, flow: str, fused: str, plain: str, weights) -> None:
    one, other = read(flow, fused, weights), read(flow, plain, weights)
    assert (one.macs, one.params, one.elementwise) == (other.macs, other.params, other.elementwise)
    assert one.tensors["y"] == other.tensors["y"]
    assert content_hash(canonicalise(one)) == content_hash(canonicalise(other))
    assert one.notes == ()


def test_the_operation_keeps_the_name_the_file_gives_it(read) -> None:
    found = read(IMAGE, '[head] y = F.FusedConv<activation="Relu">(x, w, b)', CONV)
    conv, relu = found.operations[1:]
    assert (conv.name, conv.op, conv.onnx_type, conv.domain) == ("head", "Conv", "FusedConv", "com.microsoft")
    assert (relu.op, relu.onnx_type) == ("Relu", "Relu")


@pytest.mark.parametrize(
    ("flow", "nodes", "op", "weights"),
    [
        (IMAGE, 'y = F.FusedConv<activation="Novel">(x, w, b)', "Conv", CONV),
        (TEXT, "y = F.FusedMatMul<transBatchA=1, transBatchB=1>(x, s)", "MatMul", {}),
        (TEXT, "y, m = F.SkipLayerNormalization(x, s, g, t)", "LayerNorm", NORM),
    ],
)
def test_what_cannot_be_taken_apart_stays_one_operation(
    read, flow: str, nodes: str, op: str, weights
) -> None:
    if "transBatch" in nodes:
        flow = "(float[5,2,8] x, float[8,2,4] s) => (float y)"
    found = read(flow, nodes, weights)
    assert [operation.op for operation in found.operations if operation.op != "Input"] == [op]
