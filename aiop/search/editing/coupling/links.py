"""Which indices of which tensors must go together: atoms, the edges between them, and what follows from a removal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

if TYPE_CHECKING:
    from aiop.search.editing.network import EditableNetwork

__all__ = ["Atoms", "Axes", "Axis", "Changes", "Fix", "Links", "Product", "UnhandledError", "described"]

Atoms = npt.NDArray[np.int64]
Axis = Atoms | None
"""One atom per index of an axis of a tensor; None for an extent that the file leaves open."""
Axes = list[Axis]


class UnhandledError(Exception):
    """A rule does not know a form of its operator; the message ends the sentence "conv3 is read by add1, which ..."."""


class Changes(Protocol):
    """How a `Fix` changes a node."""

    def set_integer(self, node: ir.Node, key: str, value: int) -> None:
        """Set an attribute."""

    def drop_attribute(self, node: ir.Node, key: str) -> None:
        """Take an attribute out, where there is one."""

    def set_constant(self, node: ir.Node, index: int, values: Sequence[int]) -> None:
        """Let an input be a vector of int64."""

    def set_kept(self, node: ir.Node, index: int, make: Callable[[Atoms], Atoms], length: int) -> None:
        """Let an input be a vector of int64 that ``make`` computes from a mask of the atoms that are kept."""


Repair = Callable[[Changes, ir.Node, list[int]], None]


@dataclass(frozen=True, slots=True)
class Fix:
    """What must change in a node when axes shrink: called with the new lengths of ``arrays`` if any differs."""

    node: str
    arrays: tuple[Axis, ...]
    repair: Repair


@dataclass(frozen=True, slots=True)
class Product:
    """An axis whose index is made of those of several others, the last one running fastest.

    Only one of ``factors`` can shrink: what belongs to one of its indices goes together, the others stay.
    """

    flat: Atoms
    factors: tuple[Atoms, ...]


class Links:
    """Collects what the rules of the operators say about the axes of all tensors of a network.

    Atom 0 stands for whatever stays because it is a position in an image, a token or an example.
    """

    def __init__(self, network: EditableNetwork) -> None:
        self.network = network
        self.count = 1
        self.edges: list[tuple[Atoms, Atoms]] = []
        self.reasons: list[tuple[int, str]] = [
            (0, "its outputs are coupled to positions in the input or to the channels of the input")
        ]
        self.weights: dict[str, Axes] = {}
        self.gains: set[str] = set()
        self.products: list[Product] = []
        self.votes: list[tuple[Atoms, float]] = []
        self.fixes: list[Fix] = []
        self.makers: list[tuple[str, Atoms]] = []
        self.readers: list[tuple[str, Atoms]] = []
        self._axes: dict[int, Axes | None] = {}
        self._still: dict[int, Atoms] = {}

    # Atoms

    def fresh(self, count: int) -> Atoms:
        """Return new atoms."""
        first, self.count = self.count, self.count + count
        return np.arange(first, self.count, dtype=np.int64)

    def still(self, count: int) -> Atoms:
        """Return an axis that stays as it is."""
        axis = self._still.get(count)
        if axis is None:
            axis = self._still[count] = np.zeros(count, np.int64)
        return axis

    @staticmethod
    def is_still(axis: Axis) -> bool:
        """Whether nothing of an axis can go, as far as is known yet."""
        return axis is None or not axis.any()

    def axes(self, value: ir.Value | None) -> Axes:
        """Return the atoms of a tensor, one array per axis."""
        if value is None:
            raise UnhandledError("lacks an input")
        known = self._axes.get(id(value))
        if known is not None:
            return known
        shape = self.network.shape(value)
        if shape is None or id(value) in self._axes:
            raise UnhandledError("reads a tensor of unknown rank")
        if value.producer() is None and value.const_value is not None:
            axes: Axes = [None if extent is None else self.fresh(extent) for extent in shape]
            self.weights[value.name or ""] = axes
        else:
            axes = [None if extent is None else self.still(extent) for extent in shape]
        self._axes[id(value)] = axes
        return axes

    def set_axes(self, value: ir.Value, axes: Axes | None) -> None:
        """Keep the atoms of a result; None where its rank is unknown."""
        self._axes[id(value)] = axes

    def has_axes(self, value: ir.Value) -> bool:
        """Whether the atoms of a tensor are known."""
        return self._axes.get(id(value)) is not None

    # What rules say

    def link(self, one: Axis, other: Axis) -> None:
        """Let two axes shrink together, index by index."""
        if one is other:
            return
        if one is None or other is None:
            self.freeze(other if one is None else one, "has a size that the file leaves open")
        elif len(one) != len(other):
            raise UnhandledError("joins axes of different sizes")
        else:
            self.edges.append((one, other))

    def freeze(self, axis: Axis, reason: str) -> None:
        """Let an axis stay as it is."""
        if axis is None or self.is_still(axis):
            return
        self.reasons.append((self.count, reason))
        self.edges.append((axis, np.full(len(axis), self.count, np.int64)))
        self.count += 1

    def split(self, flat: Axis, extents: Sequence[int]) -> list[Atoms]:
        """Return the factors of an axis whose index is made of those of several."""
        if flat is None or self.is_still(flat):
            return [self.still(extent) for extent in extents]
        factors = [self.still(1) if extent == 1 else self.fresh(extent) for extent in extents]
        self.product(flat, factors)
        return factors

    def merge(self, factors: Sequence[Atoms]) -> Atoms:
        """Return the axis whose index is made of those of several."""
        moving = [place for place, factor in enumerate(factors) if not self.is_still(factor)]
        extents = [len(factor) for factor in factors]
        if not moving:
            return self.still(int(np.prod(extents)))
        if len(moving) == 1:
            return spread(factors[moving[0]], moving[0], extents)
        flat = self.fresh(int(np.prod(extents)))
        self.product(flat, factors)
        return flat

    def product(self, flat: Atoms, factors: Sequence[Atoms]) -> None:
        """Let the index of an axis be made of those of several, the last one running fastest."""
        self.products.append(Product(flat, tuple(factors)))

    def prefer(self, axis: Axis, votes: float) -> None:
        """Say that an axis rather than others of the same product should shrink, or rather not (below 0)."""
        if axis is not None and len(axis) > 1 and not self.is_still(axis):
            self.votes.append((axis, votes))

    def makes(self, node: ir.Node, axis: Axis) -> None:
        """Say that a node with weights makes the channels of an axis."""
        if axis is not None:
            self.makers.append((node.name or "", axis))

    def reads(self, node: ir.Node, axis: Axis) -> None:
        """Say that a node costs less where an axis is shorter."""
        if axis is not None and not self.is_still(axis):
            self.readers.append((node.name or "", axis))

    def gain(self, value: ir.Value | None) -> None:
        """Say that a vector scales channels, so that its size says what they weigh."""
        if value is not None:
            self.gains.add(value.name or "")

    def fix(self, node: ir.Node, arrays: Sequence[Axis], repair: Repair) -> None:
        """Change a node after some of ``arrays`` have become shorter; for axes left open the length is -1."""
        if not all(self.is_still(array) for array in arrays):
            self.fixes.append(Fix(node.name or "", tuple(arrays), repair))

    def constant(self, node: ir.Node, index: int) -> list[int] | None:
        """Return a constant input of integers; None where it is left out.

        Raises:
            UnhandledError: The input is computed.
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            return None
        array = self.network.constant(value)
        if array is None:
            raise UnhandledError("takes sizes that are computed")
        return [int(entry) for entry in np.asarray(array).reshape(-1)]


def spread(factor: Atoms, place: int, extents: Sequence[int]) -> Atoms:
    """Return the atoms of one factor laid out along the axis that all factors make."""
    shape = [1] * len(extents)
    shape[place] = extents[place]
    return np.ascontiguousarray(np.broadcast_to(factor.reshape(shape), extents)).reshape(-1)


def described(node: ir.Node) -> str:
    """Return a node for a sentence: ``attn.softmax (Softmax)``."""
    return f"{node.name} ({node.op_type})"


def integer(node: ir.Node, key: str, default: int) -> int:
    """Return an integer attribute."""
    attribute = node.attributes.get(key)
    return default if attribute is None else attribute.as_int()


def integers(node: ir.Node, key: str) -> list[int] | None:
    """Return an attribute of integers, None where it is left out."""
    attribute = node.attributes.get(key)
    return None if attribute is None else [int(entry) for entry in attribute.as_ints()]


def text(node: ir.Node, key: str, default: str) -> str:
    """Return an attribute of text."""
    attribute: Any = node.attributes.get(key)
    return default if attribute is None else str(attribute.as_string())
