"""A search of settings: a study on disk that an interruption does not change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.pretrain import search as search_module
from aiop.pretrain.config import BackboneConfig, PretrainConfig
from aiop.pretrain.search import BEST, RANGES, STUDY, search
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingSet
from aiop.pretrain.watching import WatchedSet

CONFIG = PretrainConfig(
    backbone=BackboneConfig(width=8, layers=1, embedding=8, head=8), steps=50, search_steps=6, batch_size=16,
    eval_every=0, checkpoint_every=2, checkpoint_seconds=0, threads=1, engine="torch",
    search={"lr": (1e-4, 1e-2), "backbone.dropout": (0.0, 0.3), "backbone.layers": (1, 2)},
)  # fmt: skip
TARGETS = [Target("quality/a/x")]


@pytest.fixture
def item(make_set: Callable[..., TrainingSet]) -> TrainingSet:
    found = make_set("a", 60)
    return replace(found, values=found.corpus.graph_features()[:, :1].astype(float))


def test_the_best_settings_are_a_config_of_their_own(tmp_path: Path, item: TrainingSet) -> None:
    found = search(CONFIG, [item], TARGETS, tmp_path, 3, progress=False)
    assert len(found["trials"]) == 3
    assert found["value"] == max(trial["value"] for trial in found["trials"])
    for trial in found["trials"]:
        assert 1e-4 <= trial["settings"]["lr"] <= 1e-2
        assert trial["settings"]["backbone.layers"] in (1, 2)
    best = PretrainConfig.load(tmp_path / BEST)
    assert (best.lr, best.backbone.dropout) == (
        found["settings"]["lr"],
        found["settings"]["backbone.dropout"],
    )
    # of full length, and otherwise what was asked for
    assert replace(best, lr=CONFIG.lr, backbone=CONFIG.backbone) == replace(
        CONFIG, search={}, search_steps=None
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, STUDY]


def test_a_search_goes_on_and_ends_the_same(
    tmp_path: Path, item: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(CONFIG, [item], TARGETS, tmp_path / "whole", 4, progress=False)
    first = search(CONFIG, [item], TARGETS, tmp_path / "parts", 2, progress=False)
    assert first["trials"] == whole["trials"][:2]
    train = search_module.train

    def killed(*args: Any, **keywords: Any) -> None:
        def on_step(step: int, loss: float) -> None:
            if step == 5:
                raise KeyboardInterrupt

        train(*args, **keywords, on_step=on_step)

    monkeypatch.setattr(search_module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        search(CONFIG, [item], TARGETS, tmp_path / "parts", 4, progress=False)
    steps: list[int] = []
    monkeypatch.setattr(
        search_module, "train", lambda *a, **k: train(*a, **k, on_step=lambda step, loss: steps.append(step))
    )
    assert search(CONFIG, [item], TARGETS, tmp_path / "parts", 4, progress=False)["trials"] == whole["trials"]
    assert steps == [5, 6, 1, 2, 3, 4, 5, 6]  # from the checkpoint of the interrupted trial
    # a finished search trains nothing more
    search(CONFIG, [item], TARGETS, tmp_path / "parts", 4, progress=False)
    assert len(steps) == 8


def test_watched_corpora_judge_where_there_are_any(
    tmp_path: Path, item: TrainingSet, make_set: Callable[..., TrainingSet]
) -> None:
    other = make_set("b", 30, seed=2)
    values = other.corpus.graph_features()[:, :1].astype(float)
    rows, target = np.arange(30), [Target("quality/b/x")]
    for sign in (1, -1):
        watched = WatchedSet("b", other.corpus, sign * values, rows, target)
        folder = tmp_path / str(sign)
        found = search(CONFIG, [item], TARGETS, folder, 2, watched=[watched], progress=False)
        values_found = [trial["value"] for trial in found["trials"]]
        if sign == 1:
            expected = values_found
    np.testing.assert_allclose(values_found, -np.array(expected))


def test_a_study_of_another_search_is_refused(tmp_path: Path, item: TrainingSet) -> None:
    search(CONFIG, [item], TARGETS, tmp_path, 1, progress=False)
    with pytest.raises(AiopError, match="a search with other settings or data: search with --fresh"):
        search(replace(CONFIG, ema=0.5), [item], TARGETS, tmp_path, 1, progress=False)
    (tmp_path / STUDY).write_text("no journal\n")
    with pytest.raises(AiopError, match="cannot be read"):
        search(CONFIG, [item], TARGETS, tmp_path, 1, progress=False)


@pytest.mark.parametrize(
    ("space", "match"),
    [
        ({"lrr": (0.1, 0.2)}, r"'lrr' cannot be searched .did you mean \"lr\""),
        ({"mixing": (0.1, 0.2)}, "'mixing' cannot be searched"),
        ({"lr": (0.1,)}, "give its least and its largest"),
        ({"lr": (0.2, 0.1)}, "give its least and its largest"),
        ({"lr": (0.0, 0.1)}, "'lr' is 0.0: give a number above 0"),
        ({"backbone.dropout": (0.0, 1.5)}, "'dropout' is 1.5"),
    ],
)
def test_ranges_that_make_no_sense(
    tmp_path: Path, item: TrainingSet, space: dict[str, Any], match: str
) -> None:
    with pytest.raises(AiopError, match=match):
        search(replace(CONFIG, search=space), [item], TARGETS, tmp_path, 1, progress=False)


def test_trials_that_fail_are_counted_and_told(tmp_path: Path, item: TrainingSet) -> None:
    config = replace(CONFIG, search={"lr": (1e29, 1e30)}, warmup=0.0)
    with pytest.raises(AiopError, match=r"no trial of the search succeeded.*the loss is"):
        search(config, [item], TARGETS, tmp_path, 2, progress=False)


def test_the_default_ranges_are_settings(tmp_path: Path, item: TrainingSet) -> None:
    found = search(replace(CONFIG, search={}), [item], TARGETS, tmp_path, 1, progress=False)
    assert found["settings"].keys() == RANGES.keys()
