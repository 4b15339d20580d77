"""Products of weights as two thinner ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import NotApplicableError, Site, register
from aiop.search.mutations.factors import two_factors
from aiop.search.mutations.local import (
    LocalMutation,
    extents,
    is_product,
    none_of_them,
    put_in_place,
    weight_of,
)

__all__ = ["LowRank"]

Array = npt.NDArray[Any]

_AMOUNTS = (0.75, 0.5, 0.375, 0.25)
_EVEN_FROM, _EVEN = 16, 4  # larger ranks are multiples of this, which hardware likes
_PLACEMENT = ("strides", "pads", "dilations", "auto_pad", "kernel_shape")


@dataclass(frozen=True)
class _Product:
    """A weight as the matrix ``(outputs, inputs)`` that a product multiplies with; a kernel's inputs count its taps."""

    outputs: int
    inputs: int
    form: str
    matrix: Callable[[Array], Array]

    @property
    def full(self) -> int:
        """Multiply-accumulates per position."""
        return self.outputs * self.inputs

    def rank(self, share: float) -> int:
        """Return the largest rank whose products cost at most a share of the whole one."""
        rank = math.floor(share * self.full / (self.outputs + self.inputs) + 1e-9)
        return rank if rank < _EVEN_FROM else rank - rank % _EVEN


@register
class LowRank(LocalMutation):
    """Dense convolutions, `Gemm` and `MatMul` with stored weights become two of a lower rank, the best of that rank.

    A k x k convolution becomes a k x k convolution with as many outputs as the rank, and a 1x1 convolution.
    Amounts are the multiply-accumulates of both over those before.
    """

    name = "low-rank"

    def candidates(self, network: EditableNetwork) -> Iterable[ir.Node]:
        return (node for node in network.graph if is_product(node) and not _between_data(node))

    def looks_like_one(self, node: ir.Node) -> bool:
        return node.op_type in ("Conv", "Gemm", "MatMul") and none_of_them(node) is None

    def fits(self, network: EditableNetwork, node: ir.Node) -> Site:
        reason = none_of_them(node)
        if reason is not None:
            raise NotApplicableError(reason)
        product = _product(node)
        amounts: dict[int, float] = {}
        for amount in _AMOUNTS:
            rank = product.rank(amount)
            if 1 <= rank < min(product.outputs, product.inputs):
                amounts.setdefault(rank, amount)
        if not amounts:
            raise NotApplicableError(
                f"{product.inputs} inputs and {product.outputs} outputs leave no rank that costs less"
            )
        return Site(self.name, node.name or "", tuple(amounts.values()), (node.name or "",))

    def change(self, network: EditableNetwork, node: ir.Node, amount: float) -> str:
        product = _product(node)
        rank = product.rank(amount)
        least = min(product.outputs, product.inputs)
        if not 1 <= rank <= least:
            raise NotApplicableError(f"{amount:g} of its cost would be rank {rank}, not one of 1 to {least}")
        replace_by_rank(network, node, rank)
        return f"{node.name}: {product.inputs} x {product.outputs} -> rank {rank}"


def replace_by_rank(network: EditableNetwork, node: ir.Node, rank: int) -> None:
    """Replace a product by two of a rank, whatever they cost; shapes outside stay, and the caller infers.

    Raises:
        NotApplicableError: The node is no product with stored weights.
    """
    product = _product(node)
    tensor = network.weight(node.inputs[1])
    assert tensor is not None

    def left() -> Array:
        return two_factors(tensor, product.form, product.matrix)[:, :rank]

    def right() -> Array:
        return np.asarray(left().T @ product.matrix(tensor.numpy()).astype(np.float32))

    dtype = ir.DataType(tensor.dtype)
    first, second = f"{node.name}.reduce", f"{node.name}.restore"
    old = node.outputs[0]
    between = ir.Value(name=f"{first}_out", type=old.type, shape=_with_width(old, node, rank))
    if node.op_type == "Conv":
        _, channels, *sides = extents(weight_of(node, 1))
        one = [1] * len(sides)
        reduce = network.add_weight(
            f"{first}.weight",
            (rank, channels, *sides),
            dtype,
            lambda: right().reshape(rank, channels, *sides),
        )
        restore = network.add_weight(
            f"{second}.weight",
            (product.outputs, rank, *one),
            dtype,
            lambda: left().reshape(product.outputs, rank, *one),
        )
        kept = [attribute for key, attribute in node.attributes.items() if key in _PLACEMENT]
        nodes = (
            ir.Node("", "Conv", [node.inputs[0], reduce], kept, outputs=[between], name=first),
            ir.node("Conv", [between, restore, *node.inputs[2:]], {"kernel_shape": one}, name=second),
        )
    else:
        reduce = network.add_weight(f"{first}.weight", (product.inputs, rank), dtype, lambda: right().T)
        restore = network.add_weight(f"{second}.weight", (rank, product.outputs), dtype, lambda: left().T)
        operator = node.op_type
        scales = [node.attributes[key] for key in ("alpha", "beta") if key in node.attributes]
        nodes = (
            ir.node(operator, [node.inputs[0], reduce], outputs=[between], name=first),
            ir.Node("", operator, [between, restore, *node.inputs[2:]], scales, name=second),
        )
    for inserted in nodes:
        network.insert(inserted, before=node)
    put_in_place(network, node, nodes[1])


def _with_width(value: ir.Value, node: ir.Node, width: int) -> ir.Shape | None:
    if value.shape is None:
        return None
    found = list(value.shape)
    found[1 if node.op_type == "Conv" else -1] = width
    return ir.Shape(found)


def _between_data(node: ir.Node) -> bool:
    """Whether a product has no stored weights, as those of attention."""
    if node.op_type not in ("MatMul", "Gemm", "Einsum"):
        return False
    return all(
        value is None or value.const_value is None or value.producer() is not None for value in node.inputs
    )


def _product(node: ir.Node) -> _Product:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        raise NotApplicableError(f"{node.op_type} is no product of an input with a matrix of weights")
    shape = extents(weight_of(node, 1))
    if node.op_type == "Conv":
        group = node.attributes.get("group")
        if group is not None and group.as_int() != 1:
            raise NotApplicableError(f"it has {group.as_int()} groups: only dense convolutions are split")
        return _Product(
            shape[0], math.prod(shape[1:]), "convolution", lambda array: array.reshape(array.shape[0], -1)
        )
    if len(shape) != 2:
        raise NotApplicableError(f"its weights have {len(shape)} axes: only matrices are split")
    if node.op_type == "Gemm":
        if _flag(node, "transA"):
            raise NotApplicableError("it transposes its input")
        if _flag(node, "transB"):
            return _Product(shape[0], shape[1], "outputs first", lambda array: array)
    return _Product(shape[1], shape[0], "inputs first", lambda array: array.T)


def _flag(node: ir.Node, name: str) -> bool:
    attribute = node.attributes.get(name)
    return attribute is not None and attribute.as_int() != 0
