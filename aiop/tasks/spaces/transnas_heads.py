"""Task heads of TransNAS-Bench-101 (Duan et al., CVPR 2021) on the last feature map of an encoder.

Layers of the decoders have biases, also where a batch norm follows, as in the reference implementation.
"""

from __future__ import annotations

from aiop.tasks.spaces.blocks import pool_and_classify
from aiop.tasks.spaces.writer import OUTPUT, Feature, OnnxWriter

__all__ = ["PICTURE", "generator", "jigsaw", "segmentation"]

#: Output of the generator, as high and wide as the image.
PICTURE = "picture"
DEEPEST = 6  # doublings of the resolution, at most
WIDEST = 1024  # channels of the decoders' first layer
_SLOPE = 0.2


def jigsaw(writer: OnnxWriter, tiles: Feature, permutations: int) -> Feature:
    """Which permutation the tiles are in: their maps side by side as channels, pooled and classified.

    ``tiles`` is ``(tiles, C, H, W)``, the output ``(1, permutations)``.
    """
    shape = (1, tiles.batch * tiles.channels, tiles.height, tiles.width)
    return pool_and_classify(writer, writer.reshape(tiles, shape, "head.tiles"), permutations)


def generator(writer: OnnxWriter, x: Feature, channels: int, doublings: int) -> Feature:
    """Decode to a picture in (-1, 1), `PICTURE`, whose sides are ``2**doublings`` times those of ``x``.

    The depth is always the same: where the encoder halves less often, early layers keep the resolution.
    """
    layers = (  # channels, and the doublings from which on the layer is a transposed convolution
        (WIDEST, None),
        (WIDEST, None),
        (512, 6),
        (512, None),
        (256, 5),
        (128, None),
        (64, 4),
        (64, None),
        (32, 3),
        (32, None),
        (16, 2),
        (32, None),
        (16, 2),
    )
    for index, (width, least) in enumerate(layers):
        layer = _keep if least is None or doublings < least else _double
        x = layer(writer, x, width, f"decoder.layer{index}")
    x = writer.conv(x, channels, 3, "decoder.last", bias=True)
    return writer.tanh(x, "decoder.tanh", output=PICTURE)


def segmentation(writer: OnnxWriter, x: Feature, classes: int, doublings: int) -> Feature:
    """Decode to logits of each pixel, `OUTPUT`, whose sides are ``2**doublings`` times those of ``x``.

    Channels go from 1024 down to 32 in five layers, the last ones of which double the resolution.
    """
    x = _keep(writer, x, WIDEST, "decoder.layer0")
    for index in range(1, DEEPEST):
        layer = _keep if index <= DEEPEST - doublings else _double
        x = layer(writer, x, x.channels // 2, f"decoder.layer{index}")
    x = _double(writer, x, x.channels, f"decoder.layer{DEEPEST}")
    return writer.conv(x, classes, 3, "decoder.last", bias=True, output=OUTPUT)


def _keep(writer: OnnxWriter, x: Feature, channels: int, name: str) -> Feature:
    x = writer.conv(x, channels, 3, name + ".conv", bias=True)
    return _normalise(writer, x, name)


def _double(writer: OnnxWriter, x: Feature, channels: int, name: str) -> Feature:
    x = writer.conv_transpose(x, channels, 3, name + ".up", stride=2, padding=1, output_padding=1, bias=True)
    return _normalise(writer, x, name)


def _normalise(writer: OnnxWriter, x: Feature, name: str) -> Feature:
    return writer.leaky_relu(writer.batch_norm(x, name + ".norm"), name + ".leaky_relu", _SLOPE)
