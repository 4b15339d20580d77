"""The operations of a graph in the order in which a picture goes through them, connected by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec

__all__ = ["OUTPUT", "Tensor", "Wiring", "depth_first_order", "wire"]

OUTPUT = "Output"
"""Operator of the stand-ins for the network's outputs, which come last."""

Tensor = tuple[int, int]
"""Position of the operation that computes a tensor, and which of its outputs it is."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Operations in topological order, outputs of the network as operations of kind `OUTPUT` behind them.

    ``sources`` has the tensors that each operation reads, in the order of its inputs; ``readers`` has, for each
    operation, the pairs (output index, position of the reader), every pair once.
    """

    operations: tuple[Operation, ...]
    sources: tuple[tuple[Tensor, ...], ...]
    readers: tuple[tuple[tuple[int, int], ...], ...]
    tensors: Mapping[str, TensorSpec]

    def shapes(self, position: int) -> list[tuple[int, ...]]:
        """Shapes of what the operation computes; of what it reads for an output of the network."""
        operation = self.operations[position]
        names = operation.inputs if operation.op == OUTPUT else operation.outputs
        return [self.tensors[name].shape for name in names]

    def tensor_name(self, tensor: Tensor) -> str:
        """Name of a tensor."""
        return self.operations[tensor[0]].outputs[tensor[1]]


def wire(graph: ComputeGraph, order: Sequence[int] | None = None) -> Wiring:
    """Connect the operations of a graph, taken in ``order`` (indices; the graph's own order without)."""
    operations = [graph.operations[index] for index in order] if order is not None else list(graph.operations)
    operations += [Operation(name, OUTPUT, OUTPUT, (name,), ()) for name in graph.outputs]
    produced: dict[str, Tensor] = {}
    for position, operation in enumerate(operations):
        for index, name in enumerate(operation.outputs):
            produced[name] = (position, index)
    sources = tuple(
        tuple(produced[name] for name in operation.inputs if name in produced) for operation in operations
    )
    readers: list[dict[tuple[int, int], None]] = [{} for _ in operations]
    for position, tensors in enumerate(sources):
        for source, index in tensors:
            readers[source][index, position] = None
    return Wiring(tuple(operations), sources, tuple(map(tuple, readers)), graph.tensors)


def depth_first_order(graph: ComputeGraph) -> list[int]:
    """Return a topological order in which every operation comes right before what needs it.

    It depends on the connections only, so blocks stand together however a file has shuffled its nodes.
    """
    producers = graph.producers
    parents = [
        [producers[name] for name in operation.inputs if name in producers] for operation in graph.operations
    ]
    read = {parent for each in parents for parent in each}
    roots = [producers[name] for name in graph.outputs if name in producers]
    roots += [index for index in range(len(parents)) if index not in read]
    order: list[int] = []
    done = [False] * len(parents)
    for root in roots:
        stack = [(root, 0)]
        while stack:
            index, turn = stack.pop()
            if done[index]:
                continue
            waiting = next(
                (at for at in range(turn, len(parents[index])) if not done[parents[index][at]]), None
            )
            if waiting is None:
                done[index] = True
                order.append(index)
            else:
                stack += [(index, waiting + 1), (parents[index][waiting], 0)]
    return order
