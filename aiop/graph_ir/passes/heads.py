"""What the operands of an attention are cut out of, and which of their axes are heads."""

from __future__ import annotations

import math

from aiop.graph_ir.graph import ComputeGraph, Operation
from aiop.graph_ir.passes.moves import MOVES, moved, moves_of
from aiop.graph_ir.passes.strided import Strided, whole

__all__ = ["Tracer", "heads_of"]

_LONGEST = 64  # operations that a tensor is followed back over

# What gives every element at the place of the first input's element it is computed from.
_IN_PLACE = frozenset("Mul Div Add Sub LpNorm LayerNorm RMSNorm Relu Softmax Elu Clip".split())

_KNOWN = frozenset({"Linear", "Conv", "DepthwiseConv"})  # producers whose channels are known

Layout = list[list[tuple[int, bool]]]
"""For every batch axis the extents it is made of, and whether each counts heads."""


class Tracer:
    """Follows tensors of one graph back to what they are cut out of."""

    def __init__(self, graph: ComputeGraph) -> None:
        self.graph = graph
        self._found: dict[tuple[str, bool], Strided] = {}

    def source(self, view: Strided) -> str:
        """Return the tensor that a view's elements are of, up to a constant factor."""
        return self._from(view.source, through=False).source

    def producer(self, view: Strided) -> Operation:
        """Return the operation that a view's elements come from."""
        return self.graph.operations[self.graph.producers[view.source]]

    def places(self, view: Strided) -> Strided | None:
        """Return a view as one of the tensor that set the layout, over element-wise operations and norms too."""
        start = self._from(view.source, through=True)
        laid: Strided | None = start
        for op, attributes, shape in moves_of(view, self.graph.tensors[view.source].elements):
            step = Operation("", op, op, ("",), ("",), attributes=attributes)
            laid = None if laid is None else moved(step, 0, laid, shape)
        return None if laid is None else laid.grouped(view.shape)

    def _from(self, key: str, *, through: bool) -> Strided:
        """Return a tensor as a view of the furthest one that it can be followed to."""
        graph = self.graph
        chain: list[tuple[Operation, str]] = []
        start = key
        while len(chain) < _LONGEST and (key, through) not in self._found:
            operation = graph.operations[graph.producers[key]]
            if not operation.inputs or not self._follows(operation, key, through=through):
                break
            chain.append((operation, key))
            key = operation.inputs[0]
        view = self._found.get((key, through)) or whole(key, graph.tensors[key].shape)
        for operation, output in reversed(chain):
            shape = graph.tensors[output].shape
            found = (
                moved(operation, operation.outputs.index(output), view, shape)
                if operation.op in MOVES and len(operation.inputs) == 1
                else None
            )
            if found is None and self._in_place(operation, output):
                found = view.grouped(shape)
            view = whole(output, shape) if found is None else found
            self._found[output, through] = view
        return self._found.get((start, through), view)

    def _follows(self, operation: Operation, key: str, *, through: bool) -> bool:
        if operation.op in MOVES and len(operation.inputs) == 1 and operation.op not in ("Add", "Min", "Max"):
            return True
        if not self._in_place(operation, key):
            return False
        return through or (
            operation.op in ("Mul", "Div") and len(operation.inputs) == 1 and not operation.weights
        )

    def _in_place(self, operation: Operation, key: str) -> bool:
        tensors = self.graph.tensors
        return (
            operation.op in _IN_PLACE
            and len(operation.outputs) == 1
            and tensors[operation.inputs[0]].elements == tensors[key].elements
        )


def _laid(tracer: Tracer, query: Strided, key: Strided) -> Strided:
    """Return the places of queries, those of keys where only they can be told."""
    found = tracer.places(query) or query
    if tracer.producer(found).op in _KNOWN and query.shape[-2] > 1:
        return found
    other = tracer.places(key)
    if other is not None and key.shape[:-2] == query.shape[:-2] and tracer.producer(other).op in _KNOWN:
        return other
    return found


def heads_of(tracer: Tracer, query: Strided, key: Strided) -> Layout | None:
    """Return which digits of the batch axes of ``(..., rows, channels)`` count heads; ``None`` for other attention.

    Heads lie next to the channels in the tensor that queries are cut out of, batches and windows do not. ``None``
    where the rows are that tensor's channels, as where channels attend to channels.
    """
    places = _laid(tracer, query, key)
    rows, channels = places.axes[-2], places.axes[-1]
    step = min((abs(stride) for _, stride in channels), default=1)
    row = min((abs(stride) for _, stride in rows if stride), default=math.inf)
    producer = tracer.producer(places)
    shape = tracer.graph.tensors[places.source].shape
    if producer.op == "Linear" and producer.onnx_type != "Einsum":
        if step >= shape[-1]:
            return None
        row = min(row, shape[-1])
    layout: Layout = []
    if step < row:  # channels last
        layout = [[(extent, abs(stride) < row) for extent, stride in axis] for axis in places.axes[:-2]]
    else:
        batch = sorted({stride for axis in places.axes[:-2] for _, stride in axis if stride > step})
        layout = [
            [(extent, bool(batch) and stride == batch[0]) for extent, stride in axis]
            for axis in places.axes[:-2]
        ]
    if producer.op not in _KNOWN and layout and not any(inner for axis in layout for _, inner in axis):
        layout[-1] = [(extent, True) for extent, _ in layout[-1]]  # the usual order: batch, heads, rows
    return layout
