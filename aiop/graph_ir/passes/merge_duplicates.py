"""Compute once what a file computes several times."""

from __future__ import annotations

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.passes.base import PassResult, rewire

__all__ = ["merge_duplicates"]


_NEVER = frozenset(
    {"Input", "Random", "Unknown", "Control", "Zero", "Slice", "Split", "Gather", "Where", "Sequence"}
)


def merge_duplicates(graph: ComputeGraph) -> PassResult:
    """Merge operations without weights that do the same to the same tensors, such as three ReLUs of one tensor."""
    seen: dict[tuple[object, ...], tuple[str, ...]] = {}
    aliases: dict[str, str] = {}
    kept = []
    for operation in graph.operations:
        # slices and splits carry their limits outside the attributes kept here, so equal shapes are no proof
        if operation.params or operation.weights or operation.op in _NEVER:
            kept.append(operation)
            continue
        key = (
            operation.op, operation.onnx_type, tuple(aliases.get(name, name) for name in operation.inputs),
            operation.kernel, operation.stride, operation.padding, operation.dilation, operation.scalars,
            operation.attributes, tuple(graph.tensors[name] for name in operation.outputs),
        )  # fmt: skip
        first = seen.setdefault(key, operation.outputs)
        if first is operation.outputs:
            kept.append(operation)
        else:
            aliases.update(zip(operation.outputs, first, strict=True))
    return rewire(graph, kept, aliases)
