"""``aiop bench search`` on a table of 64 networks: what is found, resuming, and errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.finetune.views import Views
from aiop.protocols.folds import Case, Holder
from aiop.protocols.plan import Plan
from aiop.search.comparison import judge, run, summary
from aiop.search.comparison.judge import contenders
from aiop.search.comparison.run import run_searches
from aiop.search.comparison.summary import best_row
from aiop.tasks import get_space

TASK = "classification/nas-bench-macro/cifar10-test-top1"
RANDOM = np.random.default_rng(3)
CODES = list(dict.fromkeys(get_space("nas-bench-macro").sample(RANDOM) for _ in range(80)))[:64]
VALUES = np.random.default_rng(5).normal(60, 5, size=64)
VALUES[7] = np.nan
PLAN = Plan(Path("nowhere"), {}, (), {})


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path))
    costs = np.arange(1.0, 65.0)
    known = np.nan_to_num(VALUES, nan=0.0)[:, None]
    views = Views(tuple(map(str, range(64))), known, np.zeros((64, 0)), known, costs, costs, ())
    found = SimpleNamespace(
        table=SimpleNamespace(values={TASK: VALUES}, networks=[f"nas-bench-macro:{code}" for code in CODES]),
        data="made",
        distinct=lambda: (np.arange(64), np.arange(64)),
    )
    monkeypatch.setattr(Holder, "digest", "0" * 64)
    holder = Holder("fold-1", tmp_path)
    case = Case("few-shot", holder, "nas-bench-macro", TASK, False)
    for module in (judge, summary):
        monkeypatch.setattr(module, "bench", lambda *_: found)
    monkeypatch.setattr(judge, "ground_of", lambda *_: SimpleNamespace(macs=costs))
    for look in ("look", "see"):
        monkeypatch.setattr(judge, look, lambda *_, **__: SimpleNamespace(views=views))
    monkeypatch.setattr(run, "walked_cases", lambda *_: [case])
    monkeypatch.setattr(run, "load_plan", lambda _: PLAN)
    monkeypatch.setattr(run, "holders_of", lambda *_: [holder])
    monkeypatch.setattr(run, "predictor_notes", lambda *_: ["- a note."])
    judge._rows.cache_clear()
    yield tmp_path
    judge._rows.cache_clear()


def compared(folder, **options):
    given = {"seeds": 3, "evaluations": 10, "methods": "random,evolution*", "out": folder, "progress": False}
    return run_searches(**(given | options))


def test_regret_is_what_the_best_of_the_table_is_above_the_best_found(world):
    outcome = compared(world)
    (race,) = outcome.entries
    assert race.networks == 63
    assert set(race.regrets) == {"random", "evolution", "evolution+predictor"}
    for name in race.regrets:
        for count in (0, 10):
            best = np.nanmax(VALUES) - race.regrets[name][count]
            better = [100 * np.sum(value + 1e-9 < VALUES) / 63 for value in best]
            np.testing.assert_allclose(race.places[name][count], better)
        assert (race.regrets[name][10] <= race.regrets[name][0]).all()
    assert outcome.written is not None
    assert "| nas-bench-macro | random |" in outcome.written.read_text("utf-8")


def test_a_predictor_that_sees_the_values_finds_the_best(world):
    (race,) = compared(world, methods="guided+predictor", seeds=1, evaluations=50).entries
    assert race.regret("guided+predictor", 50) == 0


def test_what_was_searched_is_not_searched_again(world, monkeypatch):
    first = compared(world)
    assert first.computed == 9
    monkeypatch.setattr(run, "search", None)
    again = compared(world)
    assert (again.computed, again.text) == (0, first.text)


def test_a_whole_table_ends_a_search(world):
    (race,) = compared(world, methods="random", seeds=1, evaluations=100).entries
    assert race.regret("random", 100) == 0


def test_the_best_until_a_checkpoint():
    asked = [(1, 5), (3, 9), (11, 2)]
    assert [best_row(asked, count) for count in (0, 1, 2, 3, 10, 11, 300)] == [5, 5, 5, 9, 9, 2, 2]


def test_contenders_are_chosen_by_name():
    assert [one.name for one in contenders("local*, random")] == ["local", "local+predictor", "random"]
    with pytest.raises(AiopError, match="did you mean"):
        contenders("evolutoin")


def test_numbers_below_one_are_refused(world):
    with pytest.raises(AiopError, match="at least 1"):
        compared(world, seeds=0)
