import numpy as np
import pytest
import torch

from aiop.errors import AiopError
from aiop.finetune.baselines.aio_p.graphs import PublishedGraph
from aiop.finetune.baselines.aio_p.labels import LabelScaling
from aiop.finetune.baselines.aio_p.network import Adapter, AioPNetwork, GraphConv, collate
from aiop.finetune.baselines.aio_p.vocabulary import INDEX, LABELS, published
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.operators import VOCABULARY


def some_graph(seed, nodes=9):
    rng = np.random.default_rng(seed)
    table = np.zeros((nodes, 10), np.int32)
    table[:, 0] = rng.integers(1, 27, nodes)
    table[:, 1:7] = rng.integers(1, 200, (nodes, 6))
    table[:, 7:9] = rng.integers(0, 8, (nodes, 2))
    table[:, 9] = rng.integers(0, 2, nodes)
    table[0, 0] = INDEX["Conv"]
    edges = np.array(
        [(a, b) for b in range(1, nodes) for a in sorted({b - 1, int(rng.integers(b))})], np.int32
    ).T
    return PublishedGraph(table, edges, (256, 256, 512), 1.0)


def test_the_numbers_of_parameters_are_those_of_the_layers():
    # 32 labels: 32 x 24 + 32 x 14; kernels 8 x 4; sizes 6 -> 8, bias 2 -> 2; six layers of two 32 x 32 and a bias;
    # a head of four 32 x 32 and 32 -> 1
    embedding = 32 * 24 + 32 * 14 + 8 * 4 + (6 * 8 + 8) + (2 * 2 + 2)
    head = 4 * (32 * 32 + 32) + 33
    assert embedding + 6 * (2 * 32 * 32 + 32) + head == 18_047
    assert sum(p.numel() for p in AioPNetwork().parameters()) == 18_047
    assert 6 * (2 * 64 * 32 + 32) + head + 32 * 32 == 30_049
    assert sum(p.numel() for p in Adapter().parameters()) == 30_049


def test_a_graph_convolution_is_the_dense_sum_over_predecessors():
    layer, graph = GraphConv(5, 3), some_graph(0)
    x = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)
    adjacency = np.zeros((9, 9), np.float32)  # [target, source]
    for source, target in graph.edges.T:
        adjacency[target, source] = 1
    w2, b = layer.neighbours.weight.detach().numpy(), layer.neighbours.bias.detach().numpy()
    w1 = layer.own.weight.detach().numpy()
    dense = x @ w1.T + adjacency @ x @ w2.T + b
    ends = [torch.from_numpy(row.astype(np.int64)) for row in graph.edges]
    np.testing.assert_allclose(layer(torch.from_numpy(x), *ends).detach().numpy(), dense, atol=1e-5)


def dense_states(network, graph):
    """Node embedding and layers in numpy, by the published sizes."""
    weights = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    rows = []
    for label, *sizes, k0, k1, bias in graph.nodes.tolist():
        scaled = np.array(sizes) / np.repeat(graph.maxima, 2)
        size = weights["embedding.size.weight"] @ scaled + weights["embedding.size.bias"]
        if LABELS[label] in ("Conv", "Depthwise", "MatMul"):
            flag = np.array([1 - bias, bias])
            parts = [
                weights["embedding.weighted.weight"][label], size, weights["embedding.kernel.weight"][k0],
                weights["embedding.kernel.weight"][k1],
                weights["embedding.bias.weight"] @ flag + weights["embedding.bias.bias"],
            ]  # fmt: skip
        else:
            parts = [weights["embedding.regular.weight"][label], size]
        rows.append(np.concatenate(parts))
    adjacency = np.zeros((len(rows), len(rows)))
    for source, target in graph.edges.T:
        adjacency[target, source] = 1
    states = [np.array(rows)]
    for layer in range(6):
        w = {
            part: weights[f"layers.{layer}.{part}"]
            for part in ("own.weight", "neighbours.weight", "neighbours.bias")
        }
        x = states[-1]
        states.append(
            np.tanh(x @ w["own.weight"].T + adjacency @ x @ w["neighbours.weight"].T + w["neighbours.bias"])
        )
    return states, adjacency


def dense_head(head, x):
    w = [
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in head
        if hasattr(layer, "weight")
    ]
    for place, (weight, bias) in enumerate(w):
        x = weight @ x + bias
        x = np.maximum(x, 0) if place == 1 else x
    return x


def test_base_and_adapter_are_the_published_sums_graph_by_graph():
    network = AioPNetwork()
    network.adapters.append(Adapter())
    adapter = network.adapters[0]
    graphs = [some_graph(1), some_graph(2, 6), some_graph(3, 12)]
    batch = collate(graphs)
    base, adapted = network.base(batch).detach().numpy(), network(batch).detach().numpy()[:, 0]
    for place, graph in enumerate(graphs):
        states, adjacency = dense_states(network, graph)
        assert base[place] == pytest.approx(dense_head(network.head, states[-1].mean(axis=0))[0], abs=1e-5)
        hidden = states[0]
        for layer, state in zip(adapter.layers, states[1:], strict=True):
            x = np.concatenate([state, hidden], axis=1)
            total = x @ layer.own.weight.detach().numpy().T
            total += adjacency @ x @ layer.neighbours.weight.detach().numpy().T
            hidden = np.tanh(total + layer.neighbours.bias.detach().numpy())
        read = np.concatenate([states[-1].mean(axis=0), hidden.mean(axis=0)])
        assert adapted[place] == pytest.approx(dense_head(adapter.head, read)[0], abs=1e-5)


def test_scalers_are_the_published_formulas_and_invert():
    values, gflops = np.array([70.0, 72.0, 78.0]), np.array([0.5, 1.0, 9.0])
    plain = LabelScaling.fit("stand", values, gflops)
    np.testing.assert_allclose(plain.scale(values, gflops), (values - values.mean()) / values.std())
    by_flops = LabelScaling.fit("stand_flops", values, gflops)
    quotient = values / (np.log10(gflops + 1) + 1)
    np.testing.assert_allclose(by_flops.scale(values, gflops), (quotient - quotient.mean()) / quotient.std())
    other = np.array([3.0, 0.1, 20.0])
    for scaling in (plain, by_flops):
        np.testing.assert_allclose(scaling.unscale(scaling.scale(values, other), other), values)
    assert (
        LabelScaling.fit("stand", np.full(3, 5.0), gflops).scale(np.full(3, 6.0), gflops).tolist()
        == [1.0] * 3
    )
    with pytest.raises(AiopError, match='did you mean "stand_flops"'):
        LabelScaling.fit("stand_flop", values, gflops)


def test_every_operator_has_published_labels_or_none():
    for op in VOCABULARY:
        assert set(published(Operation("a", op, op, ("x",), ("y",)))) <= set(LABELS), op
