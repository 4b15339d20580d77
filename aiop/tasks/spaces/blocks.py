"""Layers that several search spaces share, on `OnnxWriter`."""

from __future__ import annotations

from typing import Literal, NamedTuple

from aiop.tasks.spaces.writer import OUTPUT, Feature, OnnxWriter

__all__ = [
    "Activation",
    "Squeeze",
    "activate",
    "conv_norm",
    "conv_norm_relu",
    "divisible",
    "inverted_bottleneck",
    "pool_and_classify",
    "relu_conv_norm",
    "squeeze_excite",
]

Activation = Literal["relu", "silu", "hard_swish"]


def divisible(channels: float, divisor: int = 8) -> int:
    """Round a number of channels to a multiple of ``divisor``, never below 90% of it (MobileNet's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def activate(writer: OnnxWriter, x: Feature, kind: Activation, name: str) -> Feature:
    """One of the activations by name."""
    if kind == "relu":
        return writer.relu(x, name)
    return writer.silu(x, name) if kind == "silu" else writer.hard_swish(x, name)


def conv_norm(
    writer: OnnxWriter,
    x: Feature,
    channels: int,
    kernel: int,
    name: str,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = None,
) -> Feature:
    """Convolution without bias, batch norm and, where one is named, an activation.

    The nodes are ``name.conv``, ``name.norm`` and ``name.<activation>``.
    """
    x = writer.conv(x, channels, kernel, name + ".conv", stride=stride, groups=groups)
    x = writer.batch_norm(x, name + ".norm")
    return x if activation is None else activate(writer, x, activation, f"{name}.{activation}")


def conv_norm_relu(
    writer: OnnxWriter, x: Feature, channels: int, kernel: int, name: str, stride: int = 1
) -> Feature:
    """Convolution, batch norm, ReLU (post-activation order)."""
    return conv_norm(writer, x, channels, kernel, name, stride=stride, activation="relu")


def relu_conv_norm(
    writer: OnnxWriter, x: Feature, channels: int, kernel: int, name: str, stride: int = 1
) -> Feature:
    """ReLU, convolution, batch norm (pre-activation order)."""
    x = writer.relu(x, name + ".relu")
    return conv_norm(writer, x, channels, kernel, name, stride=stride)


def squeeze_excite(
    writer: OnnxWriter,
    x: Feature,
    squeezed: int,
    name: str,
    *,
    activation: Activation,
    gate: Literal["sigmoid", "hard_sigmoid"],
) -> Feature:
    """Scale each channel by a gate computed from the channels' means (Hu et al. 2018), convolutions with bias."""
    s = writer.global_average_pool(x, name + ".pool")
    s = writer.conv(s, squeezed, 1, name + ".reduce", bias=True)
    s = activate(writer, s, activation, f"{name}.{activation}")
    s = writer.conv(s, x.channels, 1, name + ".expand", bias=True)
    s = getattr(writer, gate)(s, name + ".gate")
    return writer.mul(x, s, name)


class Squeeze(NamedTuple):
    """Squeeze-and-excitation inside another block: its inner channels, its activation, its gate."""

    channels: int
    activation: Activation
    gate: Literal["sigmoid", "hard_sigmoid"]


def inverted_bottleneck(
    writer: OnnxWriter,
    x: Feature,
    hidden: int,
    channels: int,
    kernel: int,
    name: str,
    *,
    stride: int = 1,
    activation: Activation,
    squeeze: Squeeze | None = None,
) -> Feature:
    """Expand to ``hidden``, depthwise convolution, project to ``channels`` (MBConv; Sandler et al. 2018).

    The expansion is left out where ``hidden`` is the number of input channels. ``x`` is added wherever the
    output has its shape and stride is 1; nothing follows the sum.
    """
    y = x
    if hidden != x.channels:
        y = conv_norm(writer, y, hidden, 1, name + ".expand", activation=activation)
    y = conv_norm(
        writer, y, hidden, kernel, name + ".depthwise", stride=stride, groups=hidden, activation=activation
    )
    if squeeze is not None:
        inner, kind, gate = squeeze
        y = squeeze_excite(writer, y, inner, name + ".squeeze", activation=kind, gate=gate)
    y = conv_norm(writer, y, channels, 1, name + ".project")
    return writer.add(x, y, name + ".add") if stride == 1 and channels == x.channels else y


def pool_and_classify(writer: OnnxWriter, x: Feature, classes: int, name: str = "head") -> Feature:
    """Global average pooling and a fully connected layer that writes `OUTPUT`."""
    x = writer.flatten(writer.global_average_pool(x, name + ".pool"), name + ".flatten")
    return writer.linear(x, classes, name + ".classifier", output=OUTPUT)
