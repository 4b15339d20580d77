"""What other sizes of a network's inputs change in it, as a list of changes that nothing has been done about yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

__all__ = ["Constant", "Kernel", "Plan", "Shape"]

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Constant:
    """New values of the constant at an input of a node."""

    node: str
    index: int
    values: Array


@dataclass(frozen=True)
class Kernel:
    """New sides of a pooling window that covers the whole map."""

    node: str
    sides: tuple[int, ...]


@dataclass
class Plan:
    """New shapes of the inputs and of all values that change (by name), and what must change with them."""

    inputs: dict[str, Shape]
    shapes: dict[str, Shape] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    regrouped: dict[Shape, Shape | None] = field(default_factory=dict)
