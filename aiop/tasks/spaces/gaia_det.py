"""GAIA's detectors: Faster R-CNN with a feature pyramid on ResNets of variable stem, width, depth and input size.

Bu et al., "GAIA: A Transfer Learning System of Object Detection that Fits Your Needs", CVPR 2021. A code such as
``3,480,480/48/80,160,320,640/4,6,29,4`` lists the input, the channels of the stem, and of each of the four stages the
inner width of the bottlenecks and how many there are: all choices of the super-network "ResNet 50 to 101".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm, conv_norm_relu, pool_and_classify
from aiop.tasks.spaces.detection import BOXES, PROPOSALS, box_head, pool_regions, region_proposals
from aiop.tasks.spaces.writer import OUTPUT, Feature, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["Detector", "GaiaDet"]

SIDES = (480, 560, 640, 720, 800)
#: Column of the code -> the values that each of its numbers may have.
COLUMNS: dict[str, tuple[tuple[int, ...], ...]] = {
    "input_shape": ((3,), SIDES, SIDES),
    "stem": ((32, 48, 64),),
    "width": ((48, 64, 80), (96, 128, 160), (192, 256, 320), (384, 512, 640)),
    "depth": ((2, 3, 4), (2, 4, 6), tuple(range(5, 30, 2)), (2, 3, 4)),
}
EXPANSION = 4
PYRAMID_CHANNELS = 256
HIDDEN = 1024


@dataclass(frozen=True)
class Detector:
    """A decoded architecture: side of the square image, channels of the stem, inner widths and depths of the stages."""

    side: int
    stem: int
    width: tuple[int, ...]
    depth: tuple[int, ...]


@register_space
class GaiaDet(SearchSpace[Detector]):
    """The detector (696 object classes of several data sets, and background), or its body as an ImageNet classifier.

    ``logits`` of the detector are ``(1000, 697)``, one row per proposal and not normalised, ``boxes`` ``(1000, 4)``
    their corners in pixels of the image, overlapping ones included (see `aiop.tasks.spaces.detection`).
    """

    name = "gaia-det"
    forms: ClassVar[Mapping[str, Form]] = {
        "coco": Form((3, SIDES[-1], SIDES[-1]), 697, "detection"),
        "imagenet": Form((3, SIDES[-1], SIDES[-1]), 1000),
    }
    default_form = "coco"  # the network that the benchmark's cost column describes
    example = "3,480,480/48/80,160,320,640/4,6,29,4"

    def parse(self, code: str) -> Detector:
        """See `SearchSpace.parse`."""
        columns = code.split("/")
        if len(columns) != len(COLUMNS):
            raise self.refuse(
                code,
                f"expected {len(COLUMNS)} columns joined by '/' ({'/'.join(COLUMNS)}), found {len(columns)}",
            )
        (_, height, width), (stem,), widths, depths = (
            self._numbers(code, column, text) for column, text in zip(COLUMNS, columns, strict=True)
        )
        if height != width:
            raise self.refuse(code, f"input_shape must be square, found {height} x {width}")
        return Detector(height, stem, widths, depths)

    def _numbers(self, code: str, column: str, text: str) -> tuple[int, ...]:
        """The numbers of one column, each one of its choices and spelled as `format` does."""
        choices = COLUMNS[column]
        parts = text.split(",")
        if len(parts) != len(choices):
            raise self.refuse(code, f"{column} must have {len(choices)} numbers, found {len(parts)}")
        for index, (part, allowed) in enumerate(zip(parts, choices, strict=True)):
            if part not in map(str, allowed):
                values = ", ".join(map(str, allowed))
                raise self.refuse(
                    code, f'number {index} of {column} is "{part[:20]}", must be one of {values}'
                )
        return tuple(map(int, parts))

    def format(self, architecture: Detector) -> str:
        """See `SearchSpace.format`."""
        side, stem, width, depth = (
            architecture.side,
            architecture.stem,
            architecture.width,
            architecture.depth,
        )
        return f"3,{side},{side}/{stem}/{','.join(map(str, width))}/{','.join(map(str, depth))}"

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        picked = [choice[int(rng.integers(len(choice)))] for choice in _choices()]
        return self.format(_detector(picked))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another value of one of the ten numbers, 32 detectors."""
        numbers = _numbers(self.parse(code))
        return [
            self.format(_detector([*numbers[:index], value, *numbers[index + 1 :]]))
            for index, choice in enumerate(_choices())
            for value in choice
            if value != numbers[index]
        ]

    def input_shape(self, code: str, form: str | None = None) -> tuple[int, int, int, int]:
        """See `SearchSpace.input_shape`: the code holds it."""
        self.form(form)
        side = self.parse(code).side
        return (1, 3, side, side)

    def output_shapes(self, code: str, form: str | None = None) -> dict[str, tuple[int, ...]]:
        """See `SearchSpace.output_shapes`: a detector gives the logits and the corners of 1,000 boxes."""
        described = self.form(form)
        if described.head != "detection":
            return super().output_shapes(code, form)
        self.parse(code)
        return {OUTPUT: (PROPOSALS, described.classes), BOXES: (PROPOSALS, 4)}

    def _write(
        self, architecture: Detector, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        side = architecture.side
        writer = OnnxWriter(name, 3, side, side, weights=weights, seed=seed)
        stages = body(writer, architecture)
        if form.head != "detection":
            pool_and_classify(writer, stages[-1], form.classes)
            return writer.finish((1, form.classes))
        pyramid = feature_pyramid(writer, stages, PYRAMID_CHANNELS)
        boxes = region_proposals(writer, pyramid)
        regions = pool_regions(writer, pyramid, boxes)
        return writer.finish(box_head(writer, regions, boxes, HIDDEN, form.classes))


def body(writer: OnnxWriter, architecture: Detector) -> list[Feature]:
    """The ResNet: outputs of its four stages, at strides 4, 8, 16 and 32."""
    x = conv_norm_relu(writer, writer.image, architecture.stem, 7, "stem", stride=2)
    x = writer.max_pool(x, 3, "stem.pool", stride=2, padding=1)
    stages: list[Feature] = []
    for number, (width, depth) in enumerate(zip(architecture.width, architecture.depth, strict=True), 1):
        for block in range(depth):
            stride = 2 if number > 1 and not block else 1
            x = _bottleneck(writer, x, width, stride, not block, f"stage{number}.block{block}")
        stages.append(x)
    return stages


def feature_pyramid(writer: OnnxWriter, stages: list[Feature], channels: int) -> list[Feature]:
    """Feature pyramid without norms and activations, and one level more: P5 at every second row and column."""
    merged: list[Feature] = []
    for number, stage in reversed(list(enumerate(stages, start=2))):
        x = writer.conv(stage, channels, 1, f"pyramid.lateral{number}", bias=True)
        if merged:
            top = writer.resize(merged[0], x.height, x.width, f"pyramid.up{number}", "nearest")
            x = writer.add(x, top, f"pyramid.add{number}")
        merged.insert(0, x)
    levels = [
        writer.conv(x, channels, 3, f"pyramid.level{number}", bias=True)
        for number, x in enumerate(merged, start=2)
    ]
    return [*levels, writer.max_pool(levels[-1], 1, f"pyramid.level{len(levels) + 2}", stride=2)]


def _bottleneck(writer: OnnxWriter, x: Feature, width: int, stride: int, first: bool, name: str) -> Feature:
    """1x1, 3x3 (strided) and 1x1 convolutions beside a shortcut, which is a convolution in the ``first`` of a stage."""
    y = conv_norm_relu(writer, x, width, 1, name + ".reduce")
    y = conv_norm_relu(writer, y, width, 3, name + ".spatial", stride)
    y = conv_norm(writer, y, EXPANSION * width, 1, name + ".expand")
    if first:
        x = conv_norm(writer, x, EXPANSION * width, 1, name + ".shortcut", stride=stride)
    return writer.relu(writer.add(y, x, name + ".add"), name + ".relu")


def _choices() -> list[tuple[int, ...]]:
    """Choices of the ten numbers of `_numbers`: the side counts once."""
    return [SIDES, *COLUMNS["stem"], *COLUMNS["width"], *COLUMNS["depth"]]


def _numbers(architecture: Detector) -> list[int]:
    return [architecture.side, architecture.stem, *architecture.width, *architecture.depth]


def _detector(numbers: list[int]) -> Detector:
    return Detector(numbers[0], numbers[1], tuple(numbers[2:6]), tuple(numbers[6:]))
