"""Sequences and optionals: followed while a file is read, so that only what is done to their tensors is an operation.

A sequence is known by its items, equal neighbours counted (a sequence of a billion items costs no more than one of
two). Where its length or order depends on the data, its items are what it may hold, and reading one is an operation
over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import onnx

from aiop.errors import AiopError
from aiop.graph_ir.reading.inference import label
from aiop.graph_ir.reading.scopes import inline, size_of, subgraph
from aiop.graph_ir.reading.sequence_values import Absent, Run, Sequence, parts, varies
from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["HANDLERS", "concatenate"]

_MOST_PARTS = 256
_MOST_ITEMS = 1_024


def _sequence(node: Node, proto: onnx.NodeProto, index: int = 0) -> Sequence:
    tensor = node.input(index)
    if not isinstance(tensor, Sequence):
        raise AiopError(f"{label(node, proto)} reads no sequence; export the network again")
    return tensor


def _tensor(node: Node, proto: onnx.NodeProto, index: int) -> Tensor:
    tensor = node.input(index)
    if tensor is None or isinstance(tensor, Sequence | Absent):
        raise AiopError(f"{label(node, proto)} lacks a tensor to work on; export the network again")
    return tensor


def _position(node: Node, proto: onnx.NodeProto, index: int, length: int, last: int) -> int | None:
    """Return a known position counted from the front, ``None`` for one that depends on the data."""
    value = _tensor(node, proto, index).value
    if value is None or not value.size:
        return None
    position = int(value.reshape(-1)[0])
    if not -length <= position <= last:
        raise AiopError(
            f"{label(node, proto)} works on position {position} of a sequence of {length}; export the network again"
        )
    return position % length if position < 0 else position


# -- operators; each leaves what it makes under the node's output names and returns True


def _construct(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    items = [_tensor(node, proto, index) for index in range(len(node.inputs))]
    reader.define(Sequence(names[0], [(item, 1) for item in items]))
    return True


def _insert(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    before, item = _sequence(node, proto), _tensor(node, proto, 1)
    exact, after = before.exact, (*before.runs, (item, 1))
    if len(after) > _MOST_ITEMS:
        raise AiopError(
            f"{label(node, proto)} makes a sequence of too many tensors; export the network again"
        )
    if node.input(2) is not None:
        position = _position(node, proto, 2, before.length, before.length) if before.exact else None
        exact = position is not None
        if position is not None:
            left, right = parts(before.runs, position)
            after = (*left, (item, 1), *right)
    reader.define(Sequence(names[0], after, exact=exact))
    return True


def _erase(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    before = _sequence(node, proto)
    if not before.exact:
        reader.define(Sequence(names[0], before.runs, exact=False))
        return True
    length = before.length
    position: int | None = length - 1
    if node.input(1) is not None:
        position = _position(node, proto, 1, length, length - 1)
    if not length:
        raise AiopError(f"{label(node, proto)} erases from an empty sequence; export the network again")
    left, right = parts(before.runs, 0 if position is None else position)
    (item, count), *rest = right
    exact = position is not None or len(before.runs) == 1
    runs = before.runs if not exact else (*left, (item, count - 1), *rest)
    reader.define(Sequence(names[0], runs, exact=exact))
    return True


def _at(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    sequence = _sequence(node, proto)
    items = sequence.items
    if not items:
        raise AiopError(f"{label(node, proto)} reads from an empty sequence; export the network again")
    if sequence.exact:
        position = _position(node, proto, 1, sequence.length, sequence.length - 1)
        if position is not None:
            reader.define(parts(sequence.runs, position)[1][0][0], names[0])
            return True
    if len(items) == 1:
        reader.define(items[0], names[0])
        return True
    reader.notes.append(
        f"which tensor {label(node, proto)} reads depends on the data: read as the first of them"
    )
    _unknown(reader, node, proto, names, items)
    return True


def _unknown(
    reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str], items: list[Tensor]
) -> None:
    """Define the node's output as like the first of ``items``, and dependent on them all."""
    index = node.input(1)
    read: list[Tensor | None] = [*items, *([index] if index is not None else [])]
    result = Tensor(names[0], items[0].shape, items[0].dtype)
    if any(tensor is not None and not tensor.constant for tensor in read):
        reader.record(reader.node(node.type, read, node.name), proto, names, [result])
    else:
        result.constant = True
        reader.define(result)


