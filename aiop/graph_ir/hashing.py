"""A content hash of a graph that names and node order do not change."""

from __future__ import annotations

import hashlib

from aiop.graph_ir.graph import ComputeGraph, Operation

__all__ = ["content_hash"]

_COMMUTATIVE = frozenset({"Add", "Mul", "Min", "Max"})


def content_hash(graph: ComputeGraph) -> str:
    """Return 32 hexadecimal digits: equal for graphs of the same operations, shapes and edges.

    Every operation's hash covers its kind, attributes, weight and output shapes and the hashes of its inputs (a
    Merkle hash along the edges), so the multiset of all of them identifies the graph. Call it on the canonical form.
    """
    digests: dict[str, bytes] = {}
    every: list[bytes] = []
    for operation in graph.operations:
        sources = [digests[key] for key in operation.inputs]
        if operation.op in _COMMUTATIVE:
            sources.sort()
        text = repr(
            (
                operation.op, operation.kernel, operation.stride, operation.dilation, operation.padding,
                operation.groups, operation.bias, operation.attributes,
                tuple(round(number, 4) for number in operation.scalars),
                _weights(operation),
                tuple(graph.tensors[key].shape for key in operation.outputs),
            )
        )  # fmt: skip
        digest = hashlib.blake2b(text.encode() + b"".join(sources), digest_size=16).digest()
        for position, key in enumerate(operation.outputs):
            digests[key] = digest if position == 0 else digest + bytes([position % 256])
        every.append(digest)
    outputs = b"".join(sorted(digests[key] for key in graph.outputs))
    return hashlib.blake2b(b"".join(sorted(every)) + outputs, digest_size=16).hexdigest()


def _weights(operation: Operation) -> list[tuple[int, ...]]:
    """Return weight shapes without what files write in several ways: a bias, which `bias` says, and transposition."""
    shapes = [weight.shape for weight in operation.weights]
    if operation.op == "Linear":
        return [tuple(sorted(shape)) for shape in shapes if len(shape) > 1]
    if operation.bias:
        return [shape for shape in shapes if len(shape) > 1]
    return shapes
