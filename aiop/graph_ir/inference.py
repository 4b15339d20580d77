"""Shapes and element types of one node's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir.shapes import SHAPE_RULES, ShapeError
from aiop.graph_ir.values import DTYPES, Node, Shape, UnknownValue

__all__ = ["DOMAINS", "Inference", "label", "output_dtypes"]

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Domains whose operators are known by their type alone."""

_OpenShape = tuple[int | None, ...]
_STANDARD = ("", "ai.onnx")
_ELEMENT_TYPES = {name: number for number, name in DTYPES.items()}
_TO_UNKNOWN = "check the file with onnx.checker, or the sizes given with --shape"


class Inference:
    """Infers the outputs of a network's nodes, one by one.

    First by the rules of `aiop.graph_ir.shapes`; where one needs a value that is not known, and for operators without
    a rule, by the onnx package's inference of one node; at last by what the file itself declares.
    """

    def __init__(self, model: onnx.ModelProto, notes: list[str]) -> None:
        self._model = model
        self._notes = notes
        self._declared: dict[str, _OpenShape] | None = None

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
        rule = SHAPE_RULES.get(node.type) if node.domain in DOMAINS else None
        if rule is None:
            return self._fallback(node, proto, "")
        try:
            return rule(node)
        except UnknownValue as unknown:
            return self._fallback(node, proto, str(unknown))

    def _fallback(self, node: Node, proto: onnx.NodeProto, missing: str) -> list[Shape]:
        """Return shapes without a rule; ``missing`` says which value one lacked, and is empty where there is none."""
        inferred = _infer_one(node, proto, self._model) or [None] * len(proto.output)
        shapes: list[Shape] = []
        for key, found in zip(proto.output, inferred, strict=False):
            shape = self._complete(found, self._declaration(key))
            first = node.input(0)
            if not key:
                shapes.append(())
            elif shape is None and node.domain not in _STANDARD and first is not None:
                self._notes.append(
                    f"operator {node.domain}::{node.type} is unknown: output shape taken from its input"
                )
                shapes.append(first.shape)
            elif shape is None or (missing and None in shape):
                raise AiopError(
                    f"the output shape of {label(node, proto)} cannot be known: "
                    f"{missing or 'the operator has no shape rule'}; "
                    "fold the network's constants first (for example with onnxsim)"
                )
            else:
                if None in shape:
                    self._notes.append(f"a size of {label(node, proto)} depends on the data and is read as 1")
                shapes.append(tuple(1 if extent is None else extent for extent in shape))
        return shapes

    @staticmethod
    def _complete(found: _OpenShape | None, declared: _OpenShape | None) -> _OpenShape | None:
        """Return what is known from two sources; an open first axis is a batch, and read as 1."""
        if found is None or declared is None or len(found) != len(declared):
            shape = declared if found is None else found
        else:
            shape = tuple(b if a is None else a for a, b in zip(found, declared, strict=True))
        return (1, *shape[1:]) if shape and shape[0] is None else shape

    def _declaration(self, key: str) -> _OpenShape | None:
        if self._declared is None:
            self._declared = {
                value.name: _open_shape(value.type.tensor_type.shape.dim)
                for value in (*self._model.graph.value_info, *self._model.graph.output)
                if value.type.tensor_type.HasField("shape")
            }
        return self._declared.get(key)


def _open_shape(dims: Iterable[onnx.TensorShapeProto.Dimension]) -> _OpenShape:
    return tuple(int(dim.dim_value) if dim.dim_value > 0 else None for dim in dims)


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


def output_dtypes(node: Node, count: int) -> list[str]:
    """Return the element type of each of ``count`` outputs: the first input's, where an operator has no other rule."""
    rule = _DTYPE_RULES.get(node.type)
    return [_first_dtype(node)] * count if rule is None else rule(node, count)


def _first_dtype(node: Node) -> str:
    for tensor in node.inputs:
        if tensor is not None:
            return tensor.dtype
    return "float32"


def _cast(node: Node, count: int) -> list[str]:
    return [DTYPES.get(node.get("to", 1), "float32")] * count


def _like_second(node: Node, count: int) -> list[str]:
    second = node.input(1)
    return [_first_dtype(node) if second is None else second.dtype] * count


def _fill(node: Node, count: int) -> list[str]:
    fill = node.get("value")
    return ["float32" if fill is None else str(fill.dtype)] * count


_DTYPE_RULES: dict[str, Callable[[Node, int], list[str]]] = {
    "Cast": _cast,
    "CastLike": _like_second,
    "Where": _like_second,
    "ConstantOfShape": _fill,
    "TopK": lambda node, count: [_first_dtype(node), "int64"],
    **dict.fromkeys(
        "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf".split(),
        lambda node, count: ["bool"] * count,
    ),
    **dict.fromkeys(
        "ArgMax ArgMin NonZero NonMaxSuppression".split(),
        lambda node, count: ["int64"] * count,
    ),
}
