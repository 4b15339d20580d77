"""One suite for all search methods: what `Searcher` promises holds for each, on spaces of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from aiop.errors import AiopError
from aiop.search.methods.base import Exhausted, Problem, Scorer, Scores, SearchLog, searchers
from aiop.search.methods.choices import Choices
from aiop.tasks import get_space, list_tasks

SPACES = {
    "nats-size": "classification/nats-size/cifar10-test-top1",
    "nas-bench-201": "classification/nas-bench-201/cifar10-test-top1",
    "nas-bench-mr": "segmentation/nas-bench-mr/cityscapes-miou",
}
METHODS = searchers()
# Methods that follow gradients of a trained predictor of codes have tests of their own with one.
ABLE = [name for name, kind in METHODS.items() if not getattr(kind, "needs_more", False)]


class Truth:
    """The sum of what each choice of a code is worth: numbers in proportion, names as they come."""

    def __init__(self, space, seed=0):
        self.choices = Choices(get_space(space))
        random = np.random.default_rng(seed)
        self.worth = {
            name: dict(zip(values, _worth(values, random), strict=True))
            for name, values in self.choices.values().items()
        }

    def __call__(self, code):
        return float(
            sum(self.worth.get(name, {}).get(value, 0.0) for name, value in self.choices.encode(code).items())
        )


def _worth(values, random):
    numbers = all(isinstance(value, int) for value in values)
    return random.normal() * np.linspace(-1, 1, len(values)) if numbers else random.normal(size=len(values))


class Line(Scorer):
    """A ridge regression on the choices of a code: as good a guide as the truth allows."""

    def __init__(self, space):
        self.choices = Choices(get_space(space))
        self.columns = [(name, value) for name, values in self.choices.values().items() for value in values]
        self.weights = np.zeros(len(self.columns))
        self.rows = {}

    def _matrix(self, codes):
        for code in codes:
            if code not in self.rows:
                one = self.choices.encode(code)
                self.rows[code] = [float(one.get(name) == value) for name, value in self.columns]
        return np.array([self.rows[code] for code in codes])

    def fit(self, codes, values):
        self.weights = np.zeros(len(self.columns))
        if len(codes):
            x, y = self._matrix(codes), np.asarray(values) - np.mean(values)
            self.weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)

    def score(self, codes, *, sure=True):
        return Scores(self._matrix(codes) @ self.weights, np.ones(len(codes)))


TRUTHS = {space: Truth(space) for space in SPACES}


def macs_of(code):
    """Any function of a code does: the sum of its letters."""
    return float(sum(map(ord, code)))


def problem(space, **settings):
    return Problem(space, (SPACES[space],), macs_of, **settings)


def listed(space, count=60, seed=3):
    random = np.random.default_rng(seed)
    found = dict.fromkeys(get_space(space).sample(random) for _ in range(3 * count))
    return tuple(found)[:count]


def searcher(method, asked, seed=0):
    kind = METHODS[method]
    guide = Line(asked.space) if kind.needs_scorer else None
    return kind(asked, seed=seed, scorer=guide)


def searched(search, count, truth):
    codes = []
    for _ in range(count):
        codes.append(search.ask())
        search.tell(codes[-1], truth(codes[-1]))
    return codes


def by_chance(space, seed, count=45):
    random = np.random.default_rng((17, seed))
    return max(TRUTHS[space](get_space(space).sample(random)) for _ in range(count))


@pytest.fixture(params=ABLE)
def method(request):
    return request.param


@pytest.mark.parametrize("space", SPACES)
def test_asks_are_new_valid_and_inside_the_budget(method, space):
    costs = sorted(macs_of(code) for code in listed(space))
    asked = problem(space, budget=(costs[15], costs[45]))
    codes = searched(searcher(method, asked), 30, TRUTHS[space])
    assert len(set(codes)) == 30
    assert all(costs[15] <= macs_of(code) <= costs[45] for code in codes)
    assert [get_space(space).validate(code) for code in codes] == codes


@pytest.mark.parametrize("space", SPACES)
def test_a_seed_decides_everything(method, space):
    truth = TRUTHS[space]
    first, again = (searched(searcher(method, problem(space), seed=4), 20, truth) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("count", [4, 33])
def test_a_replayed_search_goes_on_with_the_same_asks(method, count, tmp_path):
    space = "nats-size"
    truth, asked = TRUTHS[space], problem(space)
    whole = searcher(method, asked)
    log = SearchLog(tmp_path / "log.jsonl", {"method": method})
    for _ in range(count):
        code = whole.ask()
        whole.tell(code, truth(code))
        log.add(code, truth(code))
    again = searcher(method, asked)
    again.replay(SearchLog(tmp_path / "log.jsonl", {"method": method}))
    assert again.best() == whole.best()
    assert searched(again, 8, truth) == searched(whole, 8, truth)


def test_an_open_ask_is_not_asked_again(method):
    search = searcher(method, problem("nats-size"))
    codes = [search.ask() for _ in range(6)]
    assert len(set(codes)) == 6
    for code in reversed(codes):
        search.tell(code, 1.0)
    assert search.ask() not in codes


def test_what_was_not_asked_may_be_told(method):
    search = searcher(method, problem("nats-size"))
    search.tell("8:8:8:8:8", 99.0)
    assert search.best() == ("8:8:8:8:8", 99.0)
    assert "8:8:8:8:8" not in searched(search, 20, TRUTHS["nats-size"])
    with pytest.raises(AiopError, match="nats-size code"):
        search.tell("8:8:8:8:9", 1.0)
    with pytest.raises(AiopError, match="no finite number"):
        search.tell("8:8:8:8:16", float("nan"))


def test_what_is_outside_the_budget_is_never_the_best(method):
    search = searcher(method, problem("nats-size", budget=(0, macs_of("8:8:8:8:16"))))
    search.tell("64:64:64:64:64", 99.0)
    assert search.best() is None
    code = search.ask()
    search.tell(code, 1.0)
    assert search.best() == (code, 1.0)


@pytest.mark.parametrize("space", SPACES)
def test_a_list_is_asked_for_once_and_then_exhausted(method, space):
    codes = listed(space, 25)
    search = searcher(method, problem(space, candidates=codes))
    assert sorted(searched(search, 25, TRUTHS[space])) == sorted(codes)
    assert search.best().value == max(map(TRUTHS[space], codes))
    with pytest.raises(Exhausted, match="all 25 architectures"):
        search.ask()


def test_a_twin_counts_as_the_candidate_that_stands_for_it(method):
    codes = listed("nats-size", 10)
    search = searcher(method, problem("nats-size", candidates=codes, stands_for={"8:8:8:8:8": codes[0]}))
    search.tell("8:8:8:8:8", 3.0)
    assert search.best() == (codes[0], 3.0)
    assert codes[0] not in searched(search, 9, TRUTHS["nats-size"])


def test_smaller_is_better_where_the_task_says_so(method):
    task = next(name for name in list_tasks("latency/nas-bench-201/*"))
    search = searcher(method, Problem("nas-bench-201", (task,), macs_of))
    codes = [search.ask() for _ in range(3)]
    for value, code in enumerate(codes):
        search.tell(code, float(value + 1))
    assert search.best() == (codes[0], 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ABLE if name not in ("random", "macs")])
def test_it_finds_better_ones_than_chance(name):
    """In 7 of 8 searches of an easy problem at least: by chance this happens once in 28 times."""
    space, truth = "nats-size", TRUTHS["nats-size"]
    wins = 0
    for seed in range(8):
        search = searcher(name, problem(space), seed=seed)
        searched(search, 45, truth)
        wins += search.best().value >= by_chance(space, seed)
    assert binomtest(wins, 8, alternative="greater").pvalue < 0.04


@pytest.mark.parametrize("name", [name for name in ABLE if METHODS[name].uses_scorer])
def test_a_predictor_decides_what_is_asked_first(name):
    space, truth = "nats-size", TRUTHS["nats-size"]
    guide = Line(space)
    random = np.random.default_rng(0)
    known = [get_space(space).sample(random) for _ in range(300)]
    guide.fit(known, [truth(code) for code in known])
    guide.fit = lambda codes, values: None  # what it learnt before any label stays
    codes = listed(space, 60)
    search = METHODS[name](problem(space, candidates=codes), scorer=guide)
    first = [search.ask() for _ in range(5)]
    assert set(first) <= set(sorted(codes, key=truth)[-10:])
