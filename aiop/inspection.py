"""What is in a network: operators, shapes, costs. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiop.graph_ir import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.unknown import unknown_operators
from aiop.tasks.networks import read

__all__ = ["Inspection", "inspect"]

INPUT_OPERATOR = "Input"
"""Operator of the operations that stand for the network's inputs: reported as inputs, not as nodes."""


@dataclass(frozen=True, slots=True)
class OperatorTotal:
    """What all nodes of one operator sum to; the totals of all operators sum to those of the network."""

    count: int = 0
    macs: int = 0
    elementwise: int = 0
    params: int = 0
    activations: int = 0

    def plus(self, operation: Operation) -> OperatorTotal:
        """Return the total with one more node."""
        return OperatorTotal(
            self.count + 1,
            self.macs + operation.macs,
            self.elementwise + operation.elementwise,
            self.params + operation.params,
            self.activations + (operation.output_elements if operation.macs else 0),
        )


@dataclass(frozen=True, eq=False)
class Inspection(Mapping[str, Any]):
    """Operators, shapes and costs of one network: attributes, and the same as a read-only mapping.

    ``macs`` counts convolutions, transposed convolutions and matrix products only, ``flops`` is twice that, and
    ``elementwise`` counts operations on single elements, which neither of them holds (`aiop.graph_ir.elementwise`).
    ``params`` are trained numbers (no running statistics), ``activations`` the elements written by the
    operations that have MACs. ``inputs`` and ``outputs`` map a tensor name to its ``shape`` and ``dtype``.
    ``operators`` maps an operator to its ``count``, ``macs``, ``elementwise``, ``params`` and ``activations``, most
    MACs first. ``unknown`` maps an unknown operator to its ``count``, its ``share`` of the nodes and the line of code
    to ``register`` it with (`aiop.operator`).
    ``precision`` maps a number format to its share of the MACs (of the nodes where there are no MACs), the largest
    first: that of the weights or, in a product of activations, of these. ``hash`` is that of the canonical graph:
    names, the order of nodes and number formats do not change it.
    """

    network: str
    nodes: int
    macs: int
    flops: int
    elementwise: int
    params: int
    activations: int
    precision: dict[str, float]
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    hash: str
    operators: dict[str, dict[str, int]]
    unknown: dict[str, dict[str, Any]]
    opset: int
    producer: str
    notes: tuple[str, ...]
    graph: ComputeGraph

    def to_dict(self, per_op: bool = False) -> dict[str, Any]:
        """Return plain values ready for JSON; ``per_op`` adds ``operations``, one entry per node."""
        values = {name: value for name, value in vars(self).items() if name != "graph"}
        values["notes"] = list(self.notes)
        if per_op:
            values["operations"] = self.operations
        return values

    @property
    def operations(self) -> list[dict[str, Any]]:
        """Every node in topological order: operator, shapes read, written and trained, settings, costs."""
        return [_describe(self.graph, operation) for operation in _nodes(self.graph)]

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())


def inspect(net: str | Path | ComputeGraph, shapes: Mapping[str, Sequence[int]] | None = None) -> Inspection:
    """Report what is in one network: an ONNX file, ``space:code``, or a graph that was read before.

    ``shapes`` maps an input's name to the shape to assume where the file leaves it open. What cannot be read
    is an `AiopError`.
    """
    graph = net if isinstance(net, ComputeGraph) else read(net, shapes=shapes)
    nodes = _nodes(graph)
    canonical = canonicalise(graph)
    totals: dict[str, OperatorTotal] = {}
    for operation in nodes:
        totals[operation.op] = totals.get(operation.op, OperatorTotal()).plus(operation)
    by_cost = sorted(totals.items(), key=lambda item: (-item[1].macs, -item[1].elementwise, item[0]))
    return Inspection(
        network=graph.name if isinstance(net, ComputeGraph) else str(net),
        nodes=len(nodes),
        macs=graph.macs,
        flops=graph.flops,
        elementwise=graph.elementwise,
        params=graph.params,
        activations=graph.activations,
        precision=_precisions(canonical),
        inputs={name: _spec(graph.tensors[name]) for name in graph.inputs},
        outputs={name: _spec(graph.tensors[name]) for name in graph.outputs},
        hash=content_hash(canonical),
        operators={operator: asdict(total) for operator, total in by_cost},
        unknown={
            unknown.name: {"count": unknown.count, "share": unknown.share, "register": unknown.registration}
            for unknown in unknown_operators(graph.operations)
        },
        opset=graph.opset,
        producer=graph.producer,
        notes=graph.notes,
        graph=graph,
    )


def _nodes(graph: ComputeGraph) -> list[Operation]:
    return [operation for operation in graph.operations if operation.op != INPUT_OPERATOR]


def _precisions(canonical: ComputeGraph) -> dict[str, float]:
    """Return the share of every number format: only the canonical form tells what flows between quantisations."""
    weighed = [(operation.precision, operation.macs) for operation in _nodes(canonical)]
    if not canonical.macs:
        weighed = [(precision, 1) for precision, _ in weighed]
    totals: dict[str, int] = {}
    for precision, amount in weighed:
        if amount:
            totals[precision] = totals.get(precision, 0) + amount
    whole = sum(totals.values())
    by_share = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return {precision: amount / whole for precision, amount in by_share}


def _spec(tensor: TensorSpec) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": tensor.dtype}


def _describe(graph: ComputeGraph, operation: Operation) -> dict[str, Any]:
    return {
        "name": operation.name,
        "op": operation.op,
        "onnx_type": operation.onnx_type,
        "domain": operation.domain,
        "inputs": [list(graph.tensors[name].shape) for name in operation.inputs],
        "outputs": [list(graph.tensors[name].shape) for name in operation.outputs],
        "weights": [list(weight.shape) for weight in operation.weights],
        "kernel": list(operation.kernel),
        "stride": list(operation.stride),
        "dilation": list(operation.dilation),
        "padding": list(operation.padding),
        "groups": operation.groups,
        "bias": operation.bias,
        "macs": operation.macs,
        "elementwise": operation.elementwise,
        "precision": operation.precision,
        "params": operation.params,
        "output_elements": operation.output_elements,
    }
