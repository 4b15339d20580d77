"""Leave out what is multiplied by zero: search spaces write the operation `none` that way."""

from __future__ import annotations

from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.passes.base import PassResult, as_large, consumers, rewire

__all__ = ["fold_zeros"]

_KEEPS_ZERO = frozenset({"Relu", "AvgPool", "MaxPool", "GlobalAvgPool", "Reshape", "Transpose", "Slice"})


def fold_zeros(graph: ComputeGraph) -> PassResult:
    """Replace ``x * 0`` by a ``Zero`` without inputs, and drop zeros from sums of tensors of one shape."""
    if not any(operation.op == "Mul" and 0.0 in operation.scalars for operation in graph.operations):
        return PassResult(graph, False)
    zeros: set[str] = set()
    aliases: dict[str, str] = {}
    kept = []
    for operation in graph.operations:
        op, inputs = operation.op, operation.inputs
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
