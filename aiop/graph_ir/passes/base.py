"""What a pass returns, and the look-ups passes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aiop.graph_ir.graph import ComputeGraph, Operation

__all__ = ["Pass", "PassResult", "as_large", "consumers", "rewire"]


@dataclass(frozen=True, slots=True)
class PassResult:
    """The graph after a pass (a new one where it changed), and whether it changed."""

    graph: ComputeGraph
    changed: bool


Pass = Callable[[ComputeGraph], PassResult]


def consumers(graph: ComputeGraph) -> dict[str, list[int]]:
    """Return tensor -> indices of the operations that read it; a graph output is read by index -1."""
    users: dict[str, list[int]] = {}
    for index, operation in enumerate(graph.operations):
        for key in operation.inputs:
            users.setdefault(key, []).append(index)
    for key in graph.outputs:
        users.setdefault(key, []).append(-1)
    return users


def as_large(graph: ComputeGraph, one: str, other: str) -> bool:
    """Return whether two tensors have as many elements: where views are left out, shapes may differ in grouping."""
    return graph.tensors[one].elements == graph.tensors[other].elements


def rewire(graph: ComputeGraph, kept: list[Operation], aliases: dict[str, str]) -> PassResult:
    """Return ``graph`` with operations ``kept``, every reader of an aliased tensor reading its source instead."""
    if not aliases:
        return PassResult(graph.with_operations(kept), len(kept) != len(graph.operations))

    def source(key: str) -> str:
        while key in aliases:
            key = aliases[key]
        return key

    operations = [
        replace(operation, inputs=tuple(source(key) for key in operation.inputs))
        if any(key in aliases for key in operation.inputs)
        else operation
        for operation in kept
    ]
    return PassResult(graph.with_operations(operations, tuple(source(key) for key in graph.outputs)), True)
