"""Output shapes of operators whose activations have their channels last, or in blocks.

So onnxruntime's optimisers and runtimes for phones lay them out. Weights stay as the standard has them, channels first.
"""

from __future__ import annotations

from aiop.graph_ir.shapes import layout, windows
from aiop.graph_ir.shapes.base import ShapeError, ShapeRule, first
from aiop.graph_ir.values import Node, Shape, Tensor

__all__ = ["BLOCKED", "RULES", "last", "where_last"]


def last(rule: ShapeRule) -> ShapeRule:
    """Return a rule for channels first as one for channels last; both leave the window at the node."""

    def turned(node: Node) -> list[Shape]:
        data = first(node)
        batch, *size, channels = data.shape
        view = Tensor(data.name, (batch, channels, *size), data.dtype, constant=data.constant)
        inner = Node(
            node.name, node.type, node.domain, node.attributes, [view, *node.inputs[1:]], node.output_count,
            node.opset,
        )  # fmt: skip
        shapes = rule(inner)
        node.window = inner.window
        return [(shape[0], *shape[2:], shape[1]) for shape in shapes]

    return turned


def where_last(rule: ShapeRule) -> ShapeRule:
    """Return a rule that follows the attribute ``channels_last``."""
    turned = last(rule)
    return lambda node: (turned if node.get("channels_last", 0) else rule)(node)


def _blocks(node: Node) -> list[Shape]:
    """Into blocks of channels; how many a block has is the machine's choice, so the channels stay as they are."""
    shape = first(node).shape
    return [(shape[0], shape[-1], *shape[1:-1])] if node.get("channels_last", 0) else [shape]


def _plain(node: Node) -> list[Shape]:
    """Out of blocks: channels that only fill the last block are left out."""
    batch, channels, *size = first(node).shape
    channels = int(node.get("channels", channels))
    return [(batch, *size, channels) if node.get("channels_last", 0) else (batch, channels, *size)]


def _upsample(node: Node) -> list[Shape]:
    shape, scales = first(node).shape, node.get("scales") or []
    if len(scales) != len(shape):
        raise ShapeError(f"scales {list(shape)} by {list(scales)}")
    return [tuple(int(extent * scale) for extent, scale in zip(shape, scales, strict=True))]


def _padded_convolution(node: Node) -> list[Shape]:
    """A convolution in blocks: weights are padded to whole blocks, so what it reads may have fewer channels."""
    data, weights = first(node), node.input(1)
    if weights is None or len(weights.shape) != len(data.shape) or len(data.shape) < 3:
        raise ShapeError("has no weights that fit")
    groups = int(node.get("group", 1))
    view = Tensor(data.name, (data.shape[0], weights.shape[1] * groups, *data.shape[2:]), data.dtype)
    inner = Node(
        node.name, "Conv", "", node.attributes, [view, *node.inputs[1:]], node.output_count, node.opset
    )
    shapes = windows.RULES["Conv"](inner)
    node.window = inner.window
    return shapes


BLOCKED: dict[str, ShapeRule] = {
    **{
        name: windows.RULES[name] for name in ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
    },
    "Conv": _padded_convolution,
    "ReorderInput": _blocks,
    "ReorderOutput": _plain,
    "Upsample": _upsample,
}
"""Rules of ``com.microsoft.nchwc``."""

RULES: dict[str, ShapeRule] = {
    **{
        name: last(windows.RULES[name])
        for name in (
            "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool",
            "GlobalLpPool", "DepthToSpace", "SpaceToDepth", "QLinearConv",
        )
    },
    "QLinearAveragePool": last(windows.RULES["AveragePool"]),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "LRN"), lambda node: [first(node).shape]),
    "Resize": layout.RULES["Resize"],  # its sizes are those of the layout it has
}  # fmt: skip
"""Rules of ``com.ms.internal.nhwc``."""
