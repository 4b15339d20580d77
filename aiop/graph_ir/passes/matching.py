"""What passes that recognise several operations as one share: a graph under change, and arithmetic read off it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.base import PassResult, as_large

__all__ = ["Product", "Rewriter", "Total", "activation", "near", "span_of"]

_DEEPEST = 8  # operations that one product or sum is looked for in


def near(value: float, wanted: float, tolerance: float = 1e-3) -> bool:
    """Return whether a constant of a file is a number, up to how coarsely files write it."""
    return math.isclose(value, wanted, rel_tol=tolerance, abs_tol=1e-9)


@dataclass
class Product:
    """``factor`` times the tensors ``over``, divided by the tensors ``under``; ``parts`` are its operations."""

    factor: float
    over: list[str]
    under: list[str]
    parts: set[int]

    def plain(self) -> str | None:
        """Return the tensor that the product is a multiple of; ``None`` for other products."""
        return self.over[0] if len(self.over) == 1 and not self.under else None


@dataclass
class Total:
    """``constant`` plus factor times tensor, over ``terms``; ``parts`` are its operations."""

    constant: float
    terms: list[tuple[float, str]]
    parts: set[int]


class Rewriter:
    """A graph while operations in it are replaced: who computes and who reads every tensor, kept up to date."""

    def __init__(self, graph: ComputeGraph) -> None:
        self.graph = graph
        self.operations: list[Operation | None] = list(graph.operations)
        self.makers = graph.producers
        self.readers: dict[
            str, dict[int, int]
        ] = {}  # tensor -> operation -> how often it reads it; -1 the outside
        for index, operation in enumerate(graph.operations):
            self._read(index, operation)
        for key in graph.outputs:
            self.readers.setdefault(key, {})[-1] = 1
        self.changed = False

    def _read(self, index: int, operation: Operation) -> None:
        for key in operation.inputs:
            found = self.readers.setdefault(key, {})
            found[index] = found.get(index, 0) + 1

    def each(self, kinds: Collection[str]) -> Iterator[tuple[int, Operation]]:
        """Yield the operations of some kinds in order, those too that were found meanwhile, with their indices."""
        for index in range(len(self.operations)):
            operation = self.operations[index]
            if operation is not None and operation.op in kinds and operation.inputs and operation.outputs:
                yield index, operation

    def maker(self, key: str) -> Operation | None:
        """Return the operation that computes a tensor; ``None`` where it was merged into another."""
        return self.operations[self.makers[key]]

    def reader(self, key: str) -> int | None:
        """Return the operation that reads a tensor, once, and nothing else does; ``None`` where there is none such."""
        found = self.readers.get(key)
        if found is None or len(found) != 1:
            return None
        ((index, count),) = found.items()
        return index if count == 1 and index >= 0 else None

    def used_by(self, key: str) -> list[Operation]:
        """Return the operations that read a tensor, each once."""
        found = [self.operations[index] for index in self.readers.get(key, ()) if index >= 0]
        return [operation for operation in found if operation is not None]

    def fuse(self, root: int, parts: Iterable[int], result: Operation) -> bool:
        """Put ``result`` in the place of ``root`` and the ``parts`` before it, which nothing else may read.

        Returns whether that was possible.
        """
        gone = {index for index in parts if index != root}
        for index in gone:
            part = self.operations[index]
            if part is None or any(
                reader != root and reader not in gone
                for key in part.outputs
                for reader in self.readers.get(key, ())
            ):
                return False
        for index in (*gone, root):
            part = self.operations[index]
            for key in part.inputs if part is not None else ():
                self.readers[key].pop(index, None)
        for index in gone:
            self.operations[index] = None
        self._read(root, result)
        self.operations[root] = result
        self.changed = True
        return True

    def result(self) -> PassResult:
        """Return the graph of what is left."""
        if not self.changed:
            return PassResult(self.graph, False)
        return PassResult(
            self.graph.with_operations([operation for operation in self.operations if operation is not None]),
            True,
        )

    # -- arithmetic

    def product(self, key: str) -> Product:
        """Return the product that a tensor is, taking in factors that nothing else reads."""
        found = Product(1.0, [], [], set())
        self._multiply(found, key, over=True, root=True)
        return found

    def _multiply(self, found: Product, key: str, *, over: bool, root: bool = False) -> None:
        index = self.makers[key]
        operation = self.operations[index]
        scale = self._scale(operation) if root or self.reader(key) is not None else None
        if operation is None or scale is None or len(found.parts) >= _DEEPEST:
            (found.over if over else found.under).append(key)
            return
        found.parts.add(index)
        found.factor *= scale if over else 1 / scale
        for position, each in enumerate(operation.inputs):
            inverse = operation.op == "Reciprocal" or (operation.op == "Div" and position == 1)
            self._multiply(found, each, over=over != inverse)

    def _scale(self, operation: Operation | None) -> float | None:
        """Return the constant factor of a product of activations; ``None`` for other operations."""
        if operation is None or operation.weights or len(operation.outputs) != 1:
            return None
        if operation.op in ("Neg", "Reciprocal") and len(operation.inputs) == 1:
            number = -1.0 if operation.op == "Neg" else math.prod(operation.scalars)
        elif operation.op in ("Mul", "Div") and 0 < len(operation.inputs) < 3:
            if any(not as_large(self.graph, operation.outputs[0], key) for key in operation.inputs[:1]):
                return None
            number = math.prod(operation.scalars)
            if operation.op == "Div" and operation.scalars:
                number = 1 / number if number else 0.0
        else:
            return None
        return number if number and math.isfinite(number) else None

    def total(self, key: str) -> Total:
        """Return the sum of multiples that a tensor is, taking in terms that nothing else reads."""
        found = Total(0.0, [], set())
        self._sum(found, key, 1.0, root=True)
        return found

    def _sum(self, found: Total, key: str, factor: float, *, root: bool = False) -> None:
        index = self.makers[key]
        operation = self.operations[index]
        inside = root or self.reader(key) is not None
        if operation is None or not inside or operation.weights or len(found.parts) >= _DEEPEST:
            found.terms.append((factor, key))
        elif operation.op in ("Add", "Sub") and operation.inputs:
            found.parts.add(index)
            backwards = ("reversed", 1) in operation.attributes
            minus = operation.op == "Sub"
            found.constant += factor * sum(operation.scalars) * (-1 if minus and not backwards else 1)
            for position, each in enumerate(operation.inputs):
                negative = minus and (backwards or position > 0)
                self._sum(found, each, -factor if negative else factor)
        elif (
            operation.op != "Reciprocal" and len(operation.inputs) == 1 and (scale := self._scale(operation))
        ):
            found.parts.add(index)
            self._sum(found, operation.inputs[0], factor * scale)
        else:
            found.terms.append((factor, key))


def span_of(operation: Operation) -> tuple[int, ...]:
    """Return how many elements in turn a reduction keeps and reduces (`aiop.graph_ir.reading.spellings.runs`)."""
    span = dict(operation.attributes).get("span", ())
    return span if isinstance(span, tuple) and all(isinstance(extent, int) for extent in span) else ()


def activation(op: str, root: Operation, source: str, **attributes: object) -> Operation:
    """Return ``root`` as the activation ``op`` of one tensor."""
    return replace(
        root,
        op=op,
        onnx_type=op,
        inputs=(source,),
        scalars=(),
        attributes=tuple(sorted(attributes.items())),
        macs=0,
    )
