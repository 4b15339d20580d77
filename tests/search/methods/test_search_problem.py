"""What a search looks for: budgets, neighbours, twins, tasks, choices, and logs on disk."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.search.methods.base import Problem, SearchLog, find_tasks, get_searcher
from aiop.search.methods.choices import Choices
from aiop.search.methods.guided import _last_fit
from aiop.tasks import get_space, list_spaces

NATS = "classification/nats-size/cifar10-test-top1"


def widths(code):
    return float(sum(map(int, code.split(":"))))


def test_a_narrow_budget_is_met_though_hardly_any_draw_does():
    """Of 8^5 networks one has all widths at 8, five have a sum of 48."""
    problem = Problem("nats-size", (NATS,), widths, budget=(40, 48))
    random = np.random.default_rng(0)
    assert {widths(problem.sample(random)) for _ in range(6)} <= {40.0, 48.0}


def test_a_budget_that_nothing_meets_is_one_line_with_what_there_is():
    with pytest.raises(AiopError, match=r"0 to 3.9e-08 G MACs.*from \S+ to \S+ G") as error:
        Problem("nats-size", (NATS,), widths, budget=(0, 39)).sample(np.random.default_rng(0))
    assert "\n" not in str(error.value)
    with pytest.raises(AiopError, match=r"4e-08 to 3\.2e-07 G"):
        Problem("nats-size", (NATS,), widths, (0, 39), ("8:8:8:8:8", "64:64:64:64:64"))


def test_what_a_space_lacks_is_said_with_what_it_has():
    with pytest.raises(AiopError, match=f'lacks a task "video/.*its tasks are {NATS}'):
        find_tasks("nats-size", "video/*")
    with pytest.raises(AiopError, match='did you mean "nats-size"'):
        Problem.of("nats-siz", NATS)
    with pytest.raises(AiopError, match='"nas-bench-201" lacks the task'):
        Problem("nas-bench-201", (NATS,), widths)
    with pytest.raises(AiopError, match='did you mean "evolution"'):
        get_searcher("evolutoin")


def test_macs_are_those_of_the_network():
    """Convolutions and the classifier by hand: kernel x kernel x channels in x channels out x positions."""
    from aiop.tasks.networks import read

    problem = Problem.of("nats-size", NATS)
    assert problem.macs("8:16:24:32:40") == read("nats-size:8:16:24:32:40").macs


def test_neighbours_keep_the_budget_and_count_twins_once():
    near = [f"8:8:8:8:{width}" for width in range(16, 72, 8)]
    problem = Problem("nats-size", (NATS,), widths, (0, 64), stands_for={near[0]: near[1]})
    found = problem.neighbours("8:8:8:8:8")
    assert near[0] not in found
    assert found.count(near[1]) == 1
    assert all(widths(code) <= 64 for code in found)


@pytest.mark.parametrize("space", list_spaces())
def test_choices_put_a_code_together_again(space):
    grammar, random = get_space(space), np.random.default_rng(1)
    choices = Choices(grammar)
    for _ in range(20):
        code = grammar.validate(grammar.sample(random))
        values = choices.encode(code)
        assert choices.decode(lambda name, known, values=values: values[name]) == code
    assert all(len(set(values)) == len(values) for values in choices.values().values())


def test_a_log_is_of_one_search_and_survives_a_kill(tmp_path):
    path = tmp_path / "deep" / "log.jsonl"
    log = SearchLog(path, {"seed": 0})
    log.add("a", 1.0)
    log.add("b", 0.5)
    with path.open("a") as file:
        file.write('{"code": "c", "va')
    assert list(SearchLog(path, {"seed": 0})) == [("a", 1.0), ("b", 0.5)]
    with pytest.raises(AiopError, match="seed was 0, is 1"):
        SearchLog(path, {"seed": 1})


def test_a_log_without_values_binds_nobody(tmp_path):
    SearchLog(tmp_path / "log.jsonl", {"seed": 0})
    assert len(SearchLog(tmp_path / "log.jsonl", {"seed": 1})) == 0


@pytest.mark.parametrize(
    ("listed", "fits"),
    [
        (True, [0, 0, 8, 9, 49, 50, 50, 54, 102, 102, 112]),
        (False, [0, 0, 8, 8, 48, 48, 48, 48, 98, 108, 108]),
    ],
)
def test_fits_become_rarer(listed, fits):
    """Every evaluation up to 50, every fourth up to 100, then every tenth; without a list every tenth."""
    assert [_last_fit(count, listed=listed) for count in (0, 7, 8, 9, 49, 50, 53, 54, 107, 111, 112)] == fits
