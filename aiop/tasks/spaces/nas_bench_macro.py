"""NAS-Bench-Macro (Su et al., CVPR 2021): a chain of eight layers, each an identity or one of two MBConvs.

A code such as ``02012100`` gives one digit per layer: two layers of stage 1, three of stage 2, three of
stage 3. The first layer of every stage halves the resolution and doubles the channels, whatever its digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm, conv_norm_relu, inverted_bottleneck, pool_and_classify
from aiop.tasks.spaces.writer import Feature, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["NasBenchMacro", "canonical"]

STEM_CHANNELS = 32
#: (layers, channels) of each stage.
STAGES = ((2, 64), (3, 128), (3, 256))
LAST_CHANNELS = 1280
DIGITS = "012"
#: Digit -> (kernel, expansion) of its MBConv; 0 is the identity.
MBCONVS = {"1": (3, 3), "2": (5, 6)}
LAYERS = sum(layers for layers, _ in STAGES)


@register_space
class NasBenchMacro(SearchSpace[str]):
    """6,561 codes of 3,969 distinct networks (see `canonical`); an architecture is its code, one digit a layer."""

    name = "nas-bench-macro"
    forms: ClassVar[Mapping[str, Form]] = {"cifar10": Form((3, 32, 32), 10)}
    default_form = "cifar10"
    example = "02012100"

    def parse(self, code: str) -> str:
        """See `SearchSpace.parse`."""
        if len(code) != LAYERS:
            raise self.refuse(code, f"expected {LAYERS} digits, found {len(code)} characters")
        for index, digit in enumerate(code):
            if digit not in DIGITS:
                raise self.refuse(code, f'character {index} is "{digit}", must be 0, 1 or 2')
        return code

    def format(self, architecture: str) -> str:
        """See `SearchSpace.format`."""
        return architecture

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        return "".join(DIGITS[i] for i in rng.integers(len(DIGITS), size=LAYERS))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another digit of one layer, 16 codes."""
        self.parse(code)
        return [
            code[:index] + other + code[index + 1 :]
            for index, digit in enumerate(code)
            for other in DIGITS
            if other != digit
        ]

    def _write(
        self, architecture: str, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed)
        x = conv_norm_relu(writer, writer.image, STEM_CHANNELS, 3, "stem")
        digits = iter(architecture)
        for stage, (layers, channels) in enumerate(STAGES, start=1):
            for layer in range(layers):
                stride = 2 if layer == 0 else 1
                x = _layer(writer, x, next(digits), channels, stride, f"stage{stage}.layer{layer}")
        x = conv_norm_relu(writer, x, LAST_CHANNELS, 1, "head.merge")
        pool_and_classify(writer, x, form.classes)
        return writer.finish((1, form.classes))


def canonical(code: str) -> str:
    """One spelling per network: the stages of a valid code joined by ``/``, without the identities that do nothing.

    An identity anywhere but first in its stage is no layer at all, so its place does not matter.

    >>> canonical("01210020") == canonical("01201002") == "01/21/02"
    True
    """
    stages: list[str] = []
    at = 0
    for layers, _ in STAGES:
        stages.append(code[at] + code[at + 1 : at + layers].replace("0", ""))
        at += layers
    return "/".join(stages)


def _layer(writer: OnnxWriter, x: Feature, digit: str, channels: int, stride: int, name: str) -> Feature:
    if digit == "0":
        return x if stride == 1 else conv_norm(writer, x, channels, 1, name, stride=stride)
    kernel, expansion = MBCONVS[digit]
    return inverted_bottleneck(
        writer, x, expansion * x.channels, channels, kernel, name, stride=stride, activation="relu"
    )
