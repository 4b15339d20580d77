"""Quantisation of activations is a view; a ReLU that a quantiser left out is put back."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.passes.drop_quantisation import drop_quantisation

IMAGE = "(float[1,3,8,8] x) => (float y)"
WEIGHTS = {"w": (3, 3, 1, 1)}
NONE = {"s": np.float32(0.1), "z": np.uint8(128)}
BELOW = {"t": np.float32(0.1), "least": np.uint8(0)}  # holds no negative numbers
SIX = {"t": np.float32(6 / 255), "least": np.uint8(0)}

CASES = [
    # what is read directly, and through quantisation
    ("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Tanh(d)", ["y = Tanh(x)"]),
    ("q, a, b = DynamicQuantizeLinear(x) d = DequantizeLinear(q, a, b) y = Tanh(d)", ["y = Tanh(x)"]),
    # a scale that is computed, times that of the weights
    (
        "q, a, b = DynamicQuantizeLinear(x) m = ConvInteger(q, i, b) f = Cast<to=1>(m) k = Mul(a, s) y = Mul(f, k)",
        ["m = Conv(x)", "f = Cast(m)"],
    ),
    # a product with what is no scale stays
    (
        "q, a, b = DynamicQuantizeLinear(x) d = DequantizeLinear(q, a, b) e = Exp(x) y = Mul(d, e)",
        ["e = Exp(x)", "y = Mul(x, e)"],
    ),
    # a ReLU was left out
    (
        "c = Conv(x, w) q = QuantizeLinear(c, t, least) d = DequantizeLinear(q, t, least) y = Tanh(d)",
        ["c = Conv(x)", "q = Relu(c)", "y = Tanh(q)"],
    ),
    (
        "c = Conv(x, w) a = Add(c, x) q = QuantizeLinear(a, t, least) d = DequantizeLinear(q, t, least) y = Tanh(d)",
        ["c = Conv(x)", "a = Add(c, x)", "q = Relu(a)", "y = Tanh(q)"],
    ),
    (
        "c = Conv(x, w) q = QuantizeLinear(c, t, least) d = DequantizeLinear(q, t, least) "
        "r = QuantizeLinear(d, t, least) e = DequantizeLinear(r, t, least) y = Tanh(e)",
        ["c = Conv(x)", "q = Relu(c)", "y = Tanh(q)"],
    ),
    # none was
    (
        "c = Conv(x, w) q = QuantizeLinear(c, s, z) d = DequantizeLinear(q, s, z) y = Tanh(d)",
        ["c = Conv(x)", "y = Tanh(c)"],
    ),
    (
        "c = Conv(x, w) r = Relu(c) q = QuantizeLinear(r, t, least) d = DequantizeLinear(q, t, least) y = Tanh(d)",
        ["c = Conv(x)", "r = Relu(c)", "y = Tanh(r)"],
    ),
    (
        "c = Conv(x, w) q = QuantizeLinear(c, t, least) d = DequantizeLinear(q, t, least) r = Relu(d) y = Tanh(r)",
        ["c = Conv(x)", "q = Relu(c)", "r = Relu(c)", "y = Tanh(r)"],  # the first is dead
    ),
    (
        "a = Relu(x) b = Sigmoid(x) c = Add(a, b) q = QuantizeLinear(c, t, least) d = DequantizeLinear(q, t, least) "
        "y = Tanh(d)",
        ["a = Relu(x)", "b = Sigmoid(x)", "c = Add(a, b)", "y = Tanh(c)"],
    ),
    (
        "e = Erf(x) c = Add(e, one) q = QuantizeLinear(c, t, least) d = DequantizeLinear(q, t, least) y = Tanh(d)",
        ["e = Erf(x)", "c = Add(e)", "y = Tanh(c)"],
    ),
    # a network does not end in one
    (
        "c = Conv(x, w) q = QuantizeLinear(c, t, least) y = DequantizeLinear(q, t, least)",
        ["c = Conv(x)"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "left"), CASES)
def test_what_is_left(graph, run_pass, nodes: str, left: list[str]) -> None:
    given = {**WEIGHTS, **NONE, **BELOW, "i": np.zeros((3, 3, 1, 1), np.int8), "one": np.float32(1)}
    used = {
        name: value
        for name, value in given.items()
        if f" {name}" in nodes.replace(",", " ").replace("(", " ( ")
    }
    before = graph(f"{IMAGE} {{ {nodes} }}", **used)
    assert run_pass(drop_quantisation, before) == left


def test_a_scale_that_is_read_stays(graph, run_pass) -> None:
    text = """(float[1,3,8,8] x) => (float y, float k) {
        q, a, b = DynamicQuantizeLinear(x) d = DequantizeLinear(q, a, b) k = Mul(a, s) y = Tanh(d) }"""
    before = graph(text, s=np.float32(2))
    assert run_pass(drop_quantisation, before) == ["q, a, b = Quantize(x)", "k = Mul(a)", "y = Tanh(x)"]


def test_a_clip_to_six_is_put_back(graph) -> None:
    nodes = "c = Conv(x, w) q = QuantizeLinear(c, t, least) d = DequantizeLinear(q, t, least) y = Tanh(d)"
    after = drop_quantisation(graph(f"{IMAGE} {{ {nodes} }}", **WEIGHTS, **SIX)).graph
    assert [(operation.op, operation.scalars) for operation in after.operations[2:]] == [
        ("Clip", (0.0, 6.0)), ("Tanh", ()),
    ]  # fmt: skip


def test_operations_between_take_on_the_precision(graph) -> None:
    nodes = """q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) m = MatMul(d, d) e = Exp(x) y = Mul(e, m)"""
    after = drop_quantisation(graph(f"{IMAGE} {{ {nodes} }}", **NONE)).graph
    assert {operation.name: operation.precision for operation in after.operations if operation.op != "Input"} == {
        "m": "int8", "e": "float32", "y": "float32",
    }  # fmt: skip


def test_a_float_network_is_left_alone(graph) -> None:
    before = graph(f"{IMAGE} {{ c = Conv(x, w) y = Relu(c) }}", **WEIGHTS)
    result = drop_quantisation(before)
    assert not result.changed
    assert result.graph is before
