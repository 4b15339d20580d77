"""Products however they are spelt: the same graph, and the numbers that the file computes."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.passes.spell_products import spell_products

FLOW = "(float[1,5,8] x) => (float y)"
HALVES = "a = MatMul(x, w) b = MatMul(x, w2)"
WEIGHTS = {"w": (8, 4), "w2": (8, 4)}


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        (f'{HALVES} y = Einsum<equation="bnc,bmc->bnm">(a, b)', 18),
        (
            f"{HALVES} s = Squeeze(a, n0) t = Squeeze(b, n0) y0 = Gemm<transB=1>(s, t) y = Unsqueeze(y0, n0)",
            18,
        ),
        (
            f"{HALVES} s = Squeeze(a, n0) t = Squeeze(b, n0) u = Transpose(t) y0 = MatMul(s, u) y = Unsqueeze(y0, n0)",
            18,
        ),
    ],
)
def test_products_of_two_tensors_are_one(graph, text: str, opset: int) -> None:
    reference = graph(f"{FLOW} {{ {HALVES} t = Transpose<perm=[0,2,1]>(b) y = MatMul(a, t) }}", **WEIGHTS)
    more = {"n0": np.array([0])} if "n0" in text else {}
    before = graph(f"{FLOW} {{ {text} }}", opset, **WEIGHTS, **more)
    found = canonicalise(before)
    assert content_hash(found) == content_hash(canonicalise(reference))
    assert found.macs == before.macs == 2 * 5 * 8 * 4 + 5 * 5 * 4
    assert canonicalise(found) == found


@pytest.mark.parametrize(
    "equation",
    [
        "bnc,bmd->bnm",  # sums over an index that only one of the two has
        "...c,...d->...cd",
    ],
)
def test_other_sums_are_left(graph, equation: str) -> None:
    before = graph(f'{FLOW} {{ {HALVES} y = Einsum<equation="{equation}">(a, b) }}', **WEIGHTS)
    assert not spell_products(before).changed


def test_the_result_is_moved_to_where_the_equation_has_it(graph, run_pass) -> None:
    before = graph(f'{FLOW} {{ {HALVES} y = Einsum<equation="bnc,bmc->mbn">(a, b) }}', **WEIGHTS)
    assert run_pass(spell_products, before)[2:] == [
        "y/right = Transpose(b)",
        "y/product = MatMul(a, y/right)",
        "y = Transpose(y/product)",
    ]


def test_a_transposed_operand_of_weights_is_a_move_before(graph, run_pass) -> None:
    before = graph("(float[8,5] x) => (float y) { y = Gemm<transA=1>(x, w) }", w=(8, 4))
    assert run_pass(spell_products, before) == ["y/transA = Transpose(x)", "y = Linear(y/transA)"]
    assert spell_products(before).graph.macs == 5 * 8 * 4
