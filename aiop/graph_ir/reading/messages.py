"""Protobuf messages of an ONNX file -> shapes, values and attributes."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir.values import DTYPES, LARGEST_FOLDED, LARGEST_TENSOR, Array, Shape, Tensor

__all__ = ["attribute_value", "constant", "sparse_constant", "weights_in_nodes"]

_NO_NUMBERS = (onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_EXTERNAL = onnx.TensorProto.EXTERNAL
_RAW: dict[int, Any] = {1: np.float32, 7: np.int64} if sys.byteorder == "little" else {}
_MOST_AXES = 64


def constant(name: str, proto: onnx.TensorProto) -> Tensor:
    """Return the constant ``name``; its values are decoded when asked for, those of large or external ones never.

    A negative or absurd size is an `AiopError`.
    """
    shape = tuple(proto.dims[:])
    if shape and min(shape) < 0:
        raise AiopError(f"constant {name!r} has a negative size {list(shape)}; export the network again")
    tensor = Tensor(name, shape, DTYPES.get(proto.data_type, "float32"), constant=True)
    if tensor.elements > LARGEST_TENSOR:
        raise AiopError(f"constant {name!r} of shape {list(shape)} is too large; export the network again")
    if tensor.elements <= LARGEST_FOLDED and proto.data_location != _EXTERNAL:
        tensor.set_value(partial(_tensor_value, proto, shape))
    return tensor


def sparse_constant(name: str, proto: onnx.SparseTensorProto) -> Tensor:
    """Return the constant ``name`` that the file stores sparsely; its values stay unknown."""
    dense = onnx.TensorProto(dims=proto.dims, data_type=proto.values.data_type)
    tensor = constant(name, dense)
    tensor.set_value(None)
    return tensor


def weights_in_nodes(graph: onnx.GraphProto, weighted: Collection[str]) -> bool:
    """Return whether operators of the types ``weighted`` take most numbers from Constant and ConstantOfShape nodes.

    Most files keep their weights among the initializers, and what they give as nodes are literals. Files that leave out
    the values of their weights make them of a shape among the initializers.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    if _few_in_nodes(graph, weighted, stored):
        return False
    # how many numbers, and whether a node gives them
    numbers = {name: (math.prod(tensor.dims), False) for name, tensor in stored.items()}
    kinds = [node.op_type for node in graph.node]
    given = [graph.node[at] for at, kind in enumerate(kinds) if kind == "Constant"]
    made = [graph.node[at] for at, kind in enumerate(kinds) if kind == "ConstantOfShape"]
    literals = sum([math.prod(node.attribute[0].t.dims) for node in given])
    if literals < sum([count for count, _ in numbers.values()]) and not any(
        node.input[0] in stored for node in made
    ):
        return False  # wherever they are read
    here = elsewhere = 0
    for node in graph.node:
        if node.op_type == "Constant":
            numbers[node.output[0]] = sum(math.prod(each.t.dims) for each in node.attribute), True
        elif node.op_type == "ConstantOfShape" and (size := stored.get(node.input[0])):
            extents = constant(size.name, size).value
            if extents is not None and extents.size <= _MOST_AXES:
                numbers[node.output[0]] = math.prod(extents.tolist()), True
        elif node.op_type in weighted:
            for key in node.input:
                count, from_nodes = numbers.get(key, (0, False))
                if from_nodes:
                    here += count
                else:
                    elsewhere += count
        elif node.input and all(key in numbers for key in node.input):
            # computed: as large as the largest part
            numbers.update(dict.fromkeys(node.output, max(numbers[key] for key in node.input)))
    return here > elsewhere


def _few_in_nodes(
    graph: onnx.GraphProto, weighted: Collection[str], stored: Mapping[str, onnx.TensorProto]
) -> bool:
    """Return whether what the weighted operators take straight from initializers is more than nodes could give them."""
    read: list[str] = []
    most = 0
    for node in graph.node:
        kind = node.op_type
        if kind in weighted:
            read += node.input[:]
        elif kind == "ConstantOfShape":
            return False
        elif kind == "Constant":
            for each in node.attribute[:]:
                most = max(most, math.prod(each.t.dims[:]))
    elsewhere = [stored[key].dims[:] for key in read if key in stored]
    return sum(map(math.prod, elsewhere)) >= most * (len(read) - len(elsewhere))


def _tensor_value(proto: onnx.TensorProto, shape: Shape) -> Array | None:
    """Return the values of a small tensor, ``None`` where the file keeps them elsewhere or they are no real numbers."""
    kind = proto.data_type
    try:
        if kind in _NO_NUMBERS or proto.data_location == _EXTERNAL:
            return None
        if 0 in shape:
            return np.zeros(shape, np.int64 if kind == onnx.TensorProto.INT64 else np.float32)
        plain = _RAW.get(kind)
        if plain is not None and proto.HasField("raw_data"):
            return np.frombuffer(proto.raw_data, plain).reshape(shape)
        return np.asarray(numpy_helper.to_array(proto))
    except (ValueError, TypeError, KeyError, RuntimeError, OverflowError, MemoryError):
        return None


def attribute_value(proto: onnx.AttributeProto) -> Any:
    """Return an attribute as a Python number, text or list, an array, or a graph; ``None`` for other kinds."""
    reader = _ATTRIBUTES.get(proto.type)
    return reader(proto) if reader is not None else None


def _attribute_tensor(proto: onnx.AttributeProto) -> Array | None:
    tensor = constant(proto.name, proto.t)
    return tensor.value


_ATTRIBUTES: dict[int, Any] = {
    onnx.AttributeProto.FLOAT: lambda proto: proto.f,
    onnx.AttributeProto.INT: lambda proto: proto.i,
    onnx.AttributeProto.STRING: lambda proto: proto.s.decode("utf-8", "replace"),
    onnx.AttributeProto.TENSOR: _attribute_tensor,
    onnx.AttributeProto.GRAPH: lambda proto: proto.g,
    onnx.AttributeProto.FLOATS: lambda proto: list(proto.floats),
    onnx.AttributeProto.INTS: lambda proto: list(proto.ints),
    onnx.AttributeProto.STRINGS: lambda proto: [text.decode("utf-8", "replace") for text in proto.strings],
}
