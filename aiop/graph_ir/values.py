"""What is known of a tensor and of a node while a file is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from aiop.graph_ir.shapes.windows import Window

__all__ = [
    "DTYPES",
    "LARGEST_COST",
    "LARGEST_FOLDED",
    "LARGEST_TENSOR",
    "Array",
    "Elsewhere",
    "Filled",
    "Node",
    "Shape",
    "Tensor",
    "UnknownValue",
    "is_uniform",
]

LARGEST_TENSOR = 1 << 40
"""Elements: a larger tensor is a fault of the file."""

LARGEST_COST = 1 << 62
"""MACs: an operation of more is a fault of the file."""

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


_new = object.__new__


class Tensor:
    """Name, shape, element type and, of a small constant, the values.

    ``constant`` tensors do not depend on the network's inputs. ``leaves`` are the trained tensors a constant is made
    of: (name, elements, element type) of each initialiser it came from. Several names of a file may stand for one
    `Tensor`; its ``name`` is that of the operation's output. ``kind`` numbers all that a rule may look at
    (`aiop.graph_ir.reading.forms`), 0 for a tensor unlike any other.
    """

    __slots__ = ("_value", "constant", "dtype", "elements", "kind", "leaves", "name", "shape")

    def __init__(
        self,
        name: str,
        shape: Shape,
        dtype: str,
        *,
        constant: bool = False,
        leaves: tuple[tuple[str, int, str], ...] = (),
    ) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.elements = math.prod(shape)
        self.constant = constant
        self.kind = 0
        self._value: Array | Callable[[], Array | None] | None = None
        self.leaves = leaves

    @staticmethod
    def known(name: str, fields: tuple[Shape, str, int, int, bool, Array | None]) -> Tensor:
        """Return a tensor of (shape, element type, elements, kind, constant, values) that are known to fit.

        It is made for every node, so it is quick: the constructor takes three times as long.
        """
        tensor = _new(Tensor)
        tensor.name = name
        tensor.leaves = ()
        tensor.shape, tensor.dtype, tensor.elements, tensor.kind, tensor.constant, tensor._value = fields
        return tensor

    @property
    def value(self) -> Array | None:
        """Values of a small constant, decoded when they are first asked for; ``None`` where they are not known.

        A constant whose kind leaves its values out is unlike any other from here on.
        """
        if self.kind < 0:
            self.kind = 0
        return self.look()

    @property
    def is_elsewhere(self) -> bool:
        """Whether to ask for the values is to open another file."""
        return isinstance(self._value, Elsewhere)

    @property
    def fill(self) -> Array | None:
        """The one value that fills the tensor where that is known without a look at any element."""
        return self._value.value if isinstance(self._value, Filled) else None

    @property
    def has_value(self) -> bool:
        """Whether there are values to decode, though they may turn out to be unreadable."""
        return self._value is not None

    def look(self) -> Array | None:
        """Return the values to one who looks at those of every tensor anew, whatever its kind."""
        if self._value is not None and not isinstance(self._value, np.ndarray):
            self._value = self._value()
        return self._value

    def set_value(self, value: Array | Callable[[], Array | None] | None) -> None:
        """Give the values, or a function that is called when they are first asked for."""
        self._value = value

    @property
    def uniform(self) -> bool:
        """Whether the values are known and all the same."""
        return is_uniform(self.value)


def is_uniform(value: Array | None) -> bool:
    """Return whether values are known and all the same."""
    if value is None or not value.size:
        return False
    start = value.flat[0]
    return bool(start == value.flat[-1]) and bool((value == start).all())


class Filled:
    """Values that are all the same, held once however many they are."""

    __slots__ = ("shape", "value")

    def __init__(self, value: Array, shape: Shape) -> None:
        """``value`` has no axes."""
        self.value = value
        self.shape = shape

    def __call__(self) -> Array:
        """Return a read-only view that is as large as the tensor and takes no memory."""
        return np.broadcast_to(self.value, self.shape)


class Elsewhere(partial["Array | None"]):
    """Values that are read from another file when they are asked for."""


class Node:
    """One node of a file: operator, attributes and what is known of its inputs (``None`` for one left out)."""

    __slots__ = (
        "attributes", "counted", "domain", "inputs", "name", "opset", "output_count", "repeatable", "type", "window"
    )  # fmt: skip

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
        self.window: Window | None = None  # of a convolution or pool, once its shape rule has run
        self.counted: tuple[int, ...] = ()  # inputs that are trained tensors, once its parameters are counted
        self.repeatable = False  # whether a rule alone, of this node alone, said what it is read as

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
            return [int(number) for number in tensor.value.reshape(-1).tolist()]
        given = self.attributes.get(attribute)
        if given is None:
            return None
        return [int(number) for number in given] if isinstance(given, list | tuple) else [int(given)]


class UnknownValue(Exception):
    """A shape depends on values that are not known before the network runs."""
