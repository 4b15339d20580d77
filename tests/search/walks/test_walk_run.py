"""``aiop bench compress`` on a table of 64 networks: results, resuming, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from aiop.cli.main import app
from aiop.errors import AiopError
from aiop.finetune.views import Views
from aiop.protocols.folds import Case, Holder
from aiop.protocols.methods import Method
from aiop.protocols.plan import Fold, Plan, load_plan
from aiop.search.walks import judge, run, summary
from aiop.search.walks.ground import Ground, neighbour_rows
from aiop.search.walks.plan import drawn, walked_cases, walkers
from aiop.search.walks.run import run_walks
from aiop.search.walks.summary import mean_and_error

TASK = "classification/nas-bench-macro/cifar10-test-top1"
CODES = [f"{a}{b}{c}" for a in range(4) for b in range(4) for c in range(4)]
MACS = np.array([10 + int(a) + 4 * int(b) + 16 * int(c) for a, b, c in CODES], float)
VALUES = np.random.default_rng(5).normal(60, 5, size=64)
LEARN = np.arange(0, 60)
PLAN = Plan(Path("nowhere"), {}, (), {})


class Knows:
    """Predicts the measured value, or the opposite, from the name of a network; counts its fits."""

    sign, fits = 1.0, 0

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def fit(self, views, values):
        type(self).fits += 1
        np.testing.assert_array_equal(values, [VALUES[int(name)] for name in views.names])
        assert len(values) == 50
        return self

    def predict(self, views):
        return self.sign * np.array([VALUES[int(name)] for name in views.names])


METHODS = {
    "head": Method("head", lambda setting: Knows(1.0), ours=True, scratch=False, code="1"),
    "forest": Method("forest", lambda setting: Knows(-1.0), least_labels=2, code="1"),
}


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path))

    def around(code):
        return [code[:i] + d + code[i + 1 :] for i in range(3) for d in "0123" if d != code[i]]

    ground = Ground(MACS, neighbour_rows(CODES, [around(code) for code in CODES], {}))
    views = Views(
        tuple(map(str, range(64))), np.zeros((64, 0)), np.zeros((64, 0)), np.zeros((64, 1)), MACS, MACS, ()
    )
    seen = SimpleNamespace(views=views, at=lambda rows: rows)
    found = SimpleNamespace(
        table=SimpleNamespace(values={TASK: VALUES}),
        data="made",
        distinct=lambda: (np.arange(64), np.arange(64)),
        few_shot=lambda draw, values, space_seen: (LEARN[draw:], None, None),
    )
    holder = Holder("fold-1", tmp_path)
    monkeypatch.setattr(Holder, "digest", "0" * 64)
    case = Case("few-shot", holder, "nas-bench-macro", TASK, False)
    for module in (judge, summary):
        monkeypatch.setattr(module, "bench", lambda *_: found)
    for module in (judge, summary, run):
        monkeypatch.setattr(module, "ground_of", lambda *_: ground)
    monkeypatch.setattr(judge, "look", lambda *_, **__: seen)
    monkeypatch.setattr(judge, "see", lambda *_, **__: seen)
    monkeypatch.setattr(judge, "setting_of", lambda case, draw, plan: setting())
    monkeypatch.setattr(run, "walked_cases", lambda *_: [case])
    monkeypatch.setattr(run, "find_methods", lambda: METHODS)
    monkeypatch.setattr(run, "load_plan", lambda _: PLAN)
    monkeypatch.setattr(run, "holders_of", lambda *_: [holder])
    Knows.fits = 0
    return tmp_path


def setting():
    from aiop.protocols.methods import Setting
    from aiop.tasks import get_task

    return Setting(get_task(TASK), 0)


def walk(folder, **options):
    return run_walks(**({"draws": 2, "starts": 30, "out": folder, "progress": False} | options))


def test_changes_are_those_of_the_measured_values(world):
    (entry,) = walk(world).entries
    starts = drawn(VALUES, upper=False, count=30)
    for target in (0.15, 0.3, 0.5):
        caps = (1 - target) * MACS[starts]
        expected = [
            max(VALUES[cap >= MACS]) - VALUES[start] if cap >= 10 else np.nan
            for start, cap in zip(starts, caps, strict=True)
        ]
        known = np.array(expected)[np.isfinite(expected)] / VALUES.std()
        place = "random", target
        assert entry.possible[place].tolist() == np.isfinite(expected).tolist()
        np.testing.assert_allclose(entry.best[place], expected)
        mean, error = entry.change("head", place)  # it may see all 64 networks, and knows them
        assert mean == pytest.approx(known.mean())
        assert error == pytest.approx(stats.sem(known))
        assert entry.change("oracle", place) == (mean, error)
        worst = [
            min(VALUES[cap >= MACS]) - VALUES[start]
            for start, cap in zip(starts, caps, strict=True)
            if cap >= 10
        ]
        assert entry.change("forest", place)[0] == pytest.approx(np.mean(worst) / VALUES.std())
        assert entry.ahead("forest", place)[0] == pytest.approx(mean - np.mean(worst) / VALUES.std())
        assert all(entry.missed(name, place) == 0 for name in entry.changes)
        assert entry.macs["random"][place] <= 1 - target


def test_finished_walks_are_not_walked_again(world):
    first = walk(world)
    assert first.computed == 2 + 2 + 2 + 3  # head, forest, random twice; cuts and oracle once
    assert Knows.fits == 4
    again = walk(world)
    assert again.computed == 0
    assert Knows.fits == 4
    assert again.text == first.text == (world / "compress-tables.md").read_text()
    assert walk(world, draws=3).computed == 3
    assert walk(world, starts=20).computed == 9  # other starts, other walks


def test_a_run_that_was_cut_short_goes_on(world):
    assert walk(world, methods="oracle,random").computed == 3
    results = world / "bench" / "compress.jsonl"
    results.write_bytes(results.read_bytes()[:-40])  # the last one is not finished
    assert walk(world).computed == 7
    assert all(json.loads(line)["kind"] == "walk" for line in results.read_text().splitlines()[:2])


def test_the_document_says_what_was_aimed_at_and_reached(world):
    text = walk(world).text
    assert "| Random architectures, any moves | nas-bench-macro | 1 |" in text
    assert "50 labels" in text
    assert "30 starts" in text
    assert "aiop bench compress" in text
    head = next(line for line in text.splitlines() if line.startswith(f"| {TASK} | % | head |"))
    assert head.count("+") >= 3


def test_means_leave_out_what_is_not_known():
    values = np.array([1.0, 4.0, np.nan, 7.0])
    mean, error = mean_and_error(values)
    assert mean == 4.0
    assert error == pytest.approx(stats.sem([1.0, 4.0, 7.0]))
    assert np.isnan(mean_and_error(np.array([1.0, np.nan]))).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "forrest"}, r'"forrest" guides no walk \(did you mean "forest"\?\)'),
        ({"draws": 0}, "--seeds is 0"),
        ({"starts": 1}, "--starts is 1"),
        ({"jobs": 0}, "--jobs 0"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(world, options, said):
    with pytest.raises(AiopError, match=said) as caught:
        walk(world, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (
            "classification/nas-bench-macro/*,latency/nas-bench-201/pixel3",
            "matches no metric that can be walked",
        ),
        ("*/fbnet/*", "matches no metric that can be walked"),
        ("*/nas-bench-macr/*", "nas-bench-macr"),
    ],
)
def test_tasks_that_cannot_be_walked_are_refused(tasks, said):
    with pytest.raises(AiopError, match=said):
        walked_cases([], load_plan(), tasks)


def test_pairs_and_predictors_that_know_the_table_walk_nothing():
    pair = Holder("pair", None, Fold("pair", ("nas-bench-201",), only="nas-bench-101"))
    with pytest.raises(AiopError, match="nothing to walk"):
        walked_cases([pair], load_plan())
    fold = Holder("fold-5", None, next(fold for fold in load_plan().folds if fold.name == "fold-5"))
    assert [case.task for case in walked_cases([fold], load_plan())] == [TASK]


def test_methods_that_transfer_guide_no_walk():
    methods = METHODS | {"transfer": Method("transfer", lambda setting: Knows(1.0), scratch=False)}
    assert list(walkers(methods)) == ["head", "forest", "random", "largest-cut", "smallest-cut", "oracle"]
    assert "transfer" not in walkers(methods, "*")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compress"], "--predictors FOLDER"),
        (["compress", "--budgets", "10"], "compress has neither"),
        (["unseen-task", "--starts", "10"], "--starts is an option of compress"),
    ],
)
def test_the_command_says_what_it_needs(arguments, said):
    result = CliRunner().invoke(app, ["bench", *arguments], prog_name="aiop")
    assert isinstance(result.exception, AiopError | SystemExit)
    assert said in f"{result.exception} {result.stderr}"
