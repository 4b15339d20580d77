"""TransNAS-Bench-101 (Duan et al., CVPR 2021): two spaces of Taskonomy encoders under seven task heads.

A code such as ``64-41414-1_02_333`` or ``64-1342-basic`` has three parts: the channels of the stem (always 64),
one digit for each module, and the block. A module is two blocks, of which the first changes the size: digit 1 keeps
it, 2 doubles the channels, 3 halves the resolution, 4 does both. ``transnas-micro`` varies the block, a cell of four
nodes and six edges, on the skeleton 41414; ``transnas-macro`` varies the skeleton of residual blocks (``basic``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiop.tasks.spaces.base import Form, SearchSpace, register_space
from aiop.tasks.spaces.blocks import conv_norm, pool_and_classify, relu_conv_norm
from aiop.tasks.spaces.transnas_heads import PICTURE, generator, jigsaw, segmentation
from aiop.tasks.spaces.writer import OUTPUT, Feature, OnnxWriter

if TYPE_CHECKING:
    import onnx

    from aiop.tasks.spaces.writer import WeightMode

__all__ = ["EDGES", "TransNASMacro", "TransNASMicro"]

STEM_CHANNELS = 64
MICRO_SKELETON = "41414"
DEPTHS = range(4, 7)  # modules of the macro space
HALVINGS = range(1, 5)  # of its modules: 3 and 4
DOUBLINGS = range(1, 4)  # of its modules: 2 and 4
#: Digits of an edge.
NONE, SKIP, CONV1, CONV3 = "0123"
OPERATIONS = (NONE, SKIP, CONV1, CONV3)
#: (source, target) of the six edges of a cell, in the order of the code.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


class _TransNAS(SearchSpace[str]):
    """What both spaces share: forms, stem, the row of modules and the heads. An architecture is a text of digits.

    Classes are those of the trained networks. (The cost columns of the published tables were counted with 63 and
    100 classes in place of 47 and 75.)
    """

    forms: ClassVar[Mapping[str, Form]] = {
        "class_scene": Form((3, 256, 256), 47),
        "class_object": Form((3, 256, 256), 75),
        "room_layout": Form((3, 256, 256), 9, "regression"),
        "jigsaw": Form((3, 64, 64), 1000, "jigsaw", batch=9),
        "autoencoder": Form((3, 256, 256), 3, "generation"),
        "normal": Form((3, 256, 256), 3, "generation"),
        "segmentsemantic": Form((3, 256, 256), 17, "segmentation"),
    }
    default_form = "class_scene"

    @abstractmethod
    def _skeleton(self, architecture: str) -> str:
        """One digit for each module."""

    @abstractmethod
    def _block(
        self, writer: OnnxWriter, x: Feature, architecture: str, channels: int, stride: int, name: str
    ) -> Feature:
        """One block from ``x`` to ``channels`` at ``1 / stride`` of the resolution."""

    def output_shapes(self, code: str, form: str | None = None) -> dict[str, tuple[int, ...]]:
        """See `SearchSpace.output_shapes`: decoders write pictures as large as the image."""
        self.parse(code)
        return _output_shapes(self.form(form))

    def _write(
        self, architecture: str, name: str, form: Form, weights: WeightMode, seed: int
    ) -> onnx.ModelProto:
        writer = OnnxWriter(name, *form.shape, weights=weights, seed=seed, batch=form.batch)
        x = conv_norm(writer, writer.image, STEM_CHANNELS // 2, 3, "stem.conv0", stride=2)
        x = relu_conv_norm(writer, x, STEM_CHANNELS, 3, "stem.conv1", stride=2)
        skeleton = self._skeleton(architecture)
        for index, digit in enumerate(skeleton):
            channels = 2 * x.channels if digit in "24" else x.channels
            stride = 2 if digit in "34" else 1
            x = self._block(writer, x, architecture, channels, stride, f"module{index}.block0")
            x = self._block(writer, x, architecture, channels, 1, f"module{index}.block1")
        if form.head == "generation":
            generator(writer, x, form.classes, _halvings(skeleton) + 2)
        elif form.head == "segmentation":
            segmentation(writer, x, form.classes, _halvings(skeleton) + 2)
        elif form.head == "jigsaw":
            jigsaw(writer, x, form.classes)
        else:
            pool_and_classify(writer, x, form.classes)
        return writer.finish(_output_shapes(form))


def _output_shapes(form: Form) -> dict[str, tuple[int, ...]]:
    if form.head in ("generation", "segmentation"):
        _, height, width = form.shape
        name = PICTURE if form.head == "generation" else OUTPUT
        return {name: (1, form.classes, height, width)}
    return {OUTPUT: (1, form.classes)}


def _halvings(skeleton: str) -> int:
    return sum(digit in "34" for digit in skeleton)


def _doublings(skeleton: str) -> int:
    return sum(digit in "24" for digit in skeleton)


def _parts(space: SearchSpace[str], code: str) -> tuple[str, str]:
    """Skeleton and block of a code whose stem is right."""
    parts = code.split("-")
    if len(parts) != 3:
        raise space.refuse(code, f"expected 3 parts joined by '-', found {len(parts)}")
    if parts[0] != str(STEM_CHANNELS):
        raise space.refuse(code, f'the stem is "{parts[0][:20]}", must be "{STEM_CHANNELS}"')
    return parts[1], parts[2]


@register_space
class TransNASMicro(_TransNAS):
    """4,096 cells, each the six digits of `EDGES`: 0 none, 1 skip, 2 and 3 convolutions of 1 x 1 and 3 x 3.

    The skeleton is the benchmark's only one for cells, so that no other is in the grammar.
    """

    name = "transnas-micro"
    example = "64-41414-1_02_333"

    def parse(self, code: str) -> str:
        """See `SearchSpace.parse`; six digits."""
        skeleton, cell = _parts(self, code)
        if skeleton != MICRO_SKELETON:
            raise self.refuse(code, f'the skeleton is "{skeleton[:20]}", must be "{MICRO_SKELETON}"')
        groups = cell.split("_")
        if len(groups) != 3:
            raise self.refuse(code, f"the cell must have 3 groups joined by '_', found {len(groups)}")
        for node, group in enumerate(groups, start=1):
            if len(group) != node:
                raise self.refuse(
                    code, f"group {node} of the cell must have {node} digits, found {len(group)}"
                )
            for digit in group:
                if digit not in OPERATIONS:
                    raise self.refuse(code, f'"{digit}" in group {node} is no digit from 0 to 3')
        return "".join(groups)

    def format(self, architecture: str) -> str:
        """See `SearchSpace.format`."""
        groups = (architecture[0], architecture[1:3], architecture[3:])
        return f"{STEM_CHANNELS}-{MICRO_SKELETON}-{'_'.join(groups)}"

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        return self.format("".join(OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=len(EDGES))))

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another operation on one edge, 18 cells."""
        digits = self.parse(code)
        return [
            self.format(digits[:edge] + other + digits[edge + 1 :])
            for edge, digit in enumerate(digits)
            for other in OPERATIONS
            if other != digit
        ]

    def _skeleton(self, architecture: str) -> str:
        return MICRO_SKELETON

    def _block(
        self, writer: OnnxWriter, x: Feature, architecture: str, channels: int, stride: int, name: str
    ) -> Feature:
        """A cell: every node is the sum of its edges; those from the input change the size."""
        nodes = [x]
        edges = iter(architecture)
        for target in (1, 2, 3):
            path = f"{name}.node{target}"
            terms = [
                _edge(writer, y, next(edges), channels, 1 if source else stride, f"{path}.edge{source}")
                for source, y in enumerate(nodes)
            ]
            nodes.append(writer.sum(terms, path + ".add"))
        return nodes[-1]


