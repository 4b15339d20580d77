"""The search: candidates in the window, the same under a seed, resumed after a kill, led by measured values."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import optuna
import pytest
from compression_cases import COST, TASK, StubPredictor, network

from aiop.errors import AiopError
from aiop.search.compression import Compression
from aiop.search.compression.store import JOURNAL
from aiop.search.editing.network import EditableNetwork


def search(**options):
    predictor = options.pop("predictor", None) or StubPredictor()
    return Compression(options.pop("network", network()), predictor, **{"task": TASK, "macs": 0.7} | options)


def summary(found):
    return [(item.levels, item.macs, round(item.score, 9)) for item in found.candidates]


@pytest.fixture(scope="module")
def searched():
    found = search()
    found.run(60)
    return found


def test_every_candidate_is_in_the_window(searched):
    assert len(searched.candidates) == 60
    whole = EditableNetwork.read(network()).macs
    for item in searched.candidates:
        assert 0.65 * whole <= item.macs <= 0.7 * whole
    assert len({item.levels for item in searched.candidates}) == 60


def test_what_is_said_of_a_candidate_is_true_of_its_file(searched, tmp_path):
    best = searched.best(1)[0]
    best.save(tmp_path / "best.onnx")
    again = EditableNetwork.read(tmp_path / "best.onnx")
    assert (again.macs, again.compute_graph().params) == (best.macs, best.params)
    assert best.predicted.value == pytest.approx(60 + 5 * np.log10(best.params))
    assert len(best.edits) + len(best.refusals) == len(best.decisions) > 0
    session = onnxruntime.InferenceSession(tmp_path / "best.onnx", providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape
    assert session.run(None, {"image": np.ones(size, np.float32)})[0].shape == (1, 10)


def test_the_best_come_first_and_the_front_is_not_dominated(searched):
    scores = [item.score for item in searched.best(60)]
    assert scores == sorted(scores, reverse=True)
    front = searched.front()
    assert front[0] is searched.best(1)[0]
    for item in front:
        assert not any(other.score > item.score and other.macs < item.macs for other in searched.candidates)


def test_evolution_finds_better_than_what_it_started_from():
    found = search(
        score={"outputs": 0}, mutations=["width", "kernel", "low-rank"]
    )  # as many parameters as the window lets in
    found.run(60)
    assert found.best(1)[0].number >= 20


def test_the_same_seed_finds_the_same_and_another_one_something_else(searched):
    same = search()
    same.run(25)
    assert summary(same) == summary(searched)[:25]
    other = search(seed=1)
    other.run(25)
    assert summary(other) != summary(same)


def test_trials_are_an_optuna_study(searched):
    trials = searched.study.get_trials()
    assert [trial.values[1] for trial in trials] == [item.macs for item in searched.candidates]
    assert [trial.values[0] for trial in trials] == pytest.approx([i.score for i in searched.candidates])
    assert set(trials[0].params) == {place.name for place in searched.space.places}


def test_a_second_run_goes_on_where_the_first_stopped(tmp_path, searched):
    with search(storage=tmp_path) as first:
        first.run(33)  # in the middle of a batch
    predictor = StubPredictor()
    with search(storage=tmp_path, predictor=predictor) as second:
        second.run(33)
        assert predictor.calls == 1  # of the original
        assert summary(second) == summary(first)
        second.run(50)
        assert summary(second) == summary(searched)[:50]


KILLED = """
import sys
sys.path[:0] = sys.argv[2:]
from compression_cases import TASK, StubPredictor, network
from aiop.search.compression import Compression
search = Compression(network(), StubPredictor(), task=TASK, macs=0.7, storage=sys.argv[1])
search.run(5000)
"""


def test_killed_at_any_moment_nothing_is_lost(tmp_path, searched):
    here = Path(__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(here.parent), str(here.parents[2])],
        stderr=subprocess.PIPE,
    )
    journal = tmp_path / JOURNAL
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if journal.is_file() and journal.read_bytes().count(b"\n") >= 28:
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.stderr.close()
    whole = journal.read_bytes()
    told = sum(b'"op_code":4' in line for line in whole.splitlines())  # trials are created finished
    assert told > 20
    with journal.open("ab") as file:
        file.write(whole.splitlines()[-1][:40])  # as if it had been killed while it wrote
    with search(storage=tmp_path) as again:
        again.prepare()
        before = summary(again)
        assert len(before) == told
        again.run(len(before) + 5)
        assert summary(again)[: len(before)] == before
        common = min(len(again.candidates), 60)
        assert summary(again)[:common] == summary(searched)[:common]


def test_other_settings_in_the_same_folder_are_named(tmp_path):
    with search(storage=tmp_path) as first:
        first.prepare()
    with pytest.raises(AiopError, match=r"seed was 0, is 3") as refused:
        search(storage=tmp_path, seed=3)
    assert "macs" not in str(refused.value)
    with pytest.raises(AiopError, match=r"network was"):
        search(storage=tmp_path, network=network(seed=1))
    with search(storage=tmp_path) as again:
        again.prepare()


def test_one_search_at_a_time_in_a_folder(tmp_path):
    with search(storage=tmp_path), pytest.raises(AiopError, match="another search runs"):
        search(storage=tmp_path)


def test_a_journal_of_something_else_is_refused(tmp_path):
    (tmp_path / JOURNAL).write_text("no journal\n")
    with pytest.raises(AiopError, match="no journal of a search"):
        search(storage=tmp_path)


def test_out_of_distribution_stands_behind(tmp_path):
    limit = search().network.compute_graph().params * 0.75
    found = search(predictor=StubPredictor(inside=lambda graph: graph.params > limit))
    found.run(40)
    inside = [item.in_distribution for item in found.best(40)]
    assert 0 < sum(inside) < 40
    assert inside == sorted(inside, reverse=True)
    assert all(item.in_distribution for item in found.front())


def test_where_the_original_is_outside_the_flag_does_not_rank():
    found = search(predictor=StubPredictor(inside=lambda graph: False))
    found.run(20)
    assert [item.score for item in found.best(20)] == sorted(
        (i.score for i in found.candidates), reverse=True
    )
    assert found.front()


def truth(candidate):
    """Falls with all channels that go, which the predictor, who likes few parameters, does not know."""
    return 80.0 - 10.0 * sum(1 - item.amount for item in candidate.decisions if item.mutation == "width")


def test_the_search_follows_what_was_measured():
    liar = StubPredictor(value=lambda graph: 90 - graph.params / 1000)
    found = search(predictor=liar, mutations=["width", "kernel", "block"], score={"outputs": 0})
    found.tell(found.original, 80.0)
    told = []
    for _ in range(10):
        candidate = found.ask()
        told.append(truth(candidate))
        found.tell(candidate, told[-1])
    others = [item for item in found.candidates if item.measured is None]
    true = [truth(item) for item in others]
    assert np.corrcoef([item.predicted.value for item in others], true)[0, 1] > 0.6
    assert np.corrcoef([item.raw.value for item in others], true)[0, 1] < 0.3
    assert np.mean(told[-4:]) > np.mean(true)


def test_what_was_told_is_kept(tmp_path):
    with search(storage=tmp_path) as first:
        first.run(20)
        first.tell(first.candidates[3], 55.5)
    with search(storage=tmp_path) as second:
        second.prepare()
        assert [item.measured for item in second.candidates] == [None] * 3 + [55.5] + [None] * 16
        assert summary(second) == summary(first)


def test_ask_never_repeats_itself():
    found = search()
    numbers = [found.ask().number for _ in range(3)]
    assert len(set(numbers)) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True])
def test_measured_values_are_numbers(searched, value):
    with pytest.raises(AiopError, match="finite number"):
        searched.tell(searched.candidates[0], value)


def test_candidates_of_another_search_are_refused(searched):
    other = search()
    other.run(5)
    with pytest.raises(AiopError, match="another search"):
        searched.tell(other.candidates[0], 1.0)


def test_a_study_of_ones_own():
    found = search(latency=COST)
    study = optuna.create_study(
        directions=found.study.directions, sampler=optuna.samplers.NSGAIISampler(seed=0, population_size=6)
    )
    found.prepare()
    found.enqueue(study)
    study.optimize(found.objective, n_trials=10)
    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert done
    assert all(len(trial.values) == 3 for trial in done)
    whole = found.network.macs
    assert all(0.65 * whole <= trial.user_attrs["macs"] <= 0.7 * whole for trial in done)


def test_an_optuna_sampler_instead_of_evolution():
    found = search(sampler=optuna.samplers.TPESampler(seed=0))
    found.run(25)
    whole = found.network.macs
    assert len(found.candidates) == 25
    assert all(0.65 * whole <= item.macs <= 0.7 * whole for item in found.candidates)


def test_a_window_out_of_reach_names_the_lowest():
    with pytest.raises(AiopError, match=r"cannot go below 0\.\d\d") as refused:
        search(macs=0.05, mutations=["low-rank"]).run(5)
    said = float(str(refused.value).split("below ")[1].split()[0])
    assert said > 0.05


@pytest.mark.parametrize("macs", [0, 1, 1.5, -0.2, (0.7, 0.6), float("nan")])
def test_windows_that_are_none(macs):
    with pytest.raises(AiopError, match="between 0 and 1"):
        search(macs=macs)


def test_unknown_names_are_suggested():
    with pytest.raises(AiopError, match='did you mean "width"'):
        search(mutations=["widht"])
    with pytest.raises(AiopError, match='did you mean "outputs"'):
        search(score={"output": 1})


def test_the_candidates_run_out():
    found = search(network=network(blocks=1), mutations=["kernel"], macs=(0.5, 0.7))
    found.run(200)
    assert found.exhausted
    assert 0 < len(found.candidates) < 20


def test_calibration_is_measured_for_the_best(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=images)
    found = search(calibration=tmp_path / "images.npz", mutations=["width", "block"], macs=(0.4, 0.7))
    found.run(21)
    compared = [item for item in found.candidates if item.similarity is not None]
    assert len(compared) >= 2
    item = compared[0]
    item.save(tmp_path / "one.onnx")
    onnx.save(network(), tmp_path / "original.onnx")
    outputs = []
    for name in ("one", "original"):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        outputs.append([session.run(None, {"image": images[i : i + 1]})[0].ravel() for i in range(4)])
    expected = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(*outputs, strict=True)])
    assert item.similarity == pytest.approx(expected, abs=1e-4)
    assert json.loads(json.dumps(found.settings))["calibration"]
