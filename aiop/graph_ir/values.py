"""What is known of a tensor while a file is read, and the arithmetic on small constants that shapes come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DTYPES", "LARGEST_FOLDED", "Node", "Tensor", "fold"]

LARGEST_FOLDED = 65_536
"""Elements: a constant larger than this is a weight, and its values are of no interest."""

DTYPES: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
"""ONNX element type -> name."""

Shape = tuple[int, ...]
Array = npt.NDArray[Any]


class Tensor:
    """Shape, element type and, of a small constant, the values.

    ``constant`` tensors do not depend on the network's inputs. ``leaves`` are the trained tensors a constant is made
    of: (name, elements) of each initialiser it came from.
    """

    __slots__ = ("constant", "dtype", "leaves", "shape", "value")

    def __init__(
        self,
        shape: Shape,
        dtype: str,
        *,
        constant: bool = False,
        value: Array | None = None,
        leaves: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.constant = constant
        self.value = value
        self.leaves = leaves

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Node:
    """One node of a file: operator, attributes and what is known of its inputs (``None`` for one left out)."""

    __slots__ = ("attributes", "domain", "inputs", "name", "opset", "output_count", "type")

    def __init__(
        self,
        name: str,
        onnx_type: str,
        domain: str,
        attributes: dict[str, Any],
        inputs: list[Tensor | None],
        output_count: int,
        opset: int,
    ) -> None:
        self.name = name
        self.type = onnx_type
        self.domain = domain
        self.attributes = attributes
        self.inputs = inputs
        self.output_count = output_count
        self.opset = opset

    def input(self, index: int) -> Tensor | None:
        """Return an input, ``None`` where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def integers(self, attribute: str, index: int) -> list[int] | None:
        """Return integers given as an attribute (old opsets) or as constant input ``index`` (newer ones).

        ``None`` where neither is there; raises `UnknownValue` where the input is computed from data.
        """
        tensor = self.input(index)
        if tensor is not None:
            if tensor.value is None:
                raise UnknownValue(f"input {index} ({attribute}) is not a known constant")
            return [int(number) for number in tensor.value.reshape(-1)]
        given = self.attributes.get(attribute)
        if given is None:
            return None
        return [int(number) for number in given] if isinstance(given, list | tuple) else [int(given)]


class UnknownValue(Exception):
    """A shape depends on values that are not known before the network runs."""


def _axes(node: Node, rank: int) -> list[int]:
    axes = node.integers("axes", 1)
    return sorted(axis % rank for axis in axes) if axes else []


def _slice(node: Node, values: list[Array]) -> Array:
    data = values[0]
    index: list[slice] = [slice(None)] * data.ndim
    starts, ends = node.integers("starts", 1) or [], node.integers("ends", 2) or []
    axes = node.integers("axes", 3) or range(len(starts))
    steps = node.integers("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop: int | None = end
        if step < 0 and end < -data.shape[axis]:
            stop = None
        index[axis] = slice(start, stop, step)
    return data[tuple(index)]


def _reshape(node: Node, values: list[Array]) -> Array:
    target = node.integers("shape", 1) or []
    if not node.get("allowzero", 0):
        target = [values[0].shape[i] if extent == 0 else extent for i, extent in enumerate(target)]
    return values[0].reshape(target)


def _squeeze(node: Node, values: list[Array]) -> Array:
    axes = node.integers("axes", 1)
    return np.squeeze(values[0], axis=None if axes is None else tuple(axes))


def _unsqueeze(node: Node, values: list[Array]) -> Array:
    axes = node.integers("axes", 1) or []
    return np.expand_dims(values[0], tuple(axes)) if axes else values[0]


def _cast(node: Node, values: list[Array]) -> Array:
    name = DTYPES.get(int(node.get("to", 1)), "")
    return values[0].astype(name)


def _reduce(function: Callable[..., Any]) -> Callable[[Node, list[Array]], Array]:
    def apply(node: Node, values: list[Array]) -> Array:
        axes = _axes(node, values[0].ndim)
        if not axes and node.get("noop_with_empty_axes", 0):
            return values[0]
        out = function(values[0], axis=tuple(axes) or None, keepdims=bool(node.get("keepdims", 1)))
        return np.asarray(out, dtype=values[0].dtype)

    return apply


def _constant_of_shape(node: Node, values: list[Array]) -> Array:
    fill = node.get("value")
    fill = np.zeros(1, np.float32) if fill is None else np.asarray(fill)
    shape = [int(extent) for extent in values[0].reshape(-1)]
    if math.prod(shape) > LARGEST_FOLDED:
        raise UnknownValue("too large to fold")
    return np.full(shape, fill.reshape(-1)[0], dtype=fill.dtype)


def _expand(node: Node, values: list[Array]) -> Array:
    shape = np.broadcast_shapes(values[0].shape, tuple(int(extent) for extent in values[1].reshape(-1)))
    if math.prod(shape) > LARGEST_FOLDED:
        raise UnknownValue("too large to fold")
    return np.broadcast_to(values[0], shape)


def _tile(node: Node, values: list[Array]) -> Array:
    if math.prod(values[0].shape) * math.prod(int(count) for count in values[1]) > LARGEST_FOLDED:
        raise UnknownValue("too large to fold")
    return np.tile(values[0], [int(count) for count in values[1]])


def _range(node: Node, values: list[Array]) -> Array:
    start, stop, step = (value.reshape(-1)[0] for value in values)
    if step == 0 or (stop - start) / step > LARGEST_FOLDED:
        raise UnknownValue("too large to fold")
    return np.arange(start, stop, step, dtype=values[0].dtype)


def _divide(node: Node, values: list[Array]) -> Array:
    left, right = values
    if left.dtype.kind in "iu":
        if not np.all(right):
            raise UnknownValue("division by zero")
        return (np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))).astype(left.dtype)
    return np.asarray(left / right, dtype=left.dtype)


