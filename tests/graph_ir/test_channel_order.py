"""Concatenations in another order: one network where only layers that take channels in any order read them."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise

HEAD = (
    "(float[1,3,8,8] x) => (float[{out}] y) "
    "{{ a = Conv<pads=[1,1,1,1]>(x, wa) b = Conv(x, wb) c = Concat<axis=1>({order}) "
)
WEIGHTS = {"wa": (4, 3, 3, 3), "wb": (6, 3, 1, 1), "k": (5, 10, 1, 1)}


def hash_of(network, nodes: str, order: str, out: str, **weights: tuple[int, ...]) -> str:
    text = HEAD.format(order=order, out=out) + nodes + " }"
    return content_hash(canonicalise(read_onnx(network(text, **WEIGHTS, **weights))))


@pytest.mark.parametrize(
    ("nodes", "out", "weights"),
    [
        ("y = Conv(c, k)", "1,5,8,8", {}),
        ("d = Relu(c) e = MaxPool<kernel_shape=[2,2]>(d) y = Conv(e, k)", "1,5,7,7", {}),
        ("d = Conv<group=10>(c, g) y = Conv(d, k)", "1,5,6,6", {"g": (10, 1, 3, 3)}),
        ("p = GlobalAveragePool(c) f = Flatten(p) y = Gemm<transB=1>(f, v)", "1,7", {"v": (7, 10)}),
        ("p = Conv(x, q) s = Add(c, p) y = Conv(s, k)", "1,5,8,8", {"q": (10, 3, 1, 1)}),
        ("d = Relu(c) y = Conv(d, k) e = Conv(d, k)", "1,5,8,8", {}),
        ("p = GlobalAveragePool(c) r = Conv(p, r1) t = Conv(r, r2) m = Mul(c, t) y = Conv(m, k)", "1,5,8,8",
         {"r1": (2, 10, 1, 1), "r2": (10, 2, 1, 1)}),
    ],
)  # fmt: skip
def test_order_is_free_where_layers_take_any(network, nodes: str, out: str, weights) -> None:
    assert hash_of(network, nodes, "a, b", out, **weights) == hash_of(network, nodes, "b, a", out, **weights)


@pytest.mark.parametrize(
    ("nodes", "out", "weights"),
    [
        ("y = Relu(c)", "1,10,8,8", {}),  # the network's own output
        ("y = Conv<group=2>(c, g)", "1,4,8,8", {"g": (4, 5, 1, 1)}),  # whose group a channel is in matters
        ("f = Flatten(c) y = Gemm<transB=1>(f, v)", "1,2", {"v": (2, 640)}),  # read by channels and positions
        ("d = Conv(x, q) e = Relu(d) s = Add(c, e) t = Sub(s, e) y = Conv(t, k)", "1,5,8,8", {"q": (10, 3, 1, 1)}),
        ("y = Softmax<axis=1>(c) z = Conv(c, k)", "1,10,8,8", {}),
        ("s, t = Split<axis=1>(c) y = Conv(s, g)", "1,2,8,8", {"g": (2, 5, 1, 1)}),
    ],
)  # fmt: skip
def test_order_matters_elsewhere(network, nodes: str, out: str, weights) -> None:
    assert hash_of(network, nodes, "a, b", out, **weights) != hash_of(network, nodes, "b, a", out, **weights)


def test_what_is_concatenated_still_matters(network) -> None:
    nodes = "d = Relu(a) e = Concat<axis=1>(c, d) y = Conv(e, w)"
    hashes = {
        hash_of(network, nodes.replace("Relu(a)", source), "a, b", "1,5,8,8", w=(5, 14, 1, 1))
        for source in ("Relu(a)", "Tanh(a)")
    }
    assert len(hashes) == 2


def test_the_other_order_is_the_same_function_with_other_weights(network) -> None:
    """What the hash claims, run: permuting the filter that reads a concatenation undoes its order."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in WEIGHTS.items()}
    swapped = values | {"k": np.concatenate([values["k"][:, 4:], values["k"][:, :4]], axis=1)}
    outputs = [
        onnxruntime.InferenceSession(
            network(
                HEAD.format(order=order, out="1,5,8,8") + "y = Conv(c, k) }", **weights
            ).SerializeToString()
        ).run(None, {"x": np.ones((1, 3, 8, 8), np.float32) * np.arange(8, dtype=np.float32)})[0]
        for order, weights in (("a, b", values), ("b, a", swapped))
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_isomorphic_cells_with_several_vertices_at_the_output() -> None:
    # Three parallel chains of two operations: their order is nobody's business, their operations are.
    from aiop.tasks import get_space

    space = get_space("nas-bench-101")

    def parallel(first: str, second: str) -> str:
        # input -> two chains -> output, concatenated in the order of the vertices
        return content_hash(canonicalise(read_onnx(space.build(f"110011/{first}{second}"))))

    for one, other in itertools.product("012", repeat=2):
        assert parallel(one, other) == parallel(other, one)
    assert len({parallel(one, other) for one, other in itertools.product("012", repeat=2)}) == 6
