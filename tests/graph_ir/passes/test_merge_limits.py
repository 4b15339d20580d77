from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.merge_limits import merge_limits

FLOW = "(float[2,8] x) => (float y)"
NUMBERS = {
    "zero": np.float32(0),
    "one": np.float32(1),
    "six": np.float32(6),
    "tenth": np.float32(0.1),
    "none": np.float32(np.finfo(np.float32).max),
}


def hash_of(graph, nodes: str, opset: int = 17) -> str:
    return content_hash(canonicalise(graph(f"{FLOW} {{ {nodes} }}", opset, **NUMBERS)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y = Relu(x)", "y = Max(x, zero)"),
        ("y = Relu(x)", "y = Max(zero, x)"),
        ("y = Relu(x)", "y = Clip(x, zero)"),
        ("y = Relu(x)", "y = Clip(x, zero, none)"),
        ("y = Clip(x, zero, six)", "a = Max(x, zero) y = Min(a, six)"),
        ("y = Clip(x, zero, six)", "a = Min(six, x) y = Max(a, zero)"),
        ("y = Clip(x, zero, six)", "a = Relu(x) y = Min(a, six)"),
        ("y = Clip(x, zero, six)", "a = Relu(x) y = Clip(a, zero, six)"),
        ("y = Clip(x, , six)", "y = Min(x, six)"),
        ("y = LeakyRelu<alpha=0.1>(x)", "a = Mul(x, tenth) y = Max(a, x)"),
    ],
)
def test_limits_have_one_spelling(graph, one: str, other: str) -> None:
    assert hash_of(graph, one) == hash_of(graph, other)


def test_attributes_or_inputs(graph) -> None:
    assert hash_of(graph, "y = Clip<min=0.0, max=6.0>(x)", 6) == hash_of(graph, "y = Clip(x, zero, six)")
    assert hash_of(graph, "y = Clip<min=0.0>(x)", 6) == hash_of(graph, "y = Relu(x)")


def test_limits_that_differ_stay_apart(graph) -> None:
    texts = [
        "y = Relu(x)",
        "y = Clip(x, zero, six)",
        "y = Clip(x, zero, one)",
        "y = Clip(x, , six)",
        "y = Max(x, one)",
        "a = Max(x, one) y = Min(a, zero)",  # a constant
        "a = Mul(x, six) y = Max(a, x)",
    ]
    assert len({hash_of(graph, text) for text in texts}) == len(texts)


def test_what_something_else_reads_stays(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) b = Min(a, six) y = Add(a, b) }}", **NUMBERS)
    assert run_pass(merge_limits, before) == ["a = Relu(x)", "b = Clip(a)", "y = Add(a, b)"]
