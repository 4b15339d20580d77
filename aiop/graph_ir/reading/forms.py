"""What is known of nodes by their form: networks repeat their blocks, and populations of networks share them.

Two nodes are of one form where their operator, the bytes of their attributes and the kinds of their inputs are the
same: they come to the same shapes, costs and settings, and only names differ. A kind stands for all of a tensor that a
rule may look at: shape, element type, and of a constant its values and whether it is made of trained tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from aiop.graph_ir.graph import Operation
from aiop.graph_ir.values import Array, Node, Shape, Tensor

__all__ = ["FORMS", "Form", "Forms", "Signature", "form_of"]

Signature = tuple[object, ...]
"""Operator, bytes of every attribute and kinds of inputs of a node."""

_MOST = 1 << 14
_LARGEST_EXACT = {"int64": 64, "int32": 64, "bool": 64}  # elements: sizes, paddings, indices
_LARGEST_EXACT_FLOATS = 8  # elements: scales and limits
_FIELDS = [field.name for field in fields(Operation)]
_REST = attrgetter(*_FIELDS[_FIELDS.index("outputs") + 1 :])


_Output = tuple[Shape, str, int, int, bool, Array | None]


class Form(NamedTuple):
    """What nodes of one form have in common.

    ``outputs`` are (shape, element type, elements, kind, constant, value) of those that have names, the values being
    ``None`` where they are not known. ``op`` is empty for a node of constants, which leaves no operation. Of others,
    ``activations`` (in the order of its inputs) and ``counted`` (trained tensors) are positions among the inputs,
    ``rest`` the fields of an `Operation` after its outputs. ``traced`` says whether constants may be made of trained
    tensors.
    """

    type: str
    outputs: tuple[_Output, ...]
    op: str = ""
    activations: tuple[int, ...] = ()
    counted: tuple[int, ...] = ()
    rest: tuple[Any, ...] = ()
    traced: bool = False


class Forms:
    """The forms of nodes that were read in this process; forgotten when they become many."""

    def __init__(self, most: int = _MOST) -> None:
        self.most = most
        self.known: dict[Signature, Form] = {}
        self._kinds: dict[tuple[object, ...], int] = {}
        self._numbers = count(1)

    def kind(self, tensor: Tensor) -> int:
        """Return the number of a tensor's kind, never one given to another kind.

        Of a constant with more than a few values it leaves them out, and is negative: looking at them makes the tensor
        unlike any other (`Tensor.value`).
        """
        if not tensor.constant:
            return self._number((tensor.shape, tensor.dtype))
        leaf = tensor.leaves[0][1:] if tensor.leaves else ()
        if not tensor.has_value:
            return self._number((tensor.shape, tensor.dtype, leaf))
        if (fill := tensor.fill) is not None:
            return self._number((tensor.shape, tensor.dtype, leaf, fill.dtype.str, fill.tobytes(), "filled"))
        if tensor.is_elsewhere or tensor.elements > _LARGEST_EXACT.get(tensor.dtype, _LARGEST_EXACT_FLOATS):
            return -self._number((tensor.shape, tensor.dtype, leaf, ...))
        value = tensor.look()
        content = ("", b"") if value is None else (value.dtype.str, value.tobytes())
        return self._number((tensor.shape, tensor.dtype, leaf, *content))

    def keep(self, signature: Signature, form: Form) -> None:
        """Remember a form."""
        if len(self.known) >= self.most:
            self.known.clear()
        if self.most:
            self.known[signature] = form

    def forget(self) -> None:
        """Forget all forms: what an operator means has changed."""
        self.known.clear()

    def _number(self, key: tuple[object, ...]) -> int:
        number = self._kinds.get(key)
        if number is None:
            if len(self._kinds) >= 4 * self.most:
                self._kinds.clear()  # forms of kinds that get a new number are not met again
            number = self._kinds[key] = next(self._numbers)
        return number


FORMS = Forms()


def form_of(node: Node, outputs: Sequence[Tensor], operation: Operation | None) -> Form | None:
    """Return the form of a node, ``None`` where what it is read as hangs on more.

    ``operation`` is ``None`` where it leaves none.
    """
    constant = operation is None
    traced = constant and node.type in ("Constant", "ConstantOfShape")
    activations = []
    for slot, tensor in enumerate(node.inputs):
        if tensor is not None:
            if not tensor.kind:
                return None
            if not tensor.constant:
                activations.append(slot)
            elif tensor.leaves:
                traced = constant
    written: list[_Output] = []
    for tensor in outputs:
        kind, value = tensor.kind, None
        if tensor.constant is not constant or not kind or (constant and kind < 0):
            return None
        if constant:
            value = tensor.look()
            if value is not None and (
                tensor.elements < 2 or any(value.strides)
            ):  # not one number seen as many
                value = np.array(value)  # of its own, not a view of a larger one
        written.append((tensor.shape, tensor.dtype, tensor.elements, kind, constant, value))
    if operation is None:
        return Form(node.type, tuple(written), traced=traced and any(output[2] > 1 for output in written))
    del activations[
        len(operation.inputs) :
    ]  # an operator may read the first of its activations only (CastLike)
    rest = _REST(operation)
    return Form(operation.onnx_type, tuple(written), operation.op, tuple(activations), node.counted, rest)
