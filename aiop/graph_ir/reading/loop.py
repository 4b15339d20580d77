"""Loop: unrolled where it has a few known steps; its body once, as operations that ``repeat``, elsewhere.

The MACs of a body that stays once are those of all steps, its parameters count once, and data flows from what goes
into the loop, through the body, to what comes out of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from aiop.graph_ir.reading.flow import always_true, deciding, varying
from aiop.graph_ir.reading.inference import label
from aiop.graph_ir.reading.scopes import inline, subgraph
from aiop.graph_ir.reading.sequence_values import Run, varies
from aiop.graph_ir.reading.unrolling import (
    MOST_STEPS,
    affordable,
    after_all,
    finish,
    loop_inputs,
    nothing,
    sources,
    truth,
    uncertain,
    unfit,
)
from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["read_loop"]

_MOST_COUNTED = 10_000  # nodes run to find out how many steps the loops of a network take


def read_loop(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Read a Loop."""
    body = subgraph(node, proto, "body")
    carried = loop_inputs(node, proto, 2, len(node.inputs))
    count = len(carried)
    scans = len(body.output) - 1 - count
    if len(body.input) != 2 + count or scans < 0:
        raise unfit(node, proto)
    trips = _trips(node)
    taken_in = [value.name for value in body.input]
    put_out = [value.name for value in body.output]
    start = [name for name, tensor in zip(taken_in[2:], carried, strict=True) if varies(tensor)]
    flow = varying(reader, body, start, zip(put_out[1:], taken_in[2:], strict=False))
    state = sources(reader, node, proto, names, carried, [name in flow for name in taken_in[2:]])
    stops = put_out[0] in flow or not always_true(reader, body)
    if put_out[0] not in flow and (trips != 0) and (trips is not None or stops):
        unrolled = _unrolled_loop(reader, body, names[0], state, trips)
        if unrolled is not None:
            state, stacks = unrolled
            finish(reader, node, proto, names, state, [(0, runs) for runs in stacks])
            return True
    known = trips if trips == 0 or not stops else None
    if known is None and put_out[0] not in flow:
        known = _counted_steps(reader, body, names[0], state, trips)
    if known is None:
        known = _declared_steps(reader, names[count:])
        if known is None:
            reader.notes.append(
                f"how often the body of {label(node, proto)} runs depends on the data: it is counted once"
            )
    mark = reader.mark()
    steps = 1 if known is None else known
    outputs = inline(
        reader,
        body,
        [reader.integers((steps - 1) // 2), truth(), *uncertain(state)],
        names[0],
        repeat=max(1, steps),
    )
    after = outputs[1 : 1 + count]
    if steps:
        state = [
            after_all(reader, node, proto, before, now, steps, known is not None)
            for before, now in zip(state, after, strict=True)
        ]
    else:
        reader.take_back(mark)
        outputs = [nothing(output) for output in outputs]
    finish(reader, node, proto, names, state, [(0, [(output, steps)]) for output in outputs[1 + count :]])
    return True


def _trips(node: Node) -> int | None:
    """Return how often a Loop may run at most, ``None`` where it is not known."""
    limit, condition = node.input(0), node.input(1)
    if condition is not None:
        value = condition.value
        if value is None:
            return None
        if not value.reshape(-1)[:1].any():
            return 0
    if limit is None or limit.value is None or not limit.value.size:
        return None
    trips = int(limit.value.reshape(-1)[0])
    return None if trips == np.iinfo(np.int64).max else max(0, trips)


def _declared_steps(reader: Reader, names: list[str]) -> int | None:
    """Return the number of steps that the file's own shapes of a loop's stacked outputs say it has."""
    for name in names:
        shape = reader.inference.declared(name)
        if shape and shape[0] is not None:
            return shape[0]
    return None


def _unrolled_loop(
    reader: Reader, body: onnx.GraphProto, site: str, state: list[Tensor], trips: int | None
) -> tuple[list[Tensor], list[list[Run]]] | None:
    """Read a loop step by step; ``None`` where it has too many, or its end depends on the data."""
    count = len(state)
    if not affordable(reader, body, trips):
        return None
    stacks: list[list[Run]] = [[] for _ in body.output[1 + count :]]
    mark = reader.mark()
    for step in range(MOST_STEPS + 1):
        if step == trips:
            return state, stacks
        outputs = inline(reader, body, [reader.integers(step), truth(), *state], site, step=step)
        state = outputs[1 : 1 + count]
        for stack, output in zip(stacks, outputs[1 + count :], strict=True):
            stack.append((output, 1))
        go_on = outputs[0].value
        if go_on is None:
            break
        if not go_on.reshape(-1)[:1].any():
            return state, stacks
    reader.take_back(mark)
    return None


def _counted_steps(
    reader: Reader, body: onnx.GraphProto, site: str, state: list[Tensor], trips: int | None
) -> int | None:
    """Return how many steps a loop takes whose end depends on constants only: the part that decides is run.

    ``None`` where that takes too long.
    """
    needed, back = deciding(body)
    ends = [value.name for value in body.output]
    part = onnx.GraphProto(name=body.name, input=body.input, node=needed, initializer=body.initializer)
    part.output.extend(body.output[index] for index in (0, *back))
    mark, nested = reader.mark(), reader.nested
    taken_in = list(state)
    for step in range(_MOST_COUNTED):
        if step == trips:
            return trips
        reader.decided += 1 + len(needed)
        if reader.decided > _MOST_COUNTED:
            return None
        try:
            outputs = inline(reader, part, [reader.integers(step), truth(), *taken_in], f"{site} {ends[0]}")
        finally:
            reader.take_back(mark)
            reader.nested = nested
        go_on = outputs[0].value
        if go_on is None:
            return None
        if not go_on.reshape(-1)[:1].any():
            return step + 1
        for index, tensor in zip(back, outputs[1:], strict=True):
            taken_in[index - 1] = tensor
    return None
