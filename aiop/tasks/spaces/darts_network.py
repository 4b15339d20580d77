"""The layers of DARTS networks, on `OnnxWriter`: cells of any genotype, and the auxiliary classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiop.tasks.spaces.blocks import conv_norm_relu, relu_conv_norm
from aiop.tasks.spaces.writer import Feature, OnnxWriter

if TYPE_CHECKING:
    from aiop.tasks.spaces.darts import Cell

__all__ = ["AUXILIARY", "NODES", "write_auxiliary", "write_cell"]

NODES = (2, 3, 4, 5)  # 0 and 1 are the inputs of a cell
AUXILIARY = "auxiliary"


def write_cell(
    writer: OnnxWriter,
    cell: Cell,
    before: Feature,
    previous: Feature,
    channels: int,
    halved: bool,
    reduces: bool,
    name: str,
) -> Feature:
    """One cell on the outputs of the two cells before it; nodes that reach no output are written as well."""
    if halved:
        first = _factorized_reduce(writer, before, channels, f"{name}.input0")
    else:
        first = relu_conv_norm(writer, before, channels, 1, f"{name}.input0")
    states = [first, relu_conv_norm(writer, previous, channels, 1, f"{name}.input1")]
    for node in NODES:
        terms: list[Feature] = []
        for side in (0, 1):
            operation, source = cell.edges[2 * (node - 2) + side]
            stride = 2 if reduces and source < 2 else 1
            terms.append(_operation(writer, states[source], operation, stride, f"{name}.node{node}.{side}"))
        states.append(writer.add(terms[0], terms[1], f"{name}.node{node}"))
    if len(cell.concat) == 1:
        return states[cell.concat[0]]
    return writer.concat([states[node] for node in cell.concat], f"{name}.concat")


def _operation(writer: OnnxWriter, x: Feature, operation: str, stride: int, name: str) -> Feature:
    if operation == "skip_connect":
        return x if stride == 1 else _factorized_reduce(writer, x, x.channels, name)
    if operation == "max_pool_3x3":
        return writer.max_pool(x, 3, name, stride=stride, padding=1)
    if operation == "avg_pool_3x3":
        return writer.average_pool(x, 3, name, stride=stride, padding=1)
    kernel = int(operation[-1])
    if operation.startswith("dil_conv"):
        return _separable(writer, x, kernel, stride, 2, name)
    return _separable(
        writer, _separable(writer, x, kernel, stride, 1, name + ".0"), kernel, 1, 1, name + ".1"
    )


def _separable(writer: OnnxWriter, x: Feature, kernel: int, stride: int, dilation: int, name: str) -> Feature:
    """ReLU, depthwise convolution, 1x1 convolution, batch norm; channels stay."""
    channels = x.channels
    x = writer.relu(x, name + ".relu")
    x = writer.conv(
        x, channels, kernel, name + ".depthwise", stride=stride, groups=channels, dilation=dilation
    )
    return writer.batch_norm(writer.conv(x, channels, 1, name + ".pointwise"), name + ".norm")


def _factorized_reduce(writer: OnnxWriter, x: Feature, channels: int, name: str) -> Feature:
    """Halve the resolution by two 1x1 convolutions of stride 2, one of them a pixel further; sizes are even."""
    x = writer.relu(x, name + ".relu")
    even = writer.conv(x, channels // 2, 1, name + ".even", stride=2)
    shifted = writer.crop_corner(x, name + ".shift")
    odd = writer.conv(shifted, channels // 2, 1, name + ".odd", stride=2)
    return writer.batch_norm(writer.concat([even, odd], name + ".concat"), name + ".norm")


def write_auxiliary(writer: OnnxWriter, x: Feature, classes: int, imagenet: bool) -> None:
    """The second classifier, for training: 8x8 (CIFAR) or 7x7 (ImageNet) to 2x2, then to 1x1."""
    x = writer.relu(x, "auxiliary.relu")
    x = writer.average_pool(x, 5, "auxiliary.pool", stride=2 if imagenet else 3)
    x = conv_norm_relu(writer, x, 128, 1, "auxiliary.conv0")
    x = writer.conv(x, 768, 2, "auxiliary.conv1.conv", padding=0)
    if not imagenet:  # the reference leaves this norm out on ImageNet
        x = writer.batch_norm(x, "auxiliary.conv1.norm")
    x = writer.flatten(writer.relu(x, "auxiliary.conv1.relu"), "auxiliary.flatten")
    writer.linear(x, classes, "auxiliary.classifier", output=AUXILIARY)
