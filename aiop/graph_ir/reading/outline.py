"""An ONNX message read only as far as it is of use: the runtime takes its time for every field that it makes known.

Looking into the attributes of a node costs more than all that follows from them, and networks repeat their blocks:
attributes of the same bytes need not be looked into again. The messages here read the wire format of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import onnx
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["NodeOutline", "outline", "parts"]

_AT_ONCE = 10_000


class NodeOutline(Protocol):
    """A `NodeProto` whose attributes are not parsed; fields it does not name are not looked at."""

    input: Sequence[str]
    output: Sequence[str]
    name: str
    op_type: str
    domain: str
    attribute: Sequence[bytes]


def outline(graph: onnx.GraphProto) -> Iterator[NodeOutline]:
    """Yield the nodes of a graph, in its order; of a large one only some are in memory at a time."""
    if len(graph.node) <= _AT_ONCE:
        return iter(_GRAPH.FromString(graph.SerializeToString()).node)
    parts = (graph.node[start : start + _AT_ONCE] for start in range(0, len(graph.node), _AT_ONCE))
    return (node for part in parts for node in outline(onnx.GraphProto(node=part)))


def parts(data: bytes) -> tuple[int, int]:
    """Return how many nodes, constants and functions a serialised `ModelProto` has, and the bytes of the largest.

    Bytes that are none are a `DecodeError`.
    """
    model = _MODEL_PARTS.FromString(data)
    graph = model.graph
    fields = (model.training, model.part, graph.part, graph.constant, graph.sparse)
    return sum(map(len, fields)), max([max(map(len, field[:]), default=0) for field in fields])


def _messages() -> tuple[Any, Any]:
    """Return the classes of a graph that knows its nodes only, and of a network in parts."""
    kinds = descriptor_pb2.FieldDescriptorProto
    text, raw, nested = kinds.TYPE_STRING, kinds.TYPE_BYTES, kinds.TYPE_MESSAGE
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="outline.proto", package="outline", syntax="proto2")
    # message -> (field, its number in onnx.proto, type, label) of each
    layout: dict[str, list[tuple[str, int, Any, Any]]] = {
        "Node": [
            ("input", 1, text, many), ("output", 2, text, many), ("name", 3, text, one), ("op_type", 4, text, one),
            ("attribute", 5, raw, many), ("domain", 7, text, one),
        ],
        "Graph": [("node", 1, ".outline.Node", many)],
        "GraphParts": [("part", 1, raw, many), ("constant", 5, raw, many), ("sparse", 15, raw, many)],
        "ModelParts": [("graph", 7, ".outline.GraphParts", one), ("training", 20, raw, many), ("part", 25, raw, many)],
    }  # fmt: skip
    for name, fields in layout.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            if isinstance(kind, str):
                message.field.add(name=field, number=number, type=nested, type_name=kind, label=label)
            else:
                message.field.add(name=field, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    graph, parts = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"outline.{name}"))
        for name in ("Graph", "ModelParts")
    )
    return graph, parts


_GRAPH, _MODEL_PARTS = _messages()
