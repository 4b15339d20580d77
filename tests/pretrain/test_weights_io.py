"""A saved predictor loads as it was; anything else is refused with the next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from aiop.errors import AiopError
from aiop.graph_ir.batch import collate
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, VOCABULARY, GraphArrays, fingerprint
from aiop.pretrain.config import BackboneConfig
from aiop.pretrain.description import DESCRIPTION
from aiop.pretrain.module import Ensemble, PredictorModule
from aiop.pretrain.targets import LabelScaler
from aiop.pretrain.weights_io import CARD, WEIGHTS, Card, TaskCard, load_predictor, read_card, save_predictor

CONFIG = BackboneConfig(width=8, layers=2, embedding=8, head=8, aggregation="sqrt")
SCALER = LabelScaler.fit(np.random.default_rng(0).normal(70, 5, 500))
TASKS = (
    TaskCard("classification/x/y-top1", SCALER, unit="%", scores={"srcc": 0.9}, extra={"licence": "MIT"}),
    TaskCard("latency/x/y", LabelScaler.fit([1.0, 2.0, 5.0], "standard", "log"), unit="ms", direction="min"),
)
ONE_TASK = {
    "name": "x",
    "scaler": SCALER.to_dict(),
    "unit": "",
    "direction": "max",
    "scores": {},
    "extra": {},
}
TABLES = {"x": {"sha256": "0" * 64, "licence": "MIT", "rows": 500}}


@pytest.fixture
def module() -> Ensemble:
    torch.manual_seed(0)
    members = []
    for _ in range(2):
        member = PredictorModule(CONFIG, len(VOCABULARY), len(NODE_FEATURES), len(GRAPH_FEATURES), len(TASKS))
        member.backbone.standardise_node.fit(
            torch.randn(len(NODE_FEATURES)), torch.rand(len(NODE_FEATURES)) + 0.5
        )
        members.append(member)
    return Ensemble(members).eval()


def test_described_heads_come_back(tmp_path: Path) -> None:
    features = torch.randn(2, len(DESCRIPTION))
    sizes = len(VOCABULARY), len(NODE_FEATURES), len(GRAPH_FEATURES), 2
    members = [PredictorModule(CONFIG, *sizes, descriptions=features) for _ in range(2)]
    module = Ensemble(members).eval()
    save_predictor(tmp_path, module, Card(TASKS))
    loaded, _, _ = load_predictor(tmp_path)
    batch = collate([some_graph()])
    assert torch.equal(loaded(batch), module(batch))
    embedding, graph, similar = torch.randn(3, 16), torch.randn(3, len(GRAPH_FEATURES)), torch.ones(1, 2) / 2
    found = loaded.zero_shot(embedding, graph, features[:1], similar)
    assert torch.equal(found, module.zero_shot(embedding, graph, features[:1], similar))
    rewrite(tmp_path, heads={"kind": "description", "version": 99})
    with pytest.raises(AiopError, match="which this version does not read"):
        load_predictor(tmp_path)


@pytest.fixture
def folder(tmp_path: Path, module: Ensemble) -> Path:
    save_predictor(tmp_path / "p", module, Card(TASKS, {"lr": 0.003}, TABLES, {"note": "Größe"}))
    return tmp_path / "p"


def some_graph() -> GraphArrays:
    rng = np.random.default_rng(1)
    return GraphArrays(
        op=rng.integers(0, len(VOCABULARY), 6).astype(np.uint8),
        node=rng.normal(size=(6, len(NODE_FEATURES))).astype(np.float16),
        edge_index=np.array([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]], np.int32),
        graph=rng.normal(size=len(GRAPH_FEATURES)).astype(np.float32),
    )


def test_round_trip(folder: Path, module: Ensemble) -> None:
    loaded, card, arrays = load_predictor(folder)
    assert arrays == {}
    batch = collate([some_graph()])
    assert torch.equal(loaded(batch), module(batch))
    assert not loaded.training
    assert loaded.config == CONFIG
    assert card.tasks == TASKS
    assert (card.config, card.tables, card.extra) == ({"lr": 0.003}, TABLES, {"note": "Größe"})
    assert len(card.weights_sha256) == 64
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]


def test_arrays_beside_the_weights_come_back(tmp_path: Path, module: Ensemble) -> None:
    save_predictor(tmp_path, module, Card(TASKS), {"reference": torch.arange(6.0).reshape(2, 3)})
    loaded, _, arrays = load_predictor(tmp_path)
    assert torch.equal(arrays["reference"], torch.arange(6.0).reshape(2, 3))
    batch = collate([some_graph()])
    assert torch.equal(loaded(batch), module(batch))


def test_the_card_is_readable_json(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    assert card == read_card(folder)
    assert card["fingerprint"] == fingerprint()
    assert card["vocabulary"] == list(VOCABULARY)
    assert [task["name"] for task in card["tasks"]] == [task.name for task in TASKS]
    assert card["tables"] == TABLES


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_predictor(folder)
    assert torch.equal(torch.rand(2), expected)


def rewrite(folder: Path, **changes: Any) -> None:
    """Save the same tensors under a changed card; None removes a field."""
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    card = {key: value for key, value in (read_card(folder) | changes).items() if value is not None}
    safetensors.torch.save_file(tensors, folder / WEIGHTS, {"card": json.dumps(card)})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"schema": 99}, "has schema 99, this version reads 1: train again"),
        ({"vocabulary": ["Conv"]}, "another vocabulary than this version has: install"),
        ({"node_features": ["a"]}, "another node features"),
        ({"graph_features": None}, "another graph features"),
        ({"fingerprint": "f" * 64}, "with features ffffffffffff, this version has"),
        ({"kind": "other"}, "not a predictor"),
        ({"tasks": None}, "lacks its fields"),
        ({"tasks": [{"name": "x"}]}, "lacks its fields"),
        ({"tasks": [ONE_TASK]}, "do not fit its card"),
        ({"backbone": {"width": 16}}, "do not fit its card"),
        ({"backbone": {"widht": 16}}, r'did you mean "width"\?'),
        ({"backbone": [1]}, "lacks its fields"),
    ],
)
def test_other_cards_are_refused(folder: Path, changes: dict[str, Any], match: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(AiopError, match=match):
        load_predictor(folder)


def test_changed_weights_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(AiopError, match="content hash differs"):
        load_predictor(folder)


def test_truncated_and_foreign_files_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(AiopError, match="not a whole safetensors file"):
            load_predictor(folder)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(AiopError, match="not a predictor"):
        load_predictor(folder)


def test_a_card_of_other_weights_is_refused(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    (folder / CARD).write_text(json.dumps(card | {"weights_sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(AiopError, match="describes other weights"):
        load_predictor(folder)
    (folder / CARD).unlink()  # the weights carry their own
    assert load_predictor(folder)[1].tasks == TASKS


def test_a_missing_predictor_is_named(tmp_path: Path) -> None:
    with pytest.raises(AiopError, match=r"predictor\.safetensors is missing"):
        load_predictor(tmp_path)


def test_cards_that_do_not_fit_are_not_saved(tmp_path: Path, module: Ensemble) -> None:
    with pytest.raises(AiopError, match="names 1 tasks, the module has 2"):
        save_predictor(tmp_path / "p", module, Card(TASKS[:1]))
    with pytest.raises(AiopError, match="what JSON cannot"):
        save_predictor(tmp_path / "p", module, Card(TASKS, extra={"score": float("nan")}))
    assert not (tmp_path / "p").exists()
