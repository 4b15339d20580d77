"""Subgraphs, the bodies of branches and loops: each is read in a scope of its own, into the same list of operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import onnx

from aiop.errors import AiopError
from aiop.graph_ir.graph import Operation
from aiop.graph_ir.reading.inference import label
from aiop.graph_ir.values import Node, Tensor

if TYPE_CHECKING:
    from aiop.graph_ir.reading.reader import Reader

__all__ = [
    "Mark",
    "Place",
    "Scope",
    "Taken",
    "Visible",
    "inline",
    "read_by",
    "repeated",
    "size_of",
    "subgraph",
]

_DEEPEST = 64
_MOST_NODES = 200_000


class Scope(dict[str, Tensor]):
    """Tensors of a subgraph by name; what it does not define itself is looked up in the graphs around it."""

    __slots__ = ("around",)

    def __init__(self, around: dict[str, Tensor]) -> None:
        super().__init__()
        self.around = around

    def __missing__(self, name: str) -> Tensor:
        return self.around[name]


class Visible:
    """The names that can be read in a graph: its own, and those of the graphs around it."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def __contains__(self, name: object) -> bool:
        tensors = self._tensors
        while name not in tensors and isinstance(tensors, Scope):
            tensors = tensors.around
        return name in tensors


class Place(NamedTuple):
    """Where in a file the reader stands.

    ``prefix`` is put before the names of tensors, so that those of several subgraphs (and of the steps of one loop)
    differ; ``leaves`` before those of trained tensors, which all steps share; ``repeat`` is how often what is read
    runs.
    """

    prefix: str = ""
    leaves: str = ""
    repeat: int = 1
    depth: int = 0


class Mark(NamedTuple):
    """How much had been read at some point: operations, notes and counted parameters."""

    operations: int
    notes: int
    parameters: int


class Taken(NamedTuple):
    """What was read from a `Mark` on, and taken back."""

    operations: list[Operation]
    notes: list[str]
    parameters: list[str]


def repeated(operation: Operation, times: int) -> None:
    """Turn an operation into one that runs several times: what it computes grows, what it has learned does not."""
    operation.macs *= times
    operation.output_elements *= times
    operation.elementwise *= times
    operation.attributes = tuple(sorted((*operation.attributes, ("repeat", times))))


def subgraph(node: Node, proto: onnx.NodeProto, attribute: str) -> onnx.GraphProto:
    """Return a subgraph of a node; one that is missing is an `AiopError`."""
    graph = node.get(attribute)
    if not isinstance(graph, onnx.GraphProto):
        raise AiopError(f"{label(node, proto)} has no {attribute}; export the network again")
    return graph


def inline(
    reader: Reader,
    graph: onnx.GraphProto,
    bound: Sequence[Tensor],
    site: str,
    *,
    step: int | None = None,
    repeat: int = 1,
) -> list[Tensor]:
    """Read a subgraph, its inputs ``bound`` in order, and return its outputs.

    ``site`` names the place it is inlined at, the same for every ``step`` of a loop; its operations run ``repeat``
    times. Subgraphs that are nested too deep or come to too many nodes are an `AiopError`.
    """
    tensors, place = reader.tensors, reader.place
    reader.nested += len(graph.node)
    if place.depth >= _DEEPEST or reader.nested > _MOST_NODES:
        raise AiopError(
            f"its branches and loops are nested more than {_DEEPEST} deep or come to more than {_MOST_NODES} nodes; "
            "export the network without them"
        )
    if len(graph.input) != len(bound):
        raise AiopError(
            f"subgraph {graph.name!r} has {len(graph.input)} inputs where {len(bound)} are given to it; "
            "check the file with onnx.checker"
        )
    number = reader.sites.setdefault((place.leaves, site), len(reader.sites))
    name = f"{graph.name[:32] or 'subgraph'}.{number}"
    at = "" if step is None else f"[{step}]"
    reader.tensors = Scope(tensors)
    reader.place = Place(
        f"{place.prefix}{name}{at}/", f"{place.leaves}{name}/", place.repeat * repeat, place.depth + 1
    )
    try:
        with reader.inference.within(graph):
            for value, tensor in zip(graph.input, bound, strict=True):
                reader.define(tensor, value.name)
            reader.initializers(graph)
            reader.nodes(graph.node)
            return [_output(reader, value.name) for value in graph.output]
    finally:
        reader.tensors, reader.place = tensors, place


def _output(reader: Reader, name: str) -> Tensor:
    try:
        return reader.tensors[name]
    except KeyError:
        raise AiopError(
            f"output {name!r} of a subgraph is computed by no node; export the network again"
        ) from None


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, with those that its subgraphs do."""
    yield from node.input
    for graph in _graphs(node):
        for inner in graph.node:
            yield from read_by(inner)
        for value in graph.output:
            yield value.name


def size_of(graph: onnx.GraphProto) -> int:
    """Return the number of nodes of a graph and of the subgraphs in it."""
    return sum(1 + sum(map(size_of, _graphs(node))) for node in graph.node)


def _graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
