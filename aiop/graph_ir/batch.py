"""Many graphs as one batch of tensors, and message passing over it.

A batch is the disjoint union of its graphs: nodes are concatenated, edges are shifted by the number of nodes
before their graph. The engine that sums over neighbours is hidden behind :func:`neighbour_sum`: DGL's
kernels, or plain torch with the same numbers (other Pythons, GPUs, batches too small to repay DGL's import).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from aiop.errors import AiopError

if TYPE_CHECKING:
    from aiop.graph_ir.features import GraphArrays

__all__ = [
    "AUTO_DGL_NODES",
    "ENGINES",
    "Engine",
    "GraphBatch",
    "collate",
    "dgl_available",
    "neighbour_mean",
    "neighbour_sum",
    "segment_max",
    "segment_mean",
    "segment_sum",
]

Engine = Literal["auto", "dgl", "torch"]
ENGINES: tuple[Engine, ...] = ("auto", "dgl", "torch")

# Below this many nodes "auto" does not import DGL (1.5 s); once imported by anyone it is used at every size.
AUTO_DGL_NODES = 20_000


@dataclass(slots=True, eq=False)
class GraphBatch:
    """B graphs with N nodes and E edges in all.

    Attributes:
        op: int64 (N,), index into the operator vocabulary.
        node: float32 (N, F), node features.
        graph_features: float32 (B, G).
        src: int64 (E,), source node of every edge, counted through the batch.
        dst: int64 (E,), target node of every edge.
        graph_index: int64 (N,), the graph each node belongs to, ascending.
        ptr: int64 (B + 1,), graph ``i`` owns the nodes ``ptr[i]:ptr[i + 1]``.
        engine: which engine :func:`neighbour_sum` uses on this batch.
    """

    op: Tensor
    node: Tensor
    graph_features: Tensor
    src: Tensor
    dst: Tensor
    graph_index: Tensor
    ptr: Tensor
    engine: Engine = "auto"
    # Index structures built on first use: they depend on the edges only, so every layer shares them.
    _built: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def num_graphs(self) -> int:
        """Number of graphs B."""
        return int(self.ptr.numel()) - 1

    @property
    def num_nodes(self) -> int:
        """Number of nodes N of all graphs."""
        return int(self.op.numel())

    @property
    def num_edges(self) -> int:
        """Number of edges E of all graphs."""
        return int(self.src.numel())

    def to(self, device: torch.device | str) -> GraphBatch:
        """Return the batch on ``device``; the batch itself where it is there already."""
        if self.op.device == torch.device(device):
            return self
        names = ("op", "node", "graph_features", "src", "dst", "graph_index", "ptr")
        return GraphBatch(**{name: getattr(self, name).to(device) for name in names}, engine=self.engine)

    def prepare(self) -> GraphBatch:
        """Build what message passing derives from the edges now, e.g. in a thread that reads ahead."""
        neighbour_sum(self, self.node[:, :1])
        segment_sum(self, self.node[:, :1])
        return self


def collate(arrays: Sequence[GraphArrays], *, engine: Engine = "auto") -> GraphBatch:
    """Join graphs into one batch.

    The rule of every field: ``op`` and ``node`` are concatenated along the nodes; ``edge_index`` is shifted by
    the nodes before its graph and concatenated along the edges; ``graph`` is stacked.

    Raises:
        AiopError: for an empty list, an unknown engine, features of different widths, or an edge that leaves
            its graph.
    """
    if engine not in ENGINES:
        raise AiopError(f"engine {engine!r} is unknown: choose one of {', '.join(ENGINES)}")
    if not arrays:
        raise AiopError("a batch needs at least one graph: found an empty list")
    sizes = np.fromiter((len(item.op) for item in arrays), dtype=np.int64, count=len(arrays))
    edge_counts = np.fromiter(
        (item.edge_index.shape[1] for item in arrays), dtype=np.int64, count=len(arrays)
    )
    ptr = np.zeros(len(arrays) + 1, dtype=np.int64)
    np.cumsum(sizes, out=ptr[1:])
    try:
        op = np.concatenate([item.op for item in arrays])
        node = np.concatenate([item.node for item in arrays])
        edges = np.concatenate([item.edge_index for item in arrays], axis=1)
        graph = np.stack([item.graph for item in arrays])
    except ValueError as error:
        raise AiopError(
            f"graphs of other feature versions do not fit one batch ({error}): encode them again"
        ) from None
    if len(node) != len(op):
        raise AiopError(
            f"expected {len(op)} rows of node features in the batch, found {len(node)}: encode again"
        )
    # A wrong index would read another graph's nodes or memory outside the batch: refuse it here, once.
    if edges.size and ((edges < 0).any() or (edges >= np.repeat(sizes, edge_counts)).any()):
        wrong = ((edges < 0) | (edges >= np.repeat(sizes, edge_counts))).any(axis=0)
        graph_number = int(np.repeat(np.arange(len(arrays)), edge_counts)[wrong][0])
        raise AiopError(
            f"graph {graph_number} of the batch has an edge outside its {sizes[graph_number]} nodes: "
            "encode it again"
        )
    edges = edges + np.repeat(ptr[:-1], edge_counts)
    return GraphBatch(
        op=torch.from_numpy(op.astype(np.int64)),
        node=torch.from_numpy(node.astype(np.float32)),
        graph_features=torch.from_numpy(graph.astype(np.float32, copy=False)),
        src=torch.from_numpy(edges[0]),
        dst=torch.from_numpy(edges[1]),
        graph_index=torch.from_numpy(np.repeat(np.arange(len(arrays)), sizes)),
        ptr=torch.from_numpy(ptr),
        engine=engine,
    )


def neighbour_sum(batch: GraphBatch, h: Tensor, reverse: bool = False) -> Tensor:
    """Sum the states of every node's predecessors (of its successors with ``reverse``).

    Args:
        batch: N nodes, E edges.
        h: float (N, D), one state per node.
        reverse: against the direction of the edges.

    Returns:
        (N, D): row v is the sum of ``h[u]`` over the edges (u, v); zeros where v has no predecessor. An edge
        that occurs twice counts twice.
    """
    return _aggregate(batch, h, reverse, 0.0)


def neighbour_mean(batch: GraphBatch, h: Tensor, reverse: bool = False, power: float = 1.0) -> Tensor:
    """Sum over neighbours divided by ``degree ** power``: the mean by default, sum / sqrt(degree) with 0.5.

    Shapes and direction as in :func:`neighbour_sum`; a node without neighbours gets zeros.
    """
    return _aggregate(batch, h, reverse, power)


def segment_sum(batch: GraphBatch, h: Tensor) -> Tensor:
    """Sum over the nodes of every graph: (N, D) -> (B, D); zeros for a graph without nodes."""
    if "segments" not in batch._built:
        with torch.inference_mode(False):
            every = torch.arange(batch.num_nodes + 1, device=batch.ptr.device)
            batch._built["segments"] = ((every[:-1], batch.ptr, None), (batch.graph_index, every, None))
    return _bag_sum(h, *batch._built["segments"])


def segment_mean(batch: GraphBatch, h: Tensor) -> Tensor:
    """Mean over the nodes of every graph: (N, D) -> (B, D); zeros for a graph without nodes."""
    return segment_sum(batch, h) / batch.ptr.diff().clamp(min=1)[:, None]


def segment_max(batch: GraphBatch, h: Tensor) -> Tensor:
    """Maximum over the nodes of every graph: (N, D) -> (B, D); zeros for a graph without nodes.

    Nodes that share a maximum share its gradient equally.
    """
    target = h.new_zeros((batch.num_graphs, h.shape[1]))
    index = batch.graph_index[:, None].expand_as(h)
    return target.scatter_reduce(0, index, h, "amax", include_self=False)


def _aggregate(batch: GraphBatch, h: Tensor, reverse: bool, power: float) -> Tensor:
    if _resolve_engine(batch, h) == "dgl":
        summed: Tensor = _import_dgl().ops.copy_u_sum(_dgl_graph(batch, reverse), h)
        return summed if power == 0 else summed * _degree_factor(batch, reverse, power)[:, None]
    return _bag_sum(h, _bags(batch, reverse, power), _bags(batch, not reverse, power, of_source=True))


# Rows to add up: indices (E,), offsets (N + 1,), and a weight per index (E,) or None.
_Bags = tuple[Tensor, Tensor, Tensor | None]


class _BagSum(torch.autograd.Function):
    """Sums of rows ``h[indices[offsets[v]:offsets[v + 1]]]``; the gradient is the sum over the transposed lists.

    ``embedding_bag`` sums without a copy of the gathered rows: several times faster than ``index_add`` on CPUs,
    and free of atomics, so deterministic, on GPUs.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, bags: _Bags, back: _Bags) -> Tensor:
        ctx.bags = (bags, back)
        indices, offsets, weights = bags
        return functional.embedding_bag(
            indices,
            h.contiguous(),
            offsets,
            mode="sum",
            per_sample_weights=None if weights is None else weights.to(h.dtype),
            include_last_offset=True,
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        bags, back = ctx.bags
        return _bag_sum(grads[0], back, bags), None, None


def _bag_sum(h: Tensor, bags: _Bags, back: _Bags) -> Tensor:
    result: Tensor = _BagSum.apply(h, bags, back)  # type: ignore[no-untyped-call]
    return result


def _bags(batch: GraphBatch, reverse: bool, power: float, of_source: bool = False) -> _Bags:
    """The neighbours of every node, each weighted with degree ** -power of the node that sums.

    With ``of_source`` the lists are those of the gradient: the node that sums is the neighbour.
    """
    here, there = (batch.src, batch.dst) if reverse else (batch.dst, batch.src)
    # Built outside inference mode: the same batch may be trained on later.
    with torch.inference_mode(False):
        key = f"rows-{reverse}"
        if key not in batch._built:
            offsets = torch.zeros(batch.num_nodes + 1, dtype=torch.int64, device=here.device)
            torch.cumsum(torch.bincount(here, minlength=batch.num_nodes), 0, out=offsets[1:])
            order = torch.argsort(here, stable=True)
            batch._built[key] = (there[order], offsets, here[order])
        neighbours, offsets, owners = batch._built[key]
        if power == 0:
            return neighbours, offsets, None
        weighted = f"weights-{reverse}-{power}-{of_source}"
        if weighted not in batch._built:
            factor = _degree_factor(batch, reverse != of_source, power)
            batch._built[weighted] = factor[neighbours if of_source else owners]
    return neighbours, offsets, batch._built[weighted]


def _degree_factor(batch: GraphBatch, reverse: bool, power: float) -> Tensor:
    """One over degree ** power of every node, (N,); the degree counts successors with ``reverse``; 1 where it is 0."""
    key = f"factor-{reverse}-{power}"
    if key not in batch._built:
        with torch.inference_mode(False):
            ends = batch.src if reverse else batch.dst
            degree = torch.bincount(ends, minlength=batch.num_nodes).clamp_(min=1)
            batch._built[key] = degree.float().pow_(-power)
    factor: Tensor = batch._built[key]
    return factor


def dgl_available() -> bool:
    """Whether DGL imports here. The first call imports it where it is installed (about 1.5 s)."""
    return _import_dgl() is not None


@cache
def _import_dgl() -> Any:
    # Without a backend named in advance DGL prints a line and writes a file into the home directory.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        import dgl
    except Exception:  # missing, or built against another torch: it fails in many ways
        return None
    return dgl


def _resolve_engine(batch: GraphBatch, h: Tensor) -> Engine:
    if batch.engine == "torch":
        return "torch"
    on_cpu = h.device.type == "cpu"
    if batch.engine == "dgl":
        if not on_cpu:
            raise AiopError(f"engine 'dgl' runs on the CPU, the batch is on {h.device}: use engine 'torch'")
        if not dgl_available():
            raise AiopError("engine 'dgl' does not import here: install dgl==1.1.3 or use engine 'torch'")
        return "dgl"
    if on_cpu and ("dgl" in sys.modules or batch.num_nodes >= AUTO_DGL_NODES) and dgl_available():
        return "dgl"
    return "torch"


def _dgl_graph(batch: GraphBatch, reverse: bool) -> Any:
    """The batch as a DGL graph with both sparse formats, and its reverse, which shares them."""
    if "dgl" not in batch._built:
        dgl = _import_dgl()
        with torch.inference_mode(False):
            edges = (batch.src.int(), batch.dst.int())
            graph = dgl.graph(edges, num_nodes=batch.num_nodes).formats(["csr", "csc"])
            graph.create_formats_()
            batch._built["dgl"] = (graph, dgl.reverse(graph, copy_ndata=False, copy_edata=False))
    pair: tuple[Any, Any] = batch._built["dgl"]
    return pair[int(reverse)]
