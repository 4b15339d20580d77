"""Einstein sums against torch: shapes, and multiply-accumulates as its flop counter has them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.graph_ir.einsum import EinsumError, parse_einsum

EQUATIONS = [
    "ij,jk->ik", "ij,jk", "bij,bjk->bik", "b i j, b j k -> b i k", "bhid,bhjd->bhij", "bnd,bmd,b->nm", "ij,kj->ik",
    "ij,ij->ij", "ij,ij->", "i,j->ij", "ijk,j->ik", "abc,bd->ad", "ii,ij->j", "ii->i", "ii", "ij->ji", "ijk->ik",
    "ab,bc,cd->ad", "ab,cb,cd,de->ae", "ij,jk,ik->", "bqhd,bkhd,hq->bhqk", "ijk,ilm,njm,nlk,abc->", "Ab,bC->AC",
]  # fmt: skip
EXTENTS = dict(zip("abcdehijklmnqAC", itertools.cycle([2, 3, 4, 5, 1, 7]), strict=False))


@pytest.mark.parametrize("equation", EQUATIONS)
def test_shapes_and_macs_are_those_of_torch(equation: str) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    if torch.backends.opt_einsum.is_available():
        torch.backends.opt_einsum.enabled = False
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    for shift in range(6):  # other extents, ones among them
        extents = {letter: (size + shift) % 6 + 1 for letter, size in EXTENTS.items()}
        shapes = [tuple(extents[letter] for letter in term) for term in terms]
        check(torch, FlopCounterMode, equation, shapes)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij,...jk->...ik", [(2, 3, 4, 5), (2, 3, 5, 6)]),
        ("...ij,...jk->...ik", [(2, 1, 4, 5), (3, 5, 6)]),
        ("...ij,...jk->...ik", [(4, 5), (5, 6)]),
        ("...ij,jk", [(2, 3, 4, 5), (5, 6)]),
        ("b...c,cd->b...d", [(2, 7, 8, 5), (5, 6)]),
        ("i...->...", [(2, 3, 4)]),
        ("...,...", [(2, 3), (2, 3)]),
        ("bi,ij,j->b", [(4, 3), (1, 5), (5,)]),  # an extent of 1 broadcasts
    ],
)
def test_ellipsis_and_broadcasting(equation: str, shapes: list[tuple[int, ...]]) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    check(torch, FlopCounterMode, equation, shapes)


def check(torch, counter, equation: str, shapes: list[tuple[int, ...]]) -> None:
    with counter(display=False) as counted:
        result = torch.einsum(equation, *(torch.ones(shape) for shape in shapes))
    found = parse_einsum(equation, shapes)
    assert found.shape == tuple(result.shape)
    assert 2 * found.macs == counted.get_total_flops()


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3)]),
        ("ij->i", [(2, 3, 4)]),
        ("ij,jk->ik", [(2, 3), (4, 5)]),
        ("ij->k", [(2, 3)]),
        ("ij->ii", [(2, 2)]),
        ("i,j->ij->", [(2,), (3,)]),
        ("i?->i", [(2, 3)]),
        ("", [(2,)]),
    ],
)
def test_equations_that_do_not_fit_are_refused(equation: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(EinsumError, match="equation"):
        parse_einsum(equation, shapes)


def test_a_bad_equation_in_a_file_is_a_user_error(graph) -> None:
    with pytest.raises(AiopError, match=r"\(Einsum\) has the equation 'ab,bc->ac'"):
        graph('(float[2,8] x) => (float y) { y = Einsum<equation="ab,bc->ac">(x, w) }', w=(9, 3))


def test_an_einsum_with_a_weight_is_linear(graph) -> None:
    found = graph(
        '(float[5,2,8] x) => (float y) { y = Einsum<equation="...c,hcd->...hd">(x, w) }', w=(4, 8, 3)
    )
    assert (found.macs, found.params) == (5 * 2 * 8 * 4 * 3, 96)
    assert found.operations[1].op == "Linear"
    assert found.tensors["y"].shape == (5, 2, 4, 3)
    assert found.operations[1].weights[0].shape == np.zeros((4, 8, 3)).shape
