"""Shapes and element types of one node's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir.shapes import SHAPE_RULES, ShapeError
from aiop.graph_ir.shapes.bounds import BOUNDS, LARGEST_RANK, RANKED
from aiop.graph_ir.values import DTYPES, Node, Shape, UnknownValue

__all__ = ["Inference", "label"]

_OpenShape = tuple[int | None, ...]
_STANDARD = ("", "ai.onnx")
_ELEMENT_TYPES = {name: number for number, name in DTYPES.items()}
_TO_UNKNOWN = "check the file with onnx.checker, or the sizes given with --shape"


class Inference:
    """Infers the outputs of a network's nodes, one by one.

    First by the rules of `aiop.graph_ir.shapes`; where one needs a value that is not known, and for operators without
    a rule, by the onnx package's inference of one node; at last by what the file itself declares.
    """

    def __init__(self, model: onnx.ModelProto, notes: list[str], *, zeros: bool = False) -> None:
        self._model = model
        self._notes = notes
        self._graph = model.graph
        self._least = 0 if zeros else 1  # many exporters write 0 for a size that is open
        self._declared: dict[str, _OpenShape] | None = None
        self.guesses = 0  # nodes whose shapes did not come from a rule

    @contextmanager
    def within(self, graph: onnx.GraphProto) -> Iterator[None]:
        """Take what is declared from a subgraph while its nodes are read."""
        around, self._graph = (self._graph, self._declared), graph
        self._declared = None
        try:
            yield
        finally:
            self._graph, self._declared = around

    def infer(self, node: Node, proto: onnx.NodeProto) -> list[Shape]:
        """Return the shape of every output; shapes that do not fit are an `AiopError`."""
        try:
            shapes = self._shapes(node, proto)
        except (ShapeError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError) as error:
            reason = (
                str(error) if isinstance(error, ShapeError) else "has inputs or attributes that do not fit"
            )
            raise AiopError(f"{label(node, proto)} {reason}; {_TO_UNKNOWN}") from error
        return shapes

    def _shapes(self, node: Node, proto: onnx.NodeProto) -> list[Shape]:
        known = SHAPE_RULES.get(node.domain)
        rule = None if known is None else known.get(node.type)
        if rule is None:
            return self._fallback(node, proto, "")
        try:
            return rule(node)
        except UnknownValue as unknown:
            return self._fallback(node, proto, str(unknown))

    def _fallback(self, node: Node, proto: onnx.NodeProto, missing: str) -> list[Shape]:
        """Return shapes without a rule; ``missing`` says which value one lacked, and is empty where there is none."""
        self.guesses += 1
        axes = node.input(RANKED[node.type]) if node.type in RANKED and node.domain in _STANDARD else None
        if (
            axes is not None and axes.elements > LARGEST_RANK
        ):  # inference of it would take memory for every axis
            raise AiopError(
                f"{label(node, proto)} would work on {axes.elements} axes; check the sizes of the file's inputs"
            )
        inferred = _infer_one(node, proto, self._model) or [None] * len(proto.output)
        bounds = _bounds(node)
        shapes: list[Shape] = []
        for index, (key, found) in enumerate(zip(proto.output, inferred, strict=False)):
            shape = self._merged(found, self.declared(key))
            bound = bounds[index] if index < len(bounds) else None
            first = node.input(0)
            if not key:
                shapes.append(())
            elif shape is not None and None not in shape:
                shapes.append(tuple(extent or 0 for extent in shape))
            elif bound is not None and (shape is None or len(shape) == len(bound)):
                known = shape or (None,) * len(bound)
                read = tuple(b if extent is None else extent for b, extent in zip(bound, known, strict=True))
                self._notes.append(
                    f"the shape of {label(node, proto)} depends on the data and is read as {list(read)}"
                )
                shapes.append(read)
            elif shape is None and node.domain not in _STANDARD and first is not None:
                self._notes.append(
                    f"operator {node.domain}::{node.type} has no shape rule: its output is read as large as its input"
                )
                shapes.append(first.shape)
            elif shape is None or (missing and None in shape[1:]):
                raise AiopError(
                    f"the output shape of {label(node, proto)} cannot be known: "
                    f"{missing or 'the operator has no shape rule'}; "
                    "fold the network's constants first (for example with onnxsim)"
                )
            else:
                if None in shape[1:]:
                    self._notes.append(f"a size of {label(node, proto)} depends on the data and is read as 1")
                shapes.append(tuple(1 if extent is None else extent for extent in shape))
        return shapes

    @staticmethod
    def _merged(found: _OpenShape | None, declared: _OpenShape | None) -> _OpenShape | None:
        """Return what is known from two sources."""
        if found is None or declared is None or len(found) != len(declared):
            return declared if found is None else found
        return tuple(b if a is None else a for a, b in zip(found, declared, strict=True))

    def declared(self, key: str) -> _OpenShape | None:
        """Return the shape that the file declares for a tensor, ``None`` for what it leaves open."""
        if self._declared is None:
            self._declared = {
                value.name: _open_shape(value.type.tensor_type.shape.dim, self._least)
                for value in (*self._graph.value_info, *self._graph.output)
                if value.type.tensor_type.HasField("shape")
            }
        return self._declared.get(key)


def _open_shape(dims: Iterable[onnx.TensorShapeProto.Dimension], least: int) -> _OpenShape:
    return tuple(
        int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= least else None for dim in dims
    )


def _bounds(node: Node) -> list[Shape]:
    """Return the shapes to read where the true ones depend on data; none where nothing can be said."""
    rule = BOUNDS.get(node.type) if node.domain in _STANDARD else None
    try:
        return [] if rule is None else rule(node)
    except (UnknownValue, ShapeError, ValueError):
        return []


def label(node: Node, proto: onnx.NodeProto) -> str:
    """Return how a node is called in messages."""
    return f"node {node.name or next(iter(proto.output), '')!r} ({node.type})"


def _infer_one(node: Node, proto: onnx.NodeProto, model: onnx.ModelProto) -> list[_OpenShape | None] | None:
    """Return output shapes by `onnx.shape_inference.infer_node_outputs`, ``None`` where it does not know the node."""
    try:
        schema = onnx.defs.get_schema(node.type, node.opset, "" if node.domain in _STANDARD else node.domain)
        types, data = {}, {}
        for key, tensor in zip(proto.input, node.inputs, strict=True):
            if tensor is None:
                continue
            types[key] = onnx.helper.make_tensor_type_proto(_ELEMENT_TYPES[tensor.dtype], tensor.shape)
            if tensor.constant and tensor.value is not None:
                data[key] = numpy_helper.from_array(np.ascontiguousarray(tensor.value), key)
        out = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=list(model.opset_import), ir_version=model.ir_version
        )
    except Exception:  # the package's own errors share no base
        return None
    shapes: list[_OpenShape | None] = []
    for key in proto.output:
        found = out.get(key)
        if found is None or not found.tensor_type.HasField("shape"):
            shapes.append(None)
        else:
            dims = found.tensor_type.shape.dim
            shapes.append(tuple(int(dim.dim_value) if dim.HasField("dim_value") else None for dim in dims))
    return shapes
