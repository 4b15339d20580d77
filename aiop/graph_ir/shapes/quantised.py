"""Output shapes of quantised operators of onnxruntime: those of their float twins, between scales and zero points."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiop.graph_ir.shapes import elementwise, layout, windows
from aiop.graph_ir.shapes.base import ShapeRule
from aiop.graph_ir.shapes.channels_last import where_last
from aiop.graph_ir.values import Node, Shape

__all__ = ["RULES", "twin"]


def twin(rule: ShapeRule, positions: Iterable[int] | Callable[[Node], Iterable[int]]) -> ShapeRule:
    """Return the rule of a float operator over some of a node's inputs, as if it had no others."""

    def applied(node: Node) -> list[Shape]:
        chosen = positions(node) if callable(positions) else positions
        inner = Node(
            node.name, node.type, node.domain, node.attributes, [node.input(index) for index in chosen],
            node.output_count, node.opset,
        )  # fmt: skip
        shapes = rule(inner)
        node.window = inner.window
        return shapes

    return applied


def _every_third(node: Node) -> range:
    """Inputs of QLinearConcat: scale and zero point of the output, then data, scale and zero point of each input."""
    return range(2, len(node.inputs), 3)


_DATA = (0,)

RULES: dict[str, ShapeRule] = {
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), twin(elementwise.RULES["Add"], (0, 3))),
    "MulInteger": twin(elementwise.RULES["Mul"], (0, 2)),
    "QLinearWhere": twin(elementwise.RULES["Where"], (0, 1, 4)),
    "QLinearConcat": twin(layout.RULES["Concat"], _every_third),
    **dict.fromkeys(
        (
            "QLinearSigmoid",
            "QLinearLeakyRelu",
            "QLinearSoftmax",
            "QOrderedGelu",
            "QOrderedLayerNormalization",
        ),
        twin(elementwise.RULES["Relu"], _DATA),
    ),
    "QLinearReduceMean": twin(elementwise.RULES["ReduceMean"], _DATA),
    "ReduceSumInteger": twin(elementwise.RULES["ReduceSum"], _DATA),
    "QLinearConv": where_last(windows.RULES["Conv"]),
    "QLinearConvTranspose": twin(windows.RULES["ConvTranspose"], (0, 3)),
    "QLinearAveragePool": where_last(windows.RULES["AveragePool"]),
    "QLinearGlobalAveragePool": where_last(windows.RULES["GlobalAveragePool"]),
}
"""Rules of ``com.microsoft``."""
