"""One spelling of pools over all positions."""

from __future__ import annotations

from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult

__all__ = ["pool_all"]

_POOLS = frozenset({"GlobalAvgPool", "GlobalMaxPool"})


def pool_all(graph: ComputeGraph) -> PassResult:
    """Drop what tells global pools apart but does not change them.

    That is where the positions were among the axes, which a reduction says, and a Transpose before that swaps them
    with the channels. Runs after the passes that recognise norms by what their means reduce.
    """
    if not any(operation.op in _POOLS for operation in graph.operations):
        return PassResult(graph, False)
    swaps = {
        operation.outputs[0]: operation
        for operation in graph.operations
        if operation.op == "Transpose" and operation.inputs
    }
    changed = False
    operations = list(graph.operations)
    for index, pool in enumerate(operations):
        if pool.op not in _POOLS or len(pool.inputs) != 1:
            continue
        swap = swaps.get(pool.inputs[0])
        source = swap.inputs if swap is not None and _swaps(graph, swap, pool) else pool.inputs
        if pool.attributes or source != pool.inputs:
            operations[index] = replace(pool, inputs=source, attributes=())
            changed = True
    return PassResult(graph.with_operations(operations) if changed else graph, changed)


def _swaps(graph: ComputeGraph, swap: Operation, pool: Operation) -> bool:
    """Return whether a Transpose swaps the axis that a pool keeps with the one that it reduces, and no others."""
    given = dict(swap.attributes)
    shape = given.get("shape", ())
    kept = graph.tensors[pool.outputs[0]].elements
    return given.get("perm") == (1, 0) and isinstance(shape, tuple) and kept in shape
