"""Channels and positions of every tensor, however a file groups its axes.

Files write the same tensor as ``(1, 197, 768)`` or ``(197, 768)``, and the same image with its channels first or last.
What a tensor *is*, so many positions of so many channels, follows from the operation that made it: a convolution's
channels are its filters, a matrix product's the columns of its matrix, and what works element by element hands on
what it was given.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from aiop.graph_ir.graph import ComputeGraph, Operation

__all__ = ["COMMUTATIVE", "Extent", "extents"]

COMMUTATIVE = frozenset({"Add", "Mul", "Min", "Max"})
"""Operators whose inputs may come in any order."""

_SECOND_AXIS = frozenset(
    {
        "Conv",
        "DepthwiseConv",
        "ConvTranspose",
        "BatchNorm",
        "InstanceNorm",
        "GroupNorm",
        "DepthToSpace",
        "SpaceToDepth",
    }
)
_NORMS = frozenset({"BatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm", "RMSNorm"})
_LAST_AXIS = frozenset(
    {"Linear", "MatMul", "Attention", "LayerNorm", "RMSNorm", "Embedding", "LSTM", "GRU", "RNN"}
)


class Extent(NamedTuple):
    """How many channels a tensor has, and at how many positions: their product is its elements."""

    channels: int
    positions: int


def extents(graph: ComputeGraph) -> dict[str, Extent]:
    """Return the extent of every tensor that an operation of the graph writes."""
    found: dict[str, Extent] = {}
    for operation in graph.operations:
        sources = [found[key] for key in operation.inputs if key in found]
        for key in operation.outputs:
            shape = graph.tensors[key].shape
            channels = _channels(operation, shape, sources)
            found[key] = Extent(channels, math.prod(shape) // max(1, channels))
    return found


def _channels(operation: Operation, shape: tuple[int, ...], sources: list[Extent]) -> int:
    op = operation.op
    if op in _NORMS:
        scales = _scales(operation)  # one for every channel, however the file groups the axes
        if 0 < scales < math.prod(shape) and math.prod(shape) % scales == 0:
            return scales
    if op in _SECOND_AXIS and len(shape) > 2:
        return shape[1]
    if op in _LAST_AXIS and shape:
        return shape[-1]
    if not sources:
        return _by_rank(shape)
    elements = math.prod(shape)
    # of several inputs the widest, so that their order does not matter
    same = [source.channels for source in sources if source.channels * source.positions == elements]
    if same:
        return max(same) if op in COMMUTATIVE or op == "Where" else same[0]
    if op == "Concat":
        joined = sum(source.channels for source in sources)
        apart = len({source.positions for source in sources}) > 1
        return max(source.channels for source in sources) if apart or joined not in shape else joined
    first = max(sources) if op in COMMUTATIVE else sources[0]
    if first.channels in shape and elements % max(1, first.channels) == 0:
        return first.channels
    if first.positions and elements % first.positions == 0:
        return elements // first.positions
    return _by_rank(shape)


def _scales(norm: Operation) -> int:
    size = dict(norm.attributes).get("size", 0)
    return norm.weights[0].elements if norm.weights else size if isinstance(size, int) else 0


def _by_rank(shape: tuple[int, ...]) -> int:
    """Return the second axis of an image, the last axis of a sequence."""
    return shape[1 if len(shape) >= 4 else -1] if shape else 1
