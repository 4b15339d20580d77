"""Quantised operators as their float twins: the same operator, without scales and zero points, on the same weights.

A quantised network is its float network in another number format. Every operator here takes its data, weights and bias
at positions of its own, between scales and zero points; what is left without those is the float operator, whose rules
for shapes and costs then hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from aiop.graph_ir.values import LARGEST_FOLDED, Array, Node, Shape, Tensor

__all__ = [
    "QUANTISED",
    "Twin",
    "dequantised",
    "float_twin",
    "limits",
    "narrower",
    "precision_of",
    "quantised",
]

_BITS = {
    "float64": 64, "int64": 64, "uint64": 64, "float32": 32, "int32": 32, "uint32": 32, "float16": 16, "bfloat16": 16,
    "int16": 16, "uint16": 16, "int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "float4e2m1": 4, "float4": 4, "int2": 2,
    "uint2": 2, "int3": 3, "int5": 5, "int6": 6, "int7": 7, "int1": 1,
}  # fmt: skip
_LOWEST = {
    "uint8": 0,
    "int8": -128,
    "uint16": 0,
    "int16": -32768,
    "uint4": 0,
    "int4": -8,
    "uint2": 0,
    "int2": -2,
}


def precision_of(dtype: str) -> str:
    """Return how an element type is called as a precision: without its sign and the parts of its bits.

    >>> precision_of("uint8"), precision_of("float8e4m3fn"), precision_of("bfloat16")
    ('int8', 'float8', 'bfloat16')
    """
    if dtype.startswith("float8"):
        return "float8"
    if dtype.startswith("float4"):
        return "float4"
    return dtype.removeprefix("u") if dtype.startswith("uint") else dtype


def narrower(one: str, other: str) -> str:
    """Return which of two element types has fewer bits, the first where they have as many."""
    bits = [8 if name.startswith("float8") else _BITS.get(name, 32) for name in (one, other)]
    return other if bits[1] < bits[0] else one


class Twin(NamedTuple):
    """The float operator behind a quantised one.

    ``limit``: inputs that hold the scale and the zero point of the output, where there are any. ``biased`` says whether
    the last input of the twin is a bias that the float operator does not have itself.
    """

    node: Node
    limit: tuple[Tensor | None, Tensor | None] = (None, None)
    biased: bool = False


class _Rule(NamedTuple):
    kind: str
    inputs: tuple[int, ...] | Callable[[Node], Iterable[int]]
    limit: int = -1  # where the output's scale stands; its zero point follows
    bias: int = -1
    domain: str = ""


def float_twin(node: Node) -> Twin | None:
    """Return the float twin of a quantised node, ``None`` where it is none or lacks what the twin needs."""
    rule = _RULES.get(node.type)
    if rule is None:
        return None
    positions = list(rule.inputs(node) if callable(rule.inputs) else rule.inputs)
    while positions and node.input(positions[-1]) is None:  # left out at the end
        positions.pop()
    inputs = [_plain(node, position) for position in positions]
    reshape = _WEIGHTS.get(node.type)
    if reshape is not None and len(inputs) > 1:
        slot, weight = reshape(node)
        if weight is None:
            return None
        inputs[slot] = weight
        if node.type == "DynamicQuantizeLSTM" and len(inputs) > 2 and inputs[2] is not None:
            inputs[2] = _as(inputs[2], _swapped(inputs[2].shape))
    biased = rule.bias >= 0 and node.input(rule.bias) is not None
    if biased:
        inputs.append(_plain(node, rule.bias))
    kind, domain = rule.kind, rule.domain
    if node.get("channels_last", 0):
        domain = "com.ms.internal.nhwc"
    twin = Node(node.name, kind, domain, _attributes(node), inputs, node.output_count, node.opset)
    limit = (node.input(rule.limit), node.input(rule.limit + 1)) if rule.limit >= 0 else (None, None)
    return Twin(twin, limit, biased)


def limits(scale: Tensor | None, zero: Tensor | None) -> tuple[float, ...]:
    """Return (0, largest number) where a quantised tensor holds no negative numbers: a ReLU is no node any more then.

    Nothing where it does, or where its range is not known.
    """
    if (
        zero is None
        or scale is None
        or zero.elements != 1
        or scale.elements != 1
        or zero.dtype not in _LOWEST
    ):
        return ()
    if zero.value is None or scale.value is None or int(zero.value.reshape(-1)[0]) != _LOWEST[zero.dtype]:
        return ()
    step = float(scale.value.reshape(-1)[0])
    if step == 1.0:  # what quantisers write where a tensor is all zeros, which says nothing
        return ()
    return (0.0, step * ((1 << _BITS[zero.dtype]) - 1))


def dequantised(data: Tensor, scale: Tensor | None, zero: Tensor | None, axis: int) -> Array | None:
    """Return the numbers that a small quantised constant stands for; ``None`` where they are not known."""
    known = _aligned(data, scale, zero, axis)
    if known is None:
        return None
    numbers, factors, offsets = known
    return np.asarray((numbers - offsets) * factors)


def quantised(data: Tensor, scale: Tensor | None, zero: Tensor | None, axis: int) -> Array | None:
    """Return what a small constant is quantised to, not yet limited to its type; ``None`` where it is not known."""
    known = _aligned(data, scale, zero, axis)
    if known is None or not known[1].all():
        return None
    numbers, factors, offsets = known
    return np.asarray(np.round(numbers / factors) + offsets)


def _aligned(
    data: Tensor, scale: Tensor | None, zero: Tensor | None, axis: int
) -> tuple[Array, Array, Array] | None:
    """Return the values of a constant, its scales and its zero points, in shapes that broadcast."""
    if data.elements > LARGEST_FOLDED or data.value is None or scale is None or scale.value is None:
        return None
    numbers, factors = data.value.astype(np.float32), scale.value.astype(np.float32)
    offsets = np.zeros_like(factors) if zero is None or zero.value is None else zero.value.astype(np.float32)
    if factors.size == 1 and offsets.size == 1:
        return numbers, factors.reshape(()), offsets.reshape(())
    if factors.ndim != 1 or not -numbers.ndim <= axis < numbers.ndim or offsets.shape != factors.shape:
        return None
    if numbers.shape[axis] != factors.size:
        return None
    along = [1] * numbers.ndim
    along[axis] = factors.size
    return numbers, factors.reshape(along), offsets.reshape(along)


def _attributes(node: Node) -> dict[str, object]:
    kept = {key: value for key, value in node.attributes.items() if key not in ("channels_last", "opset")}
    if node.type == "GatherBlockQuantized":
        kept["axis"] = int(node.get("gather_axis", 0))
    if node.type == "QLinearSoftmax" and int(node.get("opset", 13)) < 13:
        kept.setdefault("axis", 1)
    return kept


def _plain(node: Node, position: int) -> Tensor | None:
    """Return an input; a constant as one of floating-point numbers, made of the tensor that the file stores."""
    tensor = node.input(position)
    if tensor is None or not tensor.constant or tensor.dtype in ("float32", "float16", "bool", "int64"):
        return tensor
    copy = _as(tensor, tensor.shape)
    scale, zero = node.input(position + 1), node.input(position + 2)
    if tensor.dtype == "int32":  # a bias has no scale of its own
        copy.set_value(lambda: tensor.value)
    else:
        copy.set_value(lambda: dequantised(tensor, scale, zero, 0))
    return copy


def _as(tensor: Tensor, shape: Shape, precision: str = "") -> Tensor:
    """Return a stored constant as a weight of a shape."""
    kind = precision or tensor.dtype
    leaf = (tensor.leaves[0][0] if tensor.leaves else tensor.name, math.prod(shape), kind)
    return Tensor(tensor.name, shape, "float32", constant=tensor.constant, leaves=(leaf,))


def _swapped(shape: Shape) -> Shape:
    return (*shape[:-2], *shape[:-3:-1])


def _packed(node: Node) -> tuple[int, Tensor | None]:
    """The matrix of MatMulNBits and MatMulBnb4, whose numbers are packed into blocks of bytes."""
    tensor, rows, columns = node.input(1), int(node.get("K", 0)), int(node.get("N", 0))
    if tensor is None or not tensor.constant or rows < 1 or columns < 1:
        return 1, None
    kind = f"int{int(node.get('bits', 4))}" if node.type == "MatMulNBits" else "float4"
    return 1, _as(tensor, (rows, columns), kind)


def _turned(node: Node) -> tuple[int, Tensor | None]:
    """The matrix of DynamicQuantizeLSTM, which is stored transposed."""
    tensor = node.input(1)
    return 1, None if tensor is None else _as(tensor, _swapped(tensor.shape))


def _blocks(node: Node) -> tuple[int, Tensor | None]:
    """The table of GatherBlockQuantized: where it is stored as bytes, each holds several numbers."""
    tensor = node.input(0)
    if tensor is None or not tensor.constant or not tensor.shape:
        return 0, None
    bits = int(node.get("bits", 4))
    if tensor.dtype != "uint8" or not 0 < bits < 8:
        return 0, _as(tensor, tensor.shape)
    return 0, _as(tensor, (*tensor.shape[:-1], tensor.shape[-1] * (8 // bits)), f"int{bits}")


_WEIGHTS: dict[str, Callable[[Node], tuple[int, Tensor | None]]] = {
    "MatMulNBits": _packed,
    "MatMulBnb4": _packed,
    "DynamicQuantizeLSTM": _turned,
    "GatherBlockQuantized": _blocks,
}

_MICROSOFT = "com.microsoft"
_RULES: dict[str, _Rule] = {
    "QLinearConv": _Rule("Conv", (0, 3, 8), 6),
    "QLinearConvTranspose": _Rule("ConvTranspose", (0, 3, 8), 6),
    "ConvInteger": _Rule("Conv", (0, 1)),
    "QLinearMatMul": _Rule("MatMul", (0, 3), 6),
    "MatMulInteger": _Rule("MatMul", (0, 1)),
    "MatMulInteger16": _Rule("MatMul", (0, 1)),
    "MatMulIntegerToFloat": _Rule("MatMul", (0, 1), bias=6),
    "DynamicQuantizeMatMul": _Rule("MatMul", (0, 1), bias=4),
    "MatMulNBits": _Rule("MatMul", (0, 1), bias=5),
    "MatMulBnb4": _Rule("MatMul", (0, 1)),
    "QGemm": _Rule("Gemm", (0, 3, 6), 7),
    "QLinearAdd": _Rule("Add", (0, 3), 6),
    "QLinearMul": _Rule("Mul", (0, 3), 6),
    "MulInteger": _Rule("Mul", (0, 2)),
    "QLinearWhere": _Rule("Where", (0, 1, 4)),
    "QLinearConcat": _Rule("Concat", lambda node: range(2, len(node.inputs), 3)),
    "QLinearSigmoid": _Rule("Sigmoid", (0,)),
    "QLinearLeakyRelu": _Rule("LeakyRelu", (0,)),
    "QLinearSoftmax": _Rule("Softmax", (0,)),
    "QLinearAveragePool": _Rule("AveragePool", (0,)),
    "QLinearGlobalAveragePool": _Rule("GlobalAveragePool", (0,)),
    "QLinearReduceMean": _Rule("ReduceMean", (0,)),
    "QOrderedGelu": _Rule("Gelu", (0,), domain=_MICROSOFT),
    "QOrderedLayerNormalization": _Rule("LayerNormalization", (0, 2, 3)),
    "QAttention": _Rule("Attention", (0, 1, 2, 5, 8), domain=_MICROSOFT),
    "QEmbedLayerNormalization": _Rule("EmbedLayerNormalization", tuple(range(8)), domain=_MICROSOFT),
    "DynamicQuantizeLSTM": _Rule("LSTM", tuple(range(8))),
    "GatherBlockQuantized": _Rule("Gather", (0, 1)),
}

QUANTISED: dict[str, tuple[str, str]] = {name: (rule.kind, rule.domain) for name, rule in _RULES.items()}
"""Operators that have a float twin -> its type and domain."""
