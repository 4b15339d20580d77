"""An adapter computes what it says it does, and leaves the backbone and its predictions alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aiop.errors import AiopError
from aiop.graph_ir.batch import GraphBatch, collate
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, VOCABULARY, GraphArrays
from aiop.pretrain.adapters import Adapter, AdapterGroup
from aiop.pretrain.config import BackboneConfig, PretrainConfig
from aiop.pretrain.module import Ensemble, PredictorModule
from aiop.pretrain.targets import LabelScaler
from aiop.pretrain.weights_io import Card, TaskCard, load_predictor, read_card, save_predictor

CONFIG = BackboneConfig(width=8, layers=3, embedding=10, head=6, dropout=0.0)
GROUPS = (AdapterGroup("first", (2, 0)), AdapterGroup("second", (1,)))


def graph(seed: int, nodes: int) -> GraphArrays:
    rng = np.random.default_rng(seed)
    ends = np.sort(np.stack([rng.permutation(nodes)[:2] for _ in range(2 * nodes)], axis=1), axis=0)
    return GraphArrays(
        op=rng.integers(0, len(VOCABULARY), nodes).astype(np.uint8),
        node=rng.normal(size=(nodes, len(NODE_FEATURES))).astype(np.float16),
        edge_index=ends.astype(np.int32),
        graph=rng.normal(size=len(GRAPH_FEATURES)).astype(np.float32),
    )


@pytest.fixture
def batch() -> GraphBatch:
    return collate([graph(0, 7), graph(1, 5)], engine="torch")


def predictor(costs: bool = False, seed: int = 0) -> PredictorModule:
    torch.manual_seed(seed)
    sizes = len(VOCABULARY), len(NODE_FEATURES), len(GRAPH_FEATURES), 3
    return PredictorModule(CONFIG, *sizes, costs=costs).eval()


def normalised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)


def test_forward_matches_dense_numpy(batch: GraphBatch) -> None:
    torch.manual_seed(1)
    adapter = Adapter(CONFIG, 4)
    states = [torch.randn(12, 8) * (i + 1) for i in range(3)]
    into = np.zeros((12, 12))
    for source, target in zip(batch.src.tolist(), batch.dst.tolist(), strict=True):
        into[target, source] += 1

    def mean(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        return matrix @ x / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    h = np.zeros((12, 4))
    for enter, layer, base in zip(adapter.enter, adapter.layers, states, strict=True):
        weight = {name: tensor.detach().numpy() for name, tensor in layer.named_parameters()}
        seen = h + base.numpy() @ enter.weight.detach().numpy().T + enter.bias.detach().numpy()
        x = normalised(seen)
        message = x @ weight["own.weight"].T + weight["own.bias"]
        message += mean(into, x) @ weight["predecessors.weight"].T
        message += mean(into.T, x) @ weight["successors.weight"].T
        h = seen + message / (1 + np.exp(-message))
    h = normalised(h)
    expected = [
        np.concatenate([part.mean(axis=0), part.max(axis=0), part.mean(axis=0) * np.log1p(len(part)) / 4])
        for part in (h[:7], h[7:])
    ]
    with torch.no_grad():
        found = adapter(batch, states)
    assert found.shape == (2, 12)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_states_are_those_after_each_layer_with_and_without_gradients(batch: GraphBatch) -> None:
    backbone = predictor().backbone
    graph_input = backbone.graph_input(batch)
    after: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda *a: after.append(a[2].clone())) for layer in backbone.layers]
    with torch.no_grad():
        _, pooled, states = backbone.encode_layers(batch, graph_input)
    for hook in hooks:
        hook.remove()
    assert len(states) == len(after) == CONFIG.layers
    assert all(np.allclose(a, normalised(b.numpy()), atol=1e-5) for a, b in zip(states, after, strict=True))
    assert not torch.equal(states[0], states[1])
    # the readout reads the last one
    torch.testing.assert_close(pooled[0, :8], backbone.norm(after[-1])[:7].mean(dim=0))
    with_gradients = backbone.encode_layers(batch, graph_input)[2]
    for one, other in zip(states, with_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_predictions_and_weights_without_adapters_stay_as_they_are(batch: GraphBatch) -> None:
    module = predictor()
    names = set(module.state_dict())
    with torch.no_grad():
        before = module.embed_and_predict(batch)
        module.add_adapters(GROUPS, 4)
        after, adapted = module.embed_and_predict(batch), module.embed_and_adapt(batch)
    assert {name for name in module.state_dict() if not name.startswith("adapters.")} == names
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert torch.equal(adapted[0], before[0])
    assert torch.equal(adapted[1][:, :3], before[1])
    assert adapted[1].shape == (2, 6)
    assert module.adapted_columns == [2, 0, 1]


def test_outputs_relative_to_costs_take_the_costs_of_their_own_task(batch: GraphBatch) -> None:
    module = predictor(costs=True)
    assert module.costs is not None
    module.add_adapters(GROUPS, 4)
    with torch.no_grad():
        plain = module.embed_and_adapt(batch)[1]  # the link passes everything through
        # label = target + 1 for task 0, 2 target for task 1, 3 target - 1 for task 2
        module.costs.coefficients[:, 0] = torch.tensor([1.0, 2.0, 3.0])
        module.costs.coefficients[:, 2] = torch.tensor([1.0, 0.0, -1.0])
        linked = module.embed_and_adapt(batch)[1]
    expected = [plain[:, 0] + 1, 2 * plain[:, 1], 3 * plain[:, 2] - 1]
    expected += [3 * plain[:, 3] - 1, plain[:, 4] + 1, 2 * plain[:, 5]]
    torch.testing.assert_close(linked, torch.stack(expected, dim=1))


# -- on disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def module() -> Ensemble:
    members = [predictor(seed=seed) for seed in range(2)]
    for member in members:
        member.add_adapters(GROUPS, 4)
    return Ensemble(members).eval()


SCALER = LabelScaler.fit([1.0, 2.0, 5.0], "standard")
TASKS = tuple(TaskCard(f"a/b/{name}", SCALER) for name in "xyz")


def test_saved_adapters_come_back(tmp_path: Path, module: Ensemble, batch: GraphBatch) -> None:
    save_predictor(tmp_path, module, Card(TASKS))
    assert read_card(tmp_path)["adapters"] == {
        "width": 4, "groups": {"first": ["a/b/z", "a/b/x"], "second": ["a/b/y"]},
    }  # fmt: skip
    loaded, _, _ = load_predictor(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded.embed_and_adapt(batch)[1], module.embed_and_adapt(batch)[1])
        each = [member.embed_and_adapt(batch)[1] for member in module.members]
        torch.testing.assert_close(loaded.embed_and_adapt(batch)[1], (each[0] + each[1]) / 2)
    assert [adapter.group for adapter in loaded.adapters] == list(GROUPS)


def test_a_card_without_adapters_does_not_speak_of_them(tmp_path: Path) -> None:
    save_predictor(tmp_path, Ensemble([predictor()]), Card(TASKS))
    assert "adapters" not in read_card(tmp_path)
    assert load_predictor(tmp_path)[0].adapters == []


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"width": "4"}, {"groups": {"first": ["a/b/w"]}}, {"groups": {"first": []}}, 3]
)
def test_adapters_that_cannot_be_are_refused(tmp_path: Path, module: Ensemble, change: object) -> None:
    import json

    import safetensors.torch

    save_predictor(tmp_path, module, Card(TASKS))
    card = read_card(tmp_path)
    card["adapters"] = card["adapters"] | change if isinstance(change, dict) else change
    path = tmp_path / "predictor.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"card": json.dumps(card)})
    with pytest.raises(AiopError, match="describes adapters that cannot be"):
        load_predictor(tmp_path)


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"by": "domian"}, r'did you mean "domain"\?'),
        ({"by": "domain", "groups": {"a": ["*"]}}, "has `by: domain` and 'groups'"),
        ({"groups": {"a": []}}, "adapter group 'a' has no patterns"),
        ({"groups": {"a": "latency/*"}}, "give a list"),
        ({"width": 0}, "'width' is 0"),
        ({"by": "domain", "lr": 0}, "'lr' of 'adapters'"),
    ],
)
def test_wrong_settings(values: dict[str, object], match: str) -> None:
    with pytest.raises(AiopError, match=match):
        PretrainConfig.from_mapping({"adapters": values})


def test_settings_of_adapters_do_not_touch_the_run_below_them() -> None:
    plain, adapted = PretrainConfig(), PretrainConfig.from_mapping({"adapters": {"by": "domain"}})
    assert (plain.adapters.wanted, adapted.adapters.wanted) == (False, True)
    assert plain.training_hash() == adapted.training_hash()
