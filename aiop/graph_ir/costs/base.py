"""What the cost rules of every operator family share."""

from __future__ import annotations

from collections.abc import Callable

from aiop.graph_ir.values import Node, Shape

__all__ = ["MacsRule", "elements"]

MacsRule = Callable[[Node, list[Shape]], int]
"""Node with known input shapes, shapes of its outputs -> multiply-accumulates."""


def elements(node: Node, index: int) -> int:
    """Return the elements of an input, 0 where it is left out."""
    tensor = node.input(index)
    return tensor.elements if tensor is not None else 0
