"""Adapters learn on a backbone that stays as it is, each as if it were alone, whole or in pieces."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aiop.errors import AiopError
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, VOCABULARY
from aiop.pretrain.adapter_groups import adapter_groups
from aiop.pretrain.adapter_training import CHECKPOINT, LOG, train_adapters
from aiop.pretrain.config import AdapterConfig, PretrainConfig
from aiop.pretrain.module import PredictorModule
from aiop.pretrain.sets import TrainingSet
from aiop.pretrain.targets import LabelScaler

MakeSet = Callable[..., TrainingSet]
NAMES = ("classification/one/top1", "latency/two/phone")
OWN = {"groups": {"a": ["classification/*"], "b": ["latency/*"]}}


class Stopped(Exception):
    pass


def stop_at(step: int) -> Callable[[int, float], None]:
    def on_step(now: int, loss: float) -> None:
        if now == step:
            raise Stopped

    return on_step


def settings(out: Path, **adapters: Any) -> PretrainConfig:
    values = {
        "out": str(out), "batch_size": 32, "eval_every": 0, "checkpoint_every": 4, "threads": 1, "ranking_weight": 1.0,
        "engine": "torch", "ema": 0.9,
        "backbone": {"width": 24, "layers": 2, "embedding": 16, "head": 16, "aggregation": "sum"},
        "adapters": {"width": 16, "steps": 12, **adapters},
    }  # fmt: skip
    return PretrainConfig.from_mapping(values)


def frozen(config: PretrainConfig) -> PredictorModule:
    torch.manual_seed(0)
    sizes = len(VOCABULARY), len(NODE_FEATURES), len(GRAPH_FEATURES), len(NAMES)
    return PredictorModule(config.backbone, *sizes).eval()


@pytest.fixture(scope="module")
def sets(make_set: MakeSet) -> list[TrainingSet]:
    return [make_set("one", 160, 0, tasks=2, column=0), make_set("two", 80, 1, tasks=2, column=1)]


def run(
    config: PretrainConfig, sets: list[TrainingSet], **arguments: Any
) -> tuple[PredictorModule, list[dict]]:
    module = frozen(config)
    scalers = [
        LabelScaler.fit(item.values[item.train, column], "standard") for column, item in enumerate(sets)
    ]
    return module, train_adapters(config, module, scalers, sets, NAMES, progress=False, **arguments)


def of_group(module: PredictorModule, name: str) -> dict[str, Tensor]:
    (found,) = [adapter for adapter in module.adapters if adapter.group.name == name]
    return found.state_dict()


def assert_identical(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def test_an_adapter_learns_what_the_backbone_does_not_know(make_set: MakeSet, tmp_path: Path) -> None:
    sets = [make_set("learn", 600, 3, tasks=2, column=0), make_set("other", 80, 1, tasks=2, column=1)]
    config = settings(tmp_path, groups={"a": ["classification/*"]}, steps=150, lr=1e-2)
    module, history = run(config, sets)
    (record,) = history
    # counts tell nothing of the label: an untrained backbone guesses
    assert abs(record["backbone"]["a"]) < 0.35
    assert record["adapters"]["a"] > 0.7
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines[-1] == record
    assert lines[0]["loss"].keys() == {"a"}
    # the backbone and its heads are as they were, and nothing is left to be trained by accident
    before = frozen(config).state_dict()
    assert_identical(
        {name: t for name, t in module.state_dict().items() if not name.startswith("adapters.")}, before
    )
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())


def test_a_killed_run_ends_with_the_same_adapters(sets: list[TrainingSet], tmp_path: Path) -> None:
    whole, history = run(settings(tmp_path / "whole", **OWN), sets)
    pieces = settings(tmp_path / "pieces", **OWN)
    for step in (3, 6, 9):
        with pytest.raises(Stopped):
            run(pieces, sets, on_step=stop_at(step))
    resumed, again = run(pieces, sets)
    assert_identical(resumed.state_dict(), whole.state_dict())
    assert again == history
    finished, _ = run(pieces, sets, on_step=stop_at(1))  # nothing is left to do
    assert_identical(finished.state_dict(), whole.state_dict())


def test_an_adapter_does_not_depend_on_the_others(sets: list[TrainingSet], tmp_path: Path) -> None:
    both, _ = run(settings(tmp_path / "both", **OWN), sets)
    named = {"groups": {"a": ["classification/*"], "c": ["latency/*"]}}
    others, _ = run(settings(tmp_path / "others", **named), sets)
    assert_identical(of_group(both, "a"), of_group(others, "a"))
    assert not torch.equal(
        of_group(both, "b")["adapter.enter.0.weight"], of_group(others, "c")["adapter.enter.0.weight"]
    )


def test_random_numbers_of_the_caller_go_on(sets: list[TrainingSet], tmp_path: Path) -> None:
    torch.manual_seed(7)
    frozen(settings(tmp_path))
    expected = torch.rand(2)
    torch.manual_seed(7)
    run(settings(tmp_path, **OWN, steps=2), sets)
    assert torch.equal(torch.rand(2), expected)


def test_checkpoints_of_other_runs_are_refused(sets: list[TrainingSet], tmp_path: Path) -> None:
    run(settings(tmp_path, **OWN, steps=4), sets)
    assert (tmp_path / CHECKPOINT).is_file()
    with pytest.raises(AiopError, match="of adapters with other settings: delete it"):
        run(settings(tmp_path, **OWN, steps=5), sets)
    config = settings(tmp_path, **OWN, steps=4)
    module = frozen(config)
    with torch.no_grad():
        module.backbone.norm.bias += 1
    scalers = [LabelScaler.fit(s.values[s.train, c], "standard") for c, s in enumerate(sets)]
    with pytest.raises(AiopError, match="with other backbone"):
        train_adapters(config, module, scalers, sets, NAMES, progress=False)


# -- groups ------------------------------------------------------------------------------------------------------


def groups_of(
    sets: list[TrainingSet], names: tuple[str, ...] = NAMES, **values: Any
) -> dict[str, tuple[int, ...]]:
    return {group.name: group.columns for group in adapter_groups(AdapterConfig(**values), names, sets)}


def test_groups_by_domain_by_corpus_and_by_hand(sets: list[TrainingSet]) -> None:
    assert groups_of(sets) == {}
    assert groups_of(sets, by="domain") == {"classification": (0,), "latency": (1,)}
    assert groups_of(sets, ("latency/x/y", "latency/x/z"), by="domain") == {"latency": (0, 1)}
    assert groups_of(sets, by="corpus") == {"one": (0,), "two": (1,)}
    assert groups_of(sets, groups={"all": ("*",)}) == {"all": (0, 1)}
    # tasks that other runs have are no error, and no group either
    known = ("classification/nas-bench-201/*",)
    assert groups_of(sets, groups={"b": ("latency/*",), "a": known}) == {"b": (1,)}


def test_groups_that_do_not_fit(sets: list[TrainingSet]) -> None:
    with pytest.raises(AiopError, match="no task"):
        groups_of(sets, groups={"a": ("clasification/*",)})
    with pytest.raises(AiopError, match="is in the adapter groups 'a' and 'b'"):
        groups_of(sets, groups={"a": ("classification/*",), "b": ("*",)})
    with pytest.raises(AiopError, match="no task of the run is in a group"):
        groups_of(sets, groups={"a": ("classification/nas-bench-201/*",)})
    assert np.isfinite(sets[0].values[:, 0]).all()
