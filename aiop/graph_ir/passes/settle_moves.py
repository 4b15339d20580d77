"""Bring every chain of operations that move elements to one form, as late as something needs its result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiop.graph_ir.graph import ComputeGraph, Operation, TensorSpec
from aiop.graph_ir.passes.base import PassResult
from aiop.graph_ir.passes.join_order import joined_before
from aiop.graph_ir.passes.moves import MOVES, Move, moved, moves_of
from aiop.graph_ir.passes.strided import Strided, whole

__all__ = ["settle_moves"]

# What computes every element from the elements at the same place: it may run before a permutation as well as after.
_ELEMENTWISE = frozenset(
    "Relu Clip Sigmoid HardSigmoid SiLU HardSwish Mish Gelu Tanh LeakyRelu Elu Softplus Erf Exp Log Sqrt Pow Abs Neg "
    "Reciprocal Round Trigonometric Add Sub Mul Div Min Max Compare Logical Where Softmax".split()
)


def settle_moves(graph: ComputeGraph) -> PassResult:
    """Join reshapes, transposes, slices, splits and expansions, and write what they do together in one way.

    What several operations write is read by the first that computes something: a slice of the flattened source, then
    one permutation, then one repetition, each only where it does something (see `aiop.graph_ir.passes.moves`). What
    works element by element on permuted tensors works on the tensors themselves, and the result is permuted. Axes that
    operators name are counted in elements instead, as views may regroup them.
    """
    return _Settling(graph).run()


class _Settling:
    """The walk over one graph: which tensors are only views of others, and what has been written."""

    def __init__(self, graph: ComputeGraph) -> None:
        self.graph = graph
        self.tensors: dict[str, TensorSpec] = {}
        self.operations: list[Operation] = []
        self.views: dict[str, Strided] = {}
        self.moves: dict[str, tuple[Move, ...]] = {}
        self.written: dict[
            tuple[object, ...], str
        ] = {}  # (source, what is done to it) -> the tensor it gives

    def run(self) -> PassResult:
        graph, viewed = self.graph, self.views.keys()
        for operation in graph.operations:
            kind = operation.op
            if kind in MOVES and len(operation.inputs) == 1 and self._follow(operation):
                continue
            if kind in _COUNTED and operation.attributes:
                operation = self._counted(operation)
            if not viewed.isdisjoint(operation.inputs):
                if kind in _ELEMENTWISE and self._before_permutation(operation):
                    continue
                if kind == "Concat" and self._join_before_permutation(operation):
                    continue
                inputs = tuple([self._read(key) for key in operation.inputs])
                if inputs != operation.inputs:
                    operation = replace(operation, inputs=inputs)
            self.operations.append(operation)
        outputs = tuple([self._read(key) for key in graph.outputs])
        if self.operations == graph.operations and outputs == graph.outputs:
            return PassResult(graph, False)
        # of tensors that nothing computes any more the shapes stay: passes may still ask for them
        return PassResult(
            replace(
                graph, operations=self.operations, outputs=outputs, tensors={**graph.tensors, **self.tensors}
            ),
            True,
        )

    def _view(self, key: str) -> Strided:
        found = self.views.get(key)
        return whole(key, self.graph.tensors[key].shape) if found is None else found

    def _follow(self, operation: Operation) -> bool:
        """Note what a moving operation's outputs are views of; whether all of them are."""
        key, shapes = operation.inputs[0], self.graph.tensors
        view = self._view(key)
        found = self._moved(operation, view)
        if found is None and view.source != key:  # from what it reads on, not from further back
            found = self._moved(operation, whole(self._read(key), shapes[key].shape))
        if found is None:
            return False
        self.views.update(zip(operation.outputs, found, strict=True))
        return True

    def _moved(self, operation: Operation, view: Strided) -> list[Strided] | None:
        found: list[Strided] = []
        for position, key in enumerate(operation.outputs):
            each = moved(operation, position, view, self.graph.tensors[key].shape)
            if each is None:
                return None
            found.append(each)
        return found

    def _before_permutation(self, operation: Operation) -> bool:
        """Move an element-wise operation before the permutation that all its inputs went through."""
        if len(operation.outputs) != 1:
            return False
        last: Move | None = None
        moves: list[tuple[Move, ...]] = []
        for each in operation.inputs:
            if each not in self.views:
                return False
            steps = self._moves(each)
            if not steps or "perm" not in dict(steps[-1][1]) or (last is not None and last != steps[-1]):
                return False
            last = steps[-1]
            moves.append(steps)
        key = operation.outputs[0]
        elements = self.graph.tensors[key].elements
        if last is None or math.prod(last[2]) != elements:
            return False
        step = Operation(key, last[0], last[0], (key,), (key,), attributes=last[1])
        shape = self.graph.tensors[key].shape
        name = self._new(f"{key}/laid")
        flat = moved(step, 0, whole(name, (elements,)), shape)
        if flat is None:
            return False
        if operation.op == "Softmax":
            attributes = _along_source(operation, flat, elements)
            if attributes is None:
                return False
            operation = replace(operation, attributes=attributes)
        source = ""
        sources: list[str] = []
        for each, steps in zip(operation.inputs, moves, strict=True):
            source = self._write(self.views[each].source, steps, each, len(steps) - 1)
            sources.append(source)
        shape = self._spec(source).shape
        weights = tuple([_weight_at_source(weight, flat, shape) for weight in operation.weights])
        if None in weights:
            return False
        self.views[key] = flat
        self.tensors[name] = TensorSpec(shape, self.graph.tensors[key].dtype)
        kept = tuple([weight for weight in weights if weight is not None])
        self.operations.append(replace(operation, inputs=tuple(sources), outputs=(name,), weights=kept))
        return True

    def _join_before_permutation(self, operation: Operation) -> bool:
        """Move a concatenation before the permutation that all its inputs went through."""
        given: dict[str, Any] = dict(operation.attributes)
        parts, key = given.get("parts"), operation.outputs[0]
        if parts is None or "axis" in given or not any(each in self.views for each in operation.inputs):
            return False
        if sum(part > 0 for part in parts) != len(operation.inputs) or 0 in parts:
            return False
        if any(sum(extent != 1 for extent in weight.shape) > 1 for weight in operation.weights):
            return False
        moves: list[
            tuple[Sequence[Move], int]
        ] = []  # of every input, and how many of them come before the joining
        laid: list[Strided] = []
        for each in operation.inputs:
            steps = self._moves(each) if each in self.views else ()
            found: Strided | None = whole("", (self.graph.tensors[each].elements,))
            permuted = bool(steps) and "perm" in dict(steps[-1][1])
            if permuted and found is not None:
                op, attributes, shape = steps[-1]
                step = Operation("", op, op, ("",), ("",), attributes=attributes)
                found = moved(step, 0, found, shape)
            if found is None:
                return False
            moves.append((steps, len(steps) - permuted))
            laid.append(found)
        if all(count == len(steps) for steps, count in moves):
            return False
        spec = self.graph.tensors[key]
        name = self._new(f"{key}/laid")
        join = joined_before(name, parts, spec.elements // max(1, sum(map(abs, parts))), laid)
        result = None if join is None else join.view.grouped(spec.shape)
        if join is None or result is None:
            return False
        sources = [
            self._write(self._view(each).source, steps, each, count)
            for each, (steps, count) in zip(operation.inputs, moves, strict=True)
        ]
        self.views[key] = result
        self.tensors[name] = TensorSpec(join.shape, spec.dtype)
        given["parts"] = join.parts
        self.operations.append(
            replace(
                operation, inputs=tuple(sources), outputs=(name,), attributes=tuple(sorted(given.items()))
            )
        )
        return True

    def _spec(self, key: str) -> TensorSpec:
        found = self.tensors.get(key)
        return self.graph.tensors[key] if found is None else found

    def _read(self, key: str) -> str:
        """Return the tensor that holds a view's elements, written where none does yet."""
        view = self.views.get(key)
        if view is None:
            return key
        steps = self._moves(key)
        return self._write(view.source, steps, key, len(steps))

    def _moves(self, key: str) -> tuple[Move, ...]:
        """Return what makes a view out of its source."""
        found = self.moves.get(key)
        if found is None:
            view = self.views[key]
            found = self.moves[key] = moves_of(view, self._spec(view.source).elements)
        return found

    def _write(self, source: str, steps: Sequence[Move], key: str, count: int) -> str:
        """Return what the first ``count`` moves towards ``key`` make of a tensor: an operation for each not written."""
        dtype = self._spec(source).dtype
        for number, (op, attributes, shape) in enumerate(steps[:count]):
            what = (source, op, attributes)
            written = self.written.get(what)
            if written is None:
                last = number == len(steps) - 1 and key not in self.tensors
                written = key if last else self._new(f"{key}/{op.lower()}")
                self.written[what] = written
                self.tensors[written] = TensorSpec(shape, dtype)
                self.operations.append(
                    Operation(
                        written, op, op, (source,), (written,), attributes=attributes,
                        output_elements=math.prod(shape), precision=dtype,
                    )
                )  # fmt: skip
            source = written
        return source

    def _new(self, name: str) -> str:
        """Return a name that is no other tensor's."""
        while name in self.tensors or (name in self.graph.tensors and name not in self.views):
            name += "'"
        return name

    def _counted(self, operation: Operation) -> Operation:
        """Return an operation along an axis with the axis said in elements: how many it has, how many lie within."""
        rule = _COUNTED[operation.op]
        given: dict[str, Any] = dict(operation.attributes)
        if "axis" not in given or (operation.op == "Concat" and "parts" not in given):
            return operation
        keys = operation.outputs if operation.op == "Concat" else operation.inputs
        if not keys:  # of a network that nothing flows through
            return operation
        shape = self.graph.tensors[keys[0]].shape
        axis = given.pop("axis")
        if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            return operation
        axis %= len(shape)
        rule(given, shape[axis], math.prod(shape[axis + 1 :]))
        return replace(operation, attributes=tuple(sorted(given.items())))


def _weight_at_source(weight: TensorSpec, view: Strided, shape: tuple[int, ...]) -> TensorSpec | None:
    """Return a weight of one number, or of one per place along an axis, laid along ``shape`` as ``view`` lies there."""
    at = [axis - len(weight.shape) for axis, extent in enumerate(weight.shape) if extent != 1]
    if not at:
        return weight
    if (
        len(at) > 1
        or -at[0] > len(view.axes)
        or view.axes[at[0]] != ((weight.elements, view.axes[at[0]][0][1]),)
    ):
        return None
    within = 1
    for axis in reversed(range(len(shape))):
        if within == view.axes[at[0]][0][1] and shape[axis] == weight.elements:
            return TensorSpec((weight.elements, *(1,) * (len(shape) - 1 - axis)), weight.dtype)
        within *= shape[axis]
    return None


def _along_source(
    operation: Operation, view: Strided, elements: int
) -> tuple[tuple[str, object], ...] | None:
    """Return the attributes of an operation along an axis of a permuted tensor for the tensor itself."""
    given: dict[str, Any] = dict(operation.attributes)
    if "within" not in given or "along" not in given:
        return None
    extent, within = given["along"], given["within"]
    laid = view.grouped((elements // max(1, extent * within), extent, within)) if extent * within else None
    if laid is None or len(laid.axes[1]) != 1:
        return None
    given["within"] = laid.axes[1][0][1]
    return tuple(sorted(given.items()))


def _along(given: dict[str, Any], extent: int, within: int) -> None:
    given.update(along=extent, within=within)


def _joined(given: dict[str, Any], extent: int, within: int) -> None:
    given["parts"] = tuple(part * within for part in given["parts"])


_COUNTED = {"Softmax": _along, "ArgReduce": _along, "Cumulative": _along, "Gather": _along, "Concat": _joined}
