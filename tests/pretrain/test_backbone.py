"""Layers against dense numpy; what the embedding may and may not depend on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from aiop.graph_ir.batch import GraphBatch, collate
from aiop.graph_ir.features import GraphArrays
from aiop.pretrain.backbone import Backbone, ByteDropout, DirectedLayer, Standardise
from aiop.pretrain.config import BackboneConfig
from aiop.pretrain.heads import TaskHeads
from aiop.pretrain.module import Ensemble, PredictorModule

CONFIG = BackboneConfig(width=16, layers=3, embedding=12, head=10)


def graphs(count: int = 3, seed: int = 0) -> list[GraphArrays]:
    rng = np.random.default_rng(seed)
    result = []
    for nodes in (9, 1, 14)[:count]:
        edges = np.sort(rng.integers(0, nodes, size=(2, 2 * nodes)), axis=0)
        result.append(
            GraphArrays(
                op=rng.integers(0, 7, nodes).astype(np.uint8),
                node=rng.normal(size=(nodes, 5)).astype(np.float16),
                edge_index=edges[:, edges[0] != edges[1]].astype(np.int32),
                graph=rng.normal(size=4).astype(np.float32),
            )
        )
    return result


def module(seed: int = 0, tasks: int = 3) -> PredictorModule:
    torch.manual_seed(seed)
    return PredictorModule(CONFIG, num_ops=7, node_features=5, graph_features=4, num_tasks=tasks).eval()


def dense(batch: GraphBatch) -> np.ndarray:
    adjacency = np.zeros((batch.num_nodes, batch.num_nodes))
    np.add.at(adjacency, (batch.dst.numpy(), batch.src.numpy()), 1)
    return adjacency


@pytest.mark.parametrize("aggregation", ["sum", "sqrt", "mean"])
def test_layer_is_its_formula(aggregation: str) -> None:
    batch = collate(graphs())
    layer = DirectedLayer(6, aggregation, "tanh", dropout=0.3).eval()
    h = torch.randn(batch.num_nodes, 6)
    x = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    power = {"sum": 0.0, "sqrt": 0.5, "mean": 1.0}[aggregation]
    total = x.numpy() @ layer.own.weight.detach().numpy().T + layer.own.bias.detach().numpy()
    for matrix, linear in ((dense(batch), layer.predecessors), (dense(batch).T, layer.successors)):
        scaled = matrix / np.maximum(matrix.sum(1, keepdims=True), 1) ** power
        total += scaled @ x.numpy() @ linear.weight.detach().numpy().T
    expected = h.numpy() + np.tanh(total)
    np.testing.assert_allclose(layer(batch, h).detach().numpy(), expected, atol=1e-5)


def test_heads_are_their_formula() -> None:
    heads = TaskHeads(tasks=3, embedding=5, hidden=4, graph_features=2).eval()
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_()
    z, g = torch.randn(6, 5), torch.randn(6, 2)
    out = heads(z, g).detach().numpy()
    p = {name: value.detach().numpy() for name, value in heads.named_parameters()}
    for task in range(3):
        shared = z.numpy() @ p["project.weight"].T + p["project.bias"]
        hidden = shared * (1 + p["gamma"][task]) + p["beta"][task]
        hidden = hidden / (1 + np.exp(-hidden))
        expected = hidden @ p["weight"][task] + p["bias"][task] + g.numpy() @ p["direct.weight"][task]
        np.testing.assert_allclose(out[:, task], expected, atol=1e-5)


def test_standardise() -> None:
    values = np.random.default_rng(0).normal(5, 3, size=(500, 3)).astype(np.float32)
    values[:, 2] = 7.0  # constant: says nothing, also when a later network differs
    layer = Standardise(3)
    layer.fit(torch.from_numpy(values.mean(0)), torch.from_numpy(values.std(0)))
    out = layer(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(out[:, :2], (values - values.mean(0))[:, :2] / values.std(0)[:2], atol=1e-4)
    np.testing.assert_array_equal(out[:, 2], 0)
    assert layer(torch.tensor([[1e6, -1e6, 3.0]])).tolist() == [[6.0, -6.0, 0.0]]


def test_what_lies_far_out_is_cut_nearer_where_a_network_is_looked_at() -> None:
    layer = Standardise(2, reach=2.5)
    far = torch.tensor([[1e6, -4.0]])
    assert layer.train()(far).tolist() == [[6.0, -4.0]]
    assert layer.eval()(far).tolist() == [[2.5, -2.5]]


def test_predictions_do_not_depend_on_the_batch() -> None:
    network, items = module(), graphs()
    together = network(collate(items))
    alone = torch.cat([network(collate([item])) for item in items])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert together.shape == (3, 3)


def test_predictions_do_not_depend_on_the_order_of_nodes() -> None:
    network, item = module(), graphs()[0]
    order = np.random.default_rng(3).permutation(len(item.op))  # node order[i] becomes node i
    place = np.argsort(order)
    shuffled = dataclasses.replace(
        item, op=item.op[order], node=item.node[order], edge_index=place[item.edge_index]
    )
    torch.testing.assert_close(network(collate([item])), network(collate([shuffled])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("field", ["op", "node", "edge_index", "graph"])
def test_predictions_depend_on_every_field(field: str) -> None:
    network, item = module(), graphs()[0]
    changed = np.array(getattr(item, field))
    if field == "edge_index":
        changed = changed[::-1]  # every edge the other way round
    elif field == "op":
        changed[0] = (changed[0] + 1) % 7
    else:
        changed += 1
    other = dataclasses.replace(item, **{field: changed})
    assert (network(collate([item])) - network(collate([other]))).abs().max() > 1e-4


def test_embedding_has_its_size_and_is_what_the_heads_read() -> None:
    network, batch = module(), collate(graphs())
    embedding, out = network.embed_and_predict(batch)
    assert embedding.shape == (3, CONFIG.embedding)
    torch.testing.assert_close(embedding, network.backbone(batch))
    torch.testing.assert_close(out, network(batch))


def test_noise_acts_in_training_only() -> None:
    torch.manual_seed(0)
    backbone = Backbone(dataclasses.replace(CONFIG, dropout=0.0), 7, 5, 4)
    batch = collate(graphs())
    quiet = backbone(batch)
    torch.testing.assert_close(backbone(batch), quiet)
    backbone.node_noise = 0.5
    assert (backbone(batch) - quiet).abs().max() > 1e-3
    backbone.node_noise, backbone.graph_dropout = 0.0, 0.999
    assert (backbone(batch) - quiet).abs().max() > 1e-3
    backbone.eval()
    torch.testing.assert_close(backbone(batch), quiet)


def test_byte_dropout_keeps_the_mean_and_follows_the_seed() -> None:
    layer, x = ByteDropout(0.25), torch.ones(1001, 37)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    torch.testing.assert_close(layer(x), first)
    assert not torch.equal(first, second)
    assert first.unique().tolist() == pytest.approx([0, 4 / 3])
    # 37,037 draws: five standard deviations of a binomial share.
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / x.numel()) ** 0.5)
    assert layer.eval()(x) is x


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    first, second = module(0), module(1)
    both = Ensemble([first, second]).eval()
    batch = collate(graphs())
    embedding, scaled = both.embed_and_predict(batch)
    assert torch.allclose(scaled, (first(batch) + second(batch)) / 2, atol=1e-6)
    assert embedding.shape == (batch.num_graphs, both.embedding)
    assert torch.equal(embedding[:, : CONFIG.embedding], first.backbone(batch))
