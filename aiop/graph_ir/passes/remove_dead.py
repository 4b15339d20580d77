"""Leave out what no output depends on."""

from __future__ import annotations

from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.passes.base import PassResult

__all__ = ["remove_dead"]


def remove_dead(graph: ComputeGraph) -> PassResult:
    """Remove operations from which no graph output can be reached, and the last outputs of others that nothing reads.

    Inputs stay, and so do unread outputs before one that is read: their places tell the others apart.
    """
    needed = set(graph.outputs)
    kept = []
    trimmed = False
    for operation in reversed(graph.operations):
        if operation.op == "Input" or needed.intersection(operation.outputs):
            needed.update(operation.inputs)
            if len(operation.outputs) > 1 and operation.outputs[-1] not in needed:
                last = max(place for place, key in enumerate(operation.outputs) if key in needed)
                outputs = operation.outputs[: last + 1]
                elements = sum(graph.tensors[key].elements for key in outputs)
                operation = replace(operation, outputs=outputs, output_elements=elements)
                trimmed = True
            kept.append(operation)
    kept.reverse()
    return PassResult(graph.with_operations(kept), trimmed or len(kept) != len(graph.operations))
