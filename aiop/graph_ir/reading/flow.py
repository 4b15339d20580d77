"""What in the body of a loop depends on data, and what only on constants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import onnx

from aiop.graph_ir.reading.scopes import read_by
from aiop.graph_ir.reading.sequence_values import varies

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["always_true", "deciding", "varying"]

_SHAPES = frozenset({"Shape", "Size", "SequenceLength", "OptionalHasElement"})
_RANDOM = frozenset({"RandomNormal", "RandomUniform"})


def varying(
    reader: Reader, body: onnx.GraphProto, start: Iterable[str], back: Iterable[tuple[str, str]]
) -> set[str]:
    """Return the names of a body that depend on data.

    ``start`` are the inputs that do; ``back`` are the loop's (output, input) pairs: what one step puts out, the next
    one takes in. Tensors of the graphs around depend on data where they are no constants there.
    """
    users: dict[str, list[Iterable[str]]] = {}
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    for node in body.node:
        own.update(node.output)
    found: set[str] = set()
    waiting = list(start)
    outside: set[str] = set()
    for node in body.node:
        if node.op_type in _RANDOM:
            waiting += node.output
        if node.op_type in _SHAPES:
            continue
        for name in set(read_by(node)):
            users.setdefault(name, []).append(node.output)
            if name not in own:
                outside.add(name)
    for output, taken in back:
        users.setdefault(output, []).append((taken,))
        if output not in own:
            outside.add(output)
    for name in outside:
        try:
            if varies(reader.tensors[name]):
                waiting.append(name)
        except KeyError:  # a name of a subgraph within the body
            continue
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            for outputs in users.get(name, ()):
                waiting += outputs
    return found


def always_true(reader: Reader, body: onnx.GraphProto) -> bool:
    """Return whether a loop's body never asks to stop: its condition is a constant, or the one it is given."""
    makers = {name: node for node in body.node for name in node.output}
    constants = {tensor.name: tensor for tensor in body.initializer}
    name = body.output[0].name
    for _ in range(len(body.node) + 1):
        if name == body.input[1].name:
            return True
        if name in constants:
            return any(onnx.numpy_helper.to_array(constants[name]).reshape(-1)[:1])
        node = makers.get(name)
        if node is None:
            break
        if node.op_type == "Constant":
            return any(
                onnx.numpy_helper.to_array(attribute.t).reshape(-1)[:1]
                for attribute in node.attribute
                if attribute.name == "value"
            )
        if node.op_type not in ("Identity", "Cast") or not node.input:
            return False
        name = node.input[0]
    try:
        value = reader.tensors[name].value
    except KeyError:
        return False
    return value is not None and any(value.reshape(-1)[:1])


def deciding(body: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[int]]:
    """Return the part of a loop's body that decides when it ends.

    The nodes that its condition is computed by, in the order of the body, and the positions among its outputs of what
    they take in from the step before.
    """
    makers = {name: index for index, node in enumerate(body.node) for name in node.output if name}
    fed = {value.name: index for index, value in enumerate(body.input)}
    nodes: set[int] = set()
    back: set[int] = set()
    waiting = [body.output[0].name]
    while waiting:
        name = waiting.pop()
        index = makers.get(name)
        if index is not None and index not in nodes:
            nodes.add(index)
            waiting += read_by(body.node[index])
        place = fed.get(name, 0)  # the first two inputs are the number of the step and the condition itself
        if place > 1 and place - 1 not in back and place - 1 < len(body.output):
            back.add(place - 1)
            waiting.append(body.output[place - 1].name)
    return [body.node[index] for index in sorted(nodes)], sorted(back)
