"""Leave out operations that only rename or regroup elements."""

from __future__ import annotations

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.operators import VIEWS
from aiop.graph_ir.passes.base import PassResult, rewire

__all__ = ["drop_views"]


def drop_views(graph: ComputeGraph) -> PassResult:
    """Remove Reshape, Flatten, Squeeze, Unsqueeze, Identity and Cast; their readers read what they read."""
    aliases: dict[str, str] = {}
    kept = []
    for operation in graph.operations:
        if operation.op in VIEWS and len(operation.inputs) == 1 and len(operation.outputs) == 1:
            aliases[operation.outputs[0]] = operation.inputs[0]
        else:
            kept.append(operation)
    return rewire(graph, kept, aliases)
