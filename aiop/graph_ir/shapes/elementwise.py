"""Output shapes of element-wise operators, normalisations and reductions."""

from __future__ import annotations

from aiop.graph_ir.shapes.base import axes_of, axis_of, broadcast, first, rules
from aiop.graph_ir.values import Node, Shape

__all__ = ["RULES"]


def _same(node: Node) -> list[Shape]:
    return [first(node).shape] * node.output_count


def _broadcast(node: Node) -> list[Shape]:
    shape: Shape = ()
    for tensor in node.inputs:
        if tensor is None or tensor.shape == shape:
            continue
        if not shape:
            shape = tensor.shape
            continue
        if node.opset < 7 and node.get("broadcast", 0):
            continue  # before opset 7 the second operand was laid along `axis` and never grew the first
        shape = broadcast(shape, tensor.shape)
    return [shape]


def _reduce(node: Node) -> list[Shape]:
    shape = first(node).shape
    axes = node.integers("axes", 1)
    if not axes and node.get("noop_with_empty_axes", 0):
        return [shape]
    gone = axes_of(axes or range(len(shape)), len(shape))
    return [_reduced(shape, gone, bool(node.get("keepdims", 1)))]


def _argument_reduce(node: Node) -> list[Shape]:
    shape = first(node).shape
    return [_reduced(shape, {axis_of(int(node.get("axis", 0)), len(shape))}, bool(node.get("keepdims", 1)))]


def _reduced(shape: Shape, gone: set[int], keep: bool) -> Shape:
    return tuple(1 if i in gone else extent for i, extent in enumerate(shape) if keep or i not in gone)


def _batch_norm(node: Node) -> list[Shape]:
    shape = first(node).shape
    return [shape] + [shape[1:2]] * (node.output_count - 1)


def _layer_norm(node: Node) -> list[Shape]:
    shape = first(node).shape
    axis = axis_of(int(node.get("axis", -1)), len(shape))
    return [shape] + [shape[:axis] + (1,) * (len(shape) - axis)] * (node.output_count - 1)


RULES = {
    **rules(
        _same,
        "Relu LeakyRelu Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Gelu Mish Softplus Softsign "
        "ThresholdedRelu Clip PRelu Erf Exp Log Sqrt Neg Abs Sign Reciprocal Ceil Floor Round Sin Cos Tan Asin Acos "
        "Atan Sinh Cosh Asinh Acosh Atanh Softmax LogSoftmax Hardmax Cast CastLike Identity Dropout LRN "
        "InstanceNormalization GroupNormalization RMSNormalization LpNormalization MeanVarianceNormalization Not "
        "IsNaN IsInf CumSum QuantizeLinear DequantizeLinear ScatterND ScatterElements Scatter Trilu Shrink Swish",
    ),
    **rules(
        _broadcast,
        "Add Sub Mul Div Mod Pow Min Max Sum Mean And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Where "
        "BitwiseAnd BitwiseOr BitwiseXor BitShift",
    ),
    **rules(
        _reduce,
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
        "ReduceSumSquare",
    ),
    **rules(_argument_reduce, "ArgMax ArgMin"),
    **rules(_batch_norm, "BatchNormalization"),
    **rules(_layer_norm, "LayerNormalization"),
}
