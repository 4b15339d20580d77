"""Count an operation's weights by their shapes, however a file stores what they are made of."""

from __future__ import annotations

from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult

__all__ = ["size_weights"]

_LAYERS = frozenset({"Conv", "DepthwiseConv", "ConvTranspose", "Linear"})


def size_weights(graph: ComputeGraph) -> PassResult:
    """Set the parameters of every operation that has weights to the numbers that these weights hold.

    While a file is read, a weight counts with the trained tensors it is computed from, and once where layers share it.
    Files differ in that: an exporter may have looked up a table of positions beforehand, standardised a weight, or
    stored a shared one twice. In the canonical form a weight counts as large as it is, wherever it is used.
    """
    operations = list(graph.operations)
    changed = False
    for index, operation in enumerate(operations):
        if operation.weights and (params := _held(graph, operation)) != operation.params:
            operations[index] = replace(operation, params=params)
            changed = True
    return PassResult(graph.with_operations(operations) if changed else graph, changed)


def _held(graph: ComputeGraph, operation: Operation) -> int:
    if operation.op not in _LAYERS:
        return sum(weight.elements for weight in operation.weights)
    matrices = [weight for weight in operation.weights if len(weight.shape) > 1] or list(operation.weights)
    params = sum(weight.elements for weight in matrices)
    if not operation.bias:
        return params
    # a bias may be a sum that was merged, so its size is the layer's
    first = matrices[0].shape
    if not first:
        return params
    if operation.op == "ConvTranspose":
        return params + first[1] * operation.groups
    if operation.op != "Linear":
        return params + first[0]
    written = graph.tensors[operation.outputs[0]].shape
    return params + (written[-1] if written and written[-1] in first else first[-1])