def _modulo(node: Node, values: list[Array]) -> Array:
    if not np.all(values[1]):
        raise UnknownValue("division by zero")
    function = np.fmod if node.get("fmod", 0) else np.mod
    return np.asarray(function(values[0], values[1]))


def _gather(node: Node, values: list[Array]) -> Array:
    return np.take(values[0], values[1].astype(np.int64), axis=int(node.get("axis", 0)))


def _transpose(node: Node, values: list[Array]) -> Array:
    return np.transpose(values[0], node.get("perm"))


def _concat(node: Node, values: list[Array]) -> Array:
    return np.concatenate(values, axis=int(node.get("axis", 1)))


def _clip(node: Node, values: list[Array]) -> Array:
    low = node.get("min") if len(values) < 2 else values[1]
    high = node.get("max") if len(values) < 3 else values[2]
    return np.clip(values[0], low, high)


def _cumsum(node: Node, values: list[Array]) -> Array:
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise UnknownValue("this form of CumSum is not folded")
    return np.cumsum(values[0], axis=int(values[1].reshape(-1)[0]), dtype=values[0].dtype)


def _scatter_nd(node: Node, values: list[Array]) -> Array:
    if node.get("reduction", "none") != "none":
        raise UnknownValue("this form of ScatterND is not folded")
    out = values[0].copy()
    out[tuple(np.moveaxis(values[1], -1, 0))] = values[2]
    return out


def _plain(function: Callable[..., Any]) -> Callable[[Node, list[Array]], Array]:
    return lambda node, values: np.asarray(function(*values))


def _typed(function: Callable[..., Any]) -> Callable[[Node, list[Array]], Array]:
    return lambda node, values: np.asarray(function(*values)).astype(values[0].dtype, copy=False)


_FOLD: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Add": _typed(np.add), "Sub": _typed(np.subtract), "Mul": _typed(np.multiply), "Div": _divide, "Mod": _modulo,
    "Pow": _typed(np.power), "Min": _typed(lambda *v: np.minimum.reduce(v)),
    "Max": _typed(lambda *v: np.maximum.reduce(v)), "Neg": _typed(np.negative), "Abs": _typed(np.abs),
    "Sqrt": _typed(np.sqrt), "Exp": _typed(np.exp), "Log": _typed(np.log), "Ceil": _typed(np.ceil),
    "Floor": _typed(np.floor), "Round": _typed(np.round), "Sign": _typed(np.sign), "Reciprocal": _typed(np.reciprocal),
    "Equal": _plain(np.equal), "Greater": _plain(np.greater), "GreaterOrEqual": _plain(np.greater_equal),
    "Less": _plain(np.less), "LessOrEqual": _plain(np.less_equal), "And": _plain(np.logical_and),
    "Or": _plain(np.logical_or), "Not": _plain(np.logical_not), "Where": _plain(np.where), "Identity": _plain(np.array),
    "Concat": _concat, "Gather": _gather, "Slice": _slice, "Reshape": _reshape, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Transpose": _transpose, "Cast": _cast, "ConstantOfShape": _constant_of_shape,
    "Expand": _expand, "Tile": _tile, "Range": _range, "Clip": _clip, "CumSum": _cumsum, "ScatterND": _scatter_nd,
    "ReduceProd": _reduce(np.prod), "ReduceSum": _reduce(np.sum), "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min), "ReduceMean": _reduce(np.mean),
    "NonZero": lambda node, values: np.array(np.nonzero(values[0]), dtype=np.int64),
}  # fmt: skip


def fold(node: Node) -> list[Array | None]:
    """Return the values of a node's outputs, ``None`` where they are large, unknown or not worth knowing.

    Every input must be a constant; only operators that shapes are computed with are evaluated.
    """
    unknown: list[Array | None] = [None] * node.output_count
    values = [tensor.value for tensor in node.inputs if tensor is not None]
    if any(value is None for value in values):
        return unknown
    known: list[Array] = [value for value in values if value is not None]
    if sum(value.size for value in known) > 4 * LARGEST_FOLDED:
        return unknown
    try:
        with np.errstate(all="ignore"):
            if node.type == "Split":
                axis = int(node.get("axis", 0))
                sizes = node.integers("split", 1)
                count = node.output_count if sizes is None else np.cumsum(sizes)[:-1]
                return list(np.split(known[0], count, axis=axis))
            function = _FOLD.get(node.type)
            if function is None or not known:
                return unknown
            out = function(node, known)
    except (UnknownValue, ValueError, IndexError, TypeError, OverflowError):
        return unknown
    return [out if out.size <= LARGEST_FOLDED else None] + unknown[1:]
