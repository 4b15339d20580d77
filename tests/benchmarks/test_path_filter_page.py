"""The page of the detection comparison, against tables worked out by hand."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from aiop.search.path_filter.detection.study import Candidates, Study, StudySettings
from aiop.tasks.latent.scene import SceneSpec
from benchmarks.path_filter_page import RANDOM, SCORED, SEARCHES, Seed, page

M = 1e6
SPEC = SceneSpec(64, tuple("0123456789"), ("ground",))


def candidates(macs: list[float], validation: list[float], test: list[float]) -> Candidates:
    return Candidates(np.arange(len(macs)), np.array(macs) * M, np.array(validation), np.array(test))


def seed_with(shift: float) -> Seed:
    base = candidates([1, 2, 4, 3], [10, 20, 30, 5], [11, 21, 31, np.nan])
    cheap = candidates([1, 2, 4], [10, 20, 30], [11, 31, 35])
    found = dict(zip((row.name for row in SEARCHES), (base, base, base, cheap), strict=True))
    budgets = {name: np.array([10.0, 20.0]) + shift for name in (RANDOM, SCORED, *found)}
    accuracy = {"the filter": 0.75, "MACs": 0.5}
    seconds = {"warm-up": 1.0, "labels": 2.0, "whole": 3.0, "survivors": 4.0, "search": 5.0}
    return Seed(found, budgets, 9.0, (0.5, 0.25, 16), 1.5, accuracy, seconds)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    study: Any = SimpleNamespace(
        settings=StudySettings(bins=2),
        edges=np.array([1.0, 2.0, 5.0]) * M,
        pool=range(100),
        scenery=SimpleNamespace(spec=SPEC, train=range(4), validation=range(3), test=range(2)),
    )
    return page([seed_with(0.0), seed_with(1.0)], cast(Study, study), 10).splitlines()


def row_of(lines: list[str], start: str, place: int = 0) -> list[str]:
    found = [line for line in lines if line.startswith(start)]
    return [cell.strip() for cell in found[place].strip("|").split("|")]


def test_values_at_budgets_are_means_over_seeds_with_half_their_range(lines: list[str]) -> None:
    assert row_of(lines, f"| {RANDOM} |") == [RANDOM, "10.50", "20.50", "15.50 ± 0.50"]


def test_a_front_is_compared_with_that_without_a_filter(lines: list[str]) -> None:
    # Beyond 5 M and AP 9: 4 x 2 + 3 x 20 + 1 x 4 = 72. The best AP without a filter, 31, takes 2 M instead of 4 M.
    cells = row_of(lines, f"| {SEARCHES[3].name} |", 1)  # after the table of budgets
    assert cells[:5] == [SEARCHES[3].name, "0", "3", "72.00", "35.00"]
    assert cells[5:7] == ["4.00", "2.00"]
    assert cells[7].startswith("50% (")
    base = row_of(lines, f"| {SEARCHES[0].name} |", 1)
    # 4 x 2 + 3 x 10 + 1 x 10
    assert base[3] == "48.00"
    assert base[7] == "0% (0%)"
    assert base[8] == "0%"


def test_every_line_of_text_fits_and_every_row_has_its_cells(lines: list[str]) -> None:
    assert all(len(line) <= 120 for line in lines if not line.startswith("|"))
    for before, line in itertools.pairwise(lines):
        if line.startswith("|") and before.startswith("|"):
            assert line.count("|") == before.count("|")


def test_what_the_filter_does_is_shown_for_every_seed(lines: list[str]) -> None:
    assert "| 1 | 0.750 | 0.500 | +1.50 | +0.50 ± 0.25 (16 bodies) |" in lines
