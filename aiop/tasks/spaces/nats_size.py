"""NATS-Bench size (Dong et al., TPAMI 2021): one cell of fixed operations, the channels of five stages chosen.

A code such as ``8:24:56:48:40`` lists the output channels of the first cell (and of the stem), the first
residual block, the second cell, the second residual block and the third cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.nas_bench_201 import Cell, cell, classifier, residual_block, stem
from aiop.tasks.spaces.writer import OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["Channels", "NatsSize"]

CHANNELS = range(8, 65, 8)
#: Edges 0->1, 0->2, 1->2, 0->3, 1->3, 2->3 of the one cell, the best of NAS-Bench-201 on CIFAR-100.
CELL: Cell = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_3x3")

#: Channels of cell, residual block, cell, residual block, cell.
Channels = tuple[int, int, int, int, int]

_NUMBERS = {str(channels): channels for channels in CHANNELS}


@register_space
class NatsSize(SearchSpace[Channels]):
    """32,768 networks of three cells; the forms differ in the input and the number of classes only."""

    name = "nats-size"
    forms: ClassVar[Mapping[str, Form]] = {
        "cifar10": Form((3, 32, 32), 10),
        "cifar100": Form((3, 32, 32), 100),
        "imagenet16-120": Form((3, 16, 16), 120),
    }
    default_form = "cifar10"  # the network that the benchmark's column describes
    example = "8:24:56:48:40"

    def parse(self, code: str) -> Channels:
        """See `SearchSpace.parse`."""
        texts = code.split(":")
        if len(texts) != 5:
            raise self.refuse(code, f"expected 5 numbers joined by ':', found {len(texts)}")
        for index, text in enumerate(texts):
            if text not in _NUMBERS:
                raise self.refuse(
                    code, f'number {index} is "{text[:20]}", must be a multiple of 8 from 8 to 64'
                )
        a, b, c, d, e = (_NUMBERS[text] for text in texts)
        return (a, b, c, d, e)

    def format(self, architecture: Channels) -> str:
        """See `SearchSpace.format`."""
        return ":".join(map(str, architecture))

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        return ":".join(str(CHANNELS[i]) for i in rng.integers(len(CHANNELS), size=5))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another width of one stage, 35 networks."""
        chosen = self.parse(code)
        return [
            ":".join(map(str, (*chosen[:index], other, *chosen[index + 1 :])))
            for index, channels in enumerate(chosen)
            for other in CHANNELS
            if other != channels
        ]

    def _write(
        self, architecture: Channels, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = cell(writer, stem(writer, architecture[0]), CELL, architecture[0], "stage1.cell")
        x = residual_block(writer, x, architecture[1], "reduce1")
        x = cell(writer, x, CELL, architecture[2], "stage2.cell")
        x = residual_block(writer, x, architecture[3], "reduce2")
        x = cell(writer, x, CELL, architecture[4], "stage3.cell")
        classifier(writer, x, form.classes)
        return writer.finish((1, form.classes))
