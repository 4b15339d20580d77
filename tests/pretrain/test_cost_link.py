"""Targets without costs, against arithmetic, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from aiop.graph_ir.features import GRAPH_FEATURES
from aiop.pretrain.config import BackboneConfig, PretrainConfig
from aiop.pretrain.cost_link import LOG_MACS, CostLink, uses_costs
from aiop.pretrain.targets import LabelScaler, Target
from aiop.pretrain.training import TrainingSet, train

RNG = np.random.default_rng(0)
MACS = 10 ** RNG.uniform(6, 10, 300)
TOP1 = 20 + 6 * np.log10(MACS) + RNG.normal(0, 1, 300)
LATENCY = np.exp(RNG.normal(0, 0.1, 300)) * MACS / 1e7


def columns(*scalers: LabelScaler) -> np.ndarray:
    return np.stack([s.transform(LATENCY if s.link == "log" else TOP1) for s in scalers], axis=1)


@pytest.fixture
def scalers() -> list[LabelScaler]:
    return [
        LabelScaler.fit(TOP1, "flops"),
        LabelScaler.fit(TOP1, "residual"),
        LabelScaler.fit(TOP1, "rank-gaussian"),
        LabelScaler.fit(LATENCY, "residual", "log"),
    ]


def test_targets(scalers: list[LabelScaler]) -> None:
    labels, sizes = columns(*scalers), np.log2(1 + MACS)
    targets = CostLink.fit(scalers, labels, sizes).targets(labels, sizes)
    # AIO-P: y / (log10(GFLOPs + 1) + 1), standardised, with two FLOPs per MAC
    np.testing.assert_allclose(
        targets[:, 0], stats.zscore(TOP1 / (np.log10(2 * MACS / 1e9 + 1) + 1)), atol=1e-5
    )
    fit = stats.linregress(sizes, labels[:, 1])
    np.testing.assert_allclose(
        targets[:, 1], stats.zscore(labels[:, 1] - fit.intercept - fit.slope * sizes), atol=1e-4
    )
    np.testing.assert_array_equal(targets[:, 2], labels[:, 2])


def test_the_way_back_is_the_inverse_for_other_networks_too(scalers: list[LabelScaler]) -> None:
    labels, sizes = columns(*scalers), np.log2(1 + MACS)
    link = CostLink.fit(scalers, labels[:100], sizes[:100])
    features = torch.zeros(300, len(GRAPH_FEATURES))
    features[:, LOG_MACS] = torch.from_numpy(sizes)
    found = link(torch.from_numpy(link.targets(labels, sizes)).float(), features)
    np.testing.assert_allclose(found, labels, atol=2e-4)
    np.testing.assert_allclose(scalers[0].inverse(found[:, 0]), TOP1, atol=1e-2)


def test_unknown_labels_and_constant_costs() -> None:
    scaler = LabelScaler.fit([1.0, 2.0, 4.0], "residual")
    labels = scaler.transform([[1.0], [np.nan], [4.0]])
    link = CostLink.fit([scaler], labels, np.full(3, 20.0))
    assert link.coefficients[0, 4] == 0  # no slope where costs never vary
    targets = link.targets(labels, np.full(3, 20.0))
    np.testing.assert_allclose(targets[:, 0], [-1, np.nan, 1], atol=1e-6)
    exact = CostLink.fit([scaler], np.arange(3.0)[:, None], np.arange(3.0))
    assert np.abs(exact.targets(np.arange(3.0)[:, None], np.arange(3.0))).max() < 1e-4  # noise stays small


def test_which_scalings_need_costs(scalers: list[LabelScaler]) -> None:
    assert [uses_costs([scaler]) for scaler in scalers] == [True, True, False, True]


def test_training_learns_targets_and_gives_labels(
    tmp_path: Path, make_set: Callable[..., TrainingSet]
) -> None:
    item = make_set("costs", 200)
    sizes = item.corpus.graph_features()[:, LOG_MACS].astype(np.float64)
    item = replace(item, values=70 + 5 * sizes[:, None])
    config = PretrainConfig(
        out=str(tmp_path), backbone=BackboneConfig(width=8, layers=1, embedding=8, head=8), steps=60,
        scaling="residual", eval_every=0, threads=1, engine="torch", ema=0.9,
    )  # fmt: skip
    result = train(config, [item], [Target("task", scaling=None)], progress=False)
    # costs explain everything, so any network is right that says little
    assert result.scores["costs"]["task"]["mae"] < 0.5
    assert result.scores["costs"]["task"]["srcc"] is not None
    assert result.scores["costs"]["task"]["srcc"] > 0.9
