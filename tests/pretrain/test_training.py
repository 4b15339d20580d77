"""Training learns what needs message passing, and a killed run ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aiop.errors import AiopError
from aiop.graph_ir import batch as batch_module
from aiop.pretrain import backbone
from aiop.pretrain.config import BackboneConfig, PretrainConfig
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingResult, TrainingSet, learning_rate, train

MakeSet = Callable[..., TrainingSet]
SMALL = BackboneConfig(width=24, layers=2, embedding=24, head=16, dropout=0.0, aggregation="sum")


class Stopped(Exception):
    pass


def stop_at(step: int) -> Callable[[int, float], None]:
    def on_step(now: int, loss: float) -> None:
        if now == step:
            raise Stopped

    return on_step


def run(config: PretrainConfig, *sets: TrainingSet, **arguments: Any) -> TrainingResult:
    names = [f"task-{column}" for column in range(sets[0].values.shape[1])]
    return train(config, sets, [Target(name) for name in names], progress=False, **arguments)


def weights(result: TrainingResult) -> dict[str, Tensor]:
    return result.module.state_dict()


def assert_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


# -- learning ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnable(make_set: MakeSet) -> TrainingSet:
    return make_set("edges", 800, seed=5)


def learn(out: Path, item: TrainingSet) -> float | None:
    config = PretrainConfig(
        out=str(out), backbone=SMALL, steps=300, batch_size=48, lr=1e-2, eval_every=0, threads=1, engine="torch",
        ema=0.98,
    )  # fmt: skip
    return run(config, item).scores["edges"]["task-0"]["srcc"]


def test_directed_edges_are_learnt(tmp_path: Path, learnable: TrainingSet) -> None:
    srcc = learn(tmp_path, learnable)
    assert srcc is not None
    assert srcc > 0.9


@pytest.mark.parametrize("broken", ["no messages", "direction lost"])
def test_they_are_not_learnt_without_directed_messages(
    tmp_path: Path, learnable: TrainingSet, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    # The control of the test above: it would notice if message passing did nothing, or did not know directions.
    def both_ways(batch: batch_module.GraphBatch, h: Tensor, reverse: bool = False) -> Tensor:
        return batch_module.neighbour_sum(batch, h) + batch_module.neighbour_sum(batch, h, reverse=True)

    monkeypatch.setattr(
        backbone,
        "neighbour_sum",
        both_ways if broken == "direction lost" else lambda batch, h, reverse: h * 0,
    )
    srcc = learn(tmp_path, learnable)
    assert srcc is not None
    assert abs(srcc) < 0.5


# -- determinism and resume --------------------------------------------------------------------------------------

BUSY = PretrainConfig(
    backbone=replace(SMALL, dropout=0.2),
    steps=40,
    batch_size=10,
    eval_every=8,
    checkpoint_every=7,
    checkpoint_seconds=0,
    node_noise=0.1,
    graph_dropout=0.2,
    select="best",
    threads=1,
    engine="torch",
)


@pytest.fixture(scope="module")
def two_sets(make_set: MakeSet) -> tuple[TrainingSet, TrainingSet]:
    return make_set("a", 60, seed=1, tasks=2, column=0), make_set("b", 30, seed=2, tasks=2, column=1)


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, two_sets: tuple[TrainingSet, TrainingSet]
) -> TrainingResult:
    return run(replace(BUSY, out=str(tmp_path_factory.mktemp("whole"))), *two_sets)


def test_a_seed_gives_the_same_weights_and_another_seed_others(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet], uninterrupted: TrainingResult
) -> None:
    torch.manual_seed(99)  # what was drawn before is of no consequence
    again = run(replace(BUSY, out=str(tmp_path / "again")), *two_sets)
    assert_identical(weights(uninterrupted), weights(again))
    other = run(replace(BUSY, out=str(tmp_path / "other"), seed=1), *two_sets)
    assert not torch.equal(weights(other)["backbone.op.weight"], weights(again)["backbone.op.weight"])


@pytest.mark.parametrize("mixing", ["mixed", "single"])
@pytest.mark.parametrize("stops", [(3,), (7,), (8, 9, 31), (40,)])
def test_an_interrupted_run_ends_the_same(
    tmp_path: Path,
    two_sets: tuple[TrainingSet, TrainingSet],
    uninterrupted: TrainingResult,
    stops: tuple[int, ...],
    mixing: str,
) -> None:
    config = replace(BUSY, out=str(tmp_path / "stopped"), mixing=mixing)
    whole = uninterrupted
    if mixing == "single":
        whole = run(replace(config, out=str(tmp_path / "whole")), *two_sets)
    for stop in stops:
        with pytest.raises(Stopped):
            run(config, *two_sets, on_step=stop_at(stop))
    result = run(config, *two_sets)
    assert_identical(weights(whole), weights(result))
    assert (result.scores, result.history, result.step) == (whole.scores, whole.history, whole.step)
    records = [json.loads(line) for line in (tmp_path / "stopped" / "log.jsonl").read_text().splitlines()]
    steps = [record["step"] for record in records if "loss" in record]
    assert steps == [20, 40]
    assert [record["step"] for record in records if "scores" in record] == [8, 16, 24, 32, 40]


CHILD = """
import sys, numpy as np
from dataclasses import replace
from aiop.graph_ir.corpus import Corpus
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingSet, train
folder, config = sys.argv[1], PretrainConfig.from_mapping(__import__("json").loads(sys.argv[2]))
sets = []
for name in ("a", "b"):
    data = np.load(f"{folder}/{name}.npz")
    sets.append(TrainingSet(name, Corpus(str(data["path"])), data["values"], data["train"], data["validation"]))
