from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aiop.graph_ir import ComputeGraph
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.fuse_norms import fuse_norms

ROWS = "(float[1,10,24] x) => (float y)"
IMAGE = "(float[1,24,6,6] x) => (float y)"
CONSTANTS: dict[str, object] = {
    "w": (24,), "b": (24,), "w3": (24, 1, 1), "b3": (24, 1, 1), "m": (24, 8), "k": (8, 24, 1, 1),
    "two": np.float32(2), "eps": np.float32(1e-5), "one": np.float32(1), "half": np.float32(0.5),
    "minus_half": np.float32(-0.5), "count": np.float32(24), "part": np.float32(1 / 24), "last": np.array([-1]),
    "grown": np.array([1, 10, 24]), "ones": np.ones(4, np.float32), "zeros": np.zeros(4, np.float32),
    "split": np.array([1, 4, -1]), "whole": np.array([1, 24, 6, 6]), "g4": (4,), "h4": (4,),
}  # fmt: skip
LAYER_NORM = (
    "u = ReduceMean<axes=[-1]>(x) d = Sub(x, u) q = Pow(d, two) v = ReduceMean<axes=[-1]>(q) "
    "e = Add(v, eps) r = Sqrt(e) n = Div(d, r)"
)
RMS_NORM = "q = Pow(x, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) r = Sqrt(e) n = Div(x, r)"


@pytest.fixture
def form(graph) -> Callable[..., ComputeGraph]:
    """Function: flow, nodes, opset -> canonical graph."""
    return lambda flow, nodes, opset=17: canonicalise(graph(f"{flow} {{ {nodes} }}", opset, **CONSTANTS))


@pytest.mark.parametrize(
    "nodes",
    [
        f"{LAYER_NORM} s = Mul(n, w) y = Add(s, b)",
        f"{LAYER_NORM.replace('Pow(d, two)', 'Mul(d, d)')} s = Mul(w, n) y = Add(b, s)",
        f"{LAYER_NORM.replace('axes=[-1]', 'axes=[2]')} s = Mul(n, w) y = Add(s, b)",
        f"{LAYER_NORM.replace('n = Div(d, r)', 'i = Reciprocal(r) n = Mul(d, i)')} s = Mul(n, w) y = Add(s, b)",
        f"{LAYER_NORM.replace('n = Div(d, r)', 'i = Div(one, r) n = Mul(i, d)')} s = Mul(n, w) y = Add(s, b)",
        f"{LAYER_NORM.replace('Sqrt(e)', 'Pow(e, half)')} s = Mul(n, w) y = Add(s, b)",
        f"{LAYER_NORM.replace('r = Sqrt(e) n = Div(d, r)', 'r = Pow(e, minus_half) n = Mul(d, r)')} "
        "s = Mul(n, w) y = Add(s, b)",
        # the mean as a sum; views between; the difference computed twice
        LAYER_NORM.replace("u = ReduceMean<axes=[-1]>(x)", "t = ReduceSum(x, last) u = Div(t, count)")
        + " s = Mul(n, w) y = Add(s, b)",
        LAYER_NORM.replace("u = ReduceMean<axes=[-1]>(x)", "t = ReduceSum(x, last) u = Mul(part, t)")
        + " s = Mul(n, w) y = Add(s, b)",
        f"{LAYER_NORM} f = Flatten<axis=2>(n) s = Mul(f, w) g = Reshape(s, grown) y = Add(g, b)",
        LAYER_NORM.replace("q = Pow(d, two)", "c = Sub(x, u) q = Pow(c, two)")
        + " s = Mul(n, w) y = Add(s, b)",
        "y = LayerNormalization<axis=2>(x, w, b)",
        "y = LayerNormalization(x, w)",
    ],
)
def test_layer_norm(form, nodes: str) -> None:
    assert content_hash(form(ROWS, nodes)) == content_hash(form(ROWS, "y = LayerNormalization(x, w, b)"))
    assert form(ROWS, nodes).params == (24 if nodes.endswith("(x, w)") else 48)


@pytest.mark.parametrize(
    "nodes",
    [
        f"{RMS_NORM} y = Mul(n, w)",
        f"{RMS_NORM.replace('Pow(x, two)', 'Mul(x, x)')} y = Mul(w, n)",
        f"{RMS_NORM.replace('n = Div(x, r)', 'i = Reciprocal(r) n = Mul(x, i)')} y = Mul(n, w)",
        f"{RMS_NORM.replace('n = Div(x, r)', 'i = Div(one, r) n = Mul(i, x)')} y = Mul(n, w)",
    ],
)
def test_rms_norm(form, nodes: str) -> None:
    operator = form(ROWS, "y = RMSNormalization(x, w)", 23)
    assert [operation.op for operation in operator.operations] == ["Input", "RMSNorm"]
    assert content_hash(form(ROWS, nodes)) == content_hash(operator)


