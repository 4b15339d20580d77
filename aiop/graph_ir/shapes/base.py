"""What the shape rules of every operator family share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiop.graph_ir.values import Node, Shape, Tensor

__all__ = ["ShapeError", "ShapeRule", "axes_of", "axis_of", "broadcast", "first", "rules"]

ShapeRule = Callable[[Node], list[Shape]]
"""Node with known input shapes -> shape of every output; raises `ShapeError`, or `UnknownValue`."""


class ShapeError(ValueError):
    """Shapes that do not fit the operator; the message goes on after the operator's name."""


def rules(rule: ShapeRule, operators: str) -> dict[str, ShapeRule]:
    """Return ``rule`` for each of several operators, given as one text of names."""
    return dict.fromkeys(operators.split(), rule)


def first(node: Node) -> Tensor:
    """Return the first input, which every rule needs."""
    tensor = node.inputs[0] if node.inputs else None
    if tensor is None:
        raise ShapeError("has no first input")
    return tensor


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the front; negative ones count from the end of ``rank`` axes."""
    if not -rank <= axis < rank:
        raise ShapeError(f"works on axis {axis} of a tensor of {rank} axes")
    return axis % rank


def axes_of(axes: Iterable[int], rank: int) -> set[int]:
    """Return several axes counted from the front."""
    return {axis_of(axis, rank) for axis in axes}


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that several shapes broadcast to."""
    rank = max(map(len, shapes), default=0)
    extents = [1] * rank
    for shape in shapes:
        for axis, extent in enumerate(shape, rank - len(shape)):
            if extent != 1 and extent != extents[axis]:
                if extents[axis] != 1:
                    raise ShapeError(f"cannot broadcast {' with '.join(str(list(each)) for each in shapes)}")
                extents[axis] = extent
    return tuple(extents)
