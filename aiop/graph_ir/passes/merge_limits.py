"""One spelling of limits: Clip, and Relu where nothing is above."""

from __future__ import annotations

import math
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult
from aiop.graph_ir.passes.matching import Rewriter, activation

__all__ = ["merge_limits"]

_LIMITS = frozenset({"Min", "Max", "Clip"})


def merge_limits(graph: ComputeGraph) -> PassResult:
    """Replace ``max(x, 0)`` by Relu, ``min(max(x, 0), 6)`` by Clip with both limits, ``max(x, a * x)`` by LeakyRelu."""
    if not any(operation.op in _LIMITS for operation in graph.operations):
        return PassResult(graph, False)
    rewriter = Rewriter(graph)
    for index, operation in rewriter.each(_LIMITS):
        if operation.op == "Max" and len(operation.inputs) == 2:
            _leaky(rewriter, index, operation)
        else:
            _limit(rewriter, index, operation)
    return rewriter.result()


def _limits(operation: Operation | None) -> tuple[float, float] | None:
    """Return (lowest, highest) of what an operation lets through; ``None`` where it does something else."""
    if operation is None or len(operation.inputs) != 1 or operation.weights:
        return None
    if operation.op == "Relu" and not operation.attributes:
        return 0.0, math.inf
    if operation.op == "Clip" and len(operation.scalars) == 2:
        return operation.scalars[0], operation.scalars[1]
    if operation.op == "Max" and len(operation.scalars) == 1:
        return operation.scalars[0], math.inf
    if operation.op == "Min" and len(operation.scalars) == 1:
        return -math.inf, operation.scalars[0]
    return None


def _limit(rewriter: Rewriter, index: int, operation: Operation) -> None:
    own = _limits(operation)
    if own is None:
        return
    source = operation.inputs[0]
    low, high = own
    parts: set[int] = set()
    before = rewriter.maker(source)
    outer = _limits(before) if rewriter.reader(source) == index else None
    if before is not None and outer is not None and outer[0] <= high and low <= outer[1]:
        low, high = max(low, outer[0]), min(high, outer[1])
        parts = {rewriter.makers[source]}
        source = before.inputs[0]
    if (low, high) == (0.0, math.inf):
        result = activation("Relu", operation, source)
    else:
        result = replace(activation("Clip", operation, source), scalars=(low, high))
    if parts or operation.op != "Clip" or result.op == "Relu":
        rewriter.fuse(index, parts, result)


def _leaky(rewriter: Rewriter, index: int, operation: Operation) -> None:
    for source, key in (operation.inputs, operation.inputs[::-1]):
        scaled = rewriter.product(key)
        if scaled.plain() == source and 0 < scaled.factor < 1 and not operation.scalars:
            slope = round(scaled.factor, 4)
            attributes = {} if slope == 0.01 else {"alpha": slope}
            if rewriter.fuse(index, scaled.parts, activation("LeakyRelu", operation, source, **attributes)):
                return
