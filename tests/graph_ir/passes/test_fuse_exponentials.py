from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.fuse_exponentials import fuse_exponentials

FLOW = "(float[2,5,8] x) => (float y)"
ONE = {"one": np.float32(1), "last": np.array([-1]), "minus": np.float32(-1), "two": np.float32(2)}
SHIFTED = "m = ReduceMax<axes=[-1]>(x) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) y = Div(e, s)"


@pytest.mark.parametrize(
    ("operator", "nodes"),
    [
        ("y = Sigmoid(x)", "n = Neg(x) e = Exp(n) p = Add(e, one) y = Reciprocal(p)"),
        ("y = Sigmoid(x)", "n = Mul(x, minus) e = Exp(n) p = Add(one, e) y = Div(one, p)"),
        ("s = Sigmoid(x) y = Mul(s, x)", "n = Neg(x) e = Exp(n) p = Add(e, one) y = Div(x, p)"),
        ("s = Sigmoid(x) y = Mul(s, x)", "n = Neg(x) e = Exp(n) p = Add(e, one) r = Div(one, p) y = Mul(r, x)"),
        ("y = Softplus(x)", "e = Exp(x) p = Add(e, one) y = Log(p)"),
        ("y = Softmax<axis=-1>(x)", "e = Exp(x) s = ReduceSum(e, last) y = Div(e, s)"),
        ("y = Softmax<axis=2>(x)", SHIFTED),
        ("y = LogSoftmax<axis=-1>(x)", "s = Softmax(x) y = Log(s)"),
        ("y = LogSoftmax<axis=-1>(x)", f"{SHIFTED[:-13]} q = Div(e, s) y = Log(q)"),
    ],
)  # fmt: skip
def test_spelled_out_or_not_the_hash_is_the_same(graph, operator: str, nodes: str) -> None:
    one, other = (canonicalise(graph(f"{FLOW} {{ {text} }}", **ONE)) for text in (operator, nodes))
    assert content_hash(one) == content_hash(other)


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
        "e = Exp(x) p = Add(e, one) s = Log(p) t = Tanh(s) y = Mul(t, x)",
    ],
)
def test_mish(graph, run_pass, nodes: str) -> None:
    assert run_pass(fuse_exponentials, graph(f"{FLOW} {{ {nodes} }}", **ONE)) == ["y = Mish(x)"]


def test_mish_is_the_operator(graph) -> None:
    spelled = graph(f"{FLOW} {{ s = Softplus(x) t = Tanh(s) y = Mul(x, t) }}")
    operator = graph(f"{FLOW} {{ y = Mish(x) }}", 18)
    assert content_hash(canonicalise(spelled)) == content_hash(canonicalise(operator))


@pytest.mark.parametrize(
    "nodes",
    [
        "e = Exp(x) p = Add(e, one) y = Reciprocal(p)",  # falls where a sigmoid rises
        "n = Neg(x) e = Exp(n) p = Add(e, two) y = Reciprocal(p)",
        "e = Exp(x) p = Add(e, two) y = Log(p)",
        "e = Exp(x) s = ReduceSum(e, last) y = Div(s, e)",
        "e = Exp(x) s = ReduceSumSquare<axes=[-1]>(e) y = Div(e, s)",
        "e = Exp(x) s = ReduceSum(e, last) q = Div(e, s) y = Add(q, s)",  # the sum is read again
        "s = Softplus(x) t = Softsign(s) y = Mul(x, t)",
    ],
)
def test_what_is_not_one_stays(graph, run_pass, nodes: str) -> None:
    before = graph(f"{FLOW} {{ {nodes} }}", **ONE)
    assert len(run_pass(fuse_exponentials, before)) == len(before.operations) - 1


def test_axes_tell_softmaxes_apart(graph) -> None:
    texts = [
        "y = Softmax<axis=1>(x)",
        "y = Softmax<axis=2>(x)",
        "y = LogSoftmax<axis=2>(x)",
        "y = Hardmax<axis=2>(x)",
    ]
    assert len({content_hash(canonicalise(graph(f"{FLOW} {{ {text} }}"))) for text in texts}) == len(texts)
