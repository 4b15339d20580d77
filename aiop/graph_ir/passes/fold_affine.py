"""Merge per-channel scales and shifts into the convolution or linear layer before them."""

from __future__ import annotations

from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, as_large, consumers

__all__ = ["fold_affine"]

_FOLDS_INTO = frozenset({"Conv", "DepthwiseConv", "ConvTranspose", "Linear"})


def fold_affine(graph: ComputeGraph) -> PassResult:
    """Merge a batch norm, or a product or sum with one trained number per channel, into the layer that feeds it.

    Exporters fold batch norm at will, and write a layer's bias as a sum, so files with and without come to the same
    graph: one layer with a bias of one number per output channel. Only where nothing else reads the layer's output.
    """
    users = consumers(graph)
    producers = graph.producers
    operations: list[Operation | None] = list(graph.operations)
    hosts: dict[int, int] = {}  # index of a merged operation -> of the layer it went into
    for index, operation in enumerate(graph.operations):
        if len(operation.inputs) != 1 or operation.op not in ("BatchNorm", "Add", "Sub", "Mul"):
            continue
        key = operation.inputs[0]
        before = producers[key]
        before = hosts.get(before, before)
        host = operations[before]
        if host is None or host.op not in _FOLDS_INTO or users[key] != [index] or len(host.inputs) != 1:
            continue
        shape = graph.tensors[operation.outputs[0]].shape
        channels = shape[1] if host.op != "Linear" and len(shape) > 1 else (1, *shape)[-1]
        if not _is_affine(operation, channels) or not as_large(graph, key, operation.outputs[0]):
            continue
        params = host.params if host.bias else host.params + channels
        operations[before] = replace(host, outputs=operation.outputs[:1], bias=True, params=params)
        operations[index] = None
        hosts[index] = before
    if not hosts:
        return PassResult(graph, False)
    return PassResult(
        graph.with_operations([operation for operation in operations if operation is not None]), True
    )


def _is_affine(operation: Operation, channels: int) -> bool:
    if operation.op == "BatchNorm":
        return True
    return len(operation.weights) == 1 and operation.weights[0].elements == channels and not operation.scalars
