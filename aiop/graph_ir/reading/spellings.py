"""Limits, pads, defaults and reduced axes of operators in one spelling, whichever way an opset writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from aiop.graph_ir.graph import Operation
from aiop.graph_ir.shapes.base import axes_of, axis_of
from aiop.graph_ir.values import Node, Shape, Tensor, UnknownValue

__all__ = ["is_default", "respell", "runs"]

_UNLIMITED = 1e30
"""A limit beyond this is none: exporters write the largest float32 in the place of infinity."""

_DEFAULTS: dict[str, dict[str, object]] = {
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "LeakyRelu": {"alpha": 0.01},
    "Selu": {"alpha": 1.67326, "gamma": 1.0507},
    "Gelu": {"approximate": "none"},
}
_ONE = {"alpha": 1.0, "beta": 1.0}

_KINDS = frozenset(
    "LogSoftmax Hardmax ThresholdedRelu Softsign Selu Celu Sign Shrink ReduceMin ReduceSumSquare ReduceL1 ReduceProd "
    "ReduceLogSum ReduceLogSumExp LpPool MaxUnpool MaxRoiPool Ceil Floor Mod".split()
)
"""ONNX operators that share a canonical operator with one that computes something else."""


def is_default(onnx_type: str, name: str, value: object) -> bool:
    """Return whether an attribute is what it is where a file leaves it out, up to what float32 keeps."""
    default = _DEFAULTS.get(onnx_type, _ONE).get(name)
    return value == default or (
        isinstance(value, int | float)
        and isinstance(default, int | float)
        and math.isclose(value, default, rel_tol=1e-4)
    )


def respell(operation: Operation, node: Node) -> None:
    """Bring limits, pads, reduced axes and the like of an operation to one spelling."""
    data = node.input(0)
    rule = _RULES.get(operation.op)
    if rule is not None and data is not None:
        rule(operation, node, data)
    if node.type in _KINDS:
        _attribute(operation, kind=node.type)


def _attribute(operation: Operation, **values: object) -> None:
    operation.attributes = tuple(sorted({**dict(operation.attributes), **values}.items()))


def limits(node: Node) -> tuple[float, ...]:
    """Return (lowest, highest) of a Clip, infinite where there is none; nothing where they are computed."""
    found = []
    for slot, name, none in ((1, "min", -math.inf), (2, "max", math.inf)):
        tensor = node.input(slot)
        limit = none
        if tensor is not None:
            if tensor.value is None or not tensor.value.size:
                return ()
            limit = float(tensor.value.reshape(-1)[0])
        elif node.opset < 11:
            limit = float(node.get(name, none))
        found.append(limit if abs(limit) < _UNLIMITED else math.copysign(math.inf, limit))
    return tuple(found)


def pads(node: Node, data: Tensor) -> tuple[Shape, tuple[float, ...]]:
    """Return what a Pad adds, all begins, then all ends, and the number it adds, nothing where that is zero.

    Of spatial axes only, where no other is padded; of all axes otherwise.
    """
    rank = len(data.shape)
    try:
        given = node.integers("pads", 1) or list(node.get("paddings", ()))
        axes = node.integers("axes", 3) or range(rank)
    except UnknownValue:
        return (), ()
    begins, ends = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        begins[axis_of(axis, rank)] = given[position]
        ends[axis_of(axis, rank)] = given[len(axes) + position]
    value = node.get("value", 0.0)
    tensor = node.input(2)
    if tensor is not None:
        value = math.nan if tensor.value is None else float(np.asarray(tensor.value).reshape(-1)[0])
    if abs(value) >= _UNLIMITED:
        value = math.copysign(math.inf, value)
    if rank > 2 and not any(begins[:2] + ends[:2]):
        begins, ends = begins[2:], ends[2:]
    return tuple(begins + ends), (float(value),) if value else ()


def reduced(node: Node, rank: int) -> set[int] | None:
    """Return the axes that a reduction works on, counted from the front; ``None`` where they are computed."""
    try:
        axes = node.integers("axes", 1)
    except UnknownValue:
        return None
    if not axes:
        return set() if node.get("noop_with_empty_axes", 0) else set(range(rank))
    return axes_of(axes, rank)


def pools_all(axes: Collection[int], rank: int) -> bool:
    """Return whether a reduction is over all positions: the axes of an image or sequence but batch and channels."""
    axes = set(axes)
    return rank > 2 and (axes == set(range(2, rank)) or axes == set(range(1, rank - 1)))


def runs(shape: Shape, axes: Collection[int]) -> tuple[int, ...]:
    """Return how many elements in turn are kept and reduced, from the outermost axis: regrouping axes changes nothing.

    >>> runs((1, 64, 7, 7), {2, 3}), runs((1, 49, 64), {2}), runs((1, 7, 7, 64), {1, 2})
    ((64, 49), (49, 64), (1, 49, 64))
    """
    found = [1]
    for axis, extent in enumerate(shape):
        if extent != 1:
            if (axis in axes) == (len(found) % 2 == 1):
                found.append(1)
            found[-1] *= extent
    return tuple(found)


def _clip(operation: Operation, node: Node, data: Tensor) -> None:
    operation.scalars = limits(node)
    if operation.scalars == (0.0, math.inf):
        operation.op = "Relu"
        operation.scalars = ()


def _gelu(operation: Operation, node: Node, data: Tensor) -> None:
    if node.type == "FastGelu":
        _attribute(operation, approximate="tanh")


def _silu(operation: Operation, node: Node, data: Tensor) -> None:
    if node.type == "QuickGelu" and "alpha" not in node.attributes:
        _attribute(operation, alpha=1.702)


def _pad(operation: Operation, node: Node, data: Tensor) -> None:
    operation.padding, operation.scalars = pads(node, data)
    operation.attributes = tuple(item for item in operation.attributes if item != ("mode", "constant"))


def _reduce(operation: Operation, node: Node, data: Tensor) -> None:
    operation.scalars = ()  # axes that are an input
    axes = reduced(node, len(data.shape))
    if axes is None or node.type == "Mean":
        return
    if pools_all(axes, len(data.shape)) and node.type in _POOLS_ALL:
        operation.op = _POOLS_ALL[node.type]
    kept = {key: value for key, value in operation.attributes if key != "keepdims"}
    operation.attributes = tuple(sorted({**kept, "span": runs(data.shape, axes)}.items()))


def _normalise(operation: Operation, node: Node, data: Tensor) -> None:
    if node.type in ("LayerNormalization", "RMSNormalization", "LpNormalization"):
        axis = axis_of(int(node.get("axis", -1)), len(data.shape))
        axes = {axis} if node.type == "LpNormalization" else set(range(axis, len(data.shape)))
        operation.attributes = (("size", math.prod(data.shape[each] for each in axes)),)
    elif operation.weights:
        operation.attributes = (("size", operation.weights[0].elements),)


def _normalise_groups(operation: Operation, node: Node, data: Tensor) -> None:
    """Instances are groups of one channel: their number tells a group norm that a file spells as the other."""
    channels = data.shape[1] if len(data.shape) > 1 else 1
    operation.groups = int(node.get("num_groups", node.get("groups", channels)))


def _average(operation: Operation, node: Node, data: Tensor) -> None:
    if any(operation.padding) and node.get("count_include_pad", 0):
        _attribute(operation, count_include_pad=1)


def _difference(operation: Operation, node: Node, data: Tensor) -> None:
    if data.constant:
        _attribute(operation, reversed=1)


_POOLS_ALL = {"ReduceMean": "GlobalAvgPool", "ReduceMax": "GlobalMaxPool"}

_RULES: dict[str, Callable[[Operation, Node, Tensor], None]] = {
    "Clip": _clip,
    "Gelu": _gelu,
    "SiLU": _silu,
    "Pad": _pad,
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceOther"), _reduce),
    **dict.fromkeys(("LayerNorm", "RMSNorm", "LpNorm"), _normalise),
    **dict.fromkeys(("InstanceNorm", "GroupNorm"), _normalise_groups),
    "AvgPool": _average,
    **dict.fromkeys(("Sub", "Pow"), _difference),
}
