"""Dense convolutions as a depthwise and a pointwise one."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import NotApplicableError, Site, register
from aiop.search.mutations.factors import per_channel
from aiop.search.mutations.local import (
    DONE_OR_NOT,
    LocalMutation,
    extents,
    is_product,
    none_of_them,
    put_in_place,
    weight_of,
)

__all__ = ["Separable"]

_PLACEMENT = ("strides", "pads", "dilations", "auto_pad", "kernel_shape")


@register
class Separable(LocalMutation):
    """A dense convolution with a kernel longer than 1 becomes a depthwise convolution and a 1x1 one.

    Per input channel the outer product that is nearest to its kernels is kept. Stride, padding and dilation go to
    the depthwise part, the bias to the pointwise one.
    """

    name = "separable"

    def candidates(self, network: EditableNetwork) -> Iterable[ir.Node]:
        for node in network.graph:
            if self.looks_like_one(node):
                shape = network.shape(node.inputs[1])
                if shape is None or any(side is None or side > 1 for side in shape[2:]):
                    yield node
            elif is_product(node) and none_of_them(node) is not None and "Conv" in node.op_type:
                yield node

    def looks_like_one(self, node: ir.Node) -> bool:
        return node.op_type == "Conv" and none_of_them(node) is None

    def fits(self, network: EditableNetwork, node: ir.Node) -> Site:
        reason = none_of_them(node)
        if reason is not None:
            raise NotApplicableError(reason)
        outputs, channels, *sides = extents(weight_of(node, 1))
        attribute = node.attributes.get("group")
        if attribute is not None and attribute.as_int() != 1:
            raise NotApplicableError(f"it has {attribute.as_int()} groups: only dense convolutions are split")
        taps = math.prod(sides)
        if taps == 1:
            raise NotApplicableError("a kernel of 1 is pointwise already")
        if channels * (taps + outputs) >= channels * outputs * taps:
            raise NotApplicableError(
                f"with {outputs} outputs a depthwise and a pointwise convolution cost no less"
            )
        return Site(self.name, node.name or "", DONE_OR_NOT, (node.name or "",))

    def change(self, network: EditableNetwork, node: ir.Node, amount: float) -> str:
        value = weight_of(node, 1)
        tensor = network.weight(value)
        assert tensor is not None
        outputs, channels, *sides = extents(value)
        dtype = ir.DataType(tensor.dtype)
        spatial = network.add_weight(
            f"{node.name}.depthwise.weight",
            (channels, 1, *sides),
            dtype,
            lambda: per_channel(tensor)[0][:, None],
        )
        mixing = network.add_weight(
            f"{node.name}.pointwise.weight",
            (outputs, channels, *(1 for _ in sides)),
            dtype,
            lambda: per_channel(tensor)[1].reshape(outputs, channels, *(1 for _ in sides)),
        )
        kept = [attribute for key, attribute in node.attributes.items() if key in _PLACEMENT]
        old = node.outputs[0]
        between = ir.Value(
            name=f"{node.name}.depthwise_out", type=old.type, shape=_with_channels(old, channels)
        )
        depthwise = ir.Node(
            "",
            "Conv",
            [node.inputs[0], spatial],
            [*kept, ir.AttrInt64("group", channels)],
            outputs=[between],
            name=f"{node.name}.depthwise",
        )
        pointwise = ir.node(
            "Conv",
            [between, mixing, *node.inputs[2:]],
            {"kernel_shape": [1] * len(sides)},
            name=f"{node.name}.pointwise",
        )
        network.insert(depthwise, before=node)
        network.insert(pointwise, before=node)
        put_in_place(network, node, pointwise)
        by = "x".join(map(str, sides))
        return f"{node.name}: dense {by} -> depthwise {by} and pointwise"


def _with_channels(value: ir.Value, channels: int) -> ir.Shape | None:
    if value.shape is None:
        return None
    found = list(value.shape)
    found[1] = channels
    return ir.Shape(found)
