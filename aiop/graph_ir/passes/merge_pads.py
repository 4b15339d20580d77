"""Move padding into the window that reads it."""

from __future__ import annotations

import math
from dataclasses import replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, consumers

__all__ = ["merge_pads"]

_WINDOWS = frozenset({"Conv", "DepthwiseConv", "AvgPool", "MaxPool"})


def merge_pads(graph: ComputeGraph) -> PassResult:
    """Merge a Pad with zeros into the convolution or pool that reads it, and one with -infinity into a max pool.

    Only where nothing but such windows reads the padded tensor. An average pool then counts what was added. A max
    pool of zeros is one of -infinity where its input is not negative, as after a rectifier: optimisers take it for
    granted, and so does this.
    """
    if not any(operation.op == "Pad" for operation in graph.operations):
        return PassResult(graph, False)
    users = consumers(graph)
    operations: list[Operation | None] = list(graph.operations)
    changed = False
    for index, pad in enumerate(graph.operations):
        if (
            pad.op != "Pad"
            or len(pad.inputs) != 1
            or not pad.padding
            or pad.attributes
            or min(pad.padding) < 0
        ):
            continue
        readers = users.get(pad.outputs[0], [])
        merged = [_merged(pad, operations[reader]) if reader >= 0 else None for reader in readers]
        if merged and None not in merged:
            for reader, window in zip(readers, merged, strict=True):
                operations[reader] = window
            operations[index] = None
            changed = True
    if not changed:
        return PassResult(graph, False)
    return PassResult(
        graph.with_operations([operation for operation in operations if operation is not None]), True
    )


def _merged(pad: Operation, target: Operation | None) -> Operation | None:
    """Return the window ``target`` with what ``pad`` adds, ``None`` where it cannot have it."""
    if target is None or target.op not in _WINDOWS or target.inputs[0] != pad.outputs[0]:
        return None
    if len(pad.padding) != len(target.padding):
        return None
    attributes = target.attributes
    if target.op == "MaxPool":
        if pad.scalars not in ((), (-math.inf,)):
            return None
    elif pad.scalars:
        return None
    elif target.op == "AvgPool":
        counts = ("count_include_pad", 1)
        if any(target.padding) and counts not in attributes:
            return None
        attributes = tuple(sorted({*attributes, counts}))
    padding = tuple(one + other for one, other in zip(pad.padding, target.padding, strict=True))
    inputs = (pad.inputs[0], *target.inputs[1:])
    return replace(target, inputs=inputs, padding=padding, attributes=attributes)
