"""Rules of normalisations: their scales and shifts follow the channels.

Statistics over channels are taken over those that are left, as pruned networks take them (Fang et al., DepGraph, CVPR
2023).
"""

from __future__ import annotations

import onnx_ir as ir

from aiop.search.editing.coupling.links import Axes, Changes, Links, UnhandledError, integer
from aiop.search.editing.coupling.rules import rule


@rule("BatchNormalization")
def batch_norm(links: Links, node: ir.Node) -> list[Axes]:
    """Scale, shift, mean and variance of each channel."""
    axes = links.axes(node.inputs[0])
    for value in node.inputs[1:]:
        links.link(links.axes(value)[0], axes[1])
    links.gain(node.inputs[1])
    return [axes]


@rule("InstanceNormalization")
def instance_norm(links: Links, node: ir.Node) -> list[Axes]:
    """Scale and shift of each channel; statistics over all that follows, which better stays whole."""
    axes = links.axes(node.inputs[0])
    for value in node.inputs[1:]:
        links.link(links.axes(value)[0], axes[1])
    links.gain(node.inputs[1])
    links.prefer(axes[1], 1.0)
    return [axes]


@rule("GroupNormalization")
def group_norm(links: Links, node: ir.Node) -> list[Axes]:
    """Either whole groups go or the same positions in all of them."""
    axes = links.axes(node.inputs[0])
    channels, groups = axes[1], integer(node, "num_groups", 1)
    if channels is None:
        raise UnhandledError("has channels whose number is left open")
    size = len(channels) // groups
    members = links.still(1)
    if groups > 1:
        members = channels if size == 1 else links.split(channels, (groups, size))[0]
    links.prefer(members, 1.0)

    def regroup(changes: Changes, node: ir.Node, counts: list[int]) -> None:
        changes.set_integer(node, "num_groups", counts[0])

    links.fix(node, [members], regroup)
    for value in node.inputs[1:]:
        (scale,) = links.axes(value)
        links.link(scale, channels if scale is not None and len(scale) == len(channels) else members)
    links.gain(node.inputs[1])
    return [axes]


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(links: Links, node: ir.Node) -> list[Axes]:
    """Scale and shift along the last axes."""
    axes = links.axes(node.inputs[0])
    for value in node.inputs[1:]:
        if value is None:
            continue
        scale = links.axes(value)
        for place in range(1, len(scale) + 1):
            entries = scale[-place]
            if entries is None or len(entries) != 1:
                links.link(entries, axes[-place])
    if len(node.inputs) > 1:
        links.gain(node.inputs[1])
    return [axes]


@rule("LRN", "MeanVarianceNormalization", "LpNormalization")
def unweighted(links: Links, node: ir.Node) -> list[Axes]:
    """Nothing but statistics; LRN looks at neighbouring channels."""
    return [links.axes(node.inputs[0])]
