from __future__ import annotations

import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.merge_concats import merge_concats

FLOW = "(float[1,4,6,6] x, float[1,4,6,6] z) => (float y)"


def hash_of(graph, nodes: str) -> str:
    return content_hash(canonicalise(graph(f"{FLOW} {{ a = Relu(x) {nodes} }}", c=(1, 2, 6, 6))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y = Concat<axis=1>(a, z, x)", "b = Concat<axis=1>(a, z) y = Concat<axis=1>(b, x)"),
        ("y = Concat<axis=1>(a, z, x)", "b = Concat<axis=1>(z, x) y = Concat<axis=-3>(a, b)"),
        ("y = Concat<axis=1>(a, z, x, a)",
         "b = Concat<axis=1>(a, z) d = Concat<axis=1>(x, a) y = Concat<axis=1>(b, d)"),
        ("y = Concat<axis=1>(a, c, x)", "b = Concat<axis=1>(a, c) y = Concat<axis=1>(b, x)"),
        ("y = Concat<axis=3>(a, z, x)", "b = Concat<axis=3>(a, z) d = Identity(b) y = Concat<axis=3>(d, x)"),
    ],
)  # fmt: skip
def test_chains_are_one(graph, one: str, other: str) -> None:
    assert hash_of(graph, one) == hash_of(graph, other)


@pytest.mark.parametrize(
    "nodes",
    [
        "b = Concat<axis=1>(a, z) c2 = Concat<axis=1>(x, z) y = Concat<axis=2>(b, c2)",  # along another axis
        "b = Concat<axis=1>(a, z) d = Relu(b) e = Concat<axis=1>(d, x) y = Concat<axis=1>(e, b)",
    ],
)
def test_others_stay(graph, nodes: str) -> None:
    settled = canonicalise(graph(f"{FLOW} {{ a = Relu(x) {nodes} }}"))
    joins = [len(operation.inputs) for operation in settled.operations if operation.op == "Concat"]
    assert joins == ([2, 2, 2] if "c2" in nodes else [2, 3])
    assert not merge_concats(settled).changed


def test_order_matters(graph) -> None:
    assert hash_of(graph, "b = Concat<axis=1>(a, z) y = Concat<axis=1>(b, x)") != hash_of(
        graph, "b = Concat<axis=1>(z, a) y = Concat<axis=1>(b, x)"
    )
