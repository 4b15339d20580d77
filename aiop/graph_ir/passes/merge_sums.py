"""Bring chains of additions to one sum."""

from __future__ import annotations

from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, as_large, consumers

__all__ = ["merge_sums"]


def merge_sums(graph: ComputeGraph) -> PassResult:
    """Replace ``(a + b) + c`` by a sum of three, where nothing else reads ``a + b`` and all have one shape."""
    sums = {
        operation.outputs[0] for operation in graph.operations if operation.op == "Add" and operation.outputs
    }
    if not any(
        operation.op == "Add" and not sums.isdisjoint(operation.inputs) for operation in graph.operations
    ):
        return PassResult(graph, False)
    users = consumers(graph)
    merged: dict[str, Operation] = {}  # output of a sum that its only reader has taken in
    kept: list[Operation] = []
    for operation in graph.operations:
        if _is_sum(graph, operation):
            inputs: list[str] = []
            for key in operation.inputs:
                inner = merged.pop(key, None)
                inputs += inner.inputs if inner is not None else (key,)
            if len(inputs) > len(operation.inputs):
                operation = replace(operation, inputs=tuple(inputs))
            after = users.get(operation.outputs[0], [])
            if len(after) == 1 and after[0] >= 0 and _is_sum(graph, graph.operations[after[0]]):
                merged[operation.outputs[0]] = operation
                continue
        kept.append(operation)
    return PassResult(graph.with_operations(kept), len(kept) != len(graph.operations))


def _is_sum(graph: ComputeGraph, operation: Operation) -> bool:
    if operation.op != "Add" or operation.weights or operation.scalars or len(operation.inputs) < 2:
        return False
    return all(as_large(graph, key, operation.outputs[0]) for key in operation.inputs)
