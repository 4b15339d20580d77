"""A content hash of a graph that names and node order do not change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from aiop.graph_ir.channel_order import free_concats
from aiop.graph_ir.extents import COMMUTATIVE, Extent, extents
from aiop.graph_ir.graph import ComputeGraph, Operation

__all__ = ["content_hash", "operation_texts"]

# What these write is known by its axes; of all others by channels and positions, because views regroup axes at will.
_BY_AXES = frozenset(
    "Input Conv DepthwiseConv ConvTranspose MaxPool AvgPool Pad Resize Slice Transpose DepthToSpace SpaceToDepth "
    "RoiAlign GridSample Unknown".split()
)
_SPELLING = frozenset({"keepdims", "to"})  # attributes that only say how axes are kept, or elements stored


def content_hash(graph: ComputeGraph) -> str:
    """Return 32 hexadecimal digits: equal for graphs of the same operations, shapes and edges.

    Every operation's hash covers its kind, attributes, weight and output shapes and the hashes of its inputs (a
    Merkle hash along the edges), so the multiset of all of them identifies the graph. Inputs of sums and products,
    and of concatenations whose channels nobody tells apart (`free_concats`), are taken in any order. Call it on the
    canonical form.
    """
    digests: dict[str, bytes] = {}
    every: list[bytes] = []
    unordered = free_concats(graph)
    texts = _texts(graph, unordered)
    for index, (operation, text) in enumerate(zip(graph.operations, texts, strict=True)):
        sources = [digests[key] for key in operation.inputs]
        if operation.op in COMMUTATIVE or index in unordered:
            sources.sort()
        digest = hashlib.blake2b(text.encode() + b"".join(sources), digest_size=16).digest()
        for position, key in enumerate(operation.outputs):
            digests[key] = digest if position == 0 else digest + bytes([position % 256])
        every.append(digest)
    outputs = b"".join(sorted(digests[key] for key in graph.outputs))
    return hashlib.blake2b(b"".join(sorted(every)) + outputs, digest_size=16).hexdigest()


def operation_texts(graph: ComputeGraph) -> list[str]:
    """Return what the hash covers of every operation besides its inputs: two that say the same are alike."""
    return _texts(graph, free_concats(graph))


def _texts(graph: ComputeGraph, unordered: frozenset[int]) -> list[str]:
    measure = extents(graph)
    # how many channels each input of these has is part of the input
    return [
        _text(replace(operation, attributes=()) if index in unordered else operation, graph, measure)
        for index, operation in enumerate(graph.operations)
    ]


def _text(operation: Operation, graph: ComputeGraph, measure: dict[str, Extent]) -> str:
    written: Callable[[str], tuple[int, ...]]
    if operation.op in _BY_AXES:
        # an axis of one element is a view's
        written = lambda key: tuple(extent for extent in graph.tensors[key].shape if extent != 1)  # noqa: E731
    else:
        written = measure.__getitem__
    return repr(
        (
            operation.op, operation.kernel, operation.stride, operation.dilation, operation.padding,
            operation.groups, operation.bias, operation.macs,
            tuple(item for item in operation.attributes if item[0] not in _SPELLING),
            tuple(round(number, 4) for number in operation.scalars),
            _weights(operation),
            tuple(tuple(written(key)) for key in operation.outputs),
        )
    )  # fmt: skip


def _weights(operation: Operation) -> list[tuple[int, ...]]:
    """Return weight shapes without what files write in several ways.

    A bias, which `bias` says; whether a matrix is transposed; axes of one element, which broadcasting adds at will.
    """
    shapes = [weight.shape for weight in operation.weights]
    if operation.op == "Linear":
        return [tuple(sorted(shape)) for shape in shapes if len(shape) > 1]
    if operation.bias:
        return [shape for shape in shapes if len(shape) > 1]
    return [tuple(extent for extent in shape if extent != 1) for shape in shapes]
