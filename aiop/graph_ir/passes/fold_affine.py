"""Merge per-channel scales and shifts into the layer or normalisation before them."""

from __future__ import annotations

import math
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.passes.base import PassResult, as_large, consumers

__all__ = ["fold_affine"]

_LAYERS = frozenset({"Conv", "DepthwiseConv", "ConvTranspose", "Linear"})
_NORMS = frozenset({"BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm", "RMSNorm"})
_SCALES = frozenset({"Mul", "Div"})
_SHIFTS = frozenset({"Add", "Sub"})


def fold_affine(graph: ComputeGraph) -> PassResult:
    """Merge a batch norm, or a product or sum with one trained number per channel, into what feeds it.

    Exporters fold batch norm at will, and write a layer's bias as a sum, so files with and without come to the same
    graph: one layer with a bias of one number per output channel, one normalisation with its scale and shift. A scale
    and a shift that follow neither are a batch norm. Only where nothing else reads the tensor between.
    """
    if not any(len(each.inputs) == 1 and _is_affine(each) for each in graph.operations):
        return PassResult(graph, False)
    users: dict[str, list[int]] | None = None
    producers = graph.producers
    operations: list[Operation | None] = list(graph.operations)
    hosts: dict[int, int] = {}  # index of a merged operation -> of the one it went into
    for index, operation in enumerate(graph.operations):
        if len(operation.inputs) != 1 or not _is_affine(operation):
            continue
        key = operation.inputs[0]
        before = producers[key]
        before = hosts.get(before, before)
        host = operations[before]
        if host is None or len(host.inputs) != 1 or len(host.outputs) != 1:
            continue
        merged = _merged(graph, host, operation) if as_large(graph, key, operation.outputs[0]) else None
        if merged is None:
            continue
        users = users or consumers(graph)
        if users[key] == [index]:
            operations[before] = merged
            operations[index] = None
            hosts[index] = before
    if not hosts:
        return PassResult(graph, False)
    return PassResult(
        graph.with_operations([operation for operation in operations if operation is not None]), True
    )


def _is_affine(operation: Operation) -> bool:
    if operation.op == "BatchNorm":
        return len(operation.weights) > 0
    if operation.op not in _SCALES and operation.op not in _SHIFTS:
        return False
    return len(operation.weights) == 1 and not operation.scalars


def _merged(graph: ComputeGraph, host: Operation, affine: Operation) -> Operation | None:
    """Return ``host`` with the scale or shift of ``affine`` taken in, ``None`` where it cannot be."""
    count = affine.weights[0].elements
    if host.op in _LAYERS:
        if count != _channels(graph, host):
            return None
        bias = host.bias or affine.op not in _SCALES
        params = host.params + (count if bias and not host.bias else 0)
        return replace(host, outputs=affine.outputs, bias=bias, params=params)
    if host.op in _NORMS and _is_norms(host, affine, count):
        held = len(host.weights) or min(2, host.params // max(1, count))
        number = max(1, held) if affine.op in _SCALES else min(2, 1 + held)
        params = host.params + (number - held) * count
        weights = host.weights[:1] * (number if host.weights else 0)
        return replace(host, outputs=affine.outputs, weights=weights, params=params)
    if not (_along_one_axis(affine) and host.op in _SCALES and affine.op in _SHIFTS and _is_affine(host)):
        return None
    if host.weights[0].elements == count:
        return replace(
            host, op="BatchNorm", onnx_type="BatchNormalization", outputs=affine.outputs, attributes=(),
            weights=_vectors(affine, 2), params=host.params + affine.params,
        )  # fmt: skip
    return None


def _is_norms(host: Operation, affine: Operation, count: int) -> bool:
    """Return whether a scale or shift of ``count`` numbers is of the kind that a normalisation may have itself."""
    if affine.op == "BatchNorm" and host.op != "BatchNorm":
        return False
    if "size" in (given := dict(host.attributes)):
        return count == given["size"]
    if host.weights:
        return count == host.weights[0].elements
    if not _along_one_axis(affine):
        return False
    return count == host.groups if host.op == "InstanceNorm" else count % max(1, host.groups) == 0


def _along_one_axis(affine: Operation) -> bool:
    return sum([extent != 1 for extent in affine.weights[0].shape]) < 2


def _vectors(affine: Operation, number: int) -> tuple[TensorSpec, ...]:
    """Return the weights of ``number`` scales and shifts as large as that of ``affine``, whatever its axes."""
    shape = affine.weights[0].shape
    if _along_one_axis(affine):
        shape = (affine.weights[0].elements,)
    return (TensorSpec(shape, affine.weights[0].dtype),) * number


def _channels(graph: ComputeGraph, layer: Operation) -> int:
    """Return how many output channels a layer has: positions times its weights are its MACs."""
    if layer.op == "Linear":
        outputs = graph.tensors[layer.outputs[0]].elements
        return outputs * layer.weights[0].elements // layer.macs if layer.weights and layer.macs else 0
    weights = layer.weights[0].shape if layer.weights else ()
    if layer.op == "ConvTranspose":
        return math.prod(weights[1:2]) * layer.groups
    return weights[0] if weights else 0