train(config, sets, [Target("task-0"), Target("task-1")], progress=False)
"""


def test_a_run_killed_by_the_system_ends_the_same(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet], uninterrupted: TrainingResult
) -> None:
    for item in two_sets:
        np.savez(
            tmp_path / item.name, path=str(item.corpus.path), values=item.values, train=item.train,
            validation=item.validation,
        )  # fmt: skip
    # A checkpoint at every step: the kill often falls into the writing of one.
    config = replace(BUSY, out=str(tmp_path / "killed"), checkpoint_every=1)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), json.dumps(config.to_dict())],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(float(np.random.default_rng().uniform(0, 0.05)))
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert checkpoint.exists()
    seen: list[int] = []
    result = run(config, *two_sets, on_step=lambda step, loss: seen.append(step))
    assert 0 < len(seen) < 40  # it did go on from the checkpoint
    assert_identical(weights(uninterrupted), weights(result))


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet]
) -> None:
    config = replace(BUSY, out=str(tmp_path), steps=5)
    first = run(config, *two_sets)
    second = run(config, *two_sets, on_step=stop_at(1))
    assert_identical(weights(first), weights(second))


def test_progress_goes_to_standard_error(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet], capsys: pytest.CaptureFixture[str]
) -> None:
    train(replace(BUSY, out=str(tmp_path), steps=2), two_sets, [Target("task-0"), Target("task-1")])
    output = capsys.readouterr()
    assert output.out == ""
    assert "2/2" in output.err


def test_the_callers_random_numbers_are_left_alone(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet]
) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    run(replace(BUSY, out=str(tmp_path), steps=2), *two_sets)
    assert torch.equal(torch.rand(3), expected)


# -- several corpora ---------------------------------------------------------------------------------------------


def test_every_corpus_is_scored_on_its_own_tasks(uninterrupted: TrainingResult) -> None:
    assert {name: list(tasks) for name, tasks in uninterrupted.scores.items()} == {
        "a": ["task-0"],
        "b": ["task-1"],
    }
    assert uninterrupted.scores["a"]["task-0"]["labels"] == 15
    assert [item["step"] for item in uninterrupted.history] == [8, 16, 24, 32, 40]
    best = max(uninterrupted.history, key=lambda item: sum(item["srcc"].values()))
    assert uninterrupted.step == best["step"]


def test_features_are_standardised_over_the_training_rows(tmp_path: Path, make_set: MakeSet) -> None:
    item = make_set("one", 40)
    result = run(replace(BUSY, out=str(tmp_path), steps=1), item)
    expected = item.corpus.graph_features()[item.train].mean(axis=0)
    np.testing.assert_allclose(result.module.backbone.standardise_graph.mean.numpy(), expected, atol=1e-5)


# -- schedule ----------------------------------------------------------------------------------------------------


def test_one_cycle_rises_and_falls() -> None:
    config = PretrainConfig(lr=0.01, warmup=0.1)
    rates = [learning_rate(config, step, 1000) for step in range(1000)]
    assert int(np.argmax(rates)) == pytest.approx(100, abs=1)
    assert max(rates) == pytest.approx(0.01)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[101:]) < 0).all()
    assert rates[0] < 0.0006
    assert rates[-1] < 0.00002
    constant = PretrainConfig(lr=0.01, warmup=0.0, schedule="constant")
    assert {learning_rate(constant, step, 50) for step in range(50)} == {0.01}


# -- mistakes ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet]
) -> None:
    config = replace(BUSY, out=str(tmp_path), steps=2)
    run(config, *two_sets)
    with pytest.raises(AiopError, match="a run with other settings"):
        run(replace(config, lr=0.5), *two_sets)
    changed = replace(two_sets[0], values=two_sets[0].values + 1)
    with pytest.raises(AiopError, match="a run with other data"):
        run(config, changed, two_sets[1])
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(AiopError, match="not a whole safetensors file"):
        run(config, *two_sets)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"values": np.zeros((60, 3))}, r"expected values \(60, 2\), found \(60, 3\)"),
        ({"train": np.array([60])}, "train rows leave its 60 graphs"),
        ({"validation": np.array([-1])}, "validation rows leave"),
        ({"train": np.array([], np.int64)}, "no training rows"),
        ({"validation": np.array([44, 45])}, "1 rows, e.g. 'a-44'"),
        ({"values": np.full((60, 2), np.inf)}, "infinite labels"),
        ({"values": np.ones((60, 2))}, "'task-0' has 45 labels with 1 distinct"),
    ],
)
def test_sets_that_do_not_fit_are_refused(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet], change: dict[str, Any], match: str
) -> None:
    config = replace(BUSY, out=str(tmp_path / "out"))
    with pytest.raises(AiopError, match=match):
        train(config, [replace(two_sets[0], **change)], [Target("task-0"), Target("task-1")], progress=False)
    assert not (tmp_path / "out").exists()


def test_a_diverging_run_says_so(tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet]) -> None:
    config = replace(BUSY, out=str(tmp_path), lr=1e30, warmup=0.0, backbone=BackboneConfig(width=8, layers=1))
    with pytest.raises(AiopError, match=r"the loss is .* at step .*: lower `lr`"):
        run(config, *two_sets)


def test_unknown_corpora_in_the_weights_are_named(
    tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet]
) -> None:
    with pytest.raises(AiopError, match="sampling_weights names 'c'"):
        run(replace(BUSY, out=str(tmp_path), sampling_weights={"c": 2.0}), *two_sets)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named(tmp_path: Path, two_sets: tuple[TrainingSet, TrainingSet]) -> None:
    with pytest.raises(AiopError, match="device 'cuda' is not available"):
        run(replace(BUSY, out=str(tmp_path), device="cuda"), *two_sets)
