from __future__ import annotations

import math

import numpy as np
import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.fuse_activations import fuse_activations

FLOW = "(float[1,4,8,8] x) => (float y)"
NUMBERS = {
    "root": np.float32(math.sqrt(2)),
    "inverse": np.float32(1 / math.sqrt(2)),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "two": np.float32(2),
    "three": np.float32(3),
    "six": np.float32(6),
    "sixth": np.float32(1 / 6),
    "zero": np.float32(0),
    "quick": np.float32(1.702),
    "bend": np.float32(0.044715),
    "edge": np.float32(math.sqrt(2 / math.pi)),
    "w": np.arange(8, dtype=np.float32),
}
GELU_TANH = [
    # torch's and the paper's
    "c = Pow(x, three) m = Mul(c, bend) i = Add(x, m) s = Mul(i, edge) t = Tanh(s) p = Add(t, one) h = Mul(x, half) "
    "y = Mul(h, p)",
    "q = Mul(x, x) c = Mul(q, x) m = Mul(bend, c) i = Add(m, x) s = Mul(edge, i) t = Tanh(s) p = Add(one, t) "
    "r = Mul(p, half) y = Mul(r, x)",
    # factored
    "q = Mul(x, x) m = Mul(q, bend) i = Add(m, one) e = Mul(x, edge) s = Mul(e, i) t = Tanh(s) p = Add(t, one) "
    "m2 = Mul(x, p) y = Mul(m2, half)",
]


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ("s = Sigmoid(x) y = Mul(x, s)", "SiLU"),
        ("s = Sigmoid(x) y = Mul(s, x)", "SiLU"),
        ("q = Mul(quick, x) s = Sigmoid(q) y = Mul(s, x)", "SiLU"),
        ("s = HardSigmoid<alpha=0.16666667>(x) y = Mul(x, s)", "HardSwish"),
        ("a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)", "HardSwish"),
        ("a = Add(three, x) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)", "HardSwish"),
        ("a = Add(x, three) c = Clip(a, zero, six) d = Mul(c, sixth) y = Mul(x, d)", "HardSwish"),
        ("d = Mul(x, sixth) a = Add(x, three) c = Clip(a, zero, six) y = Mul(d, c)", "HardSwish"),
        ("d = Div(x, six) a = Add(d, half) c = Clip(a, zero, one) y = Mul(x, c)", "HardSwish"),
        ("a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)", "HardSigmoid"),
        # torch's exporters
        ("d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)", "Gelu"),
        ("d = Mul(x, inverse) e = Erf(d) p = Add(one, e) m = Mul(p, x) y = Mul(half, m)", "Gelu"),
        # others halve the input, or the bracket, first, or leave the half to a weight
        ("h = Mul(x, half) d = Div(x, root) e = Erf(d) p = Add(e, one) y = Mul(h, p)", "Gelu"),
        ("d = Div(x, root) e = Erf(d) p = Add(e, one) h = Mul(p, half) y = Mul(x, h)", "Gelu"),
        ("d = Div(x, root) e = Erf(d) h = Mul(e, half) p = Add(h, half) y = Mul(x, p)", "Gelu"),
        ("d = Div(x, root) e = Erf(d) p = Add(e, one) y = Mul(x, p)", "Gelu"),
        ("e = Erf(x) p = Add(e, one) y = Mul(x, p)", "Gelu"),
        *((nodes, "Gelu") for nodes in GELU_TANH),
    ],
)
def test_activations_are_recognised(graph, run_pass, nodes: str, name: str) -> None:
    before = graph(f"{FLOW} {{ {nodes} }}", **NUMBERS)
    left = run_pass(fuse_activations, before)
    assert f"= {name}(x)" in left[0]
    kinds = [operation.op for operation in canonicalise(before).operations]
    assert kinds == ["Input", name]


