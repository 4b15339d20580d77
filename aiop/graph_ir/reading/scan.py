"""Scan: a loop over the items of tensors along an axis, read as `aiop.graph_ir.reading.loop` reads a Loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from aiop.errors import AiopError
from aiop.graph_ir.reading.flow import varying
from aiop.graph_ir.reading.inference import label
from aiop.graph_ir.reading.scopes import inline, subgraph
from aiop.graph_ir.reading.sequence_values import Run, varies
from aiop.graph_ir.reading.sequences import concatenate
from aiop.graph_ir.reading.unrolling import (
    affordable,
    after_all,
    finish,
    loop_inputs,
    nothing,
    sources,
    unfit,
)
from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["read_scan"]


@dataclass
class _Scan:
    """A Scan's body with what goes through it: first what it carries, then what it reads item by item."""

    body: onnx.GraphProto
    carried: list[Tensor]
    read: list[Tensor]
    axes: list[int]
    backwards: list[int]
    out_axes: list[int]
    out_backwards: list[int]
    batch: int | None  # before opset 9 every input has a first axis of its own, and so has every output


def read_scan(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    """Read a Scan."""
    scan = _parse(reader, node, proto, names)
    states = len(scan.carried)
    lengths = {_extent(node, proto, tensor, axis) for tensor, axis in zip(scan.read, scan.axes, strict=True)}
    if len(lengths) > 1:
        raise AiopError(
            f"{label(node, proto)} scans axes of different sizes {sorted(lengths)}; check the file with onnx.checker"
        )
    (length,) = lengths
    taken_in = [value.name for value in scan.body.input]
    put_out = [value.name for value in scan.body.output]
    flowing = zip(taken_in, [*scan.carried, *scan.read], strict=True)
    start = [name for name, tensor in flowing if varies(tensor)]
    flow = varying(reader, scan.body, start, zip(put_out, taken_in[:states], strict=False))
    changes = [name in flow for name in taken_in[:states]]
    state = sources(reader, node, proto, names, scan.carried, changes)
    if scan.batch in (None, 1) and length and affordable(reader, scan.body, length):
        state, stacks = _unrolled(reader, names, scan, state, length)
    else:
        state, stacks = _repeated(reader, node, proto, names, scan, state, length)
    stacks = [runs[::-1] if back else runs for runs, back in zip(stacks, scan.out_backwards, strict=True)]
    if scan.batch is None:
        finish(reader, node, proto, names, state, list(zip(scan.out_axes, stacks, strict=True)))
        return True
    keys = [f"{names[0]}#stack{index}" for index in range(len(stacks))]
    for key, axis, runs in zip(keys, scan.out_axes, stacks, strict=True):
        concatenate(reader, key, runs, axis, True)
    rows = [*state, *(reader.tensors[key] for key in keys)]
    finish(reader, node, proto, names, [], [(0, [(row, scan.batch)]) for row in rows])
    return True


def _parse(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> _Scan:
    body = subgraph(node, proto, "body")
    width = int(node.get("num_scan_inputs", 0))
    first = 1 if node.opset < 9 else 0  # the lengths of the sequences in a batch come first
    many = len(node.inputs) - first
    states = many - width
    stacked = len(body.output) - states
    if not 0 < width <= many or len(body.input) != many or stacked < 0:
        raise unfit(node, proto)
    carried = loop_inputs(node, proto, first, first + states)
    read = loop_inputs(node, proto, first + states, len(node.inputs))
    batch = None
    if first:
        batch = _extent(node, proto, read[0], 0)
        carried = [_item(reader, names, f"state{i}", tensor, 0, 0) for i, tensor in enumerate(carried)]
        read = [_item(reader, names, f"scan{i}", tensor, 0, 0) for i, tensor in enumerate(read)]
    scan = _Scan(
        body,
        carried,
        read,
        axes=node.get("scan_input_axes") or [0] * width,
        backwards=node.get("scan_input_directions") or node.get("directions") or [0] * width,
        out_axes=node.get("scan_output_axes") or [0] * stacked,
        out_backwards=node.get("scan_output_directions") or [0] * stacked,
        batch=batch,
    )
    if not len(scan.axes) == len(scan.backwards) == width:
        raise unfit(node, proto)
    if not len(scan.out_axes) == len(scan.out_backwards) == stacked:
        raise unfit(node, proto)
    return scan


def _unrolled(
    reader: Reader, names: list[str], scan: _Scan, state: list[Tensor], length: int
) -> tuple[list[Tensor], list[list[Run]]]:
    """Read the body once for every item; return what it carries at last, and what it stacks."""
    stacks: list[list[Run]] = [[] for _ in scan.out_axes]
    for step in range(length):
        items = [
            _item(reader, names, f"in{i}.{step}", tensor, axis, length - 1 - step if back else step)
            for i, (tensor, axis, back) in enumerate(zip(scan.read, scan.axes, scan.backwards, strict=True))
        ]
        outputs = inline(reader, scan.body, [*state, *items], names[0], step=step)
        state = outputs[: len(state)]
        for stack, output in zip(stacks, outputs[len(state) :], strict=True):
            stack.append((output, 1))
    return state, stacks


def _repeated(
    reader: Reader,
    node: Node,
    proto: onnx.NodeProto,
    names: list[str],
    scan: _Scan,
    state: list[Tensor],
    length: int,
) -> tuple[list[Tensor], list[list[Run]]]:
    """Read the body once for all items; return what it carries at last, and what it stacks."""
    mark, place = reader.mark(), reader.place
    steps = max(1, length * (1 if scan.batch is None else scan.batch))
    reader.place = place._replace(repeat=place.repeat * steps)
    try:
        items = [
            _item(reader, names, f"in{i}", tensor, axis, None)
            for i, (tensor, axis) in enumerate(zip(scan.read, scan.axes, strict=True))
        ]
    finally:
        reader.place = place
    outputs = inline(reader, scan.body, [*state, *items], names[0], repeat=steps)
    if not length:
        reader.take_back(mark)
        return state, [[(nothing(output), 0)] for output in outputs[len(state) :]]
    after = [
        after_all(reader, node, proto, before, now, length, True)
        for before, now in zip(state, outputs, strict=False)
    ]
    return after, [[(output, length)] for output in outputs[len(state) :]]


def _extent(node: Node, proto: onnx.NodeProto, tensor: Tensor, axis: int) -> int:
    rank = len(tensor.shape)
    if not -rank <= axis < rank:
        raise AiopError(
            f"{label(node, proto)} scans axis {axis} of a tensor of {rank} axes; check the file with onnx.checker"
        )
    return tensor.shape[axis]


def _item(reader: Reader, names: list[str], key: str, tensor: Tensor, axis: int, index: int | None) -> Tensor:
    """Return one item of a tensor along an axis; one for all where ``index`` is ``None``."""
    position = reader.integers(index or 0)
    if index is None:  # which one it is must not matter: the values of the first are not those of all
        tensor = Tensor(
            tensor.name, tensor.shape, tensor.dtype, constant=tensor.constant, leaves=tensor.leaves
        )
    return reader.emit("Gather", [tensor, position], [f"{names[0]}#{key}"], axis=axis)[0]
