from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.passes.merge_duplicates import merge_duplicates
from aiop.graph_ir.passes.merge_sums import merge_sums
from aiop.graph_ir.passes.remove_dead import remove_dead

FLOW = "(float[1,4,8,8] x) => (float y)"
POOL = "MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>"


def test_duplicates_are_computed_once(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) b = Relu(x) c = {POOL}(a) d = {POOL}(b) y = Add(c, d) }}")
    assert run_pass(merge_duplicates, before) == ["a = Relu(x)", "c = MaxPool(a)", "y = Add(c, c)"]


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Relu(x) b = Sigmoid(x) y = Add(a, b)",
        "a = LeakyRelu<alpha=0.1>(x) b = LeakyRelu<alpha=0.2>(x) y = Add(a, b)",
        f"a = {POOL}(x) b = MaxPool<kernel_shape=[3,3], pads=[0,0,2,2]>(x) y = Add(a, b)",
        "a = Mul(x, k) b = Mul(x, l) y = Add(a, b)",
        "a = Conv(x, v) b = Conv(x, w) y = Add(a, b)",  # two layers
        "a = Conv(x, v) b = Conv(x, v) y = Add(a, b)",  # layers are never merged
        "a = Slice(x, s, e, t) b = Slice(x, e, f, t) y = Concat<axis=2>(a, b)",  # two halves of one tensor
        "a = RandomNormalLike(x) b = RandomNormalLike(x) y = Add(a, b)",
        "a = Relu(x) b = Relu(a) y = Add(a, b)",
    ],
)
def test_what_only_looks_alike_stays(graph, run_pass, nodes: str) -> None:
    before = graph(
        f"{FLOW} {{ {nodes} }}", k=np.float32(2), l=np.float32(3), v=(4, 4, 1, 1), w=(4, 4, 1, 1), s=np.array([0]),
        e=np.array([4]), f=np.array([8]), t=np.array([2]),
    )  # fmt: skip
    assert len(run_pass(merge_duplicates, before)) == 3


def test_chains_of_sums_become_one(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) b = Tanh(x) c = Add(a, b) d = Add(x, c) y = Add(d, a) }}")
    assert run_pass(merge_sums, before) == ["a = Relu(x)", "b = Tanh(x)", "y = Add(x, a, b, a)"]


def test_two_sums_join_in_one(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Relu(x) b = Add(x, a) c = Add(a, x) y = Add(b, c) }}")
    assert run_pass(merge_sums, before) == ["a = Relu(x)", "y = Add(x, a, a, x)"]


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add(x, x) y = Mul(a, x)",
        "a = Add(x, x) b = Add(a, x) y = Mul(a, b)",  # the inner sum is read twice
        "a = Add(x, k) y = Add(a, x)",  # a shift by a number
        "a = Add(x, w) y = Add(a, x)",  # a trained shift
    ],
)
def test_other_sums_stay(graph, run_pass, nodes: str) -> None:
    before = graph(f"{FLOW} {{ {nodes} }}", k=np.float32(2), w=(4, 1, 1))
    assert len(run_pass(merge_sums, before)) == len(before.operations) - 1


def test_a_sum_that_broadcasts_stays(graph, run_pass) -> None:
    before = graph("(float[1,4,8,8] x, float[8] z) => (float y) { a = Add(z, z) y = Add(x, a) }")
    assert len(run_pass(merge_sums, before)) == 2


def test_a_sum_that_is_an_output_stays(graph, run_pass) -> None:
    before = graph("(float[8] x) => (float a, float y) { a = Add(x, x) y = Add(a, x) }")
    assert len(run_pass(merge_sums, before)) == 2


def test_what_no_output_needs_goes(graph, run_pass) -> None:
    before = graph(
        "(float[1,4,8,8] x, float[3] unused) => (float y) { a = Relu(x) b = Tanh(a) c = Sigmoid(b) y = Exp(a) }"
    )
    assert run_pass(remove_dead, before) == ["a = Relu(x)", "y = Exp(a)"]
    assert [op.name for op in remove_dead(before).graph.operations if op.op == "Input"] == ["x", "unused"]


def test_an_operation_with_one_output_in_use_stays(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a, b = Split<axis=1>(x) y = Relu(b) }}")
    assert run_pass(remove_dead, before) == ["a, b = Split(x)", "y = Relu(b)"]