def _length(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    sequence = _sequence(node, proto)
    if sequence.exact:
        result = Tensor(names[0], (), "int64", constant=True)
        result.set_value(np.asarray(sequence.length, np.int64))
        reader.define(result)
    elif varies(sequence):
        items: list[Tensor | None] = [*sequence.items]
        reader.record(reader.node(node.type, items, node.name), proto, names, [Tensor(names[0], (), "int64")])
    else:
        reader.define(Tensor(names[0], (), "int64", constant=True))
    return True


def _concat(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    sequence = _sequence(node, proto)
    if not sequence.runs:
        raise AiopError(f"{label(node, proto)} concatenates an empty sequence; export the network again")
    if not sequence.exact:
        reader.notes.append(
            f"how many tensors {label(node, proto)} concatenates depends on the data and is read as {sequence.length}"
        )
    concatenate(reader, names[0], sequence.runs, int(node.get("axis", 0)), bool(node.get("new_axis", 0)))
    return True


def concatenate(reader: Reader, name: str, runs: Iterable[Run], axis: int, new_axis: bool) -> None:
    """Define ``name`` as tensors joined along an axis, or stacked along a new one: one Concat operation."""
    pieces: list[Tensor | None] = []
    for index, (tensor, count) in enumerate(runs):
        item = tensor
        if new_axis:
            key = f"{name}#{index}"
            item = reader.emit("Unsqueeze", [item, reader.integers([axis])], [key])[0]
        rank = len(item.shape)
        if count != 1 and -rank <= axis < rank:  # one tensor stands for all of its run
            at = axis % rank
            shape = (*item.shape[:at], item.shape[at] * count, *item.shape[at + 1 :])
            item = Tensor(item.name, shape, item.dtype, constant=item.constant, leaves=item.leaves)
        pieces.append(item)
    reader.emit("Concat", pieces, [name], axis=axis)


def _split(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    data = _tensor(node, proto, 0)
    rank = len(data.shape)
    axis = int(node.get("axis", 0))
    if not -rank <= axis < rank:
        raise AiopError(
            f"{label(node, proto)} works on axis {axis} of a tensor of {rank} axes; export it again"
        )
    axis %= rank
    extent = data.shape[axis]
    split = node.input(1)
    squeeze = split is None and not node.get("keepdims", 1)
    sizes: list[tuple[int, int]] | None  # (size, how many of it in a row)
    if split is None:
        sizes = [(1, extent)]
    elif split.value is None:
        sizes = None
    elif split.value.ndim:
        sizes = [(int(size), len(list(equal))) for size, equal in groupby(split.value.reshape(-1))]
    else:
        size = int(split.value)
        sizes = [(size, extent // size), (extent % size, int(extent % size > 0))] if size > 0 else [(-1, 1)]
    if sizes is None:
        reader.notes.append(f"how {label(node, proto)} splits depends on the data: read as one part")
        reader.define(Sequence(names[0], [(data, 1)], exact=False))
        return True
    if len(sizes) > _MOST_ITEMS:
        raise AiopError(f"{label(node, proto)} splits into too many parts; export the network again")
    sizes = [(size, count) for size, count in sizes if count]
    if (
        min((size for size, _ in sizes), default=0) < 0
        or sum(size * count for size, count in sizes) != extent
    ):
        raise AiopError(
            f"{label(node, proto)} splits {extent} elements otherwise; check the file with onnx.checker"
        )
    reader.define(Sequence(names[0], _split_runs(reader, names[0], data, axis, sizes, squeeze)))
    return True


def _split_runs(
    reader: Reader, name: str, data: Tensor, axis: int, sizes: list[tuple[int, int]], squeeze: bool
) -> Iterator[Run]:
    if sum(count for _, count in sizes) <= _MOST_PARTS:
        sizes = [(size, 1) for size, count in sizes for _ in range(count)]
        keys = [f"{name}#{index}" for index in range(len(sizes))]
        lengths = reader.integers([size for size, _ in sizes])
        tensors = reader.emit("Split", [data, lengths], keys, axis=axis) if sizes else []
    else:  # too many to name: a slice stands for every run of equal ones
        bounds = [[reader.integers([number]) for number in (0, size, axis)] for size, _ in sizes]
        tensors = [
            reader.emit("Slice", [data, *bound], [f"{name}#{index}"])[0] for index, bound in enumerate(bounds)
        ]
    for index, (tensor, (_, count)) in enumerate(zip(tensors, sizes, strict=True)):
        item = tensor
        if squeeze:
            item = reader.emit("Squeeze", [tensor, reader.integers([axis])], [f"{name}#{index}s"])[0]
        yield item, count


def _map(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    body = subgraph(node, proto, "body")
    first = _sequence(node, proto)
    others = node.inputs[1:]
    sequences = [tensor for tensor in node.inputs if isinstance(tensor, Sequence)]
    exact = all(tensor.exact for tensor in sequences)
    length = max(tensor.length for tensor in sequences)
    if exact and any(tensor.length != length for tensor in sequences):
        raise AiopError(f"{label(node, proto)} maps over sequences of different lengths; export it again")
    cuts = sorted({position for tensor in sequences for position in _starts(tensor)})
    if not exact:
        cuts = cuts[:1]
    elif len(cuts) * size_of(body) > _MOST_ITEMS:
        reader.notes.append(f"{label(node, proto)} maps over many tensors: all are read as like the first")
        cuts = cuts[:1]
    results: list[list[Run]] = [[] for _ in names]
    for step, (start, end) in enumerate(zip(cuts, [*cuts[1:], length], strict=True)):
        bound = [
            parts(tensor.runs, start)[1][0][0] if isinstance(tensor, Sequence) else tensor
            for tensor in (first, *others)
            if tensor is not None
        ]
        outputs = inline(reader, body, bound, names[0], step=step, repeat=end - start)
        for runs, output in zip(results, outputs, strict=False):
            runs.append((output, end - start))
    for name, runs in zip(names, results, strict=True):
        reader.define(Sequence(name, runs, exact=exact))
    return True


def _starts(sequence: Sequence) -> Iterator[int]:
    position = 0
    for _, count in sequence.runs:
        yield position
        position += count


def _empty(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    reader.define(Sequence(names[0], ()))
    return True


def _optional(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    value = node.input(0)
    reader.define(Absent(names[0]) if value is None else value, names[0])
    return True


def _has_element(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    value = node.input(0)
    result = Tensor(names[0], (), "bool", constant=True)
    result.set_value(np.asarray(value is not None and not isinstance(value, Absent)))
    reader.define(result)
    return True


def _element(reader: Reader, node: Node, proto: onnx.NodeProto, names: list[str]) -> bool:
    value = node.input(0)
    if value is None or isinstance(value, Absent):
        raise AiopError(
            f"{label(node, proto)} reads an optional that holds nothing; export the network again"
        )
    reader.define(value, names[0])
    return True


HANDLERS = {
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "SequenceEmpty": _empty,
    "SequenceMap": _map,
    "ConcatFromSequence": _concat,
    "SplitToSequence": _split,
    "Optional": _optional,
    "OptionalHasElement": _has_element,
    "OptionalGetElement": _element,
}
"""ONNX operator -> what reads it: reader, node, message and output names -> whether it could be read."""
