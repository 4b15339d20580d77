"""The whole network of a predictor, and several read as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from aiop.errors import AiopError
from aiop.graph_ir.batch import GraphBatch
from aiop.pretrain.adapters import AdapterGroup, GroupAdapter
from aiop.pretrain.backbone import Backbone
from aiop.pretrain.config import BackboneConfig
from aiop.pretrain.cost_link import CostLink
from aiop.pretrain.described_heads import DescribedHeads
from aiop.pretrain.heads import TaskHeads
from aiop.pretrain.infused import InfusedTasks

__all__ = ["Ensemble", "PredictorModule", "TrainingPass"]


class TrainingPass(NamedTuple):
    """Targets (B, T), node states (N, width), these pooled (B, 3 width), standardised graph features (B, G)."""

    targets: Tensor
    states: Tensor
    pooled: Tensor
    graph_input: Tensor


class PredictorModule(nn.Module):
    """Backbone and heads: a batch of graphs -> scaled targets of every task.

    Args:
        config: sizes and options.
        num_ops: size of the operator vocabulary.
        node_features: F.
        graph_features: G.
        num_tasks: T.
        costs: whether targets are relative to costs; see `CostLink`.
        descriptions: (T, D), of the tasks; with them the heads are `DescribedHeads`.
        residual_dropout: of these.
    """

    def __init__(
        self,
        config: BackboneConfig,
        num_ops: int,
        node_features: int,
        graph_features: int,
        num_tasks: int,
        *,
        costs: bool = False,
        descriptions: Tensor | None = None,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config, num_ops, node_features, graph_features)
        sizes = config.embedding, config.head, graph_features, config.dropout
        self.heads: TaskHeads | DescribedHeads
        if descriptions is None:
            self.heads = TaskHeads(num_tasks, *sizes)
        else:
            self.heads = DescribedHeads(descriptions, *sizes, residual_dropout)
        self.costs = CostLink(num_tasks) if costs else None
        self.adapters = nn.ModuleList()
        self.infused = nn.ModuleList()

    def add_adapters(self, groups: Sequence[AdapterGroup], width: int) -> None:
        """Put new adapters, one per group, in the place of those there are."""
        graph_features = len(self.backbone.standardise_graph.mean)
        self.adapters = nn.ModuleList(
            GroupAdapter(group, self.config, width, graph_features) for group in groups
        )

    def add_infused(self, group: AdapterGroup, width: int, count: int) -> InfusedTasks:
        """Add tasks that only new adapters know, after those there are; return what is to be trained."""
        graph_features = len(self.backbone.standardise_graph.mean)
        added = InfusedTasks(group, self.config, width, count, graph_features)
        self.infused.append(added)
        return added

    def with_new_heads(self, tasks: int) -> PredictorModule:
        """Return a network on the same backbone, not a copy of it, for other tasks, of which its heads say 0."""
        op, node, graph = (
            self.backbone.op.num_embeddings,
            len(self.backbone.standardise_node.mean),
            len(self.backbone.standardise_graph.mean),
        )
        with torch.random.fork_rng(devices=[]):
            found = PredictorModule(self.config, op, node, graph, tasks)
        found.backbone = self.backbone
        for parameter in found.heads.parameters():
            nn.init.zeros_(parameter)
        return found

    @property
    def adapted_columns(self) -> list[int]:
        """Positions of the tasks that adapters have outputs for, in the order of these outputs."""
        found = [cast(GroupAdapter, adapter).group.columns for adapter in self.adapters]
        return [column for columns in found for column in columns]

    @property
    def num_tasks(self) -> int:
        """Number of tasks T, infused ones included."""
        infused = (len(cast(InfusedTasks, item).group.columns) for item in self.infused)
        return self.heads.num_tasks + sum(infused)

    @property
    def embedding(self) -> int:
        """Size of the embedding."""
        return self.config.embedding

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scaled labels, (B, T)."""
        return self.embed_and_predict(batch)[1]

    def targets(self, batch: GraphBatch) -> Tensor:
        """What training compares with its targets, (B, T): scaled labels without what costs explain of them."""
        return self._embed(batch)[1]

    def training_pass(self, batch: GraphBatch, hidden: tuple[Tensor, Tensor] | None) -> TrainingPass:
        """As ``targets``, with some nodes hidden (see `Backbone.encode_nodes`), and what was seen on the way."""
        graph_input = self.backbone.graph_input(batch)
        embedding, states, pooled = self.backbone.encode_nodes(batch, graph_input, hidden)
        return TrainingPass(self.heads(embedding, graph_input), states, pooled, graph_input)

    def embed_and_predict(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) and scaled labels (B, T) of one pass."""
        graph_input = self.backbone.graph_input(batch)
        states: list[Tensor] | None = [] if self.infused else None
        embedding = self.backbone.encode_nodes(batch, graph_input, layers=states)[0]
        labels = self.heads(embedding, graph_input)
        if self.costs is not None:
            labels = self.costs(labels, batch.graph_features)
        return embedding, self._with_infused(labels, batch, states or [], embedding, graph_input)

    def embed_and_adapt(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """As ``embed_and_predict``; labels (B, T + A), the last as the adapters see those of ``adapted_columns``."""
        graph_input = self.backbone.graph_input(batch)
        embedding, _, states = self.backbone.encode_layers(batch, graph_input)
        targets = self.heads(embedding, graph_input)
        found = [adapter(batch, states, embedding, graph_input) for adapter in self.adapters]
        adapted = torch.cat([targets[:, :0], *found], dim=1)
        if self.costs is not None:
            features = batch.graph_features
            own = torch.eye(self.heads.num_tasks, device=targets.device)[self.adapted_columns]
            targets, adapted = self.costs(targets, features), self.costs.restore(adapted, features, own)
        labels = self._with_infused(targets, batch, states, embedding, graph_input)
        return embedding, torch.cat([labels, adapted], dim=1)

    def _with_infused(
        self, labels: Tensor, batch: GraphBatch, states: list[Tensor], embedding: Tensor, graph_input: Tensor
    ) -> Tensor:
        """Scaled labels of the heads' tasks -> those of all tasks, (B, T)."""
        if not self.infused:
            return labels
        found = [item(batch, states, embedding, graph_input) for item in self.infused]
        return torch.cat([labels, *found], dim=1)

    def _embed(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        graph_input = self.backbone.graph_input(batch)
        embedding = self.backbone.encode(batch, graph_input)
        return embedding, self.heads(embedding, graph_input)

    def zero_shot(self, embedding: Tensor, graph: Tensor, features: Tensor, similar: Tensor) -> Tensor:
        """Scaled labels (B, K) of K tasks known by their descriptions alone.

        Args:
            embedding: (B, D).
            graph: (B, G), graph features as encoded.
            features: (K, F), the descriptions.
            similar: (K, H), rows that sum to 1: which of the H tasks that heads know an unseen task is taken to be like
                in its relation to costs.
        """
        if not isinstance(self.heads, DescribedHeads):
            raise AiopError(
                "the predictor was trained with `heads: index` and knows no task by its description: "
                "train one with `heads: description`"
            )
        targets = self.heads.unseen(features, embedding, self.backbone.standardise_graph(graph))
        return targets if self.costs is None else self.costs.restore(targets, graph, similar)


class Ensemble(nn.Module):
    """Networks of one shape trained from different seeds, read as one: their errors partly cancel.

    Args:
        members: at least one, all of the same settings and tasks.
    """

    def __init__(self, members: Sequence[PredictorModule]) -> None:
        super().__init__()
        self.config = members[0].config
        self.members = nn.ModuleList(members)

    @property
    def num_tasks(self) -> int:
        """As that of every member."""
        return cast(PredictorModule, self.members[0]).num_tasks

    @property
    def embedding(self) -> int:
        """Size of the embedding: those of the members side by side."""
        return len(self.members) * self.config.embedding

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scaled targets, (B, T): the mean over the members."""
        return self.embed_and_predict(batch)[1]

    def embed_and_predict(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) of all members side by side, and the mean of their scaled targets (B, T)."""
        embeddings, scaled = [], []
        for member in self.members:
            embedding, output = cast(PredictorModule, member).embed_and_predict(batch)
            embeddings.append(embedding)
            scaled.append(output)
        return torch.cat(embeddings, dim=1), torch.stack(scaled).mean(dim=0)

    @property
    def infused(self) -> list[InfusedTasks]:
        """Those of the first member; the others have the same tasks."""
        return [cast(InfusedTasks, item) for item in cast(PredictorModule, self.members[0]).infused]

    @property
    def adapters(self) -> list[GroupAdapter]:
        """Those of the first member; the others have adapters for the same groups."""
        return [cast(GroupAdapter, adapter) for adapter in cast(PredictorModule, self.members[0]).adapters]

    @property
    def adapted_columns(self) -> list[int]:
        """As that of every member."""
        return cast(PredictorModule, self.members[0]).adapted_columns

    def embed_and_adapt(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """As ``embed_and_predict``; labels (B, T + A) as those of every member."""
        found = [cast(PredictorModule, member).embed_and_adapt(batch) for member in self.members]
        embeddings, scaled = zip(*found, strict=True)
        return torch.cat(embeddings, dim=1), torch.stack(scaled).mean(dim=0)

    def zero_shot(self, embedding: Tensor, graph: Tensor, features: Tensor, similar: Tensor) -> Tensor:
        """As that of `PredictorModule`, from the members' embeddings side by side: the mean over the members."""
        parts = torch.split(embedding, self.config.embedding, dim=1)
        found = [
            cast(PredictorModule, member).zero_shot(part, graph, features, similar)
            for member, part in zip(self.members, parts, strict=True)
        ]
        return torch.stack(found).mean(dim=0)
