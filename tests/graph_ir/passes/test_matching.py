"""Arithmetic read off a graph, by the rules of arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aiop.graph_ir.passes.matching import Rewriter

FLOW = "(float[4] x, float[4] z) => (float y)"
NUMBERS = {"two": np.float32(2), "three": np.float32(3), "w": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("nodes", "factor", "over", "under"),
    [
        ("y = Mul(x, z)", 1, ["x", "z"], []),
        ("a = Mul(x, two) b = Neg(z) y = Mul(a, b)", -2, ["x", "z"], []),
        ("a = Div(x, two) y = Div(a, z)", 0.5, ["x"], ["z"]),
        ("a = Div(three, z) y = Mul(a, x)", 3, ["x"], ["z"]),
        ("a = Mul(z, two) y = Div(x, a)", 0.5, ["x"], ["z"]),
        ("a = Div(x, z) y = Reciprocal(a)", 1, ["z"], ["x"]),
        ("a = Mul(x, w) y = Mul(a, two)", 2, ["a"], []),  # a weight is not a number
        ("a = Add(x, two) y = Mul(a, z)", 1, ["a", "z"], []),
    ],
)
def test_products(graph, nodes: str, factor: float, over: list[str], under: list[str]) -> None:
    found = Rewriter(graph(f"{FLOW} {{ {nodes} }}", **NUMBERS)).product("y")
    assert (found.factor, sorted(found.over), found.under) == (pytest.approx(factor), over, under)


@pytest.mark.parametrize(
    ("nodes", "constant", "terms"),
    [
        ("y = Add(x, z)", 0, [(1, "x"), (1, "z")]),
        ("y = Sub(x, z)", 0, [(-1, "z"), (1, "x")]),
        ("a = Sub(x, two) y = Sub(z, a)", 2, [(-1, "x"), (1, "z")]),
        ("a = Sub(two, x) y = Add(a, z)", 2, [(-1, "x"), (1, "z")]),
        ("a = Add(x, two) b = Mul(a, three) y = Add(b, z)", 6, [(1, "z"), (3, "x")]),
        ("a = Add(x, w) y = Add(a, two)", 2, [(1, "a")]),
        ("a = Mul(x, z) y = Add(a, two)", 2, [(1, "a")]),
    ],
)
def test_totals(graph, nodes: str, constant: float, terms: list[tuple[float, str]]) -> None:
    found = Rewriter(graph(f"{FLOW} {{ {nodes} }}", **NUMBERS)).total("y")
    assert (found.constant, sorted(found.terms)) == (constant, terms)


def test_what_is_read_elsewhere_is_not_looked_into(graph) -> None:
    rewriter = Rewriter(graph(f"{FLOW} {{ a = Mul(x, two) b = Mul(a, z) y = Add(a, b) }}", **NUMBERS))
    assert rewriter.product("b").over == ["a", "z"]
    assert rewriter.reader("a") is None
    assert [operation.name for operation in rewriter.used_by("a")] == ["b", "y"]


def test_only_what_nothing_else_reads_is_fused(graph) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) b = Neg(a) c = Exp(b) y = Add(c, b) }}")
    rewriter = Rewriter(before)
    places = {operation.name: index for index, operation in enumerate(before.operations)}
    exp = before.operations[places["c"]]
    fused = replace(exp, op="Unknown", inputs=("x",))
    assert not rewriter.fuse(places["c"], {places["a"], places["b"]}, fused)  # y reads b as well
    assert not rewriter.result().changed
    assert rewriter.fuse(places["b"], {places["a"]}, replace(before.operations[places["b"]], inputs=("x",)))
    assert [operation.name for operation in rewriter.result().graph.operations] == ["x", "z", "b", "c", "y"]
    assert rewriter.maker("a") is None
    assert before.operations[places["b"]].inputs == ("a",)
