"""A network as AIO-P sees it: the published nodes with their sizes, kernels and bias flags, and nothing richer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.baselines.aio_p.vocabulary import INDEX, JOINS, WEIGHTED, published
from aiop.graph_ir.extents import Extent, extents
from aiop.graph_ir.graph import ComputeGraph, Operation

__all__ = ["COLUMNS", "FIXED_MAXIMA", "LARGEST_KERNEL", "WEIGHTED_INDICES", "PublishedGraph", "publish"]

Array = npt.NDArray[Any]
Plane = tuple[int, int, int]

COLUMNS = ("label", "h_in", "h_out", "w_in", "w_out", "c_in", "c_out", "kernel_0", "kernel_1", "bias")
"""Columns of ``PublishedGraph.nodes``."""
FIXED_MAXIMA = (256, 256, 512)
"""What heights, widths and channels of classifiers are divided by."""
LARGEST_KERNEL = 7
WEIGHTED_INDICES = tuple(INDEX[name] for name in sorted(WEIGHTED))


@dataclass(frozen=True, eq=False)
class PublishedGraph:
    """One network.

    nodes: int32 ``(N, 10)``, `COLUMNS`; ``label`` is an index into the published labels.
    edges: int32 ``(2, E)``, row 0 the source; no edge is there twice.
    maxima: what heights, widths and channels are divided by.
    gflops: 10^9 floating-point operations, two per multiply-accumulate.
    """

    nodes: Array
    edges: Array
    maxima: tuple[int, int, int]
    gflops: float


def publish(graph: ComputeGraph, *, own_maxima: bool = False) -> PublishedGraph:
    """Return the published graph of a network as it was read (not of its canonical form).

    Sizes of tensors of four axes are exact; sequences count as square images of as many positions.

    Args:
        graph: with its batch norms, as files write them.
        own_maxima: divide by the graph's own largest height, width and channels of weighted nodes, as the authors do
            with graphs that hold a task's head, instead of by `FIXED_MAXIMA`, as they do with classifiers.

    Raises:
        AiopError: for a network of which no published operation is left.
    """
    builder = _Builder(graph)
    for operation in graph.operations:
        builder.add(operation)
    for tensor in graph.outputs:
        if tensor in builder.planes:
            plane = builder.planes[tensor]
            builder.emit("Output", plane, plane, builder.sources[tensor])
    nodes = np.array(builder.nodes, np.int32).reshape(-1, len(COLUMNS))
    if len(nodes) < 2:
        raise AiopError(f"network {graph.name} has no operation that AIO-P knows: leave it out")
    edges = np.array(builder.edges, np.int32).reshape(-1, 2).T.copy()
    maxima = _maxima(nodes) if own_maxima else FIXED_MAXIMA
    return PublishedGraph(nodes, edges, maxima, 2e-9 * graph.macs)


class _Builder:
    def __init__(self, graph: ComputeGraph) -> None:
        self.graph = graph
        self.measure = extents(graph)
        self.nodes: list[tuple[int, ...]] = []
        self.edges: list[tuple[int, int]] = []
        self.planes: dict[str, Plane] = {}
        self.sources: dict[str, tuple[int, ...]] = {}  # tensor -> the nodes that stand for it

    def add(self, operation: Operation) -> None:
        inputs = [key for key in operation.inputs if key in self.planes]
        read = tuple(dict.fromkeys(node for key in inputs for node in self.sources[key]))
        for key in operation.outputs:
            self.planes[key] = _plane(self.graph.tensors[key].shape, self.measure[key])
        if not operation.outputs:
            return
        after = self.planes[operation.outputs[0]]
        before = self.planes[inputs[0]] if inputs else after
        labels = published(operation)
        stands = read
        for place, label in enumerate(labels):
            # the product of a gate reads the gate and what the gate read
            sources = (*read, *stands) if place else read
            sources = tuple(dict.fromkeys(sources))
            if label in JOINS and len(sources) < 2:
                continue
            stands = (self.emit(label, before, after, sources, operation),)
            before = after
        for key in operation.outputs:
            self.sources[key] = stands

    def emit(
        self,
        label: str,
        before: Plane,
        after: Plane,
        sources: tuple[int, ...],
        operation: Operation | None = None,
    ) -> int:
        kernel, bias = (0, 0), 0
        if operation is not None and label in WEIGHTED:
            bias = int(operation.bias)
            if operation.kernel:
                kernel = min(LARGEST_KERNEL, operation.kernel[0]), min(LARGEST_KERNEL, operation.kernel[-1])
        sizes = (size for pair in zip(before, after, strict=True) for size in pair)
        self.edges += [(source, len(self.nodes)) for source in sources]
        self.nodes.append((INDEX[label], *sizes, *kernel, bias))
        return len(self.nodes) - 1


def _plane(shape: tuple[int, ...], extent: Extent) -> Plane:
    """Return (height, width, channels) of a tensor, whose axes may be in either order."""
    if len(shape) == 4:
        if shape[1] == extent.channels or shape[3] != extent.channels:
            return shape[2], shape[3], shape[1]
        return shape[1], shape[2], shape[3]
    side = max(1, round(math.sqrt(extent.positions)))
    return side, side, max(1, extent.channels)


def _maxima(nodes: Array) -> tuple[int, int, int]:
    weighted = nodes[np.isin(nodes[:, 0], WEIGHTED_INDICES)]
    channels = int(weighted[:, 5:7].max()) if len(weighted) else FIXED_MAXIMA[2]
    return int(nodes[:, 1:3].max()), int(nodes[:, 3:5].max()), channels
