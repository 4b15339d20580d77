"""Message passing and readouts against dense numpy, and both engines against each other."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from aiop.errors import AiopError
from aiop.graph_ir import batch as batch_module
from aiop.graph_ir.batch import (
    collate,
    neighbour_mean,
    neighbour_sum,
    segment_max,
    segment_mean,
    segment_sum,
)
from aiop.graph_ir.features import GraphArrays

ENGINES = [
    pytest.param("torch", id="torch"),
    pytest.param(
        "dgl", id="dgl", marks=pytest.mark.skipif(not batch_module.dgl_available(), reason="needs dgl")
    ),
]
SIZES = (5, 1, 9, 14)


def random_graph(rng: np.random.Generator, nodes: int) -> GraphArrays:
    edges = rng.integers(0, nodes, size=(2, 2 * nodes)) if nodes > 1 else np.zeros((2, 0))
    return GraphArrays(
        op=rng.integers(0, 7, nodes).astype(np.uint8),
        node=rng.normal(size=(nodes, 3)).astype(np.float16),
        edge_index=edges.astype(np.int32),
        graph=rng.normal(size=4).astype(np.float32),
    )


@pytest.fixture
def graphs() -> list[GraphArrays]:
    rng = np.random.default_rng(7)
    return [random_graph(rng, nodes) for nodes in SIZES]


def dense_adjacency(graphs: list[GraphArrays]) -> np.ndarray:
    """(N, N), entry [v, u] the number of edges u -> v, built edge by edge."""
    total = sum(len(graph.op) for graph in graphs)
    adjacency = np.zeros((total, total))
    first = 0
    for graph in graphs:
        for u, v in graph.edge_index.T:
            adjacency[first + v, first + u] += 1
        first += len(graph.op)
    return adjacency


def states(width: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(sum(SIZES), width)).astype(np.float32))


def test_collate_follows_its_rules(graphs: list[GraphArrays]) -> None:
    batch = collate(graphs)
    assert (batch.num_graphs, batch.num_nodes, batch.num_edges) == (4, 29, 56)
    assert batch.ptr.tolist() == [0, 5, 6, 15, 29]
    assert batch.graph_index.tolist() == [0] * 5 + [1] + [2] * 9 + [3] * 14
    assert batch.src[10:28].tolist() == (graphs[2].edge_index[0] + 6).tolist()
    assert batch.dst[28:].tolist() == (graphs[3].edge_index[1] + 15).tolist()
    assert batch.op.dtype == torch.int64
    assert batch.node.dtype == torch.float32
    np.testing.assert_array_equal(batch.node[6:15].numpy(), graphs[2].node.astype(np.float32))
    np.testing.assert_array_equal(batch.graph_features[3].numpy(), graphs[3].graph)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reverse", [False, True])
def test_neighbour_sum_and_mean_are_dense_products(
    graphs: list[GraphArrays], engine: str, reverse: bool
) -> None:
    batch, h = collate(graphs, engine=engine), states()
    adjacency = dense_adjacency(graphs)
    matrix = adjacency.T if reverse else adjacency
    degree = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    expected = matrix @ h.numpy()
    np.testing.assert_allclose(neighbour_sum(batch, h, reverse).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(neighbour_mean(batch, h, reverse).numpy(), expected / degree, atol=1e-5)
    np.testing.assert_allclose(
        neighbour_mean(batch, h, reverse, power=0.5).numpy(), expected / np.sqrt(degree), atol=1e-5
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradient_of_neighbour_sum_is_the_transposed_product(
    graphs: list[GraphArrays], engine: str, reverse: bool
) -> None:
    batch, h = collate(graphs, engine=engine), states().requires_grad_()
    upstream = torch.from_numpy(np.random.default_rng(2).normal(size=(29, 6)).astype(np.float32))
    neighbour_sum(batch, h, reverse).backward(upstream)
    adjacency = dense_adjacency(graphs)
    matrix = adjacency.T if reverse else adjacency
    assert h.grad is not None
    np.testing.assert_allclose(h.grad.numpy(), matrix.T @ upstream.numpy(), atol=1e-5)


@pytest.mark.skipif(not batch_module.dgl_available(), reason="needs dgl")
def test_engines_agree_forward_and_backward() -> None:
    rng = np.random.default_rng(3)
    graphs = [random_graph(rng, int(nodes)) for nodes in rng.integers(1, 120, 40)]
    results = {}
    for engine in ("torch", "dgl"):
        batch = collate(graphs, engine=engine)
        h = torch.linspace(-2, 2, batch.num_nodes * 16).sin().reshape(-1, 16).requires_grad_()
        out = neighbour_sum(batch, h).tanh() + neighbour_mean(batch, h * h, reverse=True)
        (out**2).sum().backward()
        results[engine] = (out.detach(), h.grad)
    for left, right in zip(results["torch"], results["dgl"], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("segment", "reduce"), [(segment_sum, np.sum), (segment_mean, np.mean), (segment_max, np.max)]
)
def test_segments_reduce_every_graph(graphs: list[GraphArrays], segment, reduce) -> None:
    batch, h = collate(graphs), states()
    bounds = np.cumsum((0, *SIZES))
    expected = [reduce(h.numpy()[a:b], axis=0) for a, b in itertools.pairwise(bounds)]
    np.testing.assert_allclose(segment(batch, h).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("segment", [segment_sum, segment_mean, segment_max])
def test_segment_gradients_match_finite_differences(graphs: list[GraphArrays], segment) -> None:
    batch = collate(graphs)
    h = states(2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: segment(batch, x), (h,), eps=1e-6)


def test_second_derivatives_exist(graphs: list[GraphArrays]) -> None:
    batch = collate(graphs, engine="torch")
    assert torch.autograd.gradgradcheck(
        lambda x: neighbour_sum(batch, x**3), (states(1).double().requires_grad_(),)
    )


def test_a_batch_first_used_in_inference_mode_can_be_trained_on(graphs: list[GraphArrays]) -> None:
    batch, h = collate(graphs, engine="torch"), states()
    with torch.inference_mode():
        segment_sum(batch, neighbour_mean(batch, h))
    h.requires_grad_()
    segment_sum(batch, neighbour_mean(batch, h)).sum().backward()
    assert h.grad is not None


def test_shared_maxima_share_their_gradient() -> None:
    graph = GraphArrays(
        op=np.zeros(2, np.uint8), node=np.zeros((2, 1), np.float16), edge_index=np.zeros((2, 0), np.int32),
        graph=np.zeros(1, np.float32),
    )  # fmt: skip
    h = torch.ones(2, 1, requires_grad=True)
    segment_max(collate([graph]), h).sum().backward()
    assert h.grad is not None
    assert h.grad.flatten().tolist() == [0.5, 0.5]


def test_moving_keeps_the_batch(graphs: list[GraphArrays]) -> None:
    batch = collate(graphs)
    assert batch.to("cpu") is batch
    assert batch.to("meta").op.device.type == "meta"


def test_edges_outside_their_graph_are_refused(graphs: list[GraphArrays]) -> None:
    for wrong in (5, -1):
        edge_index = graphs[0].edge_index.copy()
        edge_index[1, 3] = wrong  # graph 0 has 5 nodes: 5 would be a node of graph 1
        bad = GraphArrays(op=graphs[0].op, node=graphs[0].node, edge_index=edge_index, graph=graphs[0].graph)
        with pytest.raises(AiopError, match="graph 1 of the batch has an edge outside its 5 nodes"):
            collate([graphs[1], bad])


def test_graphs_that_do_not_fit_are_refused(graphs: list[GraphArrays]) -> None:
    other = GraphArrays(
        op=graphs[0].op, node=graphs[0].node[:, :2], edge_index=graphs[0].edge_index, graph=graphs[0].graph
    )
    with pytest.raises(AiopError, match="encode them again"):
        collate([graphs[1], other])
    with pytest.raises(AiopError, match="at least one graph"):
        collate([])
    with pytest.raises(AiopError, match="'tensorflow' is unknown"):
        collate(graphs, engine="tensorflow")  # type: ignore[arg-type]


def test_auto_leaves_dgl_alone_on_small_batches_and_dgl_is_silent(tmp_path) -> None:
    program = """
import sys, numpy as np, torch
from types import SimpleNamespace
from aiop.graph_ir.batch import collate, dgl_available, neighbour_sum
graph = SimpleNamespace(op=np.zeros(3, np.uint8), node=np.zeros((3, 2), np.float16),
                    edge_index=np.array([[0, 1], [1, 2]], np.int32), graph=np.zeros(1, np.float32))
h = torch.eye(3, requires_grad=True)
neighbour_sum(collate([graph]), h)
assert "dgl" not in sys.modules
if dgl_available():
    neighbour_sum(collate([graph], engine="dgl"), h, reverse=True).sum().backward()
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env={
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(path for path in sys.path if path),
        },
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
