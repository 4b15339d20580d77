"""MACs and parameters of single operators, by arithmetic."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

IMAGE = "(float[2,6,10,12] x) => (float y)"
TEXT = "(float[5,2,8] x) => (float y)"
ONES = np.ones(6, np.float32)

CASES = [
    (IMAGE, "y = Conv<pads=[1,1,1,1]>(x, w, b)", {"w": (4, 6, 3, 3), "b": (4,)}, 2 * 120 * 4 * 54, 220),
    (IMAGE, "y = Conv<group=3, strides=[2,2]>(x, w)", {"w": (9, 2, 2, 2)}, 2 * 30 * 9 * 8, 72),
    (IMAGE, "y = ConvTranspose<group=2, strides=[2,2]>(x, w)", {"w": (6, 4, 2, 2)}, 2 * 120 * 6 * 16, 96),
    (TEXT, "y = MatMul(x, w)", {"w": (8, 3)}, 5 * 2 * 8 * 3, 24),
    (TEXT, "y = MatMul(x, w)", {"w": (8,)}, 5 * 2 * 8, 8),
    (TEXT, "t = Transpose<perm=[0,2,1]>(x) y = MatMul(x, t)", {}, 5 * 2 * 2 * 8, 0),
    ("(float[3,8] x) => (float y)", "y = Gemm<transB=1>(x, w, b)", {"w": (4, 8), "b": (4,)}, 96, 36),
    (TEXT, 'y = Einsum<equation="abc,cd->abd">(x, w)', {"w": (8, 3)}, 5 * 2 * 8 * 3, 24),
    (TEXT, 'y = Einsum<equation="abc->ab">(x)', {}, 0, 0),
    (TEXT, "y, h, c = LSTM<hidden_size=3>(x, w, r, b)", {"w": (1, 12, 8), "r": (1, 12, 3), "b": (1, 24)},
     10 * 4 * 3 * (8 + 3), 96 + 36 + 24),
    (TEXT, 'y, h = GRU<hidden_size=3, direction="bidirectional">(x, w, r)', {"w": (2, 9, 8), "r": (2, 9, 3)},
     2 * 10 * 3 * 3 * (8 + 3), 144 + 54),
    (TEXT, "y, h = RNN<hidden_size=3>(x, w, r, , , i)", {"w": (1, 3, 8), "r": (1, 3, 3), "i": (1, 2, 3)},
     10 * 3 * (8 + 3), 24 + 9),  # an initial state is no parameter
    # no MACs
    (IMAGE, "y = BatchNormalization(x, s, b, m, v)", {"s": (6,), "b": (6,), "m": (6,), "v": ONES}, 0, 12),
    (IMAGE, "y = InstanceNormalization(x, s, b)", {"s": (6,), "b": (6,)}, 0, 12),
    (TEXT, "y = LayerNormalization(x, s, b)", {"s": (8,), "b": (8,)}, 0, 16),
    (IMAGE, "y = PRelu(x, s)", {"s": (6, 1, 1)}, 0, 6),
    (IMAGE, "y = Add(x, p)", {"p": (1, 6, 10, 12)}, 0, 720),  # positions
    (IMAGE, "y = Mul(x, g)", {"g": (6, 1, 1)}, 0, 6),
    (IMAGE, "y = MaxPool<kernel_shape=[2,2]>(x)", {}, 0, 0),
    # constants that are no parameters
    (IMAGE, "y = Add(x, c)", {"c": np.float32(3)}, 0, 0),
    (IMAGE, "y = Clip(x, l, h)", {"l": np.float32(0), "h": np.float32(6)}, 0, 0),
    (IMAGE, "y = Resize(x, , r)", {"r": np.array([1, 1, 2, 2], np.float32)}, 0, 0),
    (IMAGE, "y = Reshape(x, r)", {"r": np.array([2, -1])}, 0, 0),
    (IMAGE, "c = Constant<value = float[6,1,1] {1, 2, 3, 4, 5, 6}>() y = Sub(x, c)", {}, 0, 0),  # a mean of the data
    ("(int64[2,7] x) => (float y)", "y = Gather(w, x)", {"w": (50, 4)}, 0, 200),  # an embedding
]  # fmt: skip


@pytest.mark.parametrize(
    ("flow", "nodes", "weights", "macs", "params"), CASES, ids=[case[1][:50] for case in CASES]
)
def test_counts(graph, flow: str, nodes: str, weights: dict[str, object], macs: int, params: int) -> None:
    found = graph(f"{flow} {{ {nodes} }}", **weights)
    assert (found.macs, found.params) == (macs, params)


HEADS = "(float[2,7,20] q, float[2,9,10] k, float[2,9,12] v) => (float y)"  # 4 heads of 5, 2 of 5 and of 6
LINEAR = "(float[2,7,20] q, float[2,7,10] k, float[2,7,12] v, float[2,7,10] g, float[2,7,2] b) => (float y)"

NEWER = [
    # 18 offsets of a deformable convolution of 3 x 3
    (19, "(float[2,6,10,12] x, float[2,18,8,10] o) => (float y)", "y = DeformConv(x, w, o)", {"w": (4, 6, 3, 3)},
     2 * 80 * 4 * 54),
    (23, HEADS, "y = Attention<q_num_heads=4, kv_num_heads=2>(q, k, v)", {}, 2 * 4 * 7 * 9 * (5 + 6)),
    # 3 keys and values are cached
    (23, "(float[2,4,7,5] q, float[2,4,1,5] k, float[2,4,1,6] v, float[2,4,3,5] p, float[2,4,3,6] r) => (float y)",
     "y, m, n = Attention(q, k, v, , p, r)", {}, 2 * 4 * 7 * 4 * (5 + 6)),
    # state of 5 x 6 for each of 2 heads: an update per head, a read per query head, delta rules read by keys as well
    (27, LINEAR, 'y, s = LinearAttention<q_num_heads=4, kv_num_heads=2, update_rule="linear">(q, k, v)', {},
     14 * 30 * (2 + 4)),
    (27, LINEAR,
     'y, s = LinearAttention<q_num_heads=4, kv_num_heads=2, update_rule="gated_delta">(q, k, v, , g, b)', {},
     14 * 30 * (2 + 2 + 4)),
    (27, "(float[2,6,10] x) => (float y)", "y, s = CausalConvWithState(x, w)", {"w": (6, 1, 4)}, 2 * 6 * 10 * 4),
    (28, TEXT, "y = SwiGLU(x, x)", {}, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("opset", "flow", "nodes", "weights", "macs"), NEWER, ids=[case[2][:50] for case in NEWER]
)
def test_counts_of_newer_opsets(
    graph, opset: int, flow: str, nodes: str, weights: dict[str, object], macs: int
) -> None:
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"the installed onnx has no opset {opset}")
    assert graph(f"{flow} {{ {nodes} }}", opset, **weights).macs == macs


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
def test_attention_of_opset_23(graph, heads: int, kv_heads: int) -> None:
    # 7 queries and 9 keys of width 5, values of width 6
    found = graph(
        f"(float[2,{heads},7,5] q, float[2,{kv_heads},9,5] k, float[2,{kv_heads},9,6] v) => (float y) "
        "{ y = Attention(q, k, v) }",
        23,
    )
    assert found.macs == 2 * heads * 7 * 9 * (5 + 6)
    assert found.tensors["y"].shape == (2, heads, 7, 6)


def test_a_shared_tensor_counts_once(graph) -> None:
    text = "(float[2,8] x) => (float y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
    assert graph(text, w=(8, 8)).params == 64


def test_a_copy_through_identity_is_a_parameter_of_its_own(graph) -> None:
    # exporters store equal parameters once
    text = "(float[2,8] x) => (float y) { v = Identity(w) a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
    assert graph(text, w=(8, 8)).params == 128


def test_equal_initial_vectors_count_for_every_layer(graph) -> None:
    text = "(float[2,8] x) => (float y) { a = Gemm(x, w, b) c = Relu(a) y = Gemm(c, v, b) }"
    assert graph(text, w=(8, 8), v=(8, 8), b=np.zeros(8, np.float32)).params == 128 + 16
    assert graph(text, w=(8, 8), v=(8, 8), b=np.arange(8, dtype=np.float32)).params == 128 + 8  # tied


def test_a_computed_weight_counts_what_it_is_made_of(graph) -> None:
    text = """(float[2,8] x) => (float y) {
        m = ReduceMean<axes=[0]>(w) d = Sub(w, m) s = Mul(d, g) t = Transpose(s) y = MatMul(x, t) }"""
    found = graph(text, w=(4, 8), g=(4, 1))
    assert found.params == 32 + 4
    assert len(found.operations) == 2  # the arithmetic on the weight is no operation of the network


def test_weights_that_the_file_fills_count(graph) -> None:
    text = "(float[2,8] x) => (float y) { w = ConstantOfShape(s) y = MatMul(x, w) }"
    found = graph(text, s=np.array([8, 1000]))
    assert (found.params, found.macs) == (8000, 16000)
    assert math.prod(found.operations[1].weights[0].shape) == 8000


def test_quantised_weights_count(network) -> None:
    from aiop.graph_ir import read_onnx

    text = """(float[1,3,8,8] x) => (float y) {
        q = QuantizeLinear(x, s, z) c = QLinearConv(q, s, z, w, s, z, s, z, b) y = DequantizeLinear(c, s, z) }"""
    found = read_onnx(
        network(
            text, s=np.float32(0.1), z=np.uint8(0), w=np.zeros((4, 3, 3, 3), np.uint8), b=np.arange(4, dtype=np.int32)
        )
    )  # fmt: skip
    assert (found.macs, found.params) == (36 * 4 * 27, 4 * 27 + 4)
    conv = found.operations[2]
    assert (conv.op, conv.kernel, conv.bias) == ("Conv", (3, 3), True)
