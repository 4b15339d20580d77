"""Bodies for small images: three stages of inverted residual blocks, all of them part of one supernet.

A code reads ``STAGE/STAGE/STAGE``; a stage reads ``WIDTH-kKeE-kKeE...``: the channels inside the stage, then for each
of its one to four blocks the kernel K and the expansion E. The stages end at strides 4, 8 and 16 of the image, in
`BOUNDARIES` channels whatever the code, so that features of two bodies at one boundary can be exchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm, inverted_bottleneck, pool_and_classify
from aiop.tasks.spaces.writer import OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = [
    "BLOCKS",
    "BOUNDARIES",
    "EXPANSIONS",
    "KERNELS",
    "LARGEST",
    "SMALLEST",
    "STEM",
    "STRIDES",
    "WIDTHS",
    "Block",
    "DigitsBody",
    "DigitsOfa",
    "Stage",
]

STEM = 16  # channels of the first convolution
WIDTHS: tuple[tuple[int, ...], ...] = ((16, 24), (24, 32, 40), (48, 64, 80))  # inside a stage, to choose from
BOUNDARIES = (24, 40, 80)  # channels at the end of a stage
STRIDES = (4, 8, 16)  # of the image, at the end of a stage
BLOCKS = 4  # of a stage, at most
KERNELS = (3, 5, 7)
EXPANSIONS = (2, 3, 4)

_BLOCK = re.compile(r"k([1-9])e([1-9])", re.ASCII)


@dataclass(frozen=True)
class Block:
    """An inverted residual block: side of its depthwise kernel, hidden channels per input channel."""

    kernel: int
    expansion: int


@dataclass(frozen=True)
class Stage:
    """Channels of the blocks' outputs, and the blocks; the first of them halves the sides."""

    width: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class DigitsBody:
    """A decoded architecture: three stages."""

    stages: tuple[Stage, ...]

    @property
    def depth(self) -> int:
        """Blocks of all stages, 3 to 12."""
        return sum(len(stage.blocks) for stage in self.stages)

    def shapes(self) -> Iterator[tuple[int, int, int, int, int]]:
        """For each block: stage, place in it, input channels, hidden channels, output channels."""
        channels = STEM
        for at, stage in enumerate(self.stages):
            for place, block in enumerate(stage.blocks):
                yield at, place, channels, channels * block.expansion, stage.width
                channels = stage.width
            channels = BOUNDARIES[at]


LARGEST = DigitsBody(
    tuple(Stage(max(widths), (Block(max(KERNELS), max(EXPANSIONS)),) * BLOCKS) for widths in WIDTHS)
)
SMALLEST = DigitsBody(tuple(Stage(min(widths), (Block(min(KERNELS), min(EXPANSIONS)),)) for widths in WIDTHS))