@pytest.mark.parametrize(
    ("operator", "opset", "nodes"),
    [
        ("y = HardSwish(x)", 17, "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)"),
        ("y = HardSigmoid<alpha=0.16666667, beta=0.5>(x)", 17, "a = Add(x, three) y = Clip(a, zero, six)"),
        ("y = HardSigmoid<alpha=0.16666667>(x)", 17, "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)"),
        ("y = Gelu(x)", 20, "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)"),
        *(('y = Gelu<approximate="tanh">(x)', 20, nodes) for nodes in GELU_TANH),
    ],
)  # fmt: skip
def test_spelled_out_or_not_the_hash_is_the_same(graph, operator: str, opset: int, nodes: str) -> None:
    one = graph(f"{FLOW} {{ {operator} }}", opset)
    other = graph(f"{FLOW} {{ {nodes} }}", **NUMBERS)
    assert content_hash(canonicalise(one)) == content_hash(canonicalise(other))


def test_activations_that_differ_stay_apart(graph) -> None:
    kinds = [
        "s = Sigmoid(x) y = Mul(x, s)",
        "q = Mul(quick, x) s = Sigmoid(q) y = Mul(s, x)",
        "s = HardSigmoid<alpha=0.16666667>(x) y = Mul(x, s)",
        "s = HardSigmoid<alpha=0.2>(x) y = Mul(x, s)",
        "y = HardSigmoid(x)",
        "y = HardSigmoid<alpha=0.16666667>(x)",
        "d = Div(x, root) e = Erf(d) p = Add(e, one) y = Mul(x, p)",
        GELU_TANH[0],
        "y = Softsign(x)",
        "y = Tanh(x)",
        "y = Selu(x)",
        "y = Elu(x)",
        "y = Elu<alpha=0.5>(x)",
        "y = LeakyRelu(x)",
        "y = LeakyRelu<alpha=0.2>(x)",
    ]
    hashes = [content_hash(canonicalise(graph(f"{FLOW} {{ {nodes} }}", **NUMBERS))) for nodes in kinds]
    assert len(set(hashes)) == len(kinds)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y = Elu(x)", "y = Elu<alpha=1.0>(x)"),
        ("y = LeakyRelu(x)", "y = LeakyRelu<alpha=0.01>(x)"),
        ("y = HardSigmoid(x)", "y = HardSigmoid<beta=0.5, alpha=0.2>(x)"),
    ],
)
def test_defaults_may_be_written_or_not(graph, one: str, other: str) -> None:
    hashes = {content_hash(canonicalise(graph(f"{FLOW} {{ {nodes} }}"))) for nodes in (one, other)}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Sigmoid(x) a = Relu(x) y = Mul(a, s)",  # gates another tensor, as squeeze-and-excitation does
        "s = Sigmoid(x) m = Mul(x, s) y = Add(m, s)",  # the gate is read twice
        "s = Sigmoid(x) y = Add(x, s)",
        "s = Tanh(x) y = Mul(x, s)",
        "s = HardSigmoid<alpha=0.2>(x) y = Mul(x, s)",  # not the slope of HardSwish
        "a = Add(x, two) c = Clip(a, zero, six) y = Mul(x, c)",
        "a = Add(x, three) c = Clip(a, zero, three) y = Mul(x, c)",
        "d = Div(x, two) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",  # not the root of two
        "d = Div(x, root) e = Erf(d) p = Add(e, two) m = Mul(x, p) y = Mul(m, half)",  # 2 + erf
        "d = Div(x, root) e = Erf(d) p = Add(e, one) y = Mul(p, w)",  # times a weight
        "d = Div(x, root) e = Erf(d) p = Add(e, one) y = Mul(p, p)",
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Add(m, p)",  # the bracket is read twice
        "c = Pow(x, two) m = Mul(c, bend) i = Add(x, m) s = Mul(i, edge) t = Tanh(s) p = Add(t, one) y = Mul(x, p)",
    ],
)
def test_what_is_not_one_stays(graph, run_pass, nodes: str) -> None:
    before = graph(f"{FLOW} {{ {nodes} }}", **NUMBERS)
    assert len(run_pass(fuse_activations, before)) == len(before.operations) - 1


def test_an_output_between_is_kept(graph, run_pass) -> None:
    before = graph("(float[4] x) => (float y, float s) { s = Sigmoid(x) y = Mul(x, s) }")
    assert run_pass(fuse_activations, before) == ["s = Sigmoid(x)", "y = Mul(x, s)"]
    assert fuse_activations(before).graph is before
