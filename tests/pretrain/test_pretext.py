"""Targets without labels: against walking every path, learnt, and gone when training ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch

from aiop.graph_ir.batch import collate
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, GraphArrays
from aiop.pretrain.config import BackboneConfig, PretrainConfig
from aiop.pretrain.path_statistics import PATH_STATISTICS, path_statistics
from aiop.pretrain.pretext import PathTargets, Pretext
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingResult, TrainingSet, train

CONFIG = PretrainConfig(
    backbone=BackboneConfig(width=24, layers=2, embedding=24, head=16, dropout=0.0),
    steps=30, batch_size=16, eval_every=0, checkpoint_every=7, checkpoint_seconds=0, threads=1, engine="torch",
    pretext={"costs": 0.1, "paths": 0.2, "masked_operators": 0.3},
)  # fmt: skip


def graph(edges: list[tuple[int, int]], nodes: int, **columns: list[float]) -> GraphArrays:
    features = np.zeros((nodes, len(NODE_FEATURES)), np.float16)
    for name, values in columns.items():
        features[:, NODE_FEATURES.index(name)] = values
    return GraphArrays(
        np.zeros(nodes, np.uint8), features, np.array(edges, np.int32).reshape(-1, 2).T,
        np.zeros(len(GRAPH_FEATURES), np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_paths_against_walking_all_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = [(i, j) for j in range(1, 12) for i in range(j) if rng.random() < 0.3]
    weighted = rng.integers(0, 2, 12)
    found = dict(
        zip(PATH_STATISTICS, path_statistics(graph(edges, 12, log_params=weighted.tolist())), strict=True)
    )
    walked = networkx.DiGraph(edges)
    walked.add_nodes_from(range(12))
    starts = [node for node in walked if not walked.in_degree(node)]
    ends = [node for node in walked if not walked.out_degree(node)]
    ways = [
        path
        for start in starts
        for end in ends
        for path in ([[start]] if start == end else networkx.all_simple_paths(walked, start, end))
    ]
    assert 2 ** found["log_paths"] == pytest.approx(len(ways), rel=1e-5)
    assert 2 ** found["log_mean_length"] == pytest.approx(np.mean([len(way) for way in ways]), rel=1e-5)
    most = max(weighted[way].sum() for way in ways)
    assert 2 ** found["log_weighted_path"] == pytest.approx(1 + most, rel=1e-5)


def test_the_receptive_field_of_strided_and_dilated_convolutions() -> None:
    # 3x3 of stride 2, then 3x3 of dilation 2, beside a 1x1: 1 + 2 + 2 * 2 * 2
    kernels, strides, dilations = [3, 3, 1, 0], [2, 1, 1, 1], [1, 2, 1, 1]
    found = path_statistics(
        graph(
            [(0, 1), (0, 2), (1, 3), (2, 3)], 4,
            log_kernel_0=np.log2(np.array(kernels) + 1).tolist(), log_stride=np.log2(strides).tolist(),
            log_dilation=np.log2(dilations).tolist(),
        )
    )  # fmt: skip
    values = dict(zip(PATH_STATISTICS, found, strict=True))
    assert 2 ** values["log_receptive_field"] == pytest.approx(11, rel=1e-5)
    assert 2 ** values["log_breadth"] == pytest.approx(2)


def test_graphs_at_the_edge() -> None:
    assert path_statistics(graph([], 0)).tolist() == [0] * len(PATH_STATISTICS)
    assert 2 ** path_statistics(graph([], 3))[0] == pytest.approx(3)
    # two ways per stage: 2 ** 2000 of them, more than a float holds
    edges = [pair for k in range(0, 4000, 2) for pair in ((k, k + 1), (k, k + 2), (k + 1, k + 2))]
    assert path_statistics(graph(edges, 4001))[0] == pytest.approx(2000)


def test_targets_are_standardised_over_the_training_graphs(make_set: Callable[..., TrainingSet]) -> None:
    item = make_set("a", 40)
    found = PathTargets([item]).rows(0, np.arange(30))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    deviation = found.std(axis=0)
    assert np.all((np.abs(deviation - 1) < 1e-4) | (deviation == 0))


def test_hidden_nodes_are_hidden(make_set: Callable[..., TrainingSet]) -> None:
    from aiop.pretrain.backbone import Backbone

    item = make_set("a", 4)
    batch = item.corpus.batch(range(4))
    torch.manual_seed(0)
    backbone = Backbone(CONFIG.backbone, 97, len(NODE_FEATURES), len(GRAPH_FEATURES))
    hidden = torch.arange(batch.num_nodes) % 3 == 0, torch.randn(24)
    graph_input = backbone.graph_input(batch)
    first = backbone.encode_nodes(batch, graph_input, hidden)[1]
    batch.op = torch.where(hidden[0], 5, batch.op)
    assert torch.equal(backbone.encode_nodes(batch, graph_input, hidden)[1], first)
    assert not torch.equal(backbone.encode_nodes(batch, graph_input)[1], first)


def test_nothing_hidden_is_no_loss() -> None:
    pretext = Pretext({"masked_operators": 1.0}, 8, 97)
    batch = collate([graph([(0, 1)], 2)])
    none = torch.zeros(2, dtype=torch.bool)
    losses = pretext(batch, torch.randn(2, 8), torch.randn(1, 24), torch.randn(1, 3), none, None)
    assert losses["masked_operators"].item() == 0
    assert Pretext({"costs": 1.0}, 8, 97).hidden(batch) is None


def run(config: PretrainConfig, item: TrainingSet, stop: int = 0) -> TrainingResult:
    def on_step(step: int, loss: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    return train(config, [item], [Target("task")], progress=False, on_step=on_step)


def test_pretext_changes_the_weights_and_leaves_none_of_its_own(
    tmp_path: Path, make_set: Callable[..., TrainingSet]
) -> None:
    item = make_set("a", 60)
    plain = run(replace(CONFIG, out=str(tmp_path / "plain"), pretext={}), item).module.state_dict()
    found = run(replace(CONFIG, out=str(tmp_path / "with")), item).module.state_dict()
    assert plain.keys() == found.keys()
    assert not torch.equal(plain["backbone.op.weight"], found["backbone.op.weight"])


def test_an_interrupted_run_ends_the_same(tmp_path: Path, make_set: Callable[..., TrainingSet]) -> None:
    item = make_set("a", 60)
    whole = run(replace(CONFIG, out=str(tmp_path / "whole")), item).module.state_dict()
    stopped = replace(CONFIG, out=str(tmp_path / "stopped"))
    for stop in (5, 16):
        with pytest.raises(KeyboardInterrupt):
            run(stopped, item, stop)
    found = run(stopped, item).module.state_dict()
    assert all(torch.equal(whole[name], found[name]) for name in whole)


def test_operators_of_hidden_nodes_are_learnt(tmp_path: Path, make_set: Callable[..., TrainingSet]) -> None:
    """Four operators in equal numbers: guessing costs log 4 = 1.39, and what neighbours tell is little but some."""
    import json

    item = make_set("a", 60)
    config = replace(CONFIG, out=str(tmp_path), pretext={"masked_operators": 1.0}, steps=150, lr=1e-2)
    run(config, item)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["masked_operators"] for line in lines if "masked_operators" in line]
    assert losses[0] > 1.35
    assert np.mean(losses[-3:]) < 1.42
