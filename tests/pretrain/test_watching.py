"""Corpora that a run only looks at, event files, and mixed precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from aiop.errors import AiopError
from aiop.pretrain.config import BackboneConfig, PretrainConfig
from aiop.pretrain.cost_link import LOG_MACS
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingResult, TrainingSet, train
from aiop.pretrain.watching import WatchedSet, watched_ranks

CONFIG = PretrainConfig(
    backbone=BackboneConfig(width=8, layers=1, embedding=8, head=8), steps=24, batch_size=16, eval_every=8,
    checkpoint_every=5, checkpoint_seconds=0, threads=1, engine="torch",
)  # fmt: skip
TARGETS = (Target("quality/a/x"), Target("latency/a/p", direction="min"), Target("latency/a/q"))


@pytest.fixture
def sets(make_set: Callable[..., TrainingSet]) -> tuple[TrainingSet, WatchedSet]:
    known, other = make_set("known", 60), make_set("other", 40, seed=3)
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=40), other.corpus.graph_features()[:, LOG_MACS], np.ones(40)], axis=1)
    values[:30, 0] = np.nan
    asked = (Target("latency/b/p", direction="min"), Target("latency/b/q"), Target("other/b/constant"))
    watched = WatchedSet("other", other.corpus, values, np.arange(5, 40), asked)
    return replace(known, values=rng.normal(size=(60, 3))), watched


def run(
    config: PretrainConfig, item: TrainingSet, watched: WatchedSet | None, stop: int = 0
) -> TrainingResult:
    def on_step(step: int, loss: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    others = () if watched is None else (watched,)
    return train(config, [item], TARGETS, watched=others, progress=False, on_step=on_step)


def test_ranks_of_a_task_are_those_of_its_domain(
    tmp_path: Path, sets: tuple[TrainingSet, WatchedSet]
) -> None:
    item, watched = sets
    result = run(replace(CONFIG, out=str(tmp_path)), item, watched)
    found = watched_ranks(result.module, watched, TARGETS)
    with torch.no_grad():
        scaled = result.module(watched.corpus.batch(watched.rows)).numpy()
    # of two tasks in the domain one is better when smaller, like the task that is asked for
    guess = (scaled[:, 1] - scaled[:, 2]) / 2
    truth = watched.values[watched.rows]
    known = np.isfinite(truth[:, 0])
    assert found["latency/b/p"]["srcc"] == pytest.approx(
        stats.spearmanr(guess[known], truth[known, 0]).statistic
    )
    assert found["latency/b/q"]["srcc"] == pytest.approx(stats.spearmanr(-guess, truth[:, 1]).statistic)
    assert found["latency/b/q"]["macs"] == pytest.approx(1)
    assert found["other/b/constant"] == {"srcc": None, "macs": None}


def test_watching_changes_no_weight_and_can_select_them(
    tmp_path: Path, sets: tuple[TrainingSet, WatchedSet]
) -> None:
    item, watched = sets
    alone = run(replace(CONFIG, out=str(tmp_path / "alone")), item, None)
    seen = run(replace(CONFIG, out=str(tmp_path / "seen")), item, watched)
    state = seen.module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in alone.module.state_dict().items())
    assert [set(record) for record in seen.history] == [{"step", "srcc", "watched"}] * 3
    chosen = run(
        replace(CONFIG, out=str(tmp_path / "chosen"), select="watched", watch=("other",)), item, watched
    )
    best = max(chosen.history, key=lambda record: record["watched"]["other"])
    assert chosen.step == best["step"]


def test_an_interrupted_run_selects_the_same(tmp_path: Path, sets: tuple[TrainingSet, WatchedSet]) -> None:
    config = replace(CONFIG, select="watched", watch=("other",))
    whole = run(replace(config, out=str(tmp_path / "whole")), *sets)
    with pytest.raises(KeyboardInterrupt):
        run(replace(config, out=str(tmp_path / "stopped")), *sets, stop=17)
    again = run(replace(config, out=str(tmp_path / "stopped")), *sets)
    assert (again.step, again.history) == (whole.step, whole.history)
    other = replace(sets[1], values=sets[1].values + 1)
    with pytest.raises(AiopError, match="other data"):
        run(replace(config, out=str(tmp_path / "stopped")), sets[0], other)


def test_tasks_that_are_trained_on_cannot_be_watched(
    tmp_path: Path, sets: tuple[TrainingSet, WatchedSet]
) -> None:
    item, watched = sets
    with pytest.raises(AiopError, match="'latency/a/p' of the watched corpus 'other' is trained on"):
        run(
            replace(CONFIG, out=str(tmp_path)), item, replace(watched, targets=(*watched.targets, TARGETS[1]))
        )
    with pytest.raises(AiopError, match="name corpora in 'watch'"):
        PretrainConfig(select="watched")


def test_described_heads_are_asked_for_the_described_task(
    tmp_path: Path, sets: tuple[TrainingSet, WatchedSet]
) -> None:
    item, watched = sets
    described = [replace(target, description=(float(i), 1.0)) for i, target in enumerate(TARGETS)]
    asked = [replace(target, description=(1.0, float(i))) for i, target in enumerate(watched.targets)]
    config = replace(CONFIG, out=str(tmp_path), heads="description")
    module = train(config, [item], described, progress=False).module
    found = watched_ranks(module, replace(watched, targets=asked), described)
    with torch.no_grad():
        batch = watched.corpus.batch(watched.rows)
        embedding = module.embed_and_predict(batch)[0]
        guess = module.zero_shot(
            embedding, batch.graph_features, torch.tensor([[1.0, 1.0]]), torch.ones(1, 3) / 3
        )
    truth = watched.values[watched.rows, 1]
    assert found["latency/b/q"]["srcc"] == pytest.approx(stats.spearmanr(guess[:, 0], truth).statistic)


def test_event_files_hold_the_numbers_of_the_log(
    tmp_path: Path, sets: tuple[TrainingSet, WatchedSet]
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = replace(CONFIG, out=str(tmp_path), tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        run(config, *sets, stop=19)
    result = run(config, *sets)
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("srcc/known")}
    assert found == pytest.approx(
        {record["step"]: record["srcc"]["known"] for record in result.history}, rel=1e-5
    )
    assert {event.step for event in events.Scalars("loss")} == {20, 24}
    assert "ranks/other/latency/b/p/srcc" in events.Tags()["scalars"]


def test_event_files_without_their_package_are_one_clear_error(
    tmp_path: Path, sets: tuple[TrainingSet, WatchedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(AiopError, match=r"pip install 'aiop\[tensorboard\]'"):
        run(replace(CONFIG, out=str(tmp_path), tensorboard=True), *sets)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_mixed_precision_stays_near_full_precision(
    tmp_path: Path, sets: tuple[TrainingSet, WatchedSet], device: str
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    item, _ = sets
    features = item.corpus.graph_features()[:, :3].astype(float)
    item = replace(item, values=features)
    settings = replace(CONFIG, device=device, steps=60, pretext={"costs": 0.1, "masked_operators": 0.1})
    outputs = []
    for precision in ("float32", "mixed"):
        config = replace(settings, out=str(tmp_path / precision), precision=precision)
        module = run(config, item, None).module.cpu()
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
        with torch.no_grad():
            outputs.append(module(item.corpus.batch(range(60))).numpy().ravel())
    assert not np.array_equal(*outputs)
    assert np.corrcoef(*outputs)[0, 1] > 0.95
