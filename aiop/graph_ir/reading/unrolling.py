"""What the readers of loops share: when to unroll one, what it starts from, and what comes out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from aiop.errors import AiopError
from aiop.graph_ir.reading.inference import label
from aiop.graph_ir.reading.scopes import size_of
from aiop.graph_ir.reading.sequence_values import Absent, Run, Sequence, is_constant
from aiop.graph_ir.reading.sequences import concatenate
from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = [
    "MOST_STEPS",
    "affordable",
    "after_all",
    "finish",
    "loop_inputs",
    "nothing",
    "sources",
    "truth",
    "uncertain",
    "unfit",
]

MOST_STEPS = 64
"""Steps: a longer loop is not unrolled."""

_MOST_UNROLLED = 1_000  # nodes of one loop
_MOST_UNROLLED_AT_ALL = 4_000


def affordable(reader: Reader, body: onnx.GraphProto, trips: int | None) -> bool:
    """Return whether a loop is short enough to be unrolled."""
    steps = MOST_STEPS if trips is None else trips
    cost = (1 + size_of(body)) * steps
    if steps > MOST_STEPS or cost > _MOST_UNROLLED or reader.unrolled + cost > _MOST_UNROLLED_AT_ALL:
        return False
    reader.unrolled += cost
    return True


def after_all(
    reader: Reader, node: Node, proto: onnx.NodeProto, before: Tensor, now: Tensor, steps: int, known: bool
) -> Tensor:
    """Return what a loop carries after all steps, of which one was read."""
    if isinstance(before, Sequence) and isinstance(now, Sequence):
        length = len(before.runs)
        added = now.runs[length:] if now.runs[:length] == before.runs else ()
        if not added:
            return Sequence(now.name, now.runs, exact=before.exact and now.runs == before.runs)
        runs = [*before.runs, *((item, count * steps) for item, count in added)]
        return Sequence(now.name, runs, exact=before.exact and known and len(added) == 1)
    if isinstance(now, Sequence | Absent) or isinstance(before, Sequence | Absent):
        return now
    if now.shape != before.shape and steps > 1:
        reader.notes.append(
            f"{label(node, proto)} changes the shape {list(before.shape)} of what it carries: only one step is followed"
        )
    if not now.constant or now is before or steps == 1:
        return now
    if now.value is not None and before.value is not None and np.array_equal(now.value, before.value):
        return now
    return Tensor(now.name, now.shape, now.dtype, constant=True, leaves=now.leaves)


def loop_inputs(node: Node, proto: onnx.NodeProto, start: int, end: int) -> list[Tensor]:
    """Return some of a loop's inputs, of which none may be left out."""
    tensors = [tensor for tensor in node.inputs[start:end] if tensor is not None]
    if len(tensors) != max(0, end - start):
        raise AiopError(f"{label(node, proto)} lacks an input; check the file with onnx.checker")
    return tensors


def unfit(node: Node, proto: onnx.NodeProto) -> AiopError:
    """Return the error of a loop and a body that do not belong together."""
    return AiopError(
        f"{label(node, proto)} has a body whose inputs and outputs are not those of the loop; "
        "check the file with onnx.checker"
    )


def sources(
    reader: Reader,
    node: Node,
    proto: onnx.NodeProto,
    names: list[str],
    carried: list[Tensor],
    changes: list[bool],
) -> list[Tensor]:
    """Return what the first step of a loop takes in.

    A constant to start from (the zeros that a recurrent layer begins with) of what later depends on data is put out by
    an operation of its own, so that every step computes with data.
    """
    state = []
    for index, (tensor, change) in enumerate(zip(carried, changes, strict=True)):
        first = tensor
        if change and is_constant(tensor):
            first = Tensor(f"{names[0]}#start{index}", tensor.shape, tensor.dtype)
            read: list[Tensor | None] = (
                [] if tensor.uniform else [tensor]
            )  # zeros to start from were not trained
            reader.record(reader.node(node.type, read, node.name), proto, [first.name], [first])
        state.append(first)
    return state


def uncertain(state: list[Tensor]) -> list[Tensor]:
    """Return what the steps of a loop take in, of which one is read for all."""
    return [
        Sequence(tensor.name, tensor.runs, exact=False) if isinstance(tensor, Sequence) else tensor
        for tensor in state
    ]


def truth() -> Tensor:
    """Return the condition that every step which runs is given."""
    tensor = Tensor("", (), "bool", constant=True)
    tensor.set_value(np.asarray(True))
    return tensor


def nothing(tensor: Tensor) -> Tensor:
    """Return a constant in the place of what a loop of no steps would compute."""
    if isinstance(tensor, Sequence | Absent):
        return tensor
    return Tensor(tensor.name, tensor.shape, tensor.dtype, constant=True)


def finish(
    reader: Reader,
    node: Node,
    proto: onnx.NodeProto,
    names: list[str],
    state: list[Tensor],
    stacks: list[tuple[int, list[Run]]],
) -> None:
    """Define a loop's outputs: what it carries, then what it stacks along an axis."""
    if len(names) > len(state) + len(stacks):
        raise unfit(node, proto)
    for name, tensor in zip(names, state, strict=False):
        if name:
            reader.define(tensor, name)
    for name, (axis, runs) in zip(names[len(state) :], stacks, strict=False):
        if name:
            if not runs:
                raise AiopError(
                    f"{label(node, proto)} stacks nothing: it has no steps; export the network again"
                )
            concatenate(reader, name, runs, axis, True)
