"""Arithmetic on small constants: the values that shapes are computed from are folded away while a file is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from aiop.graph_ir.values import DTYPES, LARGEST_FOLDED, Array, Filled, Node, Shape, UnknownValue

__all__ = ["filled", "fold"]


def _small(shape: Sequence[int]) -> None:
    """Refuse to make an array that is too large to be worth folding."""
    if math.prod(shape) > LARGEST_FOLDED:
        raise UnknownValue("too large to fold")


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
    return np.asarray(values[0].astype(name))


def _reduce(function: Callable[..., Any]) -> Callable[[Node, list[Array]], Array]:
    def apply(node: Node, values: list[Array]) -> Array:
        axes = _axes(node, values[0].ndim)
        if not axes and node.get("noop_with_empty_axes", 0):
            return values[0]
        if function is np.mean and not values[0].size:
            raise UnknownValue("the mean of nothing")
        out = function(values[0], axis=tuple(axes) or None, keepdims=bool(node.get("keepdims", 1)))
        return np.asarray(out, dtype=values[0].dtype)

    return apply


def filled(node: Node, shape: Shape) -> Filled | None:
    """Return the values that a ConstantOfShape makes, ``None`` where it has none to fill with."""
    fill = node.get("value")
    if fill is None:
        return Filled(np.zeros((), np.float32), shape)
    return Filled(fill.reshape(-1)[0].reshape(()), shape) if fill.size else None


def _expand(node: Node, values: list[Array]) -> Array:
    shape = np.broadcast_shapes(values[0].shape, tuple(int(extent) for extent in values[1].reshape(-1)))
    _small(shape)
    return np.broadcast_to(values[0], shape)


def _tile(node: Node, values: list[Array]) -> Array:
    repeats = [int(count) for count in values[1].reshape(-1)]
    _small((*values[0].shape, *repeats))
    return np.tile(values[0], repeats)


def _range(node: Node, values: list[Array]) -> Array:
    start, stop, step = (value.reshape(-1)[0].item() for value in values)
    if step == 0 or not (stop - start) / step <= LARGEST_FOLDED:
        raise UnknownValue("too large to fold")
    return np.arange(start, stop, step, dtype=values[0].dtype)


def _divide(node: Node, values: list[Array]) -> Array:
    left, right = values
    _small(np.broadcast_shapes(left.shape, right.shape))
    if left.dtype.kind in "iu":
        if not np.all(right):
            raise UnknownValue("division by zero")
        quotient = np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))  # towards zero
        return np.asarray(quotient, dtype=left.dtype)
    return np.asarray(left / right, dtype=left.dtype)


def _modulo(node: Node, values: list[Array]) -> Array:
    if not np.all(values[1]):
        raise UnknownValue("division by zero")
    return _plain(np.fmod if node.get("fmod", 0) else np.mod)(node, values)


def _gather(node: Node, values: list[Array]) -> Array:
    data, indices = values
    axis = int(node.get("axis", 0))
    _small((*data.shape[:axis], *indices.shape, *data.shape[axis:][1:]))
    return np.asarray(np.take(data, indices.astype(np.int64), axis=axis))


def _transpose(node: Node, values: list[Array]) -> Array:
    return np.transpose(values[0], node.get("perm"))


def _concat(node: Node, values: list[Array]) -> Array:
    return np.concatenate(values, axis=int(node.get("axis", 1)))


def _clip(node: Node, values: list[Array]) -> Array:
    low, high = node.input(1), node.input(2)
    return np.clip(
        values[0],
        node.get("min") if low is None else low.value,
        node.get("max") if high is None else high.value,
    )


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
    """Return the folding of an element-wise operator whose result has a type of its own."""

    def apply(node: Node, values: list[Array]) -> Array:
        _small(np.broadcast_shapes(*(value.shape for value in values)))
        return np.asarray(function(*values))

    return apply


def _typed(function: Callable[..., Any]) -> Callable[[Node, list[Array]], Array]:
    """Return the folding of an element-wise operator whose result has the type of its first input."""
    plain = _plain(function)
    return lambda node, values: plain(node, values).astype(values[0].dtype, copy=False)


_FOLD: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Add": _typed(np.add), "Sub": _typed(np.subtract), "Mul": _typed(np.multiply), "Div": _divide, "Mod": _modulo,
    "Pow": _typed(np.power), "Min": _typed(lambda *v: reduce(np.minimum, v)),
    "Max": _typed(lambda *v: reduce(np.maximum, v)), "Neg": _typed(np.negative), "Abs": _typed(np.abs),
    "Sqrt": _typed(np.sqrt), "Exp": _typed(np.exp), "Log": _typed(np.log), "Ceil": _typed(np.ceil),
    "Floor": _typed(np.floor), "Round": _typed(np.round), "Sign": _typed(np.sign), "Reciprocal": _typed(np.reciprocal),
    "Equal": _plain(np.equal), "Greater": _plain(np.greater), "GreaterOrEqual": _plain(np.greater_equal),
    "Less": _plain(np.less), "LessOrEqual": _plain(np.less_equal), "And": _plain(np.logical_and),
    "Or": _plain(np.logical_or), "Not": _plain(np.logical_not), "Where": _plain(np.where), "Identity": _plain(np.array),
    "Concat": _concat, "Gather": _gather, "Slice": _slice, "Reshape": _reshape, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Transpose": _transpose, "Cast": _cast,
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
    if node.domain not in ("", "ai.onnx"):
        return unknown
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
            out = np.asarray(function(node, known))
    except (UnknownValue, ValueError, IndexError, TypeError, ArithmeticError, MemoryError):
        return unknown
    return [out if out.size <= LARGEST_FOLDED else None, *unknown[1:]]
