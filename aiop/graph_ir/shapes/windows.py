"""Output shapes of operators that slide a window over an image: convolutions and pools."""

from __future__ import annotations

from typing import NamedTuple

from aiop.graph_ir.shapes.base import ShapeError, first, rules
from aiop.graph_ir.values import Node, Shape

__all__ = ["RULES", "Window", "window_of"]


class Window(NamedTuple):
    """Geometry of a sliding window: one entry per spatial axis, of ``padding`` all begins, then all ends."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: Shape


def window_of(node: Node, size: Shape, kernel: Shape) -> Window:
    """Return the window of a node whose input has the spatial ``size``, defaults and ``auto_pad`` resolved.

    ``kernel`` stands in where the node itself does not give one.
    """
    get = node.attributes.get
    kernel = tuple(get("kernel_shape", ())) or kernel
    stride = tuple(get("strides", ())) or (1,) * len(kernel)
    dilation = tuple(get("dilations", ())) or (1,) * len(kernel)
    mode = get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-s // st) - 1) * st + (k - 1) * d + 1 - s)
            for s, k, st, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        padding = small + large if mode == "SAME_UPPER" else large + small
    else:
        padding = () if mode == "VALID" else tuple(get("pads", ()))
    return Window(kernel, stride, dilation, padding or (0,) * (2 * len(kernel)))


def _positions(node: Node, size: Shape, kernel: Shape) -> Shape:
    """Return how many places the window takes along every spatial axis."""
    rank = len(size)
    node.window = window = window_of(node, size, kernel)
    kernel, stride, dilation, padding = window
    if not len(kernel) == len(stride) == len(dilation) == rank or min(stride + dilation + kernel) < 1:
        raise ShapeError(f"kernel {list(kernel)} and strides {list(stride)} do not fit {rank} spatial axes")
    if len(padding) != 2 * rank:
        raise ShapeError(f"pads {list(padding)} do not fit {rank} spatial axes")
    ceil_mode = node.get("ceil_mode", 0)
    out = []
    for i, extent in enumerate(size):
        free = extent + padding[i] + padding[rank + i] - (dilation[i] * (kernel[i] - 1) + 1)
        count = (-(-free // stride[i]) if ceil_mode else free // stride[i]) + 1
        if ceil_mode and (count - 1) * stride[i] >= extent + padding[i]:
            count -= 1  # a last window that would start in the padding does not exist
        out.append(count)
    if min(out) < 1:
        raise ShapeError(f"kernel {list(kernel)} is larger than its padded input {list(size)}")
    return tuple(out)


def _convolution(node: Node) -> list[Shape]:
    data, weights = first(node).shape, node.input(3 if node.type == "QLinearConv" else 1)
    if weights is None or len(data) < 3 or len(weights.shape) != len(data):
        raise ShapeError(
            f"input {list(data)} and weights {list(weights.shape) if weights else None} do not fit"
        )
    groups = int(node.get("group", 1))
    if groups < 1 or weights.shape[1] * groups != data[1] or weights.shape[0] % groups:
        raise ShapeError(
            f"weights {list(weights.shape)} in {groups} groups do not fit {data[1]} input channels"
        )
    return [(data[0], weights.shape[0], *_positions(node, data[2:], weights.shape[2:]))]


def _transposed_convolution(node: Node) -> list[Shape]:
    data, weights = first(node).shape, node.input(1)
    if weights is None or len(data) < 3 or len(weights.shape) != len(data) or weights.shape[0] != data[1]:
        raise ShapeError(
            f"input {list(data)} and weights {list(weights.shape) if weights else None} do not fit"
        )
    size = data[2:]
    rank = len(size)
    node.window = window = window_of(node, size, weights.shape[2:])
    kernel, stride, dilation, padding = window
    extra = tuple(node.get("output_padding", ())) or (0,) * rank
    channels = weights.shape[1] * int(node.get("group", 1))
    if node.get("output_shape"):
        return [(data[0], channels, *node.get("output_shape")[-rank:])]
    if node.get("auto_pad", "NOTSET").startswith("SAME"):
        return [(data[0], channels, *(s * st for s, st in zip(size, stride, strict=True)))]
    out = tuple(
        stride[i] * (size[i] - 1)
        + extra[i]
        + (kernel[i] - 1) * dilation[i]
        + 1
        - padding[i]
        - padding[rank + i]
        for i in range(rank)
    )
    return [(data[0], channels, *out)]


def _pool(node: Node) -> list[Shape]:
    shape = first(node).shape
    if len(shape) < 3:
        raise ShapeError(f"pools a tensor of shape {list(shape)}")
    return [(*shape[:2], *_positions(node, shape[2:], ()))] * node.output_count


def _global_pool(node: Node) -> list[Shape]:
    shape = first(node).shape
    return [(*shape[:2], *(1,) * (len(shape) - 2))]


def _depth_to_space(node: Node) -> list[Shape]:
    batch, channels, height, width = first(node).shape
    block = int(node.get("blocksize", 1))
    return [(batch, channels // (block * block), height * block, width * block)]


def _space_to_depth(node: Node) -> list[Shape]:
    batch, channels, height, width = first(node).shape
    block = int(node.get("blocksize", 1))
    return [(batch, channels * block * block, height // block, width // block)]


RULES = {
    **rules(_convolution, "Conv QLinearConv ConvInteger"),
    **rules(_transposed_convolution, "ConvTranspose"),
    **rules(_pool, "MaxPool AveragePool LpPool"),
    **rules(_global_pool, "GlobalAveragePool GlobalMaxPool GlobalLpPool"),
    **rules(_depth_to_space, "DepthToSpace"),
    **rules(_space_to_depth, "SpaceToDepth"),
}
