"""Bring concatenations of concatenations to one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.passes.base import PassResult, consumers

__all__ = ["merge_concats"]


def merge_concats(graph: ComputeGraph) -> PassResult:
    """Take a concatenation into the one that alone reads it, where both join as many runs of elements."""
    if sum(operation.op == "Concat" for operation in graph.operations) < 2:
        return PassResult(graph, False)
    users = consumers(graph)
    merged: dict[str, Operation] = {}  # output of a concatenation that its only reader takes in
    kept: list[Operation] = []
    for operation in graph.operations:
        if operation.op == "Concat" and operation.outputs:
            after = users.get(operation.outputs[0], [])
            if len(after) == 1 and after[0] >= 0 and _same_runs(graph, operation, graph.operations[after[0]]):
                merged[operation.outputs[0]] = operation
                continue
        kept.append(operation)
    if not merged:
        return PassResult(graph, False)
    joined = [_joined(operation, merged) if operation.op == "Concat" else operation for operation in kept]
    return PassResult(graph.with_operations(joined), True)


def _parts(operation: Operation) -> tuple[int, ...] | None:
    """Return the sizes that a settled concatenation joins, those of constants negative."""
    if operation.op != "Concat" or len(operation.outputs) != 1:
        return None
    given: dict[str, Any] = dict(operation.attributes)
    parts = given.get("parts")
    if parts is None or "axis" in given or sum(part > 0 for part in parts) != len(operation.inputs):
        return None
    constants = sum(part < 0 for part in parts)
    return parts if len(operation.weights) in (0, constants) else None


def _runs(graph: ComputeGraph, operation: Operation, parts: tuple[int, ...]) -> int:
    return graph.tensors[operation.outputs[0]].elements // max(1, sum(map(abs, parts)))


def _same_runs(graph: ComputeGraph, inner: Operation, outer: Operation) -> bool:
    inside, outside = _parts(inner), _parts(outer)
    if inside is None or outside is None:
        return False
    constants = [len(each.weights) for each in (inner, outer)]
    wanted = [sum(part < 0 for part in parts) for parts in (inside, outside)]
    # constants without trained numbers are kept as sizes only; mixed with others their order would be lost
    if constants != wanted and any(constants):
        return False
    return _runs(graph, inner, inside) == _runs(graph, outer, outside)


def _joined(operation: Operation, merged: dict[str, Operation]) -> Operation:
    """Return a concatenation with all that were merged into it, however deep, in the places they had."""
    if not any(key in merged for key in operation.inputs):
        return operation
    given: dict[str, Any] = dict(operation.attributes)
    inputs: list[str] = []
    parts: list[int] = []
    weights: list[TensorSpec] = []
    scalars: list[float] = []
    params = elementwise = 0
    left = [_items(operation)]
    opened = [operation]
    while left:
        item = next(left[-1], None)
        if item is None:
            left.pop()
            continue
        part, source = item
        inner = merged.get(source) if isinstance(source, str) else None
        if inner is not None:
            left.append(_items(inner))
            opened.append(inner)
            continue
        parts.append(part)
        if isinstance(source, str):
            inputs.append(source)
        elif source is not None:
            weights.append(source)
    for each in opened:
        params += each.params
        elementwise += each.elementwise
        scalars += each.scalars
    given["parts"] = tuple(parts)
    return replace(
        operation, inputs=tuple(inputs), weights=tuple(weights), params=params, scalars=tuple(scalars),
        elementwise=elementwise, attributes=tuple(sorted(given.items())),
    )  # fmt: skip


def _items(operation: Operation) -> Iterator[tuple[int, str | TensorSpec | None]]:
    """Yield what is joined in order: its size, and its name, or the weight it is, or nothing for other constants."""
    inputs, weights = iter(operation.inputs), iter(operation.weights)
    for part in _parts(operation) or ():
        yield part, next(inputs) if part > 0 else next(weights, None)
