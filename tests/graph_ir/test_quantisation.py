"""Quantised operators against the same network written with float operators."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.reading.quantisation import limits, narrower, precision_of
from aiop.graph_ir.values import Tensor

IMAGE, ROWS, TEXT = (
    "(float[2,6,8,8] x) => (float y)",
    "(float[5,8] x) => (float y)",
    "(float[5,2,8] x) => (float y)",
)
S = {"s": np.float32(0.1), "z": np.uint8(128), "zw": np.int8(0)}
Q, D = "q = QuantizeLinear(x, s, z)", "y = DequantizeLinear(o, s, z)"


def stored(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def packed(*shape: int) -> np.ndarray:
    return np.ones(shape, np.uint8)


BIAS = np.arange(4, dtype=np.int32)
CASES = {
    "QLinearConv": (
        IMAGE, f"{Q} o = QLinearConv<group=2, strides=[2,2]>(q, s, z, w, s, zw, s, z, b) {D}",
        {"w": stored(4, 3, 3, 3), "b": BIAS},
        "y = Conv<group=2, strides=[2,2]>(x, w, b)", {"w": (4, 3, 3, 3), "b": (4,)},
    ),
    "ConvInteger": (
        IMAGE, f"{Q} i = ConvInteger(q, w, z) y = Cast<to=1>(i)", {"w": stored(4, 6, 3, 3)},
        "y = Conv(x, w)", {"w": (4, 6, 3, 3)},
    ),
    "QLinearMatMul": (
        TEXT, f"{Q} o = QLinearMatMul(q, s, z, w, s, zw, s, z) {D}", {"w": stored(8, 3)},
        "y = MatMul(x, w)", {"w": (8, 3)},
    ),
    "QLinearMatMul of activations": (
        TEXT, f"{Q} t = Transpose<perm=[0,2,1]>(q) o = QLinearMatMul(q, s, z, t, s, z, s, z) {D}", {},
        "t = Transpose<perm=[0,2,1]>(x) y = MatMul(x, t)", {},
    ),
    "QGemm": (
        ROWS, f"{Q} o = com.microsoft.QGemm<transB=1>(q, s, z, w, s, zw, b, s, z) {D}", {"w": stored(4, 8), "b": BIAS},
        "y = Gemm<transB=1>(x, w, b)", {"w": (4, 8), "b": (4,)},
    ),
    "MatMulIntegerToFloat": (
        TEXT, f"{Q} y = com.microsoft.MatMulIntegerToFloat(q, w, s, s, z, zw, b)",
        {"w": stored(8, 4), "b": np.zeros(4, np.float32)},
        "m = MatMul(x, w) y = Add(m, b)", {"w": (8, 4), "b": (4,)},
    ),
    "DynamicQuantizeMatMul": (
        TEXT, "y = com.microsoft.DynamicQuantizeMatMul(x, w, s, zw)", {"w": stored(8, 4)},
        "y = MatMul(x, w)", {"w": (8, 4)},
    ),
    "MatMulNBits": (
        TEXT, "y = com.microsoft.MatMulNBits<K=8, N=4, bits=4, block_size=16>(x, w, f, , , b)",
        {"w": packed(4, 1, 8), "f": np.ones(4, np.float32), "b": np.zeros(4, np.float32)},
        "m = MatMul(x, w) y = Add(m, b)", {"w": (8, 4), "b": (4,)},
    ),
    "MatMulBnb4": (
        TEXT, "y = com.microsoft.MatMulBnb4<K=8, N=4, block_size=16, quant_type=1>(x, w, f)",
        {"w": packed(16), "f": np.ones(2, np.float32)}, "y = MatMul(x, w)", {"w": (8, 4)},
    ),
    "GatherBlockQuantized": (
        "(int64[2,7] x) => (float y)",
        "y = com.microsoft.GatherBlockQuantized<bits=4, block_size=16, gather_axis=0, quantize_axis=1>(w, x, f)",
        {"w": packed(50, 16), "f": np.ones((50, 2), np.float32)}, "y = Gather(w, x)", {"w": (50, 32)},
    ),
    "QLinearAdd and QLinearMul": (
        IMAGE, f"{Q} r = Relu(q) a = com.microsoft.QLinearAdd(q, s, z, r, s, z, s, z) "
        f"o = com.microsoft.QLinearMul(a, s, z, r, s, z, s, z) {D}", {},
        "r = Relu(x) a = Add(x, r) y = Mul(a, r)", {},
    ),
    "a number in QLinearMul": (
        IMAGE, f"{Q} o = com.microsoft.QLinearAdd(q, s, z, n, s, z, s, z) {D}", {"n": np.uint8(133)},
        "y = Add(x, n)", {"n": np.float32(0.5)},
    ),
    "QLinearConcat": (
        IMAGE, f"{Q} r = Relu(q) o = com.microsoft.QLinearConcat<axis=1>(s, z, q, s, z, r, s, z) {D}", {},
        "r = Relu(x) y = Concat<axis=1>(x, r)", {},
    ),
    "QLinearWhere": (
        IMAGE, f"c = Less(x, n) {Q} o = com.microsoft.QLinearWhere(c, q, s, z, q, s, z, s, z) {D}",
        {"n": np.float32(0)}, "c = Less(x, n) y = Where(c, x, x)", {"n": np.float32(0)},
    ),
    "activations": (
        IMAGE, f"{Q} a = com.microsoft.QLinearSigmoid(q, s, z, s, z) "
        "b = com.microsoft.QLinearLeakyRelu<alpha=0.2>(a, s, z, s, z) "
        f"o = com.microsoft.QLinearSoftmax<axis=1, opset=13>(b, s, z, s, z) {D}", {},
        "a = Sigmoid(x) b = LeakyRelu<alpha=0.2>(a) y = Softmax<axis=1>(b)", {},
    ),
    "pools": (
        IMAGE, f"{Q} a = com.microsoft.QLinearAveragePool<kernel_shape=[2,2], strides=[2,2]>(q, s, z, s, z) "
        f"o = com.microsoft.QLinearGlobalAveragePool(a, s, z, s, z) {D}", {},
        "a = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x) y = GlobalAveragePool(a)", {},
    ),
    "QLinearReduceMean": (
        IMAGE, f"{Q} o = com.microsoft.QLinearReduceMean<axes=[2,3], keepdims=1>(q, s, z, s, z) {D}", {},
        "y = GlobalAveragePool(x)", {},
    ),
    "QAttention": (
        "(float[2,5,8] x) => (float y)",
        f"{Q} y = com.microsoft.QAttention<num_heads=2>(q, w, b, s, s, , z, zw)",
        {"w": stored(8, 24), "b": np.zeros(24, np.float32)},
        "y = com.microsoft.Attention<num_heads=2>(x, w, b)", {"w": (8, 24), "b": (24,)},
    ),
    "DynamicQuantizeLSTM": (
        TEXT, "y, h, c = com.microsoft.DynamicQuantizeLSTM<hidden_size=3>(x, w, r, b, , , , , f, zw, f, zw)",
        {"w": stored(1, 8, 12), "r": stored(1, 3, 12), "b": np.zeros((1, 24), np.float32), "f": np.ones(1, np.float32)},
        "y, h, c = LSTM<hidden_size=3>(x, w, r, b)", {"w": (1, 12, 8), "r": (1, 12, 3), "b": (1, 24)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_quantised_operator_is_its_float_twin(graph, case: str) -> None:
    flow, nodes, weights, twin, twin_weights = CASES[case]
    used = {name: value for name, value in S.items() if f"{name}," in nodes or f"{name})" in nodes}
    found = graph(f"{flow} {{ {nodes} }}", **used, **weights)
    expected = graph(f"{flow} {{ {twin} }}", **twin_weights)
    assert (found.macs, found.params) == (expected.macs, expected.params)
    assert content_hash(canonicalise(found)) == content_hash(canonicalise(expected))
    weighted = [operation for operation in found.operations if operation.macs and operation.weights]
    assert all(operation.precision in ("int8", "int4", "float4") for operation in weighted)


def test_the_file_s_name_of_an_operator_is_kept(graph) -> None:
    flow, nodes, weights, _, _ = CASES["QGemm"]
    (product,) = [each for each in graph(f"{flow} {{ {nodes} }}", **S, **weights).operations if each.macs]
    assert (product.op, product.onnx_type, product.domain) == ("Linear", "QGemm", "com.microsoft")


def test_a_relu_that_the_zero_point_stands_for_is_put_back(graph) -> None:
    text = f"{IMAGE} {{ {Q} c = QLinearConv(q, s, z, w, s, zw, s, least) {{}} y = DequantizeLinear(m, s, least) }}"
    found = graph(
        text.replace("{}", "m = MaxPool<kernel_shape=[2,2]>(c)"), w=stored(4, 6, 1, 1), least=np.uint8(0), **S
    )
    assert [operation.op for operation in canonicalise(found).operations] == [
        "Input",
        "Conv",
        "Relu",
        "MaxPool",
    ]


def test_what_a_twin_needs_may_be_missing(graph) -> None:
    # a matrix that the network computes has no size that the attributes must state
    found = graph(
        "(float[2,8] x, uint8[4,1,8] w) => (float y) "
        "{ y = com.microsoft.MatMulNBits<K=8, N=4, bits=4, block_size=16>(x, w, f) }", f=np.ones(4, np.float32),
    )  # fmt: skip
    assert found.tensors["y"].shape == (2, 4)


# -- parts


def number(value: object) -> Tensor:
    array = np.asarray(value)
    tensor = Tensor("n", array.shape, str(array.dtype), constant=True)
    tensor.set_value(array)
    return tensor


def test_limits() -> None:
    scale = number(np.float32(0.5))
    assert limits(scale, number(np.uint8(0))) == (0.0, 127.5)
    assert limits(scale, number(np.int8(-128))) == (0.0, 127.5)
    assert limits(scale, number(np.int8(0))) == ()
    assert limits(number(np.float32(1)), number(np.uint8(0))) == ()  # a tensor of zeros
    assert limits(None, number(np.uint8(0))) == limits(scale, None) == ()


def test_names_of_precisions() -> None:
    names = ("uint8", "int4", "float8e5m2fnuz", "float4e2m1", "bfloat16", "float64")
    assert [precision_of(name) for name in names] == [
        "int8",
        "int4",
        "float8",
        "float4",
        "bfloat16",
        "float64",
    ]
    assert narrower("float32", "int8") == narrower("int8", "float32") == "int8"
    assert narrower("float16", "bfloat16") == "float16"
    assert narrower("float8e4m3fn", "float16") == "float8e4m3fn"
