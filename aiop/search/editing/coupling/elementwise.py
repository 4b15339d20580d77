"""Rules of operators that treat every element by itself."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from aiop.search.editing.coupling.links import Axes, Links, UnhandledError
from aiop.search.editing.coupling.rules import rule

_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Dropout Elu "
    "Erf Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not "
    "Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu"
)
_BROADCAST = (
    "Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean "
    "Min Mod Mul Or PRelu Pow Sub Sum Where Xor"
)


def broadcast(links: Links, parts: Sequence[Axes]) -> Axes:
    """Return the axes of what several tensors make element by element; axes of extent 1 say nothing about others."""
    result: Axes = []
    for place in range(1, max((len(axes) for axes in parts), default=0) + 1):
        here = [axes[-place] for axes in parts if len(axes) >= place]
        wide = [axis for axis in here if axis is None or len(axis) != 1] or here
        for other in wide[1:]:
            links.link(wide[0], other)
        result.append(None if any(axis is None for axis in wide) else wide[0])
    return result[::-1]


@rule(*_UNARY.split())
def unary(links: Links, node: ir.Node) -> list[Axes]:
    """One tensor, whatever else is read are numbers."""
    return [links.axes(node.inputs[0])]


@rule(*_BROADCAST.split())
def elementwise(links: Links, node: ir.Node) -> list[Axes]:
    """Several tensors of shapes that broadcast."""
    if node.op_type == "Mul":
        for value in node.inputs:
            if value is not None and value.const_value is not None and value.producer() is None:
                links.gain(value)
    return [broadcast(links, [links.axes(value) for value in node.inputs if value is not None])]


@rule("QuantizeLinear", "DequantizeLinear")
def quantise(links: Links, node: ir.Node) -> list[Axes]:
    """One scale for all elements, or one per index of an axis."""
    axes = links.axes(node.inputs[0])
    attribute = node.attributes.get("axis")
    axis = attribute.as_int() if attribute is not None else 1
    for value in node.inputs[1:]:
        if value is None:
            continue
        scale = links.axes(value)
        if len(scale) > 1:
            raise UnhandledError("has a scale per block")
        for entries in scale:
            if entries is None or len(entries) != 1:
                links.link(entries, axes[axis])
    return [axes]
