"""Recognise attention, in whatever products and moves a file writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.operators import VIEWS
from aiop.graph_ir.passes.base import PassResult, consumers
from aiop.graph_ir.passes.heads import Tracer, heads_of
from aiop.graph_ir.passes.moves import moves_of
from aiop.graph_ir.passes.strided import Strided, whole

__all__ = ["fuse_attention"]

_SETTLED = frozenset({"within", "heads"})  # attributes of a softmax and an attention in their last form
_LONGEST = 24  # operations between two products


def fuse_attention(graph: ComputeGraph) -> PassResult:
    """Replace ``softmax(q k^T * scale + bias) v`` by one ``Attention``, and bring fused operators to the same.

    Its inputs are what q, k and v are cut out of (three times the same tensor where one matrix makes all three), then
    masks that are computed; its weights are biases per head; its output has the heads joined, channels last; its
    attributes are the number of heads, and whether a constant hides keys from queries. Queries that are a weight stand
    before the biases. Where scores are reweighted across heads, or channels attend to channels, nothing is replaced.
    """
    if not any(
        operation.op in ("Softmax", "Attention") and not _SETTLED.intersection(dict(operation.attributes))
        for operation in graph.operations
    ):
        return PassResult(graph, False)
    return _Fusing(graph).run()


@dataclass
class _Operands:
    """The parts of one attention: tensors with rows and channels as the last two axes, or the other way round."""

    query: Strided
    key: Strided
    value: Strided
    output: str
    rows_first: bool
    joined: bool = False  # whether the output has the heads joined already
    masks: list[str] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    asked: TensorSpec | None = None  # the queries, where they are a weight


class _Fusing:
    def __init__(self, graph: ComputeGraph) -> None:
        self.graph = graph
        self.users = consumers(graph)
        self.tracer = Tracer(graph)
        self.operations: list[list[Operation] | None] = [[operation] for operation in graph.operations]
        self.tensors: dict[str, TensorSpec] = {}

    def run(self) -> PassResult:
        for index, operation in enumerate(self.graph.operations):
            found = None
            if operation.op == "Softmax":
                found = self._products(index)
            elif operation.op == "Attention" and not dict(operation.attributes).get("heads"):
                found = self._operator(index)
            if found is not None:
                self._replace(found)
        if not self.tensors:
            return PassResult(self.graph, False)
        operations = [each for group in self.operations if group is not None for each in group]
        tensors = {**self.graph.tensors, **self.tensors}
        return PassResult(replace(self.graph, operations=operations, tensors=tensors), True)

    # -- what is there

    def _products(self, index: int) -> _Operands | None:
        """Return the attention around a softmax."""
        graph, softmax = self.graph, self.graph.operations[index]
        shape = graph.tensors[softmax.inputs[0]].shape if softmax.inputs else ()
        given = dict(softmax.attributes)
        if len(shape) < 2 or given.get("axis") not in (-1, len(shape) - 1) or softmax.weights:
            return None  # an axis counted in elements is of settled moves: no shapes to rely on
        before = self._scores(softmax.inputs[0], shape[-2:])
        after = self._weighted(index, shape[-2:])
        if before is None or after is None:
            return None
        first, turned, masks, passed = before
        second, rows_first, between = after
        scores, product = graph.operations[first], graph.operations[second]
        asked = scores.weights[0] if len(scores.inputs) == 1 else None
        left = self._operand(scores.inputs[0]) if asked is None else whole("", asked.shape)
        right = self._operand(scores.inputs[-1])
        query, key = (_turned(right), left) if turned else (left, _turned(right))
        value = self._operand(product.inputs[1 if rows_first else 0])
        found = _Operands(
            query, key, value if rows_first else _turned(value), product.outputs[0], rows_first, False, masks,
            [first, *passed, index, *between, second], asked,
        )  # fmt: skip
        return found if key.shape[-2] == found.value.shape[-2] == shape[-1] else None

    def _operand(self, key: str) -> Strided:
        return whole(key, self.graph.tensors[key].shape)

    def _scores(
        self, key: str, rows: tuple[int, ...], depth: int = 0
    ) -> tuple[int, bool, list[str], list[int]] | None:
        """Return the product that scores come from, whether it is turned, masks added, and operations passed."""
        graph = self.graph
        masks: list[str] = []
        passed: list[int] = []
        turned = False
        while len(passed) < _LONGEST:
            index = graph.producers[key]
            operation = graph.operations[index]
            if len(self.users[key]) != 1 or len(operation.outputs) != 1 or self.operations[index] is None:
                return None
            if _multiplies(operation):
                shape = graph.tensors[key].shape
                same = shape[-2:] == (rows[::-1] if turned else rows)
                return (index, turned, masks, passed) if same else None
            if not turned and self._asks(operation, rows):
                return index, turned, masks, passed
            passed.append(index)
            if operation.op == "Transpose":
                if not _turns_last(dict(operation.attributes).get("perm"), graph.tensors[key].shape):
                    return None
                turned = not turned
            elif operation.op in ("Add", "Where", "Sub") and len(operation.inputs) > 1:
                if depth > 3 or len(operation.inputs) > 3:
                    return None
                for position, each in enumerate(operation.inputs):
                    if graph.tensors[each].elements != graph.tensors[key].elements:
                        continue
                    found = self._scores(each, rows[::-1] if turned else rows, depth + 1)
                    if found is not None:
                        others = [*operation.inputs[:position], *operation.inputs[position + 1 :]]
                        first, further, inner, gone = found
                        return first, turned != further, masks + others + inner, passed + gone
                return None
            elif operation.op not in VIEWS and operation.op not in (
                "Mul",
                "Div",
                "Add",
                "Sub",
                "Where",
                "Expand",
            ):
                return None
            if len(operation.inputs) != 1:
                return None
            if graph.tensors[operation.inputs[0]].elements != graph.tensors[key].elements:
                return None
            key = operation.inputs[0]
        return None

    def _asks(self, operation: Operation, rows: tuple[int, ...]) -> bool:
        """Return whether an operation is the product of queries that are a weight per head with keys."""
        if operation.op != "Linear" or operation.onnx_type != "MatMul" or operation.bias:
            return False
        if len(operation.inputs) != 1 or len(operation.weights) != 1 or len(operation.weights[0].shape) < 3:
            return False
        asked, keys = operation.weights[0].shape, self.graph.tensors[operation.inputs[0]].shape
        return asked[:-2] == keys[:-2] and (asked[-2], keys[-1]) == rows and asked[-1] == keys[-2]

    def _weighted(self, index: int, rows: tuple[int, ...]) -> tuple[int, bool, list[int]] | None:
        """Return the product of softmax ``index`` with the values, whether its rows come first, what lies between."""
        graph = self.graph
        passed: list[int] = []
        key = graph.operations[index].outputs[0]
        turned = False
        while len(passed) < _LONGEST:
            users = self.users.get(key, [])
            if len(users) == 2 and (after := self._guarded(key, users)) is not None:
                passed += after
                key = graph.operations[after[-1]].outputs[0]
                continue
            if len(users) != 1 or users[0] < 0:
                return None
            operation = graph.operations[users[0]]
            if self.operations[users[0]] is None or len(operation.outputs) != 1 or operation.weights:
                return None
            if _multiplies(operation):
                shape = graph.tensors[key].shape
                if shape[-2:] != (rows[::-1] if turned else rows):
                    return None
                return (users[0], not turned, passed) if operation.inputs.index(key) == turned else None
            if len(operation.inputs) != 1:
                return None
            if operation.op == "Transpose":
                if not _turns_last(dict(operation.attributes).get("perm"), graph.tensors[key].shape):
                    return None
                turned = not turned
            elif operation.op not in VIEWS:
                return None
            passed.append(users[0])
            key = operation.outputs[0]
        return None

    def _guarded(self, key: str, users: list[int]) -> list[int] | None:
        """Return ``Where(IsNaN(p), 0, p)``, which some exporters write after a softmax."""
        operations = self.graph.operations
        if min(users) < 0:
            return None
        test, choice = (operations[user] for user in sorted(users))
        if test.onnx_type != "IsNaN" or choice.op != "Where" or self.users[test.outputs[0]] != [max(users)]:
            return None
        return sorted(users)

    def _operator(self, index: int) -> _Operands | None:
        """Return the attention that an operator of its own is."""
        operation, tensors = self.graph.operations[index], self.graph.tensors
        if len(operation.inputs) == 2 and operation.weights:
            return self._asked(index)
        if len(operation.inputs) < 3 or len(operation.outputs) != 1:
            return None
        given: dict[str, Any] = dict(operation.attributes)
        found = [self._operand(key) for key in operation.inputs[:3]]
        ranks = {len(tensors[key].shape) for key in operation.inputs[:3]}
        rank = max(ranks)
        heads = given.get("q_num_heads") or 0
        if operation.onnx_type == "MultiHeadAttention":  # others of its domain project or cache by themselves
            heads = heads or given.get("num_heads") or 0
        if operation.onnx_type == "Attention" and not operation.domain and ranks == {4}:
            query, key, value = found
        elif heads and ranks == {3}:
            inner = given.get("kv_num_heads") or heads
            parted = [_parted(found[0], heads), _parted(found[1], inner), _parted(found[2], inner)]
            if None in parted:
                return None
            query, key, value = (view for view in parted if view is not None)
        else:
            return None
        masks = list(operation.inputs[3:])
        return _Operands(query, key, value, operation.outputs[0], True, rank == 3, masks, [index])

    def _asked(self, index: int) -> _Operands | None:
        """Return the attention of queries that are a weight, written as an operator."""
        operation, tensors = self.graph.operations[index], self.graph.tensors
        asked = operation.weights[0]
        shapes = [tensors[key].shape for key in operation.inputs] + [asked.shape]
        if operation.onnx_type != "Attention" or operation.domain or {len(shape) for shape in shapes} != {4}:
            return None
        keys, values, queries = shapes
        if keys[:3] != values[:3] or queries[:2] != keys[:2] or queries[3] != keys[3]:
            return None
        key, value = (self._operand(each) for each in operation.inputs)
        query, output = whole("", asked.shape), operation.outputs[0]
        if tensors[output].shape != (*queries[:3], values[3]):
            return None
        return _Operands(query, key, value, output, True, False, [], [index], asked)

    # -- what is put in its place

    def _replace(self, found: _Operands) -> None:
        graph, tracer = self.graph, self.tracer
        moved = (found.key, found.value) if found.asked is not None else (found.query, found.key, found.value)
        sources = [tracer.source(view) for view in moved]
        layout = heads_of(tracer, found.query if found.asked is None else found.key, found.key)
        if layout is None:
            return
        parts = [graph.operations[index] for index in found.parts]
        last = parts[-1]
        shape = graph.tensors[found.output].shape
        rows, width = found.query.shape[-2], found.value.shape[-1]
        heads = math.prod(extent for axis in layout for extent, inner in axis if inner)
        outer = math.prod(extent for axis in layout for extent, inner in axis if not inner)
        if outer * heads * rows * width != math.prod(shape) or 0 in shape:
            return
        name = f"{found.output}/heads"
        if name in graph.tensors:
            return
        spec = TensorSpec((outer, rows, heads * width), graph.tensors[found.output].dtype)
        scores = heads * outer * rows * found.key.shape[-2]
        weights = [] if found.asked is None else [found.asked]
        masked = any(dict(part.attributes).get("masked") for part in parts)
        told = [
            part for part in parts if not dict(part.attributes).get("zero")
        ]  # a mask of zeros hides nothing
        for part in told:
            if part.op == "Where" and len(part.inputs) == 1:
                masked = True
            elif part.op in ("Add", "Sub", "Mul", "Attention"):
                # a bias is trained for every head; what is the same for all of them hides keys
                given = [each for each in part.weights if each is not found.asked]
                biases = [each for each in given if _of_heads(each.elements, heads, scores // outer)]
                plain = part.op in ("Add", "Sub") and len(part.inputs) == 1 and not part.scalars
                masked |= len(biases) < len(given) or (plain and not biases)
                weights += biases
        attributes = (("heads", heads), ("masked", 1)) if masked else (("heads", heads),)
        attention = replace(
            last, op="Attention", onnx_type="Attention", inputs=(*sources, *found.masks), outputs=(name,),
            attributes=attributes, weights=tuple(weights), scalars=(), macs=sum(part.macs for part in parts),
            params=sum(part.params for part in told), output_elements=spec.elements,
            elementwise=sum(part.elementwise for part in parts), domain="",
        )  # fmt: skip
        self.tensors[name] = spec
        for index in found.parts:
            self.operations[index] = None
        self.operations[found.parts[-1]] = [attention, *self._apart(name, spec, found, layout)]

    def _apart(
        self, name: str, spec: TensorSpec, found: _Operands, layout: list[list[tuple[int, bool]]]
    ) -> list[Operation]:
        """Return the operations that give the output as the file has it, heads apart."""
        rows = spec.shape[1]
        width = found.value.shape[-1]
        reach = {False: spec.elements, True: spec.shape[-1]}  # of what follows each digit of the batch
        axes: list[tuple[tuple[int, int], ...]] = []
        for axis in layout:
            digits = []
            for extent, inner in axis:
                reach[inner] //= extent
                digits.append((extent, reach[inner]))
            axes.append(tuple(digit for digit in digits if digit[0] > 1))
        tail = [((rows, spec.shape[-1]),) if rows > 1 else (), ((width, 1),) if width > 1 else ()]
        view = Strided(name, 0, (*axes, *(tail if found.rows_first else tail[::-1])))
        if found.joined:
            view = view.permuted((0, 2, 1, 3))
        made: list[Operation] = []
        steps = moves_of(view, spec.elements) or (("Reshape", (), self.graph.tensors[found.output].shape),)
        source = name
        for number, (op, attributes, shape) in enumerate(steps):
            key = found.output if number == len(steps) - 1 else f"{found.output}/{op.lower()}"
            if key not in self.graph.tensors:
                self.tensors[key] = TensorSpec(shape, spec.dtype)
            made.append(
                Operation(
                    key,
                    op,
                    op,
                    (source,),
                    (key,),
                    attributes=attributes,
                    output_elements=spec.elements,
                    precision=spec.dtype,
                )
            )
            source = key
        return made


def _multiplies(operation: Operation) -> bool:
    """Return whether an operation is the plain product of two computed matrices (see `spell_products`)."""
    return (
        operation.op == "MatMul"
        and operation.onnx_type == "MatMul"
        and len(operation.inputs) == 2
        and not operation.weights
    )


def _of_heads(elements: int, heads: int, scores: int) -> bool:
    """Return whether a weight has numbers of its own for every head, and none for every batch or window."""
    return elements % heads == 0 and (elements == heads or scores // heads < elements <= scores or heads == 1)


def _turned(view: Strided) -> Strided:
    rank = len(view.axes)
    return view.permuted((*range(rank - 2), rank - 1, rank - 2))


def _turns_last(perm: object, shape: tuple[int, ...]) -> bool:
    rank = len(shape)
    return perm == (*range(rank - 2), rank - 1, rank - 2)


def _parted(view: Strided, heads: int) -> Strided | None:
    """Return ``(batch, rows, heads * width)`` as ``(batch, heads, rows, width)``."""
    batch, rows, channels = view.shape
    if heads < 1 or channels % heads:
        return None
    parted = view.grouped((batch, rows, heads, channels // heads))
    return None if parted is None else parted.permuted((0, 2, 1, 3))
