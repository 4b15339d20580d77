"""Walks on a space small enough to know every answer: 64 networks of three digits."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiop.errors import AiopError
from aiop.protocols.seen import Bench
from aiop.search.walks.ground import Ground, cheapest, neighbour_rows
from aiop.search.walks.plan import drawn
from aiop.search.walks.walk import cut_first, guided, random_moves
from aiop.tasks.tables import nas_bench_201

CODES = ["".join(digits) for digits in product("0123", repeat=3)]
WEIGHTS = np.array([1.0, 4.0, 16.0])
DIGITS = np.array([[int(digit) for digit in code] for code in CODES])
MACS = 10 + DIGITS @ WEIGHTS  # 10 to 73


def around(code):
    return [code[:i] + d + code[i + 1 :] for i in range(3) for d in "0123" if d != code[i]]


@pytest.fixture(scope="module")
def ground() -> Ground:
    return Ground(MACS, neighbour_rows(CODES, [around(code) for code in CODES], {}))


def best_within(values, cap):
    return max(value for value, macs in zip(values, MACS, strict=True) if macs <= cap)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.85, 0.7, 0.5])
def test_a_walk_that_may_see_all_finds_the_best_within_the_target(ground, seed, share):
    values = np.random.default_rng(seed).normal(size=64)
    for start in range(64):
        cap = share * MACS[start]
        found = guided(ground, start, cap, values, most=64)
        if cap < 10:
            assert found.row == -1
        else:
            assert values[found.row] == best_within(values, cap)
            assert MACS[found.row] <= cap


def test_a_walk_scores_no_more_than_it_may(ground):
    values = np.random.default_rng(0).normal(size=64)
    first = guided(ground, 63, 40, values, most=9)
    assert first.scored == 9  # the neighbours of the start
    near = [row for row in range(64) if (DIGITS[row] != 3).sum() == 1 and MACS[row] <= 40]
    assert values[first.row] == max(values[near])
    assert guided(ground, 63, 40, values, most=20).scored == 20


def test_moves_that_lower_the_macs_never_go_up(ground):
    score = DIGITS[:, 0].astype(float)  # the first digit costs least and counts alone
    start = CODES.index("033")
    cap = MACS[start] * 0.7
    assert score[guided(ground, start, cap, score, most=64).row] == 3
    down = guided(ground.cutting, start, cap, score, most=64)
    assert score[down.row] == 0
    assert MACS[down.row] <= cap


def test_cuts_by_cost_take_the_steps_that_arithmetic_says(ground):
    start = CODES.index("333")  # 10 + 3 + 12 + 48 = 73
    assert CODES[cut_first(ground, start, 70, largest=True).row] == "330"  # one move, 48 at once
    assert CODES[cut_first(ground, start, 70, largest=False).row] == "033"  # 1, 1 and 1: 70
    assert CODES[cut_first(ground, start, 69.5, largest=False).row] == "023"  # then 4
    assert cut_first(ground, start, 9, largest=True).row == -1
    assert cut_first(ground, start, 9, largest=False).row == -1


def test_random_moves_meet_the_target_and_depend_on_the_seed(ground):
    ends = [random_moves(ground, 63, 40, seed).row for seed in range(20)]
    assert all(MACS[row] <= 40 for row in ends)
    assert len(set(ends)) > 3
    assert ends == [random_moves(ground, 63, 40, seed).row for seed in range(20)]
    assert random_moves(ground, 63, 5, 0).row == -1


def test_the_cheapest_below_is_what_searching_all_finds():
    random = np.random.default_rng(3)
    macs = random.permutation(30).astype(float)
    ground = Ground(macs, np.array([random.choice(30, 3, replace=False) for _ in range(30)]))
    expected = [macs[ground.cutting.reachable(row)].min() for row in range(30)]
    assert cheapest(ground).tolist() == expected
    assert max(np.array(expected) - macs.min()) > 0  # some cannot come down all the way


def test_neighbours_are_networks_of_the_table_or_their_twins():
    rows = neighbour_rows(["a", "b", "c"], [["b", "x", "b"], ["y", "c", "a"], ["c"]], {"x": "c", "y": "b"})
    assert rows.tolist() == [[1, 2], [2, 0], [-1, -1]]


def test_neighbours_that_are_no_networks_are_refused():
    with pytest.raises(AiopError, match="do not fit 2 networks"):
        Ground(np.ones(2), np.array([[1], [2]]))


def test_starts_are_drawn_from_all_or_from_the_better_half():
    values = np.array([np.nan, *range(100)], float)
    every, upper = drawn(values, upper=False, count=40), drawn(values, upper=True, count=40)
    assert len(set(every)) == len(set(upper)) == 40
    assert np.isfinite(values[every]).all()
    assert (values[every] < 49).any()
    assert (values[upper] >= 49.5).all()
    assert drawn(values, upper=False, count=40).tolist() == every.tolist()
    assert len(drawn(values, upper=False, count=1000)) == 100


def test_every_cell_stands_for_the_one_that_the_table_keeps(tmp_path):
    columns = {"idx": [4, 5, 6], "arch": ["a", "b", "c"], "isomorph_of": [4, 4, 6]}
    pq.write_table(pa.table(columns), tmp_path / nas_bench_201.FILE)
    assert nas_bench_201.representatives(tmp_path) == {"a": "a", "b": "a", "c": "c"}


def test_networks_that_compute_the_same_at_another_cost_are_told_apart():
    networks = ["a", "b", "c", "d", "lost"]
    hashes = {"a": "x", "b": "x", "c": "y", "d": "x", "lost": ""}
    corpus = SimpleNamespace(
        hashes_of=lambda names: [hashes[name] for name in names],
        macs=np.array([5.0, 7.0, 5.0, 5.0]),
        params=np.ones(4),
    )
    found = Bench(SimpleNamespace(networks=networks), corpus, None, {0: 0, 1: 1, 2: 2, 3: 3}, "")
    rows, equals = found.distinct()
    assert (rows.tolist(), equals.tolist()) == ([0, 1, 2], [0, 1, 2, 0, -1])
    rows, equals = found.distinct(costs=False)
    assert (rows.tolist(), equals.tolist()) == ([0, 2], [0, 0, 1, 0, -1])
