"""Output shapes of ONNX operators, from input shapes and the small constants that shape arguments are.

One function per operator family, over fully known shapes (every network is read at one concrete input size), which
makes it both simpler and more complete than symbolic inference. Operators without a function here go to the
inference that the onnx package has for one node.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from aiop.graph_ir.values import Node, Shape, Tensor, UnknownValue

__all__ = ["BOOLEAN_OUTPUT", "SHAPE_FUNCTIONS", "convolution_padding"]

ShapeFunction = Callable[[Node], list[Shape]]


class ShapeError(Exception):
    """Shapes that do not fit the operator."""


def _first(node: Node) -> Tensor:
    tensor = node.inputs[0] if node.inputs else None
    if tensor is None:
        raise ShapeError("has no first input")
    return tensor


def _same(node: Node) -> list[Shape]:
    return [_first(node).shape] * node.output_count



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
        try:
            shape = tuple(int(extent) for extent in np.broadcast_shapes(shape, tensor.shape))
        except ValueError as error:
            raise ShapeError(f"cannot broadcast {list(shape)} with {list(tensor.shape)}") from error
    return [shape]


def convolution_padding(node: Node, size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """Return all begins, then all ends, of the padding, with ``auto_pad`` resolved for input ``size``."""
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-s // st) - 1) * st + (k - 1) * d + 1 - s)
            for s, k, st, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        return small + large if mode == "SAME_UPPER" else large + small
    given = () if mode == "VALID" else tuple(node.get("pads", ()))
    return given or (0,) * (2 * len(kernel))


def _windows(node: Node, spatial: Shape, kernel: Shape) -> Shape:
    rank = len(spatial)
    stride = tuple(node.get("strides", ())) or (1,) * rank
    dilation = tuple(node.get("dilations", ())) or (1,) * rank
    if not (len(kernel) == len(stride) == len(dilation) == rank) or min((*stride, *dilation, *kernel), default=1) < 1:
        raise ShapeError(f"kernel {list(kernel)} and strides {list(stride)} do not fit {rank} spatial axes")
    padding = convolution_padding(node, spatial, kernel, stride, dilation)
    if len(padding) != 2 * rank:
        raise ShapeError(f"pads {list(padding)} do not fit {rank} spatial axes")
    ceil_mode = node.get("ceil_mode", 0)
    out = []
    for i, extent in enumerate(spatial):
        free = extent + padding[i] + padding[rank + i] - (dilation[i] * (kernel[i] - 1) + 1)
        count = (-(-free // stride[i]) if ceil_mode else free // stride[i]) + 1
        if ceil_mode and (count - 1) * stride[i] >= extent + padding[i]:
            count -= 1  # a last window that would start in the padding does not exist
        out.append(count)
    if min(out, default=1) < 1:
        raise ShapeError(f"kernel {list(kernel)} is larger than its padded input {list(spatial)}")
    return tuple(out)


def _convolution(node: Node) -> list[Shape]:
    weights_at = 3 if node.type == "QLinearConv" else 1
    data, weights = _first(node), node.input(weights_at)
    if weights is None or len(data.shape) < 3 or len(weights.shape) != len(data.shape):
        raise ShapeError(f"input {list(data.shape)} and weights {list(weights.shape) if weights else None} do not fit")
    groups = int(node.get("group", 1))
    if groups < 1 or weights.shape[1] * groups != data.shape[1] or weights.shape[0] % groups:
        raise ShapeError(
            f"weights {list(weights.shape)} in {groups} groups do not fit {data.shape[1]} input channels"
        )
    kernel = tuple(node.get("kernel_shape", ())) or weights.shape[2:]
    return [(data.shape[0], weights.shape[0], *_windows(node, data.shape[2:], kernel))]


def _transposed_convolution(node: Node) -> list[Shape]:
    data, weights = _first(node), node.input(1)
    if weights is None or len(weights.shape) != len(data.shape) or weights.shape[0] != data.shape[1]:
        raise ShapeError("input and weights do not fit")
    spatial = data.shape[2:]
    rank = len(spatial)
    kernel = tuple(node.get("kernel_shape", ())) or weights.shape[2:]
    stride = tuple(node.get("strides", ())) or (1,) * rank
    dilation = tuple(node.get("dilations", ())) or (1,) * rank
    extra = tuple(node.get("output_padding", ())) or (0,) * rank
    channels = weights.shape[1] * int(node.get("group", 1))
    if node.get("output_shape"):
        return [(data.shape[0], channels, *node.get("output_shape")[-rank:])]
    if node.get("auto_pad", "NOTSET").startswith("SAME"):
        return [(data.shape[0], channels, *(s * st for s, st in zip(spatial, stride, strict=True)))]
    pads = tuple(node.get("pads", ())) or (0,) * (2 * rank)
    out = tuple(
        stride[i] * (spatial[i] - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1 - pads[i] - pads[rank + i]
        for i in range(rank)
    )
    return [(data.shape[0], channels, *out)]


def _pool(node: Node) -> list[Shape]:
    shape = _first(node).shape
    kernel = tuple(node.get("kernel_shape", ()))
    if len(shape) < 3:
        raise ShapeError(f"pools a tensor of shape {list(shape)}")
    return [(*shape[:2], *_windows(node, shape[2:], kernel))] * node.output_count


def _global_pool(node: Node) -> list[Shape]:
    shape = _first(node).shape
    return [(*shape[:2], *(1,) * (len(shape) - 2))]


def _gemm(node: Node) -> list[Shape]:
    left, right = _first(node).shape, (node.input(1) or _first(node)).shape
    if len(left) != 2 or len(right) != 2:
        if len(left) > 2 and node.opset < 7:  # old files flatten implicitly
            left = (left[0], math.prod(left[1:]))
        else:
            raise ShapeError(f"multiplies {list(left)} with {list(right)}")
    rows, inner = (left[1], left[0]) if node.get("transA", 0) else left
    inner_right, columns = (right[1], right[0]) if node.get("transB", 0) else right
    if inner != inner_right:
        raise ShapeError(f"multiplies {list(left)} with {list(right)}")
    return [(rows, columns)]


def _matmul(node: Node) -> list[Shape]:
    right_at = 3 if node.type == "QLinearMatMul" else 1
    left, right = _first(node).shape, (node.input(right_at) or _first(node)).shape
    if not left or not right:
        raise ShapeError("multiplies a scalar")
    a = (1, *left) if len(left) == 1 else left
    b = (*right, 1) if len(right) == 1 else right
    if a[-1] != b[-2]:
        raise ShapeError(f"multiplies {list(left)} with {list(right)}")
    try:
        batch = tuple(int(extent) for extent in np.broadcast_shapes(a[:-2], b[:-2]))
    except ValueError as error:
        raise ShapeError(f"multiplies {list(left)} with {list(right)}") from error
    tail = (() if len(left) == 1 else (a[-2],)) + (() if len(right) == 1 else (b[-1],))
    return [batch + tail]


def _concat(node: Node) -> list[Shape]:
    shapes = [tensor.shape for tensor in node.inputs if tensor is not None]
    first = list(shapes[0])
    axis = int(node.get("axis", 1)) % max(1, len(first))
    if any(len(s) != len(first) or s[:axis] + s[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :] for s in shapes):
        raise ShapeError(f"concatenates {[list(shape) for shape in shapes]} on axis {axis}")
    first[axis] = sum(shape[axis] for shape in shapes)
    return [tuple(first)]


def _split(node: Node) -> list[Shape]:
    shape = _first(node).shape
    axis = int(node.get("axis", 0)) % len(shape)
    sizes = node.integers("split", 1)
    if sizes is None:
        count = int(node.get("num_outputs", node.output_count))
        step = -(-shape[axis] // count)
        sizes = [step] * (count - 1) + [shape[axis] - step * (count - 1)]
    if sum(sizes) != shape[axis] or len(sizes) < node.output_count:
        raise ShapeError(f"splits {shape[axis]} elements into {sizes}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _slice(node: Node) -> list[Shape]:
    shape = list(_first(node).shape)
    starts, ends = node.integers("starts", 1) or [], node.integers("ends", 2) or []
    axes = node.integers("axes", 3) or list(range(len(starts)))
    steps = node.integers("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise ShapeError("slices with step 0")
        extent = shape[axis]
        stop = None if step < 0 and end < -extent else end
        shape[axis] = len(range(*slice(start, stop, step).indices(extent)))
    return [tuple(shape)]


def _reshape(node: Node) -> list[Shape]:
    tensor = _first(node)
    target = node.integers("shape", 1)
    if target is None:
        raise UnknownValue("has no shape")
    if not node.get("allowzero", 0):
        target = [tensor.shape[i] if extent == 0 else extent for i, extent in enumerate(target)]
    if target.count(-1) > 1 or min(target, default=1) < -1:
        raise ShapeError(f"reshapes to {target}")
    known = math.prod(extent for extent in target if extent != -1)
    if -1 in target:
        if known == 0 or tensor.elements % known:
            raise ShapeError(f"reshapes {list(tensor.shape)} to {target}")
        target[target.index(-1)] = tensor.elements // known
    elif known != tensor.elements:
        raise ShapeError(f"reshapes {list(tensor.shape)} to {target}")
    return [tuple(target)]


def _flatten(node: Node) -> list[Shape]:
    shape = _first(node).shape
    axis = int(node.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    return [(math.prod(shape[:axis]), math.prod(shape[axis:]))]


def _transpose(node: Node) -> list[Shape]:
    shape = _first(node).shape
    order = node.get("perm") or range(len(shape))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise ShapeError(f"transposes {list(shape)} by {list(order)}")
    return [tuple(shape[i] for i in order)]


def _squeeze(node: Node) -> list[Shape]:
    shape = _first(node).shape
    axes = node.integers("axes", 1)
    gone = {axis % len(shape) for axis in axes} if axes is not None else {i for i, e in enumerate(shape) if e == 1}
    return [tuple(extent for i, extent in enumerate(shape) if i not in gone)]


def _unsqueeze(node: Node) -> list[Shape]:
    shape = _first(node).shape
    axes = node.integers("axes", 1) or []
    rank = len(shape) + len(axes)
    at = {axis % rank for axis in axes}
    rest = iter(shape)
    return [tuple(1 if i in at else next(rest) for i in range(rank))]


def _reduce(node: Node) -> list[Shape]:
    shape = _first(node).shape
    axes = node.integers("axes", 1)
    if not axes and node.get("noop_with_empty_axes", 0):
        return [shape]
    gone = {axis % len(shape) for axis in axes} if axes else set(range(len(shape)))
    return [_reduced(shape, gone, bool(node.get("keepdims", 1)))]


def _argument_reduce(node: Node) -> list[Shape]:
    shape = _first(node).shape
    return [_reduced(shape, {int(node.get("axis", 0)) % len(shape)}, bool(node.get("keepdims", 1)))]


def _reduced(shape: Shape, gone: set[int], keep: bool) -> Shape:
    return tuple(1 if i in gone else extent for i, extent in enumerate(shape) if keep or i not in gone)


def _pad(node: Node) -> list[Shape]:
    shape = list(_first(node).shape)
    pads = node.integers("pads", 1) or node.get("paddings") or []
    axes = node.integers("axes", 3) or list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"pads {list(pads)} do not fit {len(axes)} axes")
    for i, axis in enumerate(axes):
        shape[axis] += pads[i] + pads[len(axes) + i]
    return [tuple(shape)]


def _resize(node: Node) -> list[Shape]:
    shape = list(_first(node).shape)
    scales_at = 1 if node.type == "Upsample" or node.opset < 11 else 2
    sizes = node.input(3) if scales_at == 2 else None
    axes = node.get("axes") or range(len(shape))
    if sizes is not None and sizes.elements:
        if sizes.value is None:
            raise UnknownValue("sizes are not a known constant")
        for axis, size in zip(axes, sizes.value, strict=True):
            shape[axis] = int(size)
        return [tuple(shape)]
    tensor = node.input(scales_at)
    scales: Any = node.get("scales") if tensor is None else tensor.value
    if scales is None:
        raise UnknownValue("scales are not a known constant")
    for axis, scale in zip(axes, scales, strict=True):
        shape[axis] = math.floor(shape[axis] * float(scale) + 1e-6)
    return [tuple(shape)]


def _gather(node: Node) -> list[Shape]:
    shape, indices = _first(node).shape, (node.input(1) or _first(node)).shape
    axis = int(node.get("axis", 0)) % max(1, len(shape))
    return [shape[:axis] + indices + shape[axis + 1 :]]


def _gather_elements(node: Node) -> list[Shape]:
    return [(node.input(1) or _first(node)).shape]


def _expand(node: Node) -> list[Shape]:
    target = node.integers("shape", 1) or []
    try:
        return [tuple(int(extent) for extent in np.broadcast_shapes(_first(node).shape, tuple(target)))]
    except ValueError as error:
        raise ShapeError(f"expands {list(_first(node).shape)} to {target}") from error


def _tile(node: Node) -> list[Shape]:
    repeats = node.integers("repeats", 1) or []
    return [tuple(extent * count for extent, count in zip(_first(node).shape, repeats, strict=True))]


def _constant_of_shape(node: Node) -> list[Shape]:
    return [tuple(node.integers("shape", 0) or [])]


def _depth_to_space(node: Node) -> list[Shape]:
    batch, channels, height, width = _first(node).shape
    block = int(node.get("blocksize", 1))
    return [(batch, channels // (block * block), height * block, width * block)]


def _space_to_depth(node: Node) -> list[Shape]:
    batch, channels, height, width = _first(node).shape
    block = int(node.get("blocksize", 1))
    return [(batch, channels * block * block, height // block, width // block)]


def _recurrent(node: Node) -> list[Shape]:
    shape = _first(node).shape
    directions = 2 if node.get("direction", "forward") == "bidirectional" else 1
    hidden = int(node.get("hidden_size", 0)) or (node.inputs[2].shape[-1] if node.inputs[2] else 0)
    if node.get("layout", 0):
        batch, length = shape[:2]
        return [(batch, length, directions, hidden), (batch, directions, hidden), (batch, directions, hidden)]
    length, batch = shape[:2]
    return [(length, directions, batch, hidden), (directions, batch, hidden), (directions, batch, hidden)]


def einsum_extents(node: Node) -> tuple[dict[str, int], list[str], str]:
    """Return (extent of every index, the operands' indices, the output's indices) of an Einsum without ellipsis."""
    equation = str(node.get("equation", "")).replace(" ", "")
    left, _, right = equation.partition("->")
    operands = left.split(",")
    if "." in equation or len(operands) != len(node.inputs):
        raise UnknownValue(f"equation {equation!r} is not understood")
    extents: dict[str, int] = {}
    for letters, tensor in zip(operands, node.inputs, strict=True):
        if tensor is None or len(letters) != len(tensor.shape):
            raise ShapeError(f"equation {equation!r} does not fit its inputs")
        for letter, extent in zip(letters, tensor.shape, strict=True):
            extents[letter] = max(extent, extents.get(letter, 1))
    if "->" not in equation:
        right = "".join(sorted(letter for letter in extents if left.count(letter) == 1))
    return extents, operands, right


def _einsum(node: Node) -> list[Shape]:
    extents, _, right = einsum_extents(node)
    return [tuple(extents[letter] for letter in right)]


def _batch_norm(node: Node) -> list[Shape]:
    shape = _first(node).shape
    return [shape] + [shape[1:2]] * (node.output_count - 1)


def _layer_norm(node: Node) -> list[Shape]:
    shape = _first(node).shape
    axis = int(node.get("axis", -1)) % len(shape)
    return [shape] + [shape[:axis] + (1,) * (len(shape) - axis)] * (node.output_count - 1)


BOOLEAN_OUTPUT = frozenset(
    "Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Xor IsNaN IsInf".split(),
)

SHAPE_FUNCTIONS: dict[str, ShapeFunction] = {
    **dict.fromkeys(
        "Relu LeakyRelu Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Gelu Mish Softplus Softsign ThresholdedRelu "
        "Clip PRelu Erf Exp Log Sqrt Neg Abs Sign Reciprocal Ceil Floor Round Sin Cos Tan Asin Acos Atan Sinh Cosh "
        "Asinh Acosh Atanh Softmax LogSoftmax Hardmax Cast CastLike Identity LRN InstanceNormalization "
        "GroupNormalization RMSNormalization LpNormalization MeanVarianceNormalization Not IsNaN IsInf CumSum "
        "QuantizeLinear DequantizeLinear ScatterND ScatterElements Scatter Trilu Shrink Swish".split(),
        _same,
    ),
    **dict.fromkeys(
        "Add Sub Mul Div Mod Pow Min Max Sum Mean And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual "
        "Where BitwiseAnd BitwiseOr BitwiseXor BitShift".split(),
        _broadcast,
    ),
    **dict.fromkeys("Conv QLinearConv ConvInteger".split(), _convolution),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys("MaxPool AveragePool LpPool".split(), _pool),
    **dict.fromkeys("GlobalAveragePool GlobalMaxPool GlobalLpPool".split(), _global_pool),
    "Gemm": _gemm,
    **dict.fromkeys("MatMul MatMulInteger QLinearMatMul".split(), _matmul),
    "Einsum": _einsum,
    **dict.fromkeys("LSTM GRU RNN".split(), _recurrent),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Dropout": _same,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    **dict.fromkeys(
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
        "ReduceSumSquare".split(),
        _reduce,
    ),
    **dict.fromkeys("ArgMax ArgMin".split(), _argument_reduce),
    "Pad": _pad,
    **dict.fromkeys("Resize Upsample".split(), _resize),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
