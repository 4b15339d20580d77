"""Leave out operations that only rename, regroup or rescale elements."""

from __future__ import annotations

from collections.abc import Callable

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.operators import VIEWS
from aiop.graph_ir.passes.base import PassResult, as_large, rewire

__all__ = ["drop_scales", "drop_views"]

_MAY_DO_NOTHING = frozenset({"Expand", "Slice", "Pad", "Resize", "Concat", "Split", "Add", "Min", "Max"})


def drop_views(graph: ComputeGraph) -> PassResult:
    """Remove Reshape, Flatten, Squeeze, Identity, Cast and the like, and slices and pads that change nothing."""
    return _drop(graph, _is_view)


def drop_scales(graph: ComputeGraph) -> PassResult:
    """Remove products with and divisions by one constant number: a weight before or after could hold the factor.

    Runs after the passes that recognise activations written with such factors, and after zeros are folded.
    """
    return _drop(graph, _is_scale)


def _is_view(graph: ComputeGraph, operation: Operation) -> bool:
    if operation.op in VIEWS:
        return True
    if operation.op in ("Add", "Sub") and operation.scalars == (0.0,) and not operation.attributes:
        return not operation.weights and as_large(graph, operation.inputs[0], operation.outputs[0])
    return (
        operation.op in _MAY_DO_NOTHING
        and not operation.weights
        and not operation.scalars
        and not (operation.op == "Slice" and operation.attributes and _turns(operation))
        and as_large(graph, operation.inputs[0], operation.outputs[0])
    )


def _turns(operation: Operation) -> bool:
    """Return whether a slice of everything goes backwards along an axis."""
    given = dict(operation.attributes)
    steps = given.get("steps") or [stride for _, stride in given.get("digits", ())]  # type: ignore[attr-defined]
    return any(step < 0 for step in steps)  # type: ignore[attr-defined]


def _is_scale(graph: ComputeGraph, operation: Operation) -> bool:
    return (
        operation.op in ("Mul", "Div")
        and len(operation.scalars) == 1
        and operation.scalars[0] != 0
        and not operation.weights
        and as_large(graph, operation.inputs[0], operation.outputs[0])
    )


def _drop(graph: ComputeGraph, drops: Callable[[ComputeGraph, Operation], bool]) -> PassResult:
    aliases: dict[str, str] = {}
    kept = []
    for operation in graph.operations:
        if len(operation.inputs) == 1 and len(operation.outputs) == 1 and drops(graph, operation):
            aliases[operation.outputs[0]] = operation.inputs[0]
        else:
            kept.append(operation)
    return rewire(graph, kept, aliases)
