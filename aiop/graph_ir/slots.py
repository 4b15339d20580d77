"""At which inputs an operator takes its data, its weights and its bias.

Quantised operators put scales and zero points between them, fused ones append more.
"""

from __future__ import annotations

from typing import NamedTuple

from aiop.graph_ir.values import Node

__all__ = ["Slots", "channels_last", "slots"]

_ABSENT = 1 << 20


class Slots(NamedTuple):
    """Positions of inputs; one that the operator does not have is past every input there can be."""

    data: int = 0
    weights: int = 1
    bias: int = 2


_USUAL = Slots()
_SLOTS: dict[str, Slots] = {
    "MatMul": Slots(bias=_ABSENT),
    "Einsum": Slots(bias=_ABSENT),
    "CDist": Slots(bias=_ABSENT),
    "FusedMatMul": Slots(bias=_ABSENT),
    "FusedMatMulActivation": Slots(bias=_ABSENT),
    "TransposeMatMul": Slots(bias=_ABSENT),
    "SparseToDenseMatMul": Slots(bias=_ABSENT),
    "ConvInteger": Slots(bias=_ABSENT),
    "MatMulInteger": Slots(bias=_ABSENT),
    "MatMulInteger16": Slots(bias=_ABSENT),
    "MatMulBnb4": Slots(bias=_ABSENT),
    "MatMulFpQ4": Slots(bias=_ABSENT),
    "QLinearConv": Slots(weights=3, bias=8),
    "QLinearConvTranspose": Slots(weights=3, bias=8),
    "QLinearMatMul": Slots(weights=3, bias=_ABSENT),
    "QGemm": Slots(weights=3, bias=6),
    "QOrderedMatMul": Slots(weights=2, bias=5),
    "DeformConv": Slots(bias=3),
    "ConvTransposeWithDynamicPads": Slots(bias=3),
    "DynamicQuantizeMatMul": Slots(bias=4),
    "MatMulIntegerToFloat": Slots(bias=6),
    "MatMulNBits": Slots(bias=5),
    "MatMulBlockQuantizedFp4Weight": Slots(bias=5),
    "MatMulBlockQuantizedFp8Weight": Slots(bias=4),
    "VarlenCausalConvWithState": Slots(bias=3),
}


def slots(onnx_type: str) -> Slots:
    """Return where an operator of this type takes data, weights and bias.

    >>> slots("Conv"), slots("QLinearConv").weights
    (Slots(data=0, weights=1, bias=2), 3)
    """
    return _SLOTS.get(onnx_type, _USUAL)


def channels_last(node: Node) -> bool:
    """Return whether a node's activations have their channels on the last axis."""
    return node.domain == "com.ms.internal.nhwc" or (
        node.domain == "com.microsoft"
        and (node.type.startswith("Nhwc") or bool(node.get("channels_last", 0)))
    )
