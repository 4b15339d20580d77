"""The published networks of AIO-P in plain torch: node embedding, GraphConv backbone, regressor and K-adapters.

Parameters with the published sizes: 18,047 of embedding, backbone and regressor, 30,049 of one adapter with its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from aiop.finetune.baselines.aio_p.graphs import LARGEST_KERNEL, WEIGHTED_INDICES, PublishedGraph
from aiop.finetune.baselines.aio_p.vocabulary import LABELS

__all__ = [
    "LAYERS",
    "WIDTH",
    "Adapter",
    "AioPNetwork",
    "GraphConv",
    "NodeEmbedding",
    "PublishedBatch",
    "collate",
]

WIDTH, LAYERS = 32, 6
_SIZE, _KERNEL, _BIAS = (
    8,
    4,
    2,
)  # columns for the six sizes, for each of two kernel sides, and for the bias flag


@dataclass(frozen=True, eq=False)
class PublishedBatch:
    """G graphs side by side: N nodes that have U distinct rows of features.

    label: int64 ``(U,)``; size: float32 ``(U, 6)``, divided by the maxima; kernel: int64 ``(U, 2)``; bias: float32
    ``(U, 2)``, one-hot; weighted: bool ``(U, 1)``; row: int64 ``(N,)``; source, target: int64 ``(E,)``; graph: int64
    ``(N,)``; nodes: float32 ``(G, 1)``, how many each graph has.
    """

    label: Tensor
    size: Tensor
    kernel: Tensor
    bias: Tensor
    weighted: Tensor
    row: Tensor
    source: Tensor
    target: Tensor
    graph: Tensor
    nodes: Tensor


def collate(graphs: list[PublishedGraph]) -> PublishedBatch:
    """Put at least one graph side by side; equal rows of features are kept once."""
    counts = np.array([len(graph.nodes) for graph in graphs])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    maxima = np.repeat(np.array([graph.maxima for graph in graphs], np.int32), counts, axis=0)
    every = np.concatenate([np.concatenate([graph.nodes for graph in graphs]), maxima], axis=1)
    packed = np.ascontiguousarray(every).view([("", every.dtype)] * every.shape[1]).reshape(-1)
    _, first, row = np.unique(packed, return_index=True, return_inverse=True)
    unique = every[first]
    edges = np.concatenate([graph.edges + start for graph, start in zip(graphs, starts, strict=True)], axis=1)
    sizes = unique[:, 1:7] / unique[:, 10:].repeat(2, axis=1)
    return PublishedBatch(
        label=torch.from_numpy(unique[:, 0].astype(np.int64)),
        size=torch.from_numpy(sizes.astype(np.float32)),
        kernel=torch.from_numpy(unique[:, 7:9].astype(np.int64)),
        bias=torch.from_numpy(np.stack([1 - unique[:, 9], unique[:, 9]], axis=1).astype(np.float32)),
        weighted=torch.from_numpy(np.isin(unique[:, :1], WEIGHTED_INDICES)),
        row=torch.from_numpy(row.reshape(-1).astype(np.int64)),
        source=torch.from_numpy(edges[0].astype(np.int64)),
        target=torch.from_numpy(edges[1].astype(np.int64)),
        graph=torch.from_numpy(np.repeat(np.arange(len(graphs)), counts)),
        nodes=torch.from_numpy(counts.astype(np.float32)[:, None]),
    )


class NodeEmbedding(nn.Module):
    """32 numbers of a node: operation 24 + sizes 8, and with weights operation 14 + sizes 8 + kernel 2 x 4 + bias 2."""

    def __init__(self) -> None:
        super().__init__()
        self.regular = nn.Embedding(len(LABELS), WIDTH - _SIZE)
        self.weighted = nn.Embedding(len(LABELS), WIDTH - _SIZE - 2 * _KERNEL - _BIAS)
        self.kernel = nn.Embedding(LARGEST_KERNEL + 1, _KERNEL)
        self.size = nn.Linear(6, _SIZE)
        self.bias = nn.Linear(2, _BIAS)

    def forward(self, batch: PublishedBatch) -> Tensor:
        """Return ``(N, 32)``."""
        size = self.size(batch.size)
        regular = torch.cat([self.regular(batch.label), size], dim=1)
        kernel = self.kernel(batch.kernel).flatten(1)
        weighted = torch.cat([self.weighted(batch.label), size, kernel, self.bias(batch.bias)], dim=1)
        return torch.where(batch.weighted, weighted, regular).index_select(0, batch.row)


class GraphConv(nn.Module):
    """``x' = W1 x + W2 sum of x over predecessors + b``, the layer of Morris et al. (AAAI 2019)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.neighbours = nn.Linear(inputs, outputs)
        self.own = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return ``(N, outputs)`` for node states ``(N, inputs)``."""
        total = torch.zeros_like(x).index_add(0, target, x.index_select(0, source))
        return cast(Tensor, self.neighbours(total) + self.own(x))


class Adapter(nn.Module):
    """A K-adapter: ``h_i = tanh(GNN_i([base_i ; h_(i-1)]))`` beside a backbone that stays as it is, and its head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GraphConv(2 * WIDTH, WIDTH) for _ in range(LAYERS))
        self.head = _head(2 * WIDTH)

    def forward(self, states: list[Tensor], batch: PublishedBatch) -> Tensor:
        """Return outputs ``(G,)`` for the node states of the backbone: its embedding, then every layer's."""
        hidden = states[0]
        for layer, state in zip(self.layers, states[1:], strict=True):
            hidden = torch.tanh(layer(torch.cat([state, hidden], dim=1), batch.source, batch.target))
        read = torch.cat([_mean(states[-1], batch), _mean(hidden, batch)], dim=1)
        return cast(Tensor, self.head(read).squeeze(1))


class AioPNetwork(nn.Module):
    """Embedding, six layers and a regressor; with adapters, each gives an output of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = NodeEmbedding()
        self.layers = nn.ModuleList(GraphConv(WIDTH, WIDTH) for _ in range(LAYERS))
        self.head = _head(WIDTH)
        self.adapters = nn.ModuleList()

    def states(self, batch: PublishedBatch) -> list[Tensor]:
        """Return seven node states ``(N, 32)``: the embedding and the output of every layer."""
        found = [self.embedding(batch)]
        for layer in self.layers:
            found.append(torch.tanh(layer(found[-1], batch.source, batch.target)))
        return found

    def base(self, batch: PublishedBatch) -> Tensor:
        """Return outputs ``(G,)`` of the regressor on the backbone alone."""
        return cast(Tensor, self.head(_mean(self.states(batch)[-1], batch)).squeeze(1))

    def forward(self, batch: PublishedBatch) -> Tensor:
        """Return outputs ``(G, K)`` of the K adapters, ``(G, 1)`` of the regressor where there is none."""
        if not self.adapters:
            return self.base(batch)[:, None]
        states = self.states(batch)
        return torch.stack([adapter(states, batch) for adapter in self.adapters], dim=1)


def _head(inputs: int) -> nn.Sequential:
    """As published: one ReLU in the middle of five linear layers."""
    return nn.Sequential(
        nn.Linear(inputs, WIDTH),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.Linear(WIDTH, WIDTH),
        nn.Linear(WIDTH, 1),
    )


def _mean(x: Tensor, batch: PublishedBatch) -> Tensor:
    """Return the mean of node states over each graph."""
    total = x.new_zeros(len(batch.nodes), x.shape[1]).index_add(0, batch.graph, x)
    return total / batch.nodes
