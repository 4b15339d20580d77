"""The graph network: a batch of compute graphs in, one embedding per graph out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.graph_ir.batch import GraphBatch, neighbour_mean, neighbour_sum, segment_max, segment_mean
from aiop.pretrain.config import BackboneConfig

__all__ = ["CLIP", "Backbone", "ByteDropout", "DirectedLayer", "Standardise", "pool"]

# Standardised features beyond this many deviations say only "far outside": more would be extrapolation.
CLIP = 6.0

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


class Standardise(nn.Module):
    """(x - mean) / deviation of the training set, clipped; constant features become 0 everywhere.

    The statistics are buffers: they are saved with the weights.

    Args:
        width: number of features.
        reach: clips at +- this where a network is looked at; training clips at +-6. Linear terms in features go on
            without bound, and what lies farther out than nearly all of training says little about networks of another
            kind.
    """

    mean: Tensor
    inverse: Tensor

    def __init__(self, width: int, reach: float = CLIP) -> None:
        super().__init__()
        self.reach = reach
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("inverse", torch.ones(width))

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Store the statistics, (width,) each. A feature of deviation 0 is ignored from then on."""
        self.mean.copy_(mean)
        self.inverse.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        limit = CLIP if self.training else self.reach
        return ((x - self.mean) * self.inverse).clamp_(-limit, limit)


class ByteDropout(nn.Module):
    """Dropout with a probability rounded to 1/256, from one random byte per element.

    On CPUs torch's own dropout draws a double per element and takes as long as all matrix products of a layer.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropped = round(probability * 256)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the identity in evaluation mode."""
        if not self.training or not self.dropped:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        draws = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (draws >= self.dropped).to(x.dtype).mul_(256 / (256 - self.dropped))


class DirectedLayer(nn.Module):
    """h + dropout(act(W [x, A x, A^T x] + b)) with x = LayerNorm(h): own weights for either direction.

    A x aggregates predecessors, A^T x successors. W [.., .., ..] is computed as three products that add up in
    place, which saves joining the three states.
    """

    def __init__(self, width: int, aggregation: str, activation: str, dropout: float) -> None:
        super().__init__()
        self.aggregation = aggregation
        self.norm = nn.LayerNorm(width)
        self.own = nn.Linear(width, width)
        self.predecessors = nn.Linear(width, width, bias=False)
        self.successors = nn.Linear(width, width, bias=False)
        self.update = nn.Sequential(_ACTIVATIONS[activation](), ByteDropout(dropout))

    def forward(self, batch: GraphBatch, h: Tensor) -> Tensor:
        """(N, width) -> (N, width); where no gradients are kept ``h`` itself is changed."""
        x = self.norm(h)
        message = self.own(x)
        mixed = torch.is_autocast_enabled(x.device.type)
        for reverse, linear in ((False, self.predecessors), (True, self.successors)):
            if mixed:  # in place there is no choice of precision
                message = message + linear(self._aggregate(batch, x, reverse))
            else:
                message.addmm_(self._aggregate(batch, x, reverse), linear.weight.t())
        if torch.is_grad_enabled():
            result: Tensor = h + self.update(message)
            return result
        # Nothing is differentiated: the states are replaced, which saves two passes over memory.
        if isinstance(self.update[0], nn.SiLU):
            functional.silu(message, inplace=True)
        else:
            message = self.update[0](message)
        changed: Tensor = h.add_(self.update[1](message))
        return changed

    def _aggregate(self, batch: GraphBatch, x: Tensor, reverse: bool) -> Tensor:
        if self.aggregation == "sum":
            return neighbour_sum(batch, x, reverse)
        return neighbour_mean(batch, x, reverse, power=1.0 if self.aggregation == "mean" else 0.5)


def pool(batch: GraphBatch, h: Tensor) -> list[Tensor]:
    """States (N, width) -> their mean, maximum and tamed sum over the nodes of every graph, (B, width) each."""
    mean = segment_mean(batch, h)
    # The sum, tamed: mean * log(1 + N) keeps growing with the graph without leaving the range of the rest.
    scaled_sum = mean * torch.log1p(batch.ptr.diff().to(mean.dtype))[:, None] / 4
    return [mean, segment_max(batch, h), scaled_sum]


class Backbone(nn.Module):
    """Node encoder, directed message passing, readout over nodes and graph features.

    Args:
        config: sizes and options.
        num_ops: size of the operator vocabulary.
        node_features: F of ``GraphBatch.node``.
        graph_features: G of ``GraphBatch.graph_features``.
    """

    def __init__(self, config: BackboneConfig, num_ops: int, node_features: int, graph_features: int) -> None:
        super().__init__()
        self.config = config
        width, act = config.width, _ACTIVATIONS[config.activation]
        self.standardise_node = Standardise(node_features, config.reach)
        self.standardise_graph = Standardise(graph_features, config.reach)
        self.op = nn.Embedding(num_ops, width)
        self.node = nn.Linear(node_features, width)
        self.layers = nn.ModuleList(
            DirectedLayer(width, config.aggregation, config.activation, config.dropout)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.graph = nn.Sequential(nn.Linear(graph_features, width), act(), nn.Linear(width, width), act())
        self.readout = nn.Sequential(
            nn.Linear(4 * width, config.embedding),
            act(),
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding, config.embedding),
        )
        # Used in training only; no weights depend on them.
        self.node_noise = 0.0
        self.graph_dropout = 0.0

    def graph_input(self, batch: GraphBatch) -> Tensor:
        """Standardised graph features, (B, G)."""
        result: Tensor = self.standardise_graph(batch.graph_features)
        return result

    def forward(self, batch: GraphBatch) -> Tensor:
        """Embed the graphs of a batch: (B, embedding)."""
        return self.encode(batch, self.graph_input(batch))

    def encode(self, batch: GraphBatch, graph_input: Tensor) -> Tensor:
        """As ``forward``, from graph features (B, G) that are standardised already."""
        return self.encode_nodes(batch, graph_input)[0]

    def encode_layers(self, batch: GraphBatch, graph_input: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return embeddings (B, embedding), pooled states (B, 3 width), and the states after every layer, (N, width).

        The last are what an adapter reads (`aiop.pretrain.adapters`), each node's of mean 0 and deviation 1.
        """
        layers: list[Tensor] = []
        embedding, _, pooled = self.encode_nodes(batch, graph_input, layers=layers)
        return embedding, pooled, layers

    def encode_nodes(
        self,
        batch: GraphBatch,
        graph_input: Tensor,
        hidden: tuple[Tensor, Tensor] | None = None,
        layers: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings (B, embedding), the last states of the nodes (N, width), and these pooled (B, 3 width).

        ``hidden`` names nodes, a boolean (N,), that enter with a given state (width,) in place of what they are.
        ``layers`` is given the states after every layer, each node's of mean 0 and deviation 1.
        """
        nodes = self.standardise_node(batch.node)
        if self.training and self.node_noise:
            nodes = nodes + self.node_noise * torch.randn_like(nodes)
        if self.training and self.graph_dropout:
            kept = torch.rand(batch.num_graphs, 1, device=nodes.device) >= self.graph_dropout
            graph_input = graph_input * kept
        h = self.node(nodes) + self.op(batch.op)
        if hidden is not None:
            h = torch.where(hidden[0][:, None], hidden[1], h)
        for layer in self.layers:
            h = layer(batch, h)
            if layers is not None:
                layers.append(functional.layer_norm(h, h.shape[1:]))
        h = self.norm(h)
        joined = torch.cat([*pool(batch, h), self.graph(graph_input)], dim=1)
        return self.readout(joined), h, joined[:, : 3 * self.config.width]
