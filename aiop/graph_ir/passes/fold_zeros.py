"""Leave out what is multiplied by zero: search spaces write the operation `none` that way."""

from __future__ import annotations

from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, as_large, consumers, rewire

__all__ = ["fold_zeros"]

_KEEPS_ZERO = frozenset({"Relu", "AvgPool", "MaxPool", "GlobalAvgPool", "Reshape", "Transpose", "Slice"})


def fold_zeros(graph: ComputeGraph) -> PassResult:
    """Replace ``x * 0`` by a ``Zero`` without inputs, and drop zeros from sums of tensors of one shape.

    A zero among other constant factors is a trained gain at its first value (SkipInit), and becomes 1: what it scales
    is a part of the network.
    """
    if not any(operation.op == "Mul" and 0.0 in operation.scalars for operation in graph.operations):
        return PassResult(graph, False)
    gains = _gains(graph)
    zeros: set[str] = set()
    aliases: dict[str, str] = {}
    kept = []
    for index, operation in enumerate(graph.operations):
        op, inputs = operation.op, operation.inputs
        if index in gains:
            kept.append(replace(operation, scalars=(1.0,)))
            continue
        if (op == "Mul" and 0.0 in operation.scalars) or (
            op in _KEEPS_ZERO and inputs and all(key in zeros for key in inputs)
        ):
            zeros.update(operation.outputs)
        elif op == "Add" and not operation.weights and not operation.scalars and zeros.intersection(inputs):
            whole = [key for key in inputs if key not in zeros and as_large(graph, key, operation.outputs[0])]
            left = tuple(key for key in inputs if key not in zeros)
            if not left:
                zeros.update(operation.outputs)
            elif len(left) == 1 and whole:
                aliases[operation.outputs[0]] = left[0]
                continue
            elif whole:
                kept.append(replace(operation, inputs=left))
                continue
        if zeros.intersection(operation.outputs):
            operation = replace(
                operation, op="Zero", onnx_type="Zero", inputs=(), scalars=(), attributes=(), kernel=(), stride=(),
                dilation=(), padding=(), groups=1, macs=0,
            )  # fmt: skip
        kept.append(operation)
    users = consumers(graph.with_operations(kept))
    read = [
        operation
        for operation in kept
        if operation.op != "Zero" or any(key in users for key in operation.outputs)
    ]
    return PassResult(rewire(graph, read, aliases).graph, True)


def _gains(graph: ComputeGraph) -> set[int]:
    """Return the products with zero that alone read, or are alone read by, a product with another number."""
    users = consumers(graph)
    found: set[int] = set()
    for index, operation in enumerate(graph.operations):
        readers = users.get(operation.outputs[0], []) if _is_scale(operation) else []
        if len(readers) == 1 and readers[0] >= 0:
            reader = graph.operations[readers[0]]
            if _is_scale(reader) and (0.0 in operation.scalars) != (0.0 in reader.scalars):
                found.add(index if 0.0 in operation.scalars else readers[0])
    return found


def _is_scale(operation: Operation) -> bool:
    one = len(operation.inputs) == len(operation.outputs) == len(operation.scalars) == 1
    return operation.op == "Mul" and one and not operation.weights
