"""Descriptions of tasks, and heads made from them."""

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
from aiop.pretrain.described_heads import DescribedHeads
from aiop.pretrain.description import DESCRIPTION, describe
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingSet, train
from aiop.tasks import Task, get_task, list_tasks


def entry(task: str, name: str) -> float:
    return float(describe(get_task(task))[DESCRIPTION.index(name)])


def test_what_a_description_says() -> None:
    phone, miou = "latency/fbnet/1080ti-batch32", "segmentation/nas-bench-mr/cityscapes-miou"
    assert entry(phone, "higher_is_better") == -1
    assert entry(phone, "log_batch") == pytest.approx(5 / 8)
    assert entry(phone, "domain_latency") == entry(phone, "unit_ms") == 1
    assert entry(miou, "higher_is_better") == entry(miou, "metric_miou") == 1
    assert entry(miou, "log_resolution") == pytest.approx(np.log2(1025) / 8)
    assert entry(miou, "log_classes") == pytest.approx(np.log10(20) / 2)
    assert entry(miou, "head_segmentation") == 1
    assert entry("training-time/nas-bench-101/cifar10-108ep", "log_epochs") == pytest.approx(np.log2(108) / 8)
    assert entry("throughput/timm/infer-amp-nchw-pt291-cu130-5090", "form_known") == 0


def test_spaces_do_not_enter_but_through_their_forms() -> None:
    first, second = (
        describe(get_task(f"classification/transnas-{kind}/class_scene-top1")) for kind in ("micro", "macro")
    )
    np.testing.assert_array_equal(first, second)


def test_descriptions_are_of_order_one_and_mostly_distinct() -> None:
    found = np.stack([describe(get_task(name)) for name in list_tasks()])
    assert found.shape[1] == len(DESCRIPTION)
    assert np.abs(found).max() <= 2
    assert len(np.unique(found, axis=0)) > 0.8 * len(found)


def test_unknown_spaces_and_odd_words_are_described() -> None:
    task = Task(
        "own/größe/ü-1", "ü", "µJ", "min", "own", "Φ-Gerät, batch 0", "größe", "here", "none", transform="log"
    )
    assert np.isfinite(describe(task)).all()


def test_a_residual_is_left_out_in_training_only() -> None:
    torch.manual_seed(0)
    heads = DescribedHeads(torch.randn(5, 7), 8, 16, 3, residual_dropout=0.5)
    z, g = torch.randn(4, 8), torch.randn(4, 3)
    alone = heads.unseen(heads.features, z, g)
    heads.eval()
    whole = heads(z, g)
    assert not torch.isclose(whole, alone).all(dim=0).any()
    heads.train()
    drawn = torch.stack([heads(z, g) for _ in range(64)])
    is_alone = torch.isclose(drawn, alone).all(dim=1)
    assert (is_alone | torch.isclose(drawn, whole).all(dim=1)).all()
    assert 0.3 < is_alone.float().mean() < 0.7


def test_an_unseen_task_is_ranked_from_its_description(
    tmp_path: Path, make_set: Callable[..., TrainingSet]
) -> None:
    """Tasks are a feature times a sign that the description holds; the last task's labels are never shown."""
    item = make_set("signs", 400)
    signs = np.array([1, -1, 1, -1, 1, -1, 1.0])
    signal = item.corpus.graph_features()[:, 3]
    noise = np.random.default_rng(0).normal(0, 0.1, (400, 6))
    item = replace(item, values=signal[:, None] * signs[:6] + noise)
    spare = np.random.default_rng(1).normal(size=7)
    targets = [Target(f"t{i}", description=(signs[i], float(spare[i]))) for i in range(6)]
    config = PretrainConfig(
        out=str(tmp_path), backbone=BackboneConfig(width=8, layers=1, embedding=16, head=16, dropout=0.0), steps=200,
        heads="description", eval_every=0, threads=1, engine="torch", ema=0.95, weight_decay=0.3,
    )  # fmt: skip
    module = train(config, [item], targets, progress=False).module
    batch = item.corpus.batch(item.validation)
    with torch.no_grad():
        embedding, scaled = module.embed_and_predict(batch)
        similar = torch.ones(2, 6) / 6
        features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        found = module.zero_shot(embedding, batch.graph_features, features, similar)
    truth = signal[item.validation]
    assert stats.spearmanr(scaled[:, 0], truth).statistic > 0.8
    assert stats.spearmanr(found[:, 0], truth).statistic > 0.8
    assert stats.spearmanr(found[:, 1], truth).statistic < -0.8
    with pytest.raises(AiopError, match="'t0' has no description"):
        train(replace(config, out=str(tmp_path / "x")), [item], [Target(f"t{i}") for i in range(6)])