def _edge(writer: OnnxWriter, x: Feature, digit: str, channels: int, stride: int, name: str) -> Feature:
    if digit == CONV3:
        return relu_conv_norm(writer, x, channels, 3, name, stride=stride)
    if digit == CONV1:
        return relu_conv_norm(writer, x, channels, 1, name, stride=stride)
    if stride == 1:
        return x if digit == SKIP else writer.zeros_like(x, name + ".zero")
    return _reduce(writer, x, channels, name) if digit == SKIP else _reduced_zeros(writer, x, name)


def _reduce(writer: OnnxWriter, x: Feature, channels: int, name: str) -> Feature:
    """Halve the resolution by two 1 x 1 convolutions, the second of which reads the pixels between."""
    x = writer.relu(x, name + ".relu")
    even = writer.conv(x, channels // 2, 1, name + ".even.conv", stride=2)
    shifted = writer.crop_corner(writer.pad_end(x, name + ".odd.pad"), name + ".odd.crop")
    odd = writer.conv(shifted, channels // 2, 1, name + ".odd.conv", stride=2)
    return writer.batch_norm(writer.concat([even, odd], name + ".concat"), name + ".norm")


def _reduced_zeros(writer: OnnxWriter, x: Feature, name: str) -> Feature:
    """Zeros of twice the channels and half the resolution that still depend on ``x``."""
    limits = [writer.integers(pair) for pair in ((0, 0), (x.height, x.width), (2, 3), (2, 2))]
    kept = writer.operator("Slice", [x.name, *limits], name + ".kept")
    half = x._replace(name=kept, height=(x.height + 1) // 2, width=(x.width + 1) // 2)
    return writer.zeros_like(writer.concat([half, half], name + ".concat"), name + ".zero")


@cache
def _skeletons() -> tuple[str, ...]:
    """All 3,256 skeletons of the macro space."""
    every = ("".join(digits) for depth in DEPTHS for digits in product("1234", repeat=depth))
    return tuple(text for text in every if _halvings(text) in HALVINGS and _doublings(text) in DOUBLINGS)


@register_space
class TransNASMacro(_TransNAS):
    """3,256 skeletons of 4 to 6 modules, of which 1 to 4 halve the resolution and 1 to 3 double the channels."""

    name = "transnas-macro"
    example = "64-1342-basic"

    def parse(self, code: str) -> str:
        """See `SearchSpace.parse`; one digit for each module."""
        skeleton, block = _parts(self, code)
        if block != "basic":
            raise self.refuse(code, f'the block is "{block[:20]}", must be "basic"')
        if len(skeleton) not in DEPTHS:
            raise self.refuse(code, f"the skeleton must have 4 to 6 digits, found {len(skeleton)}")
        for digit in skeleton:
            if digit not in ("1", "2", "3", "4"):
                raise self.refuse(code, f'"{digit}" in the skeleton is no digit from 1 to 4')
        if (halvings := _halvings(skeleton)) not in HALVINGS:
            raise self.refuse(code, f"{halvings} modules (3 or 4) halve the resolution, must be 1 to 4")
        if (doublings := _doublings(skeleton)) not in DOUBLINGS:
            raise self.refuse(code, f"{doublings} modules (2 or 4) double the channels, must be 1 to 3")
        return skeleton

    def format(self, architecture: str) -> str:
        """See `SearchSpace.format`."""
        return f"{STEM_CHANNELS}-{architecture}-basic"

    def sample(self, rng: np.random.Generator) -> str:
        """See `SearchSpace.sample`."""
        every = _skeletons()
        return self.format(every[int(rng.integers(len(every)))])

    def neighbours(self, code: str) -> list[str]:
        """See `SearchSpace.neighbours`: another kind of one module, a module less or a module more."""
        own = self.parse(code)
        places = range(len(own) + 1)
        changed = [own[:i] + digit + own[i + 1 :] for i in places[:-1] for digit in "1234"]
        shorter = [own[:i] + own[i + 1 :] for i in places[:-1]]
        longer = [own[:i] + digit + own[i:] for i in places for digit in "1234"]
        allowed = set(_skeletons()) - {own}
        return [self.format(text) for text in dict.fromkeys(changed + shorter + longer) if text in allowed]

    def _skeleton(self, architecture: str) -> str:
        return architecture

    def _block(
        self, writer: OnnxWriter, x: Feature, architecture: str, channels: int, stride: int, name: str
    ) -> Feature:
        """Two pre-activated 3 x 3 convolutions beside a shortcut."""
        y = relu_conv_norm(writer, x, channels, 3, name + ".conv0", stride=stride)
        y = relu_conv_norm(writer, y, channels, 3, name + ".conv1")
        if stride > 1 or channels != x.channels:
            x = writer.conv(x, channels, 1, name + ".shortcut.conv", stride=stride)
            # The reference hands a flag on as epsilon: the trained networks have 1.0 here.
            x = writer.batch_norm(x, name + ".shortcut.norm", epsilon=1.0)
        return writer.add(x, y, name + ".add")
