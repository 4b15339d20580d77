"""Once-for-All MobileNetV3 (Cai et al., ICLR 2020): the sub-networks of one trained super-network.

A code reads ``ks/e/d/r``: 20 kernel sizes, 20 expansion ratios, 5 depths and the side of the input. Stage g runs
its first ``d[g]`` blocks, and its block j reads entry ``4 * g + j`` of the two long lists. Entries of blocks
beyond the depth are part of the code, but not of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import Activation, Squeeze, conv_norm, divisible, inverted_bottleneck
from aiop.tasks.spaces.writer import OUTPUT, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["OfaMbv3", "SubNetwork", "WideForm"]

BLOCKS = 4  # of a stage, at most
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)
RESOLUTIONS = tuple(range(128, 225, 4))
#: Channels, stride of the first block, activation, squeeze-and-excitation or not, stage by stage.
STAGES: tuple[tuple[int, int, Activation, bool], ...] = (
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hard_swish", False),
    (112, 1, "hard_swish", True),
    (160, 2, "hard_swish", True),
)
POSITIONS = BLOCKS * len(STAGES)


@dataclass(frozen=True)
class SubNetwork:
    """A decoded architecture: 20 kernel sizes, 20 expansion ratios, 5 depths, side of the input."""

    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    depths: tuple[int, ...]
    resolution: int

    def active(self) -> list[int]:
        """The positions of the two long lists that the network reads."""
        return [BLOCKS * stage + block for stage, depth in enumerate(self.depths) for block in range(depth)]


@dataclass(frozen=True)
class WideForm(Form):
    """A `Form` of which every number of channels is multiplied by ``width``."""

    width: float = 1.0


@register_space
class OfaMbv3(SearchSpace[SubNetwork]):
    """ImageNet classifiers; the forms are the two super-networks of the reference, 1.0 and 1.2 wide."""

    name = "ofa-mbv3"
    forms: ClassVar[Mapping[str, Form]] = {
        "imagenet": Form((3, 224, 224), 1000),
        "imagenet-1.2": WideForm((3, 224, 224), 1000, width=1.2),
    }
    default_form = "imagenet"  # the network that the benchmark's cost columns describe
    example = "5,7,5,5,3,3,3,7,5,5,3,7,7,3,3,3,5,5,5,5/4,3,4,4,4,6,3,4,4,3,4,3,3,6,6,6,4,3,4,4/2,3,2,4,3/224"

    def parse(self, code: str) -> SubNetwork:
        """See `SearchSpace.parse`."""
        columns = code.split("/")
        if len(columns) != 4:
            raise self.refuse(code, f"expected ks/e/d/r joined by '/', found {len(columns)} parts")
        kernels = self._list(code, "ks", columns[0], KERNELS, POSITIONS)
        expansions = self._list(code, "e", columns[1], EXPANSIONS, POSITIONS)
        depths = self._list(code, "d", columns[2], DEPTHS, len(STAGES))
        side = columns[3]
        if side not in _SIDES:
            reason = f'r is "{side[:20]}", must be a multiple of 4 from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}'
            raise self.refuse(code, reason)
        return SubNetwork(kernels, expansions, depths, _SIDES[side])

    def _list(
        self, code: str, column: str, text: str, choices: tuple[int, ...], length: int
    ) -> tuple[int, ...]:
        items = text.split(",")
        if len(items) != length:
            raise self.refuse(code, f"{column} must be {length} numbers joined by ',', found {len(items)}")
        values = {str(choice): choice for choice in choices}
        for index, item in enumerate(items):
            if item not in values:
                reason = f'{column}[{index}] is "{item[:20]}", must be one of {", ".join(values)}'
                raise self.refuse(code, reason)
        return tuple(values[item] for item in items)

    def format(self, architecture: SubNetwork) -> str:
        """See `SearchSpace.format`."""
        lists = (architecture.kernels, architecture.expansions, architecture.depths)
        return "/".join([*(",".join(map(str, values)) for values in lists), str(architecture.resolution)])

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`; entries beyond the depths are drawn like all others."""
        architecture = SubNetwork(
            _draw(rng, KERNELS, POSITIONS),
            _draw(rng, EXPANSIONS, POSITIONS),
            _draw(rng, DEPTHS, len(STAGES)),
            *_draw(rng, RESOLUTIONS, 1),
        )
        return self.format(architecture)

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: one entry of an active block, one depth, or the next resolution."""
        own = self.parse(code)
        active = own.active()
        found = [replace(own, kernels=other) for other in _changes(own.kernels, KERNELS, active)]
        found += [replace(own, expansions=other) for other in _changes(own.expansions, EXPANSIONS, active)]
        found += [replace(own, depths=other) for other in _changes(own.depths, DEPTHS, range(len(STAGES)))]
        found += [replace(own, resolution=side) for side in RESOLUTIONS if abs(side - own.resolution) == 4]
        return [self.format(other) for other in found]

    def input_shape(self, code: str, form: str | None = None) -> tuple[int, int, int, int]:
        """See `SearchSpace.input_shape`: the code says the side."""
        described = self.form(form)
        side = self.parse(code).resolution
        return (described.batch, described.shape[0], side, side)

    def _write(
        self, architecture: SubNetwork, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        width = form.width if isinstance(form, WideForm) else 1.0
        side = architecture.resolution
        writer = OnnxWriter(name, form.shape[0], side, side, weights=weights, seed=seed)
        thin = divisible(16 * width)
        x = conv_norm(writer, writer.image, thin, 3, "stem", stride=2, activation="hard_swish")
        x = inverted_bottleneck(writer, x, thin, thin, 3, "first", activation="relu")
        for stage, (base, stride, activation, squeezed) in enumerate(STAGES):
            for block in range(architecture.depths[stage]):
                position = BLOCKS * stage + block
                hidden = divisible(x.channels * architecture.expansions[position])
                x = inverted_bottleneck(
                    writer,
                    x,
                    hidden,
                    divisible(base * width),
                    architecture.kernels[position],
                    f"stage{stage}.block{block}",
                    stride=1 if block else stride,
                    activation=activation,
                    squeeze=Squeeze(divisible(hidden // 4), "relu", "hard_sigmoid") if squeezed else None,
                )
        x = conv_norm(writer, x, divisible(960 * width), 1, "head.expand", activation="hard_swish")
        x = writer.global_average_pool(x, "head.pool")
        x = writer.conv(x, divisible(1280 * width), 1, "head.mix")  # neither bias nor batch norm
        x = writer.flatten(writer.hard_swish(x, "head.hard_swish"), "head.flatten")
        writer.linear(x, form.classes, "head.classifier", output=OUTPUT)
        return writer.finish((1, form.classes))


_SIDES = {str(side): side for side in RESOLUTIONS}


def _draw(rng: np.random.Generator, choices: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(choices[i] for i in rng.integers(len(choices), size=count))


def _changes(
    values: tuple[int, ...], choices: tuple[int, ...], positions: Iterable[int]
) -> list[tuple[int, ...]]:
    """``values`` with another choice at one of ``positions``."""
    return [
        (*values[:at], other, *values[at + 1 :])
        for at in positions
        for other in choices
        if other != values[at]
    ]
