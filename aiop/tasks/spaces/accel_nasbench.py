"""Accel-NASBench (Ahmad et al., DAC 2024): EfficientNet-like networks of seven blocks for ImageNet.

A code holds four entries for each of the blocks 0 to 6, joined by ``/``: the expansion ratio, the kernel size,
the number of layers, and whether its layers squeeze and excite. Channels and strides are those of
EfficientNet-B0, which is itself in the space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import Squeeze, conv_norm, divisible, inverted_bottleneck, pool_and_classify
from aiop.tasks.spaces.writer import OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["AccelNasBench", "Block"]

#: Output channels and stride of the first layer, block by block.
STAGES = ((16, 1), (24, 2), (40, 2), (80, 2), (112, 1), (192, 2), (320, 1))
#: Entry of a block -> its choices; block 5 may have a fourth layer.
CHOICES = {"e": (1, 4, 6), "k": (3, 5), "l": (1, 2, 3), "se": (0, 1)}
COLUMNS = tuple(
    (f"block{block}_{entry}", (1, 2, 3, 4) if (block, entry) == (5, "l") else choices)
    for block in range(len(STAGES))
    for entry, choices in CHOICES.items()
)


class Block(NamedTuple):
    """One block: expansion ratio, kernel size, number of layers, squeeze-and-excitation or not."""

    expansion: int
    kernel: int
    layers: int
    squeeze: bool


@register_space
class AccelNasBench(SearchSpace[tuple[Block, ...]]):
    """The MnasNet space of the benchmark, with the activations of its GPU networks (SiLU, sigmoid gates)."""

    name = "accel-nasbench"
    forms: ClassVar[Mapping[str, Form]] = {"imagenet": Form((3, 224, 224), 1000)}
    default_form = "imagenet"
    example = "1/3/1/1/6/3/2/1/6/5/2/1/6/3/3/1/6/5/3/1/6/5/4/1/6/3/1/1"

    def parse(self, code: str) -> tuple[Block, ...]:
        """See `SearchSpace.parse`; the last entry of a block may also read ``True`` or ``False``."""
        texts = code.split("/")
        if len(texts) != len(COLUMNS):
            raise self.refuse(code, f"expected {len(COLUMNS)} entries joined by '/', found {len(texts)}")
        values: list[int] = []
        for text, (column, _), spellings in zip(texts, COLUMNS, _SPELLINGS, strict=True):
            value = spellings.get(text)
            if value is None:
                reason = f'{column} is "{text[:20]}", must be one of {", ".join(spellings)}'
                raise self.refuse(code, reason)
            values.append(value)
        return tuple(
            Block(expansion, kernel, layers, bool(squeeze))
            for expansion, kernel, layers, squeeze in zip(*[iter(values)] * 4, strict=True)
        )

    def format(self, architecture: tuple[Block, ...]) -> str:
        """See `SearchSpace.format`."""
        return "/".join(str(int(value)) for block in architecture for value in block)

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        return "/".join(str(choices[int(rng.integers(len(choices)))]) for _, choices in COLUMNS)

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another value of one of the 28 entries."""
        texts = self.validate(code).split("/")
        return [
            "/".join([*texts[:index], str(value), *texts[index + 1 :]])
            for index, (_, choices) in enumerate(COLUMNS)
            for value in choices
            if str(value) != texts[index]
        ]

    def _write(
        self, architecture: tuple[Block, ...], name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = conv_norm(writer, writer.image, 32, 3, "stem", stride=2, activation="silu")
        for index, (block, (channels, stride)) in enumerate(zip(architecture, STAGES, strict=True)):
            for layer in range(block.layers):
                # The inner width follows the layer's input, not its expanded channels.
                squeeze = Squeeze(max(1, x.channels // 4), "silu", "sigmoid") if block.squeeze else None
                x = inverted_bottleneck(
                    writer,
                    x,
                    divisible(x.channels * block.expansion),
                    channels,
                    block.kernel,
                    f"block{index}.layer{layer}",
                    stride=1 if layer else stride,
                    activation="silu",
                    squeeze=squeeze,
                )
        x = conv_norm(writer, x, 4 * x.channels, 1, "head.expand", activation="silu")
        pool_and_classify(writer, x, form.classes)
        return writer.finish((1, form.classes))


#: For each column, the texts that `AccelNasBench.parse` takes and their values.
_SPELLINGS = tuple(
    {str(value): value for value in choices} | ({"False": 0, "True": 1} if column.endswith("_se") else {})
    for column, choices in COLUMNS
)
