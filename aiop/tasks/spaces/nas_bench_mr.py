"""NAS-Bench-MR: up to four parallel branches of different resolution, described by 27 integers.

Ding et al., "Learning Versatile Neural Architectures by Propagating Network Codes", ICLR 2022. The code
lists the two stem channels; then for each stage s = 1..4 the number of modules, the residual blocks of its
s branches and their channels; then the channels of the head. Branch b runs at stride 4 * 2**b. Every module
first fuses neighbouring branches and then runs the branches in parallel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm_relu
from aiop.tasks.spaces.writer import OUTPUT, Feature, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["MultiResolution", "NasBenchMR", "Stage"]

STAGES = 4
CODE_LENGTH = 27
COUNTS = range(1, 5)  # modules of a stage, blocks of a branch
CHANNELS = range(8, 129, 8)
_INTEGER = re.compile("0|[1-9][0-9]{0,8}")  # as printed: no sign, no leading zeros


@dataclass(frozen=True)
class Stage:
    """One stage: how many modules, and for each branch the blocks and the channels."""

    modules: int
    blocks: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class MultiResolution:
    """A decoded architecture: channels of the two stem convolutions, four stages, channels of the head."""

    stem: tuple[int, int]
    stages: tuple[Stage, ...]
    last: int


@register_space
class NasBenchMR(SearchSpace[MultiResolution]):
    """Classification heads read 128 x 128 images, the segmentation head 512 x 1024 (logits at stride 4)."""

    name = "nas-bench-mr"
    forms: ClassVar[Mapping[str, Form]] = {
        "cls-50": Form((3, 128, 128), 50),
        "cls-10": Form((3, 128, 128), 10),
        "seg": Form((3, 512, 1024), 19, "segmentation"),
    }
    default_form = "cls-50"  # the network that the benchmark's cost columns describe
    example = "16,64,1,2,80,1,2,3,32,96,3,2,2,4,48,80,32,2,2,1,2,1,112,16,128,112,16"

    def parse(self, code: str) -> MultiResolution:
        """See `SearchSpace.parse`."""
        numbers: list[int] = []
        for text in code.split(","):
            if not _INTEGER.fullmatch(text):
                raise self.refuse(code, f'"{text[:20]}" is not an integer')
            numbers.append(int(text))
        if len(numbers) != CODE_LENGTH:
            raise self.refuse(code, f"expected {CODE_LENGTH} integers joined by ',', found {len(numbers)}")
        counts = _count_positions()
        for index, value in enumerate(numbers):
            if index in counts and value not in COUNTS:
                raise self.refuse(code, f"number {index} (modules or blocks) is {value}, must be 1 to 4")
            if index not in counts and value not in CHANNELS:
                raise self.refuse(
                    code, f"number {index} (channels) is {value}, must be a multiple of 8 from 8 to 128"
                )
        stages: list[Stage] = []
        at = 2
        for branches in range(1, STAGES + 1):
            blocks = tuple(numbers[at + 1 : at + 1 + branches])
            channels = tuple(numbers[at + 1 + branches : at + 1 + 2 * branches])
            stages.append(Stage(numbers[at], blocks, channels))
            at += 1 + 2 * branches
        return MultiResolution((numbers[0], numbers[1]), tuple(stages), numbers[at])

    def format(self, architecture: MultiResolution) -> str:
        """See `SearchSpace.format`."""
        numbers = [*architecture.stem]
        for stage in architecture.stages:
            numbers += [stage.modules, *stage.blocks, *stage.channels]
        return ",".join(map(str, [*numbers, architecture.last]))

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        counts = _count_positions()
        choices = (COUNTS if index in counts else CHANNELS for index in range(CODE_LENGTH))
        return ",".join(str(choice[int(rng.integers(len(choice)))]) for choice in choices)

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another value of one of the 27 numbers."""
        self.parse(code)
        numbers = code.split(",")
        counts = _count_positions()
        return [
            ",".join([*numbers[:index], str(value), *numbers[index + 1 :]])
            for index, number in enumerate(numbers)
            for value in (COUNTS if index in counts else CHANNELS)
            if str(value) != number
        ]

    def output_shapes(self, code: str, form: str | None = None) -> dict[str, tuple[int, ...]]:
        """See `SearchSpace.output_shapes`: logits of a segmentation are at stride 4."""
        described = self.form(form)
        if described.head != "segmentation":
            return super().output_shapes(code, form)
        self.parse(code)
        _, height, width = described.shape
        return {OUTPUT: (1, described.classes, height // 4, width // 4)}

    def _write(
        self, architecture: MultiResolution, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = conv_norm_relu(writer, writer.image, architecture.stem[0], 3, "stem.conv0", stride=2)
        x = conv_norm_relu(writer, x, architecture.stem[1], 3, "stem.conv1", stride=2)
        branches = [x]
        for number, stage in enumerate(architecture.stages, start=1):
            for module in range(stage.modules):
                prefix = f"stage{number}.module{module}"
                branches = _fuse(writer, branches, stage.channels, prefix + ".fuse")
                branches = _parallel(writer, branches, stage.blocks, prefix)
        target = branches[0] if form.head == "segmentation" else branches[-1]
        resized = [
            writer.resize(x, target.height, target.width, f"head.resize{index}", "linear")
            for index, x in enumerate(branches)
        ]
        x = conv_norm_relu(writer, writer.concat(resized, "head.concat"), architecture.last, 1, "head.merge")
        if form.head == "segmentation":
            logits = writer.conv(x, form.classes, 1, "head.classifier", bias=True, output=OUTPUT)
            return writer.finish((1, form.classes, logits.height, logits.width))
        x = writer.global_average_pool(x, "head.pool")
        x = writer.conv(x, form.classes, 1, "head.classifier", bias=True)
        writer.flatten(x, OUTPUT)
        return writer.finish((1, form.classes))


def _count_positions() -> frozenset[int]:
    """Positions of the code that hold a number of modules or blocks; all others hold channels."""
    positions: list[int] = []
    at = 2
    for branches in range(1, STAGES + 1):
        positions += range(at, at + 1 + branches)
        at += 1 + 2 * branches
    return frozenset(positions)


def _fuse(writer: OnnxWriter, inputs: list[Feature], channels: tuple[int, ...], name: str) -> list[Feature]:
    """Exchange between neighbouring branches; where ``channels`` has one more entry, open a new branch."""
    outputs: list[Feature] = []
    for i in range(len(inputs)):
        terms: list[Feature] = []
        for j in range(max(i - 1, 0), min(i + 2, len(inputs))):
            path = f"{name}.branch{i}.from{j}"
            if j > i:
                term = conv_norm_relu(writer, inputs[j], channels[i], 1, path)
                term = writer.resize(term, 2 * term.height, 2 * term.width, path + ".up", "nearest")
            else:
                term = conv_norm_relu(writer, inputs[j], channels[i], 3, path, stride=2 if j < i else 1)
            if terms:  # sizes differ only where a resolution was odd
                term = writer.resize(term, terms[0].height, terms[0].width, path + ".fit", "linear")
            terms.append(term)
        total = writer.sum(terms, f"{name}.branch{i}.add")
        outputs.append(writer.relu(total, f"{name}.branch{i}.relu"))
    if len(channels) > len(inputs):
        new = len(inputs)
        path = f"{name}.branch{new}.from{new - 1}"
        outputs.append(conv_norm_relu(writer, outputs[-1], channels[new], 3, path, stride=2))
    return outputs


def _parallel(writer: OnnxWriter, inputs: list[Feature], blocks: tuple[int, ...], name: str) -> list[Feature]:
    """Residual blocks of two 3x3 convolutions at constant channels, branch by branch."""
    outputs: list[Feature] = []
    for branch, (x, count) in enumerate(zip(inputs, blocks, strict=True)):
        for block in range(count):
            path = f"{name}.branch{branch}.block{block}"
            y = conv_norm_relu(writer, x, x.channels, 3, path + ".conv0")
            y = writer.conv(y, x.channels, 3, path + ".conv1.conv")
            y = writer.batch_norm(y, path + ".conv1.norm")
            x = writer.relu(writer.add(x, y, path + ".add"), path + ".relu")
        outputs.append(x)
    return outputs
