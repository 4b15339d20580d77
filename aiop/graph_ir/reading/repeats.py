"""Reading the nodes of a network: those of a form that is known are not looked into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import onnx

from aiop.errors import AiopError
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.reading.forms import FORMS, Form, Signature, form_of
from aiop.graph_ir.reading.messages import attribute_value
from aiop.graph_ir.reading.order import in_order
from aiop.graph_ir.reading.outline import NodeOutline, outline
from aiop.graph_ir.values import Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = ["read_nodes"]

_SMALL_ATTRIBUTE = 64  # bytes, of one that is worth keeping
_LARGEST_ATTRIBUTE = 1024  # bytes, of one in a form that is worth keeping


def read_nodes(reader: Reader, graph: onnx.GraphProto) -> None:
    """Read the nodes of a network's main graph."""
    count = _read_ready(reader, graph, enumerate(outline(graph)))
    if count < len(graph.node):  # in another order than they run in
        rest = list(islice(outline(graph), count, None))
        index_of = {id(node): index for index, node in enumerate(rest, count)}
        _read_ready(reader, graph, [(index_of[id(node)], node) for node in in_order(rest, reader.tensors)])


def _read_ready(reader: Reader, graph: onnx.GraphProto, nodes: Iterable[tuple[int, NodeOutline]]) -> int:
    """Read nodes, each with its place in the file, until one reads what is not computed yet; return how many."""
    tensors, scales = reader.tensors, reader.parameters.scales
    protos, opset, known = graph.node, reader.opset, FORMS.known
    done = 0
    for index, node in nodes:
        try:
            inputs = [tensors[key] if key else None for key in node.input[:]]
        except KeyError:
            break
        done += 1
        kind, names = node.op_type, node.output[:]
        if (
            kind == "Identity"
            and len(inputs) == len(names) == 1
            and inputs[0] is not None
            and not node.domain
        ):
            reader.alias(names[0], inputs[0])
            continue
        attributes = node.attribute[:]
        signature = (
            kind, opset, node.domain, len(names) if "" not in names else tuple(map(bool, names)), *attributes,
            *[tensor.kind if tensor is not None else None for tensor in inputs],
        )  # fmt: skip
        form = known.get(signature)
        if form is None or scales:
            _learn(reader, signature, protos[index], attributes, inputs, names)
        else:
            _repeat(reader, form, node, inputs, names)
    return done


def _learn(
    reader: Reader,
    signature: Signature,
    proto: onnx.NodeProto,
    attributes: Sequence[bytes],
    inputs: list[Tensor | None],
    names: Sequence[str],
) -> None:
    """Read a node, and keep its form where it has one."""
    operations, tensors = reader.operations, reader.tensors
    count, noted, guessed = len(operations), len(reader.notes), reader.inference.guesses
    large = False
    values = {}
    for raw in attributes:
        if len(raw) <= _SMALL_ATTRIBUTE:
            key, value = _attribute(raw)
        else:
            key, value = _read(raw)
            large |= len(raw) > _LARGEST_ATTRIBUTE
        values[key] = value
    node = reader.read_node(proto, inputs, values)
    if large or not node.repeatable or reader.parameters.scales:
        return
    if len(reader.notes) > noted or reader.inference.guesses > guessed:
        return  # what was said, or declared, of this node alone
    form = form_of(
        node, [tensors[name] for name in names if name], operations[-1] if len(operations) > count else None
    )
    if form is not None:
        FORMS.keep(signature, form)


def _repeat(
    reader: Reader, form: Form, node: NodeOutline, inputs: list[Tensor | None], names: Sequence[str]
) -> None:
    """Add a node of a form that is known."""
    tensors = reader.tensors
    kind, outputs, op, activations, counted, rest, traced = form
    if "" in names:
        names = [key for key in names if key]
    for key, output in zip(names, outputs):  # noqa: B905  (as long, and strict is slow)
        if key in tensors or key.__class__ is not str:
            reader.define(Tensor(key, (), ""))  # says what is wrong
        tensors[key] = tensor = Tensor.known(key, output)
        if traced:
            tensor.leaves = reader.leaves_behind(kind, tensor, inputs)
    if op:
        operations = reader.operations
        name = node.name or names[0]
        if name.__class__ is not str:
            raise AiopError(f"node {name!r} ({kind}) has a name that is not text; export the network again")
        read = tuple([inputs[slot].name for slot in activations])  # type: ignore[union-attr]
        operation = Operation(name, op, kind, read, tuple(names), *rest)
        if counted:
            operation.params = reader.parameters.tally(inputs, counted, len(operations))
        operations.append(operation)


def _read(raw: bytes) -> tuple[str, Any]:
    proto = onnx.AttributeProto.FromString(raw)
    return proto.name, attribute_value(proto)


_attribute = lru_cache(maxsize=4096)(_read)
