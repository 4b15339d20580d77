from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.fold_zeros import fold_zeros

FLOW = "(float[1,4,8,8] x) => (float y)"
ZERO = {"z": np.float32(0)}


def test_zeros_leave_a_sum(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Mul(x, z) b = Relu(x) y = Add(a, b) }}", **ZERO)
    assert run_pass(fold_zeros, before) == ["b = Relu(x)"]
    assert fold_zeros(before).graph.outputs == ("b",)


def test_a_sum_of_three_keeps_the_other_two(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Mul(z, x) b = Relu(x) y = Sum(b, a, x) }}", **ZERO)
    assert run_pass(fold_zeros, before) == ["b = Relu(x)", "y = Add(b, x)"]


def test_what_keeps_zero_is_zero(graph, run_pass) -> None:
    pool = "p = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a)"
    before = graph(f"{FLOW} {{ a = Mul(x, z) {pool} b = Relu(p) y = Flatten(b) }}", **ZERO)
    assert run_pass(fold_zeros, before) == ["y = Zero()"]


def test_a_sum_of_zeros_is_zero(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Mul(x, z) b = Mul(x, z) c = Add(a, b) y = Add(c, x) }}", **ZERO)
    assert run_pass(fold_zeros, before) == []
    assert fold_zeros(before).graph.outputs == ("x",)


def test_a_zero_that_something_else_reads_stays(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Mul(x, z) b = Concat<axis=1>(a, x) y = Relu(b) }}", **ZERO)
    assert run_pass(fold_zeros, before) == ["a = Zero()", "b = Concat(a, x)", "y = Relu(b)"]


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Mul(x, k)",  # by another number
        "y = Add(x, z)",  # a sum with zero
        "a = Sub(x, x) y = Add(a, x)",  # zero, but not written as a product
    ],
)
def test_other_operations_are_not_touched(graph, run_pass, nodes: str) -> None:
    before = graph(f"{FLOW} {{ {nodes} }}", k=np.float32(1e-9), **ZERO)
    assert not fold_zeros(before).changed


def test_a_sum_that_broadcasts_keeps_its_zero(graph, run_pass) -> None:
    # the sum has the size of the zero, which therefore matters
    before = graph("(float[1,4,8,8] x, float[8] w) => (float y) { a = Mul(x, z) y = Add(a, w) }", **ZERO)
    assert run_pass(fold_zeros, before) == ["a = Zero()", "y = Add(a, w)"]


def test_a_function_that_moves_zero_is_not_zero(graph, run_pass) -> None:
    before = graph(f"{FLOW} {{ a = Mul(x, z) b = Sigmoid(a) y = Add(b, x) }}", **ZERO)
    assert run_pass(fold_zeros, before) == ["a = Zero()", "b = Sigmoid(a)", "y = Add(b, x)"]


@pytest.mark.parametrize("nodes", ["a = Mul(c, z) b = Mul(a, k)", "a = Mul(c, k) b = Mul(a, z)"])
def test_a_gain_that_starts_at_zero_keeps_its_branch(graph, run_pass, nodes: str) -> None:
    # SkipInit, De and Smith 2020: a trained factor of zero beside the branch's own scale
    before = graph(
        f"{FLOW} {{ c = Conv(x, w) {nodes} y = Add(b, x) }}", w=(4, 4, 1, 1), k=np.float32(0.2), **ZERO
    )
    assert run_pass(fold_zeros, before) == ["c = Conv(x)", "a = Mul(c)", "b = Mul(a)", "y = Add(b, x)"]
    settled = canonicalise(before)
    assert [operation.op for operation in settled.operations] == ["Input", "Conv", "Add"]
    assert settled.macs == before.macs
