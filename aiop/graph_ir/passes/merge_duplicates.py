"""Compute once what a file computes several times."""

from __future__ import annotations

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, rewire

__all__ = ["merge_duplicates"]


_NEVER = frozenset(
    {"Input", "Random", "Unknown", "Control", "Zero", "Slice", "Split", "Gather", "Where", "Sequence"}
)


def merge_duplicates(graph: ComputeGraph) -> PassResult:
    """Merge operations without weights that do the same to the same tensors, such as three ReLUs of one tensor."""
    # of most operations there is one of a kind with its inputs, and the rest need not be looked at
    alone: dict[tuple[object, ...], Operation] = {}
    seen: dict[tuple[object, ...], tuple[str, ...]] = {}
    aliases: dict[str, str] = {}
    kept = []
    for operation in graph.operations:
        # slices and splits carry their limits outside the attributes kept here, so equal shapes are no proof
        if operation.params or operation.weights or operation.op in _NEVER:
            kept.append(operation)
            continue
        inputs = (
            tuple([aliases.get(name, name) for name in operation.inputs]) if aliases else operation.inputs
        )
        kind = (operation.op, inputs)
        other = alone.setdefault(kind, operation)
        if other is operation:
            kept.append(operation)
            continue
        seen.setdefault((kind, _details(graph, other)), other.outputs)
        first = seen.setdefault((kind, _details(graph, operation)), operation.outputs)
        if first is operation.outputs:
            kept.append(operation)
        else:
            aliases.update(zip(operation.outputs, first, strict=True))
    return rewire(graph, kept, aliases)


def _details(graph: ComputeGraph, operation: Operation) -> tuple[object, ...]:
    return (
        operation.onnx_type, operation.kernel, operation.stride, operation.padding, operation.dilation,
        operation.scalars, operation.attributes, _written(graph, operation),
    )  # fmt: skip


def _written(graph: ComputeGraph, operation: Operation) -> tuple[object, ...]:
    specs = [graph.tensors[name] for name in operation.outputs]
    if operation.attributes and operation.attributes[-1][0] == "span":
        return tuple([spec.elements for spec in specs])  # whether the reduced axes stay does not matter
    return tuple(specs)
