from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.passes.drop_views import drop_scales, drop_views

FLOW = "(float[2,4,6,6] x) => (float y)"
ONE = np.float32(3)


@pytest.mark.parametrize(
    "view",
    [
        "v = Reshape(a, s)",
        "v = Flatten(a)",
        "v = Cast<to=10>(a)",
        "v = Unsqueeze(a, z)",
        "v = Slice(a, b, e)",  # all of it
        "v = Pad(a, p)",  # by nothing
        "v = Expand(a, o)",  # to its own size
        "v = Concat<axis=0>(a)",
        "v = Sum(a)",
    ],
)
def test_views_and_what_does_nothing_go(graph, run_pass, view: str) -> None:
    before = graph(
        f"{FLOW} {{ a = Relu(x) {view} y = Sigmoid(v) }}", s=np.array([2, -1]), z=np.array([0]), b=np.array([0, 0]),
        e=np.array([99, 4]), p=np.zeros(8, np.int64), o=np.array([1, 1]),
    )  # fmt: skip
    assert run_pass(drop_views, before) == ["a = Relu(x)", "y = Sigmoid(a)"]


@pytest.mark.parametrize(
    "work",
    [
        "v = Slice(a, z, e)",
        "v = Pad(a, p)",
        "v = Expand(a, o)",
        "v = Concat<axis=0>(a, a)",
        "v = Transpose(a)",  # moves elements
        "v = Add(a, c)",  # a scalar, but a sum with it
        "v = Add(a, w)",  # a trained tensor
        "v = Resize(a, , r)",
    ],
)
def test_what_moves_or_changes_elements_stays(graph, run_pass, work: str) -> None:
    before = graph(
        f"{FLOW} {{ a = Relu(x) {work} y = Sigmoid(v) }}", z=np.array([0]), e=np.array([1]), c=ONE, w=(6,),
        p=np.array([0, 0, 0, 0, 0, 0, 0, 1]), o=np.array([2, 1, 1, 1, 1]), r=np.array([1, 1, 2, 2], np.float32),
    )  # fmt: skip
    assert len(run_pass(drop_views, before)) == 3


def test_a_view_that_is_an_output_hands_on_its_source(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) y = Flatten(a) }}")
    assert run_pass(drop_views, before) == ["a = Relu(x)"]
    assert drop_views(before).graph.outputs == ("a",)


def test_a_split_stays_whole(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a, b = Split<axis=1>(x) y = Add(a, b) }}")
    assert len(run_pass(drop_views, before)) == 2


@pytest.mark.parametrize("scale", ["v = Mul(a, c)", "v = Mul(c, a)", "v = Div(a, c)"])
def test_scales_go(graph, run_pass, scale: str) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) {scale} y = Sigmoid(v) }}", c=ONE)
    assert run_pass(drop_scales, before) == ["a = Relu(x)", "y = Sigmoid(a)"]


@pytest.mark.parametrize(
    "work",
    [
        "v = Mul(a, z)",  # by zero
        "v = Add(a, c)",
        "v = Sub(a, c)",
        "v = Div(c, a)",  # a reciprocal
        "v = Mul(a, a)",
        "v = Mul(a, w)",  # a trained number per channel
    ],
)
def test_other_products_stay(graph, run_pass, work: str) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) {work} y = Sigmoid(v) }}", c=ONE, z=np.float32(0), w=(4, 1, 1))
    assert len(run_pass(drop_scales, before)) == 3
