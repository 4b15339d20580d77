"""NCP without evaluations: judges that remember, students, tasks by short names, and what a search leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from aiop.errors import AiopError
from aiop.search.methods import code_search
from aiop.search.methods.code_search import following, search_codes
from aiop.search.methods.code_vectors import code_vectors
from aiop.search.methods.distilling import distil, settle
from aiop.search.methods.judging import Judge, Said
from aiop.search.methods.problem import Problem
from aiop.search.methods.propagation import START
from aiop.search.methods.wanted import parse_weights, wanted_tasks
from aiop.tasks import get_space, list_tasks

SPACE = "nas-bench-mr"
MIOU, VIDEO = "segmentation/nas-bench-mr/cityscapes-miou", "video/nas-bench-mr/hmdb51-top1"
SEG = tuple(f"segmentation/nas-bench-mr/cityscapes-{name}" for name in ("aacc", "macc", "miou"))


@dataclass(frozen=True)
class Told:
    value: float
    low: float
    high: float
    in_distribution: bool


class Answer:
    def __init__(self, code):
        x = np.array([int(number) for number in code.split(",")]) / 128
        self.macs, self.params = 1e8 * float(x @ np.linspace(0.5, 1.5, 27)), 1e6 * float(x.sum())
        first = 50 + float(np.sqrt(x).sum())
        second = 40 - 9 * float(x[0])
        self.told = {
            MIOU: Told(first, first - 1, first + 1, in_distribution=bool(x[0] > 0.2)),
            VIDEO: Told(second, second - 1, second + 1, in_distribution=True),
        }

    def __getitem__(self, task):
        return self.told[task]


class Teacher:
    """Stands for a predictor of two tasks: of one more width is better, of the other a narrow first layer."""

    names = (MIOU, VIDEO)
    card = {"weights_sha256": "0"}  # noqa: RUF012

    def __init__(self, dies_after=None):
        self.asked, self.dies_after = [], dies_after

    def task_card(self, task):
        if task not in self.names:
            raise AiopError(f"the predictor knows no task {task!r}")

    def predict(self, names, tasks):
        assert tasks == f"*/{SPACE}/*"
        if self.dies_after is not None and len(self.asked) >= self.dies_after:
            raise KeyboardInterrupt
        codes = [name.removeprefix(f"{SPACE}:") for name in names]
        self.asked += codes
        return [Answer(code) for code in codes]


def drawn(count, seed=0):
    random, space = np.random.default_rng(seed), get_space(SPACE)
    return list(dict.fromkeys(space.sample(random) for _ in range(count)))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_said_is_asked_for_once_whatever_the_tasks(tmp_path):
    teacher, codes = Teacher(), drawn(50)
    seen = []
    said = Judge(teacher, SPACE, [VIDEO, MIOU], cache=tmp_path)(codes, lambda *at: seen.append(at))
    assert seen == [(0, len(codes)), (32, len(codes)), (len(codes), len(codes))]
    for row, code in enumerate(codes):
        answer = Answer(code)
        assert tuple(said.values[row]) == (answer[VIDEO].value, answer[MIOU].value)
        assert (said.low[row, 1], said.high[row, 1]) == (answer[MIOU].low, answer[MIOU].high)
        assert (said.macs[row], said.params[row]) == (answer.macs, answer.params)
        assert said.inside[row, 1] == answer[MIOU].in_distribution
    again = Judge(teacher, SPACE, [MIOU], cache=tmp_path)
    assert again.known(codes) == len(codes)
    np.testing.assert_array_equal(again([codes[3], codes[3]]).values[:, 0], said.values[[3, 3], 1])
    assert teacher.asked == codes
    assert Judge(teacher, SPACE, [MIOU])(codes[:1]).macs[0] == said.macs[0]
    assert len(teacher.asked) == len(codes) + 1


def test_the_worse_end_depends_on_the_direction():
    ends = np.array([[1.0, 2.0]]), np.array([[0.0, 1.0]]), np.array([[3.0, 5.0]])
    said = Said(*ends, np.ones((1, 2), bool), np.ones(1), np.ones(1))
    np.testing.assert_array_equal(said.cautious(("max", "min")), [[0.0, 5.0]])


def test_a_judge_refuses_what_it_cannot_say():
    with pytest.raises(AiopError, match="knows no task"):
        Judge(Teacher(), SPACE, [SEG[0]])
    with pytest.raises(AiopError, match="is not one of nats-size"):
        Judge(Teacher(), "nats-size", [MIOU])


def test_an_interrupted_student_goes_on_where_it_was(tmp_path):
    settings = {"samples": 100, "rounds": 0, "cache": tmp_path}
    first = Teacher(dies_after=64)
    with pytest.raises(KeyboardInterrupt):
        distil(Judge(first, SPACE, [MIOU], cache=tmp_path), **settings)
    second, seen = Teacher(), []
    student = distil(
        Judge(second, SPACE, [MIOU], cache=tmp_path), progress=lambda *at: seen.append(at), **settings
    )
    assert len(first.asked) == 64
    assert not set(first.asked) & set(second.asked)
    assert seen[0][0] == 64
    assert seen[-1][0] == seen[-1][1] == 64 + len(second.asked)
    third = Teacher()
    again = distil(Judge(third, SPACE, [MIOU], cache=tmp_path), **settings)
    assert third.asked == []
    np.testing.assert_array_equal(student.predict([START]), again.predict([START]))
    (kept,) = tmp_path.glob("student-*.safetensors")
    kept.write_bytes(b"damaged")
    anew = distil(Judge(Teacher(), SPACE, [MIOU], cache=tmp_path), **settings)
    np.testing.assert_array_equal(student.predict([START]), anew.predict([START]))
    with pytest.raises(AiopError, match="at least 2 samples"):
        distil(Judge(Teacher(), SPACE, [MIOU]), samples=1)


def counted(code):
    return Answer(code).macs


def test_a_search_finds_nearly_the_best_within_the_budget(cache, tmp_path):
    teacher = Teacher()
    problem = Problem(SPACE, (MIOU,), counted, (0.0, 6e8))
    document = search_codes(problem, teacher, tmp_path / "out", samples=300, rounds=1)
    every = [Answer(code) for code in drawn(4000, seed=5)]
    worth = np.array([answer[MIOU].value for answer in every if answer.macs <= 6e8])
    best = document["best"]
    assert best["macs"] == counted(best["code"]) <= 6e8
    assert (worth > best["predicted"][MIOU]["value"]).mean() < 0.01
    assert document["start"]["predicted"][MIOU].keys() == {
        "value",
        "low",
        "high",
        "unit",
        "in_distribution",
    }
    assert len({entry["code"] for entry in [best, *document["next"]]}) == 10
    lows = [entry["predicted"][MIOU]["low"] for entry in [best, *document["next"]]]
    assert lows == sorted(lows, reverse=True)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == document
    onnx.checker.check_model(str(tmp_path / "out" / "best.onnx"))
    asked = len(teacher.asked)
    again = search_codes(problem, teacher, tmp_path / "out", samples=300, rounds=1)
    assert len(teacher.asked) == asked
    assert again["best"] == best
    other = Problem(SPACE, (MIOU,), counted, (0.0, 5e8))
    with pytest.raises(AiopError, match=r"holds another search .*budget was"):
        search_codes(other, teacher, tmp_path / "out", samples=300, rounds=1)


def test_the_heavier_of_two_tasks_decides(cache, tmp_path):
    channels = []
    for number, weights in enumerate(({MIOU: 9.0}, {VIDEO: 9.0})):
        problem = Problem(SPACE, (MIOU, VIDEO), counted, weights=weights)
        document = search_codes(problem, Teacher(), tmp_path / str(number), samples=300, rounds=1)
        assert set(document["best"]["predicted"]) == {MIOU, VIDEO}
        assert document["weights"] == weights
        channels.append(code_vectors(SPACE).encode([document["best"]["code"]])[0, 0])
    assert channels[0] > channels[1]


def test_a_budget_that_nothing_meets_is_said_before_anything_is_judged(cache, tmp_path):
    teacher = Teacher()
    with pytest.raises(AiopError, match="no architecture of nas-bench-mr"):
        search_codes(Problem(SPACE, (MIOU,), counted, (0.0, 1.0)), teacher, tmp_path / "out")
    assert teacher.asked == []


def test_a_narrow_budget_is_met_though_the_student_misses_it(cache, tmp_path, monkeypatch):
    """Whatever budget the student follows, nothing of it is inside: draws within the budget are taken."""
    calls, tried = [], len(code_search._MARGINS)

    def misses(codes, judge, *more, **named):
        calls.append(len(codes))
        return ([], judge([])) if len(calls) <= tried else settle(codes, judge, *more, **named)

    monkeypatch.setattr(code_search, "settle", misses)
    problem = Problem(SPACE, (MIOU,), counted, (6e8, 6.5e8))
    document = search_codes(problem, Teacher(), tmp_path / "out", samples=100, rounds=0)
    assert 6e8 <= document["best"]["macs"] <= 6.5e8
    assert len(calls) == tried + 1


def test_several_tasks_can_be_searched_with_evaluations(cache, monkeypatch):
    monkeypatch.setattr(code_search, "distil", lambda judge, **named: distil(judge, samples=100, rounds=0))
    searcher = following(Problem(SPACE, (MIOU, VIDEO), counted), Teacher())
    asked = [searcher.ask() for _ in range(3)]
    assert len(set(asked)) == 3
    assert searcher.student is not None
    assert searcher.student.tasks == (MIOU, VIDEO)


@pytest.mark.parametrize(
    "pattern",
    [
        "nas-bench-mr/seg/*",
        "seg/*",
        "seg",
        "segmentation/nas-bench-mr/*",
        "seg*/nas-bench-mr/city*",
        "cityscapes-*",
    ],
)
def test_tasks_may_be_named_shortly(pattern):
    assert wanted_tasks("nas-bench-mr", [pattern]) == SEG


def test_several_patterns_keep_their_order():
    video = "video/nas-bench-mr/hmdb51-top1"
    assert wanted_tasks("nas-bench-mr", ["video/hmdb51-top1", SEG[2], "video/*top1"]) == (video, SEG[2])
    assert set(wanted_tasks("nas-bench-mr", ["*"])) == set(list_tasks("*/nas-bench-mr/*"))


@pytest.mark.parametrize(
    "pattern", ["pose/*", "nas-bench-201/seg/*", "seg/nothing", "classification/nats-size/*"]
)
def test_a_task_that_the_space_lacks_is_said_with_those_there_are(pattern):
    with pytest.raises(AiopError, match=r"nas-bench-mr.* lacks a task .*its tasks are"):
        wanted_tasks("nas-bench-mr", [pattern])


def test_weights_are_read_by_pattern():
    tasks = (*SEG, "video/nas-bench-mr/hmdb51-top1")
    found = parse_weights(["seg=2", "video/nas-bench-mr/hmdb51-top1=0.5"], "nas-bench-mr", tasks)
    assert found == dict.fromkeys(SEG, 2.0) | {tasks[3]: 0.5}
    for text in ("seg", "seg=0", "seg=-1", "seg=nan", "=2", "seg=x"):
        with pytest.raises(AiopError, match="is no weight: write TASK=NUMBER"):
            parse_weights([text], "nas-bench-mr", tasks)
    with pytest.raises(AiopError, match="not searched for"):
        parse_weights(["video/*=2"], "nas-bench-mr", SEG)