@register_space
class DigitsOfa(SearchSpace[DigitsBody]):
    """Classifiers of scenes of digits, and the same bodies without a head: the features at the stages' ends."""

    name = "digits-ofa"
    forms: ClassVar[Mapping[str, Form]] = {
        "classification": Form((3, 64, 64), 10),
        "stages": Form((3, 64, 64), 0, "features"),
    }
    default_form = "classification"
    example = "24-k3e2-k5e4/40-k3e4/80-k5e4-k3e2-k7e3"

    def parse(self, code: str) -> DigitsBody:
        """See `SearchSpace.parse`."""
        parts = code.split("/")
        if len(parts) != len(WIDTHS):
            raise self.refuse(code, f"expected {len(WIDTHS)} stages joined by '/', found {len(parts)}")
        return DigitsBody(tuple(self._stage(code, at, part) for at, part in enumerate(parts)))

    def _stage(self, code: str, at: int, text: str) -> Stage:
        width, *blocks = text.split("-")
        widths = {str(choice): choice for choice in WIDTHS[at]}
        if width not in widths:
            reason = f'the width of stage {at + 1} is "{width[:20]}", must be one of {", ".join(widths)}'
            raise self.refuse(code, reason)
        if not 1 <= len(blocks) <= BLOCKS:
            raise self.refuse(code, f"stage {at + 1} must have 1 to {BLOCKS} blocks, found {len(blocks)}")
        return Stage(widths[width], tuple(self._block(code, at, block) for block in blocks))

    def _block(self, code: str, at: int, text: str) -> Block:
        match = _BLOCK.fullmatch(text)
        if match is None or int(match[1]) not in KERNELS or int(match[2]) not in EXPANSIONS:
            kernels, expansions = ("/".join(map(str, choices)) for choices in (KERNELS, EXPANSIONS))
            reason = (
                f'stage {at + 1} has a block "{text[:20]}", must be kKeE with K {kernels} and E {expansions}'
            )
            raise self.refuse(code, reason)
        return Block(int(match[1]), int(match[2]))

    def format(self, architecture: DigitsBody) -> str:
        """See `SearchSpace.format`."""
        return "/".join(
            "-".join([str(stage.width), *(f"k{block.kernel}e{block.expansion}" for block in stage.blocks)])
            for stage in architecture.stages
        )

    def sample(self, rng: np.random.Generator) -> str:
        """Draw a code, every choice of width, depth, kernel and expansion uniformly.

        Uniform over codes would draw almost nothing but the deepest bodies: a stage of four blocks has nine times
        as many codes as one of three.
        """
        stages = []
        for widths in WIDTHS:
            width = widths[int(rng.integers(len(widths)))]
            blocks = [
                Block(
                    KERNELS[int(rng.integers(len(KERNELS)))], EXPANSIONS[int(rng.integers(len(EXPANSIONS)))]
                )
                for _ in range(int(rng.integers(1, BLOCKS + 1)))
            ]
            stages.append(Stage(width, tuple(blocks)))
        return self.format(DigitsBody(tuple(stages)))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: one width, kernel or expansion, one last block less, or one block more.

        The block more is a smallest one.
        """
        own = self.parse(code)
        return [
            self.format(DigitsBody((*own.stages[:at], other, *own.stages[at + 1 :])))
            for at, stage in enumerate(own.stages)
            for other in _changes(stage, WIDTHS[at])
        ]

    def output_shapes(self, code: str, form: str | None = None) -> dict[str, tuple[int, ...]]:
        """See `SearchSpace.output_shapes`."""
        self.parse(code)
        described = self.form(form)
        if described.head == "classification":
            return {"logits": (1, described.classes)}
        return _feature_shapes(described)

    def _write(
        self, architecture: DigitsBody, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = conv_norm(writer, writer.image, STEM, 3, "stem", stride=2, activation="relu")
        shapes = {(at, place): (hidden, width) for at, place, _, hidden, width in architecture.shapes()}
        for at, stage in enumerate(architecture.stages):
            prefix = f"stages.{at}"
            for place, block in enumerate(stage.blocks):
                hidden, width = shapes[at, place]
                x = inverted_bottleneck(
                    writer,
                    x,
                    hidden,
                    width,
                    block.kernel,
                    f"{prefix}.blocks.{place}",
                    stride=1 if place else 2,
                    activation="relu",
                )
            # Linear, as bottlenecks are (Sandler et al. 2018), but for the last: a pool follows it.
            last = at == len(architecture.stages) - 1
            x = conv_norm(writer, x, BOUNDARIES[at], 1, f"{prefix}.out", activation="relu" if last else None)
        if form.head == "features":
            return writer.finish(_feature_shapes(form))
        pool_and_classify(writer, x, form.classes)
        return writer.finish((1, form.classes))


def _feature_shapes(form: Form) -> dict[str, tuple[int, ...]]:
    _, height, width = form.shape
    ends = ("norm",) * (len(STRIDES) - 1) + ("relu",)
    return {
        f"stages.{at}.out.{end}": (1, channels, height // stride, width // stride)
        for at, (end, channels, stride) in enumerate(zip(ends, BOUNDARIES, STRIDES, strict=True))
    }


def _changes(stage: Stage, widths: tuple[int, ...]) -> Iterator[Stage]:
    """Every stage one change away from ``stage``."""
    yield from (replace(stage, width=width) for width in widths if width != stage.width)
    for place, block in enumerate(stage.blocks):
        others = [replace(block, kernel=kernel) for kernel in KERNELS if kernel != block.kernel]
        others += [replace(block, expansion=ratio) for ratio in EXPANSIONS if ratio != block.expansion]
        for other in others:
            yield replace(stage, blocks=(*stage.blocks[:place], other, *stage.blocks[place + 1 :]))
    if len(stage.blocks) > 1:
        yield replace(stage, blocks=stage.blocks[:-1])
    if len(stage.blocks) < BLOCKS:
        yield replace(stage, blocks=(*stage.blocks, Block(min(KERNELS), min(EXPANSIONS))))
