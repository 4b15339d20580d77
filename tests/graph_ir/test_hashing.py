from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise


def hash_of(model: onnx.ModelProto) -> str:
    return content_hash(canonicalise(read_onnx(model)))


def disguised(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return the network with every name changed and its nodes in random order."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    rng = random.Random(seed)
    names: dict[str, str] = {"": ""}

    def new(name: str) -> str:
        return names.setdefault(name, f"t{rng.randrange(1 << 60)}")

    for node in result.graph.node:
        node.name = new(node.name + "/node")
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for value in (*result.graph.initializer, *result.graph.input, *result.graph.output):
        value.name = new(value.name)
    nodes = list(result.graph.node)
    rng.shuffle(nodes)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    return result


@pytest.mark.parametrize("name", ["inception_v1", "resnet50", "shufflenet", "squeezenet"])
def test_names_and_order_do_not_matter(onnx_light, name: str) -> None:
    model = onnx.load(onnx_light / f"light_{name}.onnx")
    arrays = encode(read_onnx(model))
    for seed in range(3):
        other = disguised(model, seed)
        assert hash_of(other) == hash_of(model)
        again = encode(read_onnx(other))
        np.testing.assert_allclose(again.graph, arrays.graph, rtol=1e-6)
        assert sorted(map(bytes, again.node)) == sorted(map(bytes, arrays.node))
        assert np.array_equal(np.bincount(again.op), np.bincount(arrays.op))


BASE = (
    "(float[1,3,16,16] x) => (float y) { a = Conv<pads=[1,1,1,1]>(x, v) b = Relu(a) c = MaxPool<kernel_shape=[2,2]>(b) "
    "d = Conv(c, w) e = Conv(c, u) f = Add(d, e) y = Sub(f, d) }"
)
WEIGHTS = {"v": (8, 3, 3, 3), "w": (8, 8, 3, 3), "u": (8, 8, 3, 3)}


@pytest.mark.parametrize(
    ("old", "new", "weights"),
    [
        ("16,16", "18,18", {}),
        ("x) =>", "x, float[2] unused) =>", {}),
        ("Relu", "Tanh", {}),
        ("MaxPool<kernel_shape=[2,2]>", "MaxPool<kernel_shape=[2,2], strides=[2,2]>", {}),
        ("pads=[1,1,1,1]", "pads=[0,0,2,2]", {}),
        ("pads=[1,1,1,1]", "pads=[2,2,2,2], dilations=[2,2]", {}),
        ("Conv(c, w)", "Conv(c, w, s)", {"s": (8,)}),
        ("Conv(c, w)", "Conv<group=8>(c, w)", {"w": (8, 1, 3, 3)}),
        ("Sub(f, d)", "Sub(d, f)", {}),
        ("Sub(f, d)", "Sub(f, e)", {}),  # which is the same network by its symmetry: see below
        ("Sub(f, d)", "Sub(f, f)", {}),
        ("Add(d, e)", "Add(d, d)", {}),
        ("Add(d, e)", "Mul(d, e)", {}),
        ("Conv(c, u)", "Conv(d, u)", {"u": (8, 8, 1, 1)}),
    ],
)
def test_what_is_computed_matters(network, old: str, new: str, weights: dict[str, tuple[int, ...]]) -> None:
    assert old in BASE
    changed = network(BASE.replace(old, new), **{**WEIGHTS, **weights, "u": weights.get("u", (8, 8, 3, 3))})
    same = hash_of(changed) == hash_of(network(BASE, **WEIGHTS))
    assert same == (new == "Sub(f, e)")


def test_values_of_weights_do_not_matter(network) -> None:
    other = {name: np.full(shape, 0.5, np.float32) for name, shape in WEIGHTS.items()}
    assert hash_of(network(BASE, **WEIGHTS)) == hash_of(network(BASE, **other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y = MatMul(x, w)", "y = Gemm(x, w)"),
        ("y = Gemm(x, w)", "y = Gemm<transB=1>(x, t)"),
        ("y = Gemm(x, w, s)", "a = MatMul(x, w) y = Add(a, s)"),
        ("y = Gemm(x, w, s)", "a = MatMul(x, w) y = Add(s, a)"),
        ("a = Add(x, x) y = Add(a, x)", "y = Sum(x, x, x)"),
        ("a = Relu(x) b = Relu(x) y = Concat<axis=1>(a, b)", "a = Relu(x) y = Concat<axis=1>(a, a)"),
        ("a = Flatten(x) y = Relu(a)", "y = Relu(x)"),
        ("a = Dropout(x) y = Relu(a)", "b = Relu(x) y = Identity(b)"),
        ("a = Sigmoid(x) y = Mul(a, x)", "a = Sigmoid(x) y = Mul(x, a)"),
    ],
)
def test_ways_to_write_the_same(network, one: str, other: str) -> None:
    flow, weights = "(float[2,6] x) => (float y)", {"w": (6, 4), "t": (4, 6), "s": (4,)}
    hashes = {hash_of(network(f"{flow} {{ {nodes} }}", **weights)) for nodes in (one, other)}
    assert len(hashes) == 1
