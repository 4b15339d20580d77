"""Leave out what no output depends on."""

from __future__ import annotations

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.passes.base import PassResult

__all__ = ["remove_dead"]


def remove_dead(graph: ComputeGraph) -> PassResult:
    """Remove operations from which no graph output can be reached; inputs stay."""
    needed = set(graph.outputs)
    kept = []
    for operation in reversed(graph.operations):
        if operation.op == "Input" or needed.intersection(operation.outputs):
            needed.update(operation.inputs)
            kept.append(operation)
    kept.reverse()
    return PassResult(graph.with_operations(kept), len(kept) != len(graph.operations))