@pytest.mark.parametrize(
    "nodes",
    [
        "l = ReduceL2<axes=[-1]>(x) y = Div(x, l)",
        "l = ReduceL2<axes=[-1]>(x) c = Clip(l, eps) g = Expand(c, grown) y = Div(x, g)",
        "l = ReduceL2<axes=[-1]>(x) c = Max(l, eps) y = Div(x, c)",
        "q = Mul(x, x) l = ReduceSum(q, last) r = Sqrt(l) y = Div(x, r)",
        "l = ReduceSumSquare<axes=[-1]>(x) e = Add(l, eps) r = Sqrt(e) y = Div(x, r)",
    ],
)
def test_division_by_the_length(form, nodes: str) -> None:
    operator = form(ROWS, "y = LpNormalization(x)")
    assert [operation.op for operation in operator.operations] == ["Input", "LpNorm"]
    assert content_hash(form(ROWS, nodes)) == content_hash(operator)


GROUPED = "r = Reshape(x, split) i = InstanceNormalization(r, ones, zeros) n = Reshape(i, whole)"


@pytest.mark.parametrize(
    ("nodes", "opset", "params"),
    [
        (f"{GROUPED} s = Mul(n, w3) y = Add(s, b3)", 17, 48),
        (f"{GROUPED} s = Mul(w3, n) y = Add(b3, s)", 11, 48),
        ("y = GroupNormalization<num_groups=4>(x, w, b)", 21, 48),
        ("y = GroupNormalization<num_groups=4>(x, g4, h4)", 18, 8),  # one scale for every group
        (GROUPED.replace("n = ", "y = "), 17, 0),  # neither scale nor shift
    ],
)
def test_group_norm(form, nodes: str, opset: int, params: int) -> None:
    found = form(IMAGE, nodes, opset)
    assert [operation.op for operation in found.operations] == ["Input", "GroupNorm"]
    assert (found.operations[1].groups, found.params) == (4, params)
    wanted = form(IMAGE, "y = GroupNormalization<num_groups=4>(x, w, b)", 21)
    assert content_hash(found) == content_hash(wanted)


def test_groups_of_one_channel_are_instances(form) -> None:
    found = form(IMAGE, "y = InstanceNormalization(x, w, b)")
    assert found.operations[1].op == "InstanceNorm"
    assert content_hash(found) == content_hash(
        form(IMAGE, "y = GroupNormalization<num_groups=24>(x, w, b)", 21)
    )


def test_norms_that_differ_stay_apart(form) -> None:
    norms = [
        ("y = GroupNormalization<num_groups=4>(x, w, b)", 21),
        ("y = GroupNormalization<num_groups=8>(x, w, b)", 21),
        ("y = GroupNormalization<num_groups=1>(x, w, b)", 21),
        ("y = InstanceNormalization(x, w, b)", 17),
        ("y = BatchNormalization(x, w, b, w, b)", 17),
        ("y = LpNormalization(x)", 17),
        (LAYER_NORM.replace("n = ", "y = "), 17),
        (LAYER_NORM.replace("n = ", "y = ").replace("[-1]", "[1]"), 17),
        (RMS_NORM.replace("n = ", "y = "), 17),
    ]
    assert len({content_hash(form(IMAGE, nodes, opset)) for nodes, opset in norms}) == len(norms)


@pytest.mark.parametrize(
    "nodes",
    [
        LAYER_NORM.replace("v = ReduceMean", "v = ReduceMax"),
        LAYER_NORM.replace("Pow(d, two)", "Pow(d, one)"),
        LAYER_NORM.replace("Div(d, r)", "Div(x, r)"),
        LAYER_NORM.replace("Div(d, r)", "Div(r, d)"),
        f"{LAYER_NORM} z = Add(n, v)",  # the variance is read again
        RMS_NORM.replace("Div(x, r)", "Div(q, r)"),
        RMS_NORM.replace("r = Sqrt(e)", "r = Exp(e)"),
        "l = ReduceL1<axes=[-1]>(x) n = Div(x, l)",
    ],
)
def test_what_is_not_one_stays(graph, run_pass, nodes: str) -> None:
    last = "z" if "z = " in nodes else "n"
    before = graph(f"{ROWS.replace(' y', ' ' + last)} {{ {nodes} }}", **CONSTANTS)
    assert len(run_pass(fuse_norms, before)) == len(before.operations) - 1


@pytest.mark.parametrize(
    "nodes",
    [
        LAYER_NORM.replace("v = ReduceMean<axes=[-1]>", "v = ReduceMean<axes=[1]>"),  # another axis
        LAYER_NORM.replace("Sub(x, u)", "Sub(u, x)"),
    ],
)
def test_a_difference_may_be_what_is_normalised(graph, run_pass, nodes: str) -> None:
    before = graph(f"{ROWS.replace(' y', ' n')} {{ {nodes} }}", **CONSTANTS)
    assert run_pass(fuse_norms, before)[-1] == "n = RMSNorm(d)"


def test_a_difference_that_the_network_puts_out_is_kept(graph, run_pass) -> None:
    flow = ROWS.replace("=> (", "=> (float d, ").replace(" y", " n")
    before = graph(f"{flow} {{ {LAYER_NORM} }}", **CONSTANTS)
    assert run_pass(fuse_norms, before) == ["u = GlobalAvgPool(x)", "d = Sub(x, u)", "n = RMSNorm(d)"]
