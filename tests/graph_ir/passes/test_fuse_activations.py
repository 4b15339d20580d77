from __future__ import annotations

import math

import numpy as np
import pytest

from aiop.graph_ir.passes.fuse_activations import fuse_activations

FLOW = "(float[1,4,8,8] x) => (float y)"
NUMBERS = {
    "root": np.float32(math.sqrt(2)),
    "inverse": np.float32(1 / math.sqrt(2)),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "two": np.float32(2),
    "w": np.arange(8, dtype=np.float32),
}


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ("s = Sigmoid(x) y = Mul(x, s)", "SiLU"),
        ("s = Sigmoid(x) y = Mul(s, x)", "SiLU"),
        ("s = HardSigmoid<alpha=0.16666667>(x) y = Mul(x, s)", "HardSwish"),
        # torch's exporters
        ("d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)", "Gelu"),
        ("d = Mul(x, inverse) e = Erf(d) p = Add(one, e) m = Mul(p, x) y = Mul(half, m)", "Gelu"),
        # others halve the input, or the bracket, first
        ("h = Mul(x, half) d = Div(x, root) e = Erf(d) p = Add(e, one) y = Mul(h, p)", "Gelu"),
        ("d = Div(x, root) e = Erf(d) p = Add(e, one) h = Mul(p, half) y = Mul(x, h)", "Gelu"),
    ],
)
def test_activations_are_recognised(graph, run_pass, nodes: str, name: str) -> None:
    assert run_pass(fuse_activations, graph(f"{FLOW} {{ {nodes} }}", **NUMBERS)) == [f"y = {name}(x)"]


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Sigmoid(x) a = Relu(x) y = Mul(a, s)",  # gates another tensor, as squeeze-and-excitation does
        "s = Sigmoid(x) m = Mul(x, s) y = Add(m, s)",  # the gate is read twice
        "s = Sigmoid(x) y = Add(x, s)",
        "s = Tanh(x) y = Mul(x, s)",
        "d = Div(x, two) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",  # not the root of two
        "d = Div(x, root) e = Erf(d) p = Add(e, two) m = Mul(x, p) y = Mul(m, half)",  # 2 + erf
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, two)",  # doubled
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) h = Mul(m, half) y = Add(h, e)",
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) h = Mul(m, half) y = Add(h, p)",
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) h = Mul(m, half) y = Add(h, m)",
        "a = Relu(x) d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(a, p) y = Mul(m, half)",
        "h = Mul(x, half) d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(h, p) y = Add(h, m)",
        "d = Div(x, root) e = Erf(d) y = Add(e, one)",
        "y = Erf(x)",
        "d = Mul(x, w) y = Erf(d)",
    ],
)
def test_what_is_not_one_stays(graph, run_pass, nodes: str) -> None:
    before = graph(f"{FLOW} {{ {nodes} }}", **NUMBERS)
    assert len(run_pass(fuse_activations, before)) == len(before.operations) - 1


def test_one_after_the_other(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ s = Sigmoid(x) a = Mul(x, s) t = Sigmoid(a) y = Mul(t, a) }}")
    assert run_pass(fuse_activations, before) == ["a = SiLU(x)", "y = SiLU(a)"]
