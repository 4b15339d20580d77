"""FBNet (Wu et al., CVPR 2019) as HW-NAS-Bench measures it: a chain of 22 layers, each one of nine choices.

A code lists the choices by number (``7,8,1,...``); the names of the operations joined by spaces
(``k5_e6 skip k3_e1_g2 ...``) are read as well. The layers form stages of 1, 4, 4, 4, 4, 4 and 1; the first
layer of a stage changes the channels and takes the stage's stride.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.errors import suggest
from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm, conv_norm_relu, pool_and_classify
from aiop.tasks.spaces.writer import Feature, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["OPERATIONS", "Choices", "FBNet", "canonical"]

#: Operation -> (kernel, expansion, groups of its two 1x1 convolutions); the number of an operation is its place.
BLOCKS = {
    "k3_e1": (3, 1, 1),
    "k3_e1_g2": (3, 1, 2),
    "k3_e3": (3, 3, 1),
    "k3_e6": (3, 6, 1),
    "k5_e1": (5, 1, 1),
    "k5_e1_g2": (5, 1, 2),
    "k5_e3": (5, 3, 1),
    "k5_e6": (5, 6, 1),
}
OPERATIONS = (*BLOCKS, "skip")
SKIP = OPERATIONS.index("skip")
STEM_CHANNELS = 16
#: (layers, channels) of each stage.
STAGES = ((1, 16), (4, 24), (4, 32), (4, 64), (4, 112), (4, 184), (1, 352))
LAYERS = sum(layers for layers, _ in STAGES)

#: Places of ``OPERATIONS``, one per layer.
Choices = tuple[int, ...]

_BLOCKS = tuple(BLOCKS.values())
_BY_NUMBER = {str(number): number for number in range(len(OPERATIONS))}
_BY_NAME = {operation: number for number, operation in enumerate(OPERATIONS)}


@dataclass(frozen=True)
class _Layout:
    """What an input size changes: the strides of the stem and of each stage, and the channels of the header."""

    stem_stride: int
    strides: tuple[int, ...]
    header: int


_SMALL, _LARGE = Form((3, 32, 32), 100), Form((3, 224, 224), 1000)
_LAYOUTS = {
    _SMALL: _Layout(1, (1, 1, 2, 2, 1, 2, 1), 1504),
    _LARGE: _Layout(2, (1, 2, 2, 2, 1, 2, 1), 1984),
}


@register_space
class FBNet(SearchSpace[Choices]):
    """9 ** 22 codes; the forms differ in strides and in the header besides the input and the classes."""

    name = "fbnet"
    forms: ClassVar[Mapping[str, Form]] = {"cifar100": _SMALL, "imagenet": _LARGE}
    default_form = "cifar100"  # the network that the look-up tables of the benchmark's latencies describe
    example = "7,8,1,8,4,8,8,8,7,4,1,4,7,3,2,7,3,2,4,2,4,5"

    def parse(self, code: str) -> Choices:
        """See `SearchSpace.parse`."""
        numbers = "," in code
        texts = code.split("," if numbers else " ")
        if len(texts) != LAYERS:
            raise self.refuse(
                code, f"expected {LAYERS} numbers joined by ',' or names joined by ' ', found {len(texts)}"
            )
        known = _BY_NUMBER if numbers else _BY_NAME
        for index, text in enumerate(texts):
            if text in known:
                continue
            text = text[:20]
            if numbers:
                raise self.refuse(code, f'number {index} is "{text}", must be 0 to {SKIP}')
            raise self.refuse(code, f'name {index}, "{text}", is not an operation{suggest(text, _BY_NAME)}')
        return tuple(known[text] for text in texts)

    def format(self, architecture: Choices) -> str:
        """See `SearchSpace.format`."""
        return ",".join(map(str, architecture))

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        return ",".join(map(str, rng.integers(len(OPERATIONS), size=LAYERS).tolist()))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another operation in one layer, 176 codes."""
        choices = self.parse(code)
        return [
            self.format((*choices[:index], other, *choices[index + 1 :]))
            for index, choice in enumerate(choices)
            for other in range(len(OPERATIONS))
            if other != choice
        ]

    def _write(
        self, architecture: Choices, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        layout = _LAYOUTS[form]
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = conv_norm_relu(writer, writer.image, STEM_CHANNELS, 3, "stem", stride=layout.stem_stride)
        choices = iter(architecture)
        for stage, ((layers, channels), stage_stride) in enumerate(
            zip(STAGES, layout.strides, strict=True), start=1
        ):
            for layer in range(layers):
                stride = stage_stride if layer == 0 else 1
                x = _layer(writer, x, next(choices), channels, stride, f"stage{stage}.layer{layer}")
        x = conv_norm_relu(writer, x, layout.header, 1, "header")
        pool_and_classify(writer, x, form.classes)
        return writer.finish((1, form.classes))


def canonical(choices: Choices) -> Choices:
    """One spelling per network: in every stage, the layers that skip without doing anything come last.

    A skip is the identity wherever channels and resolution stay, so its place among the later layers of a
    stage does not matter; the first layer of a stage stays where it is.

    >>> canonical((8, 0, 8, 1, 8, *(2,) * 17))[:6]
    (8, 0, 1, 8, 8, 2)
    """
    spelled: list[int] = []
    at = 0
    for layers, _ in STAGES:
        spelled.append(choices[at])
        spelled += sorted(choices[at + 1 : at + layers], key=SKIP.__eq__)  # stable: skips move to the end
        at += layers
    return tuple(spelled)


def _layer(writer: OnnxWriter, x: Feature, choice: int, channels: int, stride: int, name: str) -> Feature:
    same = stride == 1 and channels == x.channels
    if choice == SKIP:
        return x if same else conv_norm(writer, x, channels, 1, name, stride=stride, activation="relu")
    kernel, expansion, groups = _BLOCKS[choice]
    hidden = expansion * x.channels
    y = conv_norm(writer, x, hidden, 1, name + ".expand", groups=groups, activation="relu")
    if groups > 1:
        y = writer.channel_shuffle(y, groups, name + ".shuffle")
    y = conv_norm(
        writer, y, hidden, kernel, name + ".depthwise", stride=stride, groups=hidden, activation="relu"
    )
    y = conv_norm(writer, y, channels, 1, name + ".project", groups=groups)
    return writer.add(x, y, name + ".add") if same else y
