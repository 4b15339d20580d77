"""Output shapes of the matrix products of onnxruntime: fused, quantised, of packed weights, and linear attention."""

from __future__ import annotations

import math
from typing import NamedTuple

from aiop.graph_ir.shapes.base import ShapeError, ShapeRule, broadcast, first, rules
from aiop.graph_ir.slots import slots
from aiop.graph_ir.values import Node, Shape

__all__ = ["RULES", "Product", "linear_attention", "product_of"]


class Product(NamedTuple):
    """A matrix product with transpositions resolved: ``(*batch, rows, inner) x (*batch, inner, columns)``."""

    batch: Shape
    rows: int
    inner: int
    columns: int
    shape: Shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod(self.batch) * self.rows * self.inner * self.columns


def _inputs(node: Node) -> tuple[Shape, Shape]:
    right = node.input(slots(node.type).weights)
    if right is None:
        raise ShapeError("has no second factor")
    return first(node).shape, right.shape


def _turned(shape: Shape, node: Node, side: str) -> Shape:
    """Return a factor's shape after the transpositions that attributes ask for."""
    if len(shape) > 2 and node.get(f"transBatch{side}", 0):
        shape = (*shape[1:-1], shape[0], shape[-1])
    if len(shape) > 1 and node.get(f"trans{side}", 0):
        shape = (*shape[:-2], shape[-1], shape[-2])
    return shape


def product_of(node: Node) -> Product:
    """Return the product that a matrix operator computes; raises `ShapeError`."""
    if node.type in _PACKED:
        return _packed(node)
    given = _inputs(node)
    left, right = (_turned(shape, node, side) for shape, side in zip(given, "AB", strict=True))
    if not left or not right:
        raise ShapeError("multiplies a scalar")
    a = (1, *left) if len(left) == 1 else left
    b = (*right, 1) if len(right) == 1 else right
    if node.type == "CDist":
        b = (b[1], b[0])
    if node.type == "QOrderedMatMul" and node.get("order_B", 0) != _ROW_MAJOR and a[-1] != b[-2]:
        b = (*b[:-2], b[-1], b[-2])
    if a[-1] != b[-2]:
        raise ShapeError(f"multiplies {list(given[0])} with {list(given[1])}")
    batch = broadcast(a[:-2], b[:-2])
    tail = (() if len(left) == 1 else (a[-2],)) + (() if len(right) == 1 else (b[-1],))
    return Product(batch, a[-2], a[-1], b[-1], batch + tail)


_ROW_MAJOR = 1
_PACKED = frozenset(
    "MatMulNBits MatMulBnb4 MatMulFpQ4 MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight".split()
)
"""Products whose weights are stored transposed, and several numbers to a byte."""


def _packed(node: Node) -> Product:
    left, weights = _inputs(node)
    inner = left[-1] if left else 0
    if node.type == "MatMulFpQ4":
        inner, columns = node.integers("B_shape", 2) or (inner, 0)
    elif node.type.startswith("MatMulBlockQuantized"):
        columns = weights[0]
    else:
        columns, inner = int(node.get("N", 0)), int(node.get("K", 0))
        if node.type == "MatMulBnb4" and not node.get("transB", 1):
            columns, inner = inner, columns
    if not left or left[-1] != inner or columns < 1:
        raise ShapeError(f"multiplies {list(left)} with weights of {inner} x {columns}")
    return Product(left[:-2], math.prod(left[-2:-1]), inner, columns, (*left[:-1], columns))


def _product(node: Node) -> list[Shape]:
    return [product_of(node).shape]


def _shared(node: Node) -> list[Shape]:
    """Several products of one input: gate and up projection of an MLP, or queries, keys and values."""
    shape = first(node).shape
    widths = [
        node.get(name, 0) for name in (("N",) if node.type == "MatMulNBitsMlp" else ("Nq", "Nkv", "Nkv"))
    ]
    return [*((*shape[:-1], int(width)) for width in widths), shape]


class LinearAttention(NamedTuple):
    """Sizes of a linear attention: a state of ``(width_qk, width_v)`` per head, updated and read once per token."""

    tokens: int
    heads_q: int
    heads_kv: int
    width_qk: int
    width_v: int
    outputs: list[Shape]

    def macs(self, rule: str) -> int:
        """Multiply-accumulates of an update rule: rank-one updates, reads by queries, and by keys for delta rules."""
        updates = self.heads_kv * (2 if "delta" in rule else 1)
        return self.tokens * self.width_qk * self.width_v * (updates + self.heads_q)


def linear_attention(node: Node) -> LinearAttention:
    """Return the sizes of a LinearAttention or GatedDeltaNet; raises `ShapeError`."""
    query, key, value = first(node).shape, node.input(1), node.input(2)
    if node.type == "GatedDeltaNet":
        state = node.input(6)
        if key is not None and value is not None:
            heads_q, width_qk, (heads, width_v) = query[-2], query[-1], value.shape[-2:]
        elif state is not None:
            _, heads, width_v, width_qk = state.shape
            heads_q = (query[-1] - heads * width_v) // (2 * width_qk)
        else:
            raise ShapeError("has neither keys nor a state")
        lead = query[:-2] if key is not None else query[:-1]
        batch = state.shape[0] if state else 1
        outputs: list[Shape] = [(*lead, max(heads_q, heads), width_v), (batch, heads, width_v, width_qk)]
        return LinearAttention(math.prod(lead), max(heads_q, heads), heads, width_qk, width_v, outputs)
    heads_q, heads = int(node.get("q_num_heads", 0)), int(node.get("kv_num_heads", 0))
    if heads_q < 1 or heads < 1 or value is None:
        raise ShapeError("has no heads or values")
    batch, tokens = query[:2]
    width_qk, width_v = query[2] // heads_q, value.shape[2] // heads
    most = max(heads_q, heads)
    outputs = [(batch, tokens, most * width_v), (batch, heads, width_qk, width_v)]
    return LinearAttention(batch * tokens, most, heads, width_qk, width_v, outputs)


def _linear_attention(node: Node) -> list[Shape]:
    return linear_attention(node).outputs


RULES: dict[str, ShapeRule] = {
    **rules(
        _product,
        "FusedMatMul FusedMatMulActivation TransposeMatMul MatMulInteger16 MatMulIntegerToFloat DynamicQuantizeMatMul "
        "QLinearMatMul QOrderedMatMul SparseToDenseMatMul CDist FusedGemm QGemm GemmFastGelu GemmFloat8 MatMulNBits "
        "MatMulBnb4 MatMulFpQ4 MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight",
    ),
    **rules(_shared, "MatMulNBitsMlp MatMulNBitsQkv"),
    **rules(_linear_attention, "LinearAttention GatedDeltaNet"),
}
