"""Which constants of a file count as parameters."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

IMAGE = "(float[1,6,10,12] x) => (float y)"
TEXT = "(float[5,2,8] x) => (float y)"
BLUR = np.broadcast_to(np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 16, (6, 1, 3, 3))
ONES, ZEROS = np.ones(3, np.float32), np.zeros(3, np.float32)

CASES = {
    # integers say where and how large, never how strong
    "shape behind a standardised weight": (
        IMAGE, "f = Reshape(w, flat) m = ReduceMean<axes=[1], keepdims=1>(f) d = Sub(f, m) v = Reshape(d, back) "
        "y = Conv(x, v)", {"w": (4, 6, 3, 3), "flat": np.array([4, -1]), "back": np.array([4, 6, 3, 3])}, 216,
    ),
    "indices of a table": (TEXT, "p = Gather(t, i) y = Add(x, p)", {"t": (30, 8), "i": np.array([[0, 1]] * 5)}, 240),
    "mask": (TEXT, "y = Where(m, x, low)", {"m": np.ones((5, 2, 8), bool), "low": np.float32(-1)}, 0),
    # one number is a constant of the computation
    "single number": (TEXT, "y = Mul(x, c)", {"c": np.full((1, 1, 1), 2, np.float32)}, 0),
    # parts and views of one weight
    "a fused matrix in three": (
        TEXT, "q, k, v = Split<axis=1>(w, n) a = MatMul(x, q) b = MatMul(a, k) y = MatMul(b, v)",
        {"w": (8, 24), "n": np.array([8, 8, 8])}, 192,
    ),
    "slices": (
        TEXT, "q = Slice(w, s0, s8, s1) v = Slice(w, s8, s16, s1) a = MatMul(x, q) y = MatMul(a, v)",
        {"w": (8, 16), "s0": np.array([0]), "s8": np.array([8]), "s16": np.array([16]), "s1": np.array([1])}, 128,
    ),
    "a matrix of two": (TEXT, "w = Concat<axis=1>(u, v) y = MatMul(x, w)", {"u": (8, 3), "v": (8, 5)}, 64),
    "a matrix and its transpose": (
        TEXT, "t = Transpose(w) a = MatMul(x, w) y = MatMul(a, t)", {"w": (8, 3)}, 24,
    ),
    "a table that also classifies": (
        "(int64[2,7] x) => (float y)", "e = Gather(t, x) u = Transpose(t) y = MatMul(e, u)", {"t": (50, 4)}, 200,
    ),
    "two branches in one kernel": (
        IMAGE, "p = Pad(one, pads) w = Add(three, p) y = Conv(x, w)",
        {"three": (4, 6, 3, 3), "one": (4, 6, 1, 1), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, 216 + 24,
    ),
    # what was never trained
    "a blur": (IMAGE, "y = Conv<group=6, strides=[2,2]>(x, w)", {"w": BLUR}, 0),
    "a depthwise convolution": (IMAGE, "y = Conv<group=6, strides=[2,2]>(x, w)", {"w": (6, 1, 3, 3)}, 54),
    "a depthwise convolution before training": (
        IMAGE, "y = Conv<group=6, strides=[2,2]>(x, w)", {"w": np.ones((6, 1, 3, 3), np.float32)}, 54,
    ),
    "ones and zeros that a group norm is written with": (
        IMAGE, "r = Reshape(x, g) n = InstanceNormalization(r, one, zero) b = Reshape(n, i) m = Mul(b, s) "
        "y = Add(m, h)",
        {"g": np.array([1, 3, -1]), "i": np.array([1, 6, 10, 12]), "one": ONES, "zero": ZEROS, "s": (6, 1, 1),
         "h": (6, 1, 1)}, 12,
    ),
    "an instance norm before training": (
        IMAGE, "y = InstanceNormalization(x, s, b)", {"s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)}, 12,
    ),
    "equal scales of two layers, stored once": (
        IMAGE, "a = Mul(x, g) r = Relu(a) y = Mul(r, g)", {"g": np.full((6, 1, 1), 1e-5, np.float32)}, 12,
    ),
    # number formats
    "half precision": (
        TEXT.replace("float", "float16"), "y = MatMul(x, w)", {"w": np.ones((8, 3), np.float16)}, 24,
    ),
    "a table of bytes": (
        "(int64[2,7] x) => (float y)", "e = Gather(t, x) y = DequantizeLinear(e, s)",
        {"t": np.ones((50, 4), np.uint8), "s": np.float32(0.1)}, 200,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_counts(graph, case: str) -> None:
    flow, nodes, weights, params = CASES[case]
    assert graph(f"{flow} {{ {nodes} }}", **weights).params == params


def with_nodes(network: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its initialisers as Constant nodes."""
    moved = onnx.ModelProto()
    moved.CopyFrom(network)
    del moved.graph.initializer[:], moved.graph.node[:]
    for tensor in network.graph.initializer:
        moved.graph.node.append(onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    moved.graph.node.extend(network.graph.node)
    return moved


@pytest.mark.parametrize("case", set(CASES) - {"ones and zeros that a group norm is written with", "a blur"})
def test_weights_may_be_nodes(network, case: str) -> None:
    flow, nodes, weights, params = CASES[case]
    stored = network(f"{flow} {{ {nodes} }}", **weights)
    as_nodes = read_onnx(with_nodes(stored))
    if "MatMul" in nodes or "Conv" in nodes:  # otherwise nothing tells a weight from a literal
        assert as_nodes.params == params
    first, second = canonicalise(read_onnx(stored)), canonicalise(as_nodes)
    assert content_hash(first) == content_hash(second)
    assert first.params == second.params


def test_a_literal_beside_stored_weights_is_none(graph) -> None:
    text = (
        f"{IMAGE} {{ m = Constant<value=float[6,1,1] {{1, 2, 3, 4, 5, 6}}>() c = Sub(x, m) y = Conv(c, w) }}"
    )
    assert graph(text, w=(4, 6, 3, 3)).params == 216


def test_a_norm_without_scale_and_shift_has_no_parameters(graph) -> None:
    ones = ", ".join(["1"] * 6)
    zeros = ", ".join(["0"] * 6)
    text = f"""{IMAGE} {{ o = Constant<value=float[6] {{{ones}}}>() z = Constant<value=float[6] {{{zeros}}}>()
        n = InstanceNormalization(x, o, z) y = Conv(n, w) }}"""
    assert graph(text, w=(4, 6, 3, 3)).params == 216


def test_a_sparse_weight_counts_as_large_as_it_is(network) -> None:
    model = network(f"{TEXT} {{ y = MatMul(x, w) }}", w=(8, 3))
    del model.graph.initializer[:]
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = onnx.helper.make_tensor("at", onnx.TensorProto.INT64, [2], [1, 5])
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [8, 3]))
    assert read_onnx(model).params == 24


def test_a_table_that_was_looked_up_beforehand_weighs_the_same(graph) -> None:
    """Exporters that fold constants leave the table out: reading differs, the canonical form does not."""
    looked_up = graph(
        "(float[1,4,9,9] x) => (float y) { p = Gather(t, i) u = Transpose<perm=[2,0,1]>(p) y = Add(x, u) }",
        t=(25, 4), i=np.arange(81).reshape(9, 9) % 25,
    )  # fmt: skip
    folded = graph("(float[1,4,9,9] x) => (float y) { y = Add(x, u) }", u=(4, 9, 9))
    assert (looked_up.params, folded.params) == (100, 324)
    assert canonicalise(looked_up).params == canonicalise(folded).params == 324
    assert content_hash(canonicalise(looked_up)) == content_hash(canonicalise(folded))
