"""Spell matrix products in one way: operands are moved so that rows, columns and sums lie where MatMul has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.passes.base import PassResult

__all__ = ["spell_products"]

_TURNED = ("transA", "transB")
_PARTS = (*_TURNED, "left", "rows", "right", "columns", "product", "apart")
_SPELT_OTHERWISE = frozenset({"Einsum", "Gemm", "FusedMatMul"})


def spell_products(graph: ComputeGraph) -> PassResult:
    """Write the Einsum of two tensors, and transposed operands of Gemm and FusedMatMul, as a MatMul between moves.

    An Einsum with a matrix of weights becomes a ``Linear`` between moves. Left as they are: sums over an index that
    only one of the two has, diagonals, and equations with an ellipsis.
    """
    if not any(operation.onnx_type in _SPELT_OTHERWISE for operation in graph.operations):
        return PassResult(graph, False)
    work = _Spelling(graph)
    for operation in graph.operations:
        if not work.spelt(operation):
            work.operations.append(operation)
    if not work.changed:
        return PassResult(graph, False)
    tensors = {**graph.tensors, **work.tensors}
    return PassResult(replace(graph, operations=work.operations, tensors=tensors), True)


@dataclass
class _Spelling:
    graph: ComputeGraph
    operations: list[Operation] = field(default_factory=list)
    tensors: dict[str, TensorSpec] = field(default_factory=dict)
    changed: bool = False

    def spelt(self, operation: Operation) -> bool:
        """Write a product in the one spelling, where it has another."""
        given: dict[str, Any] = dict(operation.attributes)
        if operation.op not in ("MatMul", "Linear") or len(operation.outputs) != 1 or not operation.inputs:
            return False
        if any(f"{operation.outputs[0]}/{part}" in self.graph.tensors for part in _PARTS):
            return False
        done = False
        if operation.onnx_type == "Einsum":
            done = self.einsum(operation, str(given.get("equation")))
        elif operation.onnx_type in _SPELT_OTHERWISE and (
            operation.op == "MatMul" or any(given.get(name) for name in _TURNED)
        ):
            done = self.turned(operation, given)
        self.changed |= done
        return done

    def turned(self, operation: Operation, given: dict[str, Any]) -> bool:
        """Write a product of transposed operands."""
        inputs = list(operation.inputs)
        for place, name in enumerate(_TURNED[: len(inputs)]):
            if given.get(name):
                rank = len(self.graph.tensors[inputs[place]].shape)
                if rank < 2:
                    return False
                key = f"{operation.outputs[0]}/{name}"
                inputs[place] = self._moved(inputs[place], (*range(rank - 2), rank - 1, rank - 2), key)
        kept = tuple([item for item in operation.attributes if item[0] not in _TURNED])
        self.operations.append(replace(operation, onnx_type="MatMul", inputs=tuple(inputs), attributes=kept))
        return True

    def einsum(self, operation: Operation, equation: str) -> bool:
        """Write the product of two tensors, or of a tensor and a weight."""
        left, arrow, out = equation.replace(" ", "").partition("->")
        terms = left.split(",")
        shapes = [self.graph.tensors[key].shape for key in operation.inputs]
        if (
            not arrow
            or "." in equation
            or len(terms) != 2
            or len(operation.inputs) + len(operation.weights) != 2
        ):
            return False
        if len(operation.inputs) == 1:
            shapes.append(operation.weights[0].shape)
            if not _fits(terms, shapes):
                terms.reverse()
        if not _fits(terms, shapes) or any(len(set(term)) < len(term) for term in (*terms, out)):
            return False
        extents: dict[str, int] = {}
        for term, shape in zip(terms, shapes, strict=True):
            extents.update(zip(term, shape, strict=True))
        one, other = terms
        batch = [letter for letter in out if letter in one and letter in other]
        rows = [letter for letter in out if letter not in other]
        columns = [letter for letter in out if letter not in one]
        summed = [letter for letter in one if letter in other and letter not in out]
        if len(batch) + len(rows) + len(summed) != len(one) or len(batch) + len(columns) + len(summed) != len(
            other
        ):
            return False
        if operation.weights and (batch or len(operation.weights) > 1):
            return False

        def size(letters: Sequence[str]) -> int:
            return math.prod(extents[letter] for letter in letters)

        lead = tuple([extents[letter] for letter in batch])
        key = operation.outputs[0]
        wanted = [*batch, *rows, *summed]
        first = self._moved(operation.inputs[0], [one.index(letter) for letter in wanted], f"{key}/left")
        first = self._shaped(first, (*lead, size(rows), size(summed)), f"{key}/rows")
        spec = self.graph.tensors[key]
        shape = (*lead, size(rows), size(columns))
        now = [*batch, *rows, *columns]
        product = key if shape == spec.shape and now == list(out) else f"{key}/product"
        self.tensors[product] = TensorSpec(shape, spec.dtype)
        if operation.weights:
            weights = (TensorSpec((size(summed), size(columns)), operation.weights[0].dtype),)
            made = replace(operation, op="Linear", inputs=(first,), weights=weights)
        else:
            wanted = [*batch, *summed, *columns]
            second = self._moved(
                operation.inputs[1], [other.index(letter) for letter in wanted], f"{key}/right"
            )
            second = self._shaped(second, (*lead, size(summed), size(columns)), f"{key}/columns")
            made = replace(operation, op="MatMul", inputs=(first, second))
        self.operations.append(replace(made, onnx_type="MatMul", outputs=(product,), attributes=()))
        if product != key:
            apart = key if now == list(out) else f"{key}/apart"
            apart = self._shaped(product, tuple([extents[letter] for letter in now]), apart)
            if now != list(out):
                self._move(apart, [now.index(letter) for letter in out], key, spec)
        return True

    def _spec(self, key: str) -> TensorSpec:
        return self.tensors.get(key) or self.graph.tensors[key]

    def _moved(self, source: str, order: Sequence[int], key: str) -> str:
        if list(order) == sorted(order):
            return source
        spec = self._spec(source)
        self.tensors[key] = TensorSpec(tuple([spec.shape[axis] for axis in order]), spec.dtype)
        self._move(source, order, key, spec)
        return key

    def _move(self, source: str, order: Sequence[int], key: str, spec: TensorSpec) -> None:
        self.operations.append(
            Operation(
                key, "Transpose", "Transpose", (source,), (key,), attributes=(("perm", tuple(order)),),
                output_elements=spec.elements, precision=spec.dtype,
            )
        )  # fmt: skip

    def _shaped(self, source: str, shape: tuple[int, ...], key: str) -> str:
        spec = self._spec(source)
        if spec.shape == shape:
            return source
        self.tensors[key] = TensorSpec(shape, spec.dtype)
        self.operations.append(
            Operation(
                key,
                "Reshape",
                "Reshape",
                (source,),
                (key,),
                output_elements=spec.elements,
                precision=spec.dtype,
            )
        )
        return key


def _fits(terms: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether terms name the axes of shapes, with one extent for every letter."""
    extents: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(term) != len(shape):
            return False
        for letter, extent in zip(term, shape, strict=True):
            if extents.setdefault(letter, extent) != extent:
                return False
    return True
