"""Protobuf messages of an ONNX file -> shapes, values and attributes."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from aiop.errors import AiopError
from aiop.graph_ir.values import DTYPES, LARGEST_FOLDED, LARGEST_TENSOR, Array, Shape, Tensor

__all__ = ["attribute_value", "constant", "input_shape", "sparse_constant"]

_NO_NUMBERS = (onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_RAW: dict[int, Any] = {1: np.float32, 7: np.int64} if sys.byteorder == "little" else {}
_EXAMPLE = (1, 3, 224, 224)


def constant(name: str, proto: onnx.TensorProto) -> Tensor:
    """Return the constant ``name``; its values are decoded when asked for, those of large or external ones never.

    A negative or absurd size is an `AiopError`.
    """
    shape = tuple(proto.dims)
    if shape and min(shape) < 0:
        raise AiopError(f"constant {name!r} has a negative size {list(shape)}; export the network again")
    tensor = Tensor(name, shape, DTYPES.get(proto.data_type, "float32"), constant=True)
    if tensor.elements > LARGEST_TENSOR:
        raise AiopError(f"constant {name!r} of shape {list(shape)} is too large; export the network again")
    if tensor.elements <= LARGEST_FOLDED:
        tensor.set_value(partial(_tensor_value, proto, shape))
    return tensor


def sparse_constant(name: str, proto: onnx.SparseTensorProto) -> Tensor:
    """Return the constant ``name`` that the file stores sparsely; its values stay unknown."""
    dense = onnx.TensorProto(dims=proto.dims, data_type=proto.values.data_type)
    tensor = constant(name, dense)
    tensor.set_value(None)
    return tensor


def _tensor_value(proto: onnx.TensorProto, shape: Shape) -> Array | None:
    """Return the values of a small tensor, ``None`` where the file keeps them elsewhere or they are no real numbers."""
    kind = proto.data_type
    try:
        if kind in _NO_NUMBERS or proto.data_location == onnx.TensorProto.EXTERNAL:
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


def input_shape(value: onnx.ValueInfoProto, given: Sequence[int] | None) -> Shape:
    """Return the shape of a network's input: the one given by the user, or the file's with an open batch read as 1.

    What is open, no tensor, or does not fit what the file declares is an `AiopError` that says how to give a shape.
    """
    name = value.name
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise AiopError(
            f"input {name!r} is a {kind or 'value without a type'}, not a tensor; "
            "export the network with tensors as inputs"
        )
    declared = value.type.tensor_type.HasField("shape")
    dims = value.type.tensor_type.shape.dim
    if given is not None:
        shape = tuple(int(extent) for extent in given)
        if not shape or min(shape) < 1:
            raise AiopError(f"shape {list(shape)} given for input {name!r} needs sizes of 1 or more")
        if declared and len(dims) != len(shape):
            raise AiopError(
                f"shape {list(shape)} given for input {name!r} has {len(shape)} axes where the file has {len(dims)}; "
                f"give it as {_hint(name, _sizes(dims))}"
            )
        return _checked(name, shape)
    if not declared:
        raise AiopError(f"input {name!r} has no shape; give it: {_hint(name, _EXAMPLE)}")
    for axis, dim in enumerate(dims):
        if axis and dim.dim_value < 1:
            label = f" ({dim.dim_param!r})" if dim.dim_param else ""
            raise AiopError(
                f"input {name!r} has no fixed size on axis {axis}{label}; give it: {_hint(name, _sizes(dims))}"
            )
    return _checked(name, tuple(max(1, int(dim.dim_value)) for dim in dims))


def _checked(name: str, shape: Shape) -> Shape:
    if math.prod(shape) > LARGEST_TENSOR:
        raise AiopError(
            f"input {name!r} of shape {list(shape)} is too large; give it: {_hint(name, _EXAMPLE)}"
        )
    return shape


def _sizes(dims: Sequence[Any]) -> list[int]:
    """Return the declared sizes, those of a usual image where they are open."""
    usual = (1, *(3,) * (len(dims) > 3), *(224,) * len(dims))
    return [int(dim.dim_value) if dim.dim_value > 0 else size for dim, size in zip(dims, usual, strict=False)]


def _hint(name: str, shape: Sequence[int]) -> str:
    return f"--shape {name}={','.join(map(str, shape))}"
