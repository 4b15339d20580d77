"""Two-stage detection on a feature pyramid: region proposals, RoIAlign, box head (Ren et al. 2015, Lin et al. 2017).

The order of operations and all constants are those of MMDetection 2.x at test time, with one difference: nothing is
suppressed. The number of boxes that survive non-maximum suppression depends on the image, so the proposals here are
the `PROPOSALS` best ones, overlapping and empty ones included, and every shape is static. Suppression, by class and
at the end, is left to whoever reads the outputs.

Anchors are no tables but arithmetic on the positions of the selected scores. The file therefore stays small, and holds
no constant of floating-point numbers that could be taken for a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from onnx import TensorProto

from aiop.tasks.spaces.writer import OUTPUT, Feature, OnnxWriter

__all__ = ["BOXES", "PROPOSALS", "box_head", "pool_regions", "region_proposals"]

_FLOAT = TensorProto.FLOAT
_INT64 = TensorProto.INT64

#: Name of the output that holds corners ``x1, y1, x2, y2`` in pixels of the image.
BOXES = "boxes"
#: Boxes that the second stage sees; also the most that one level of the pyramid can propose.
PROPOSALS = 1000
#: One anchor per aspect ratio 1/2, 1, 2 (height by width), each of 8 x 8 strides in area.
RATIOS = 3
FIRST_STRIDE = 4
POOLED = 7
#: Regions of less than twice this side (geometric mean, pixels) are pooled from the first level.
FINEST_REGION = 56
POOLED_LEVELS = 4
#: A box is at most 1000 / 16 times as long or as short as what it is predicted from.
LARGEST_GROWTH = math.log(1000 / 16)


def region_proposals(writer: OnnxWriter, pyramid: Sequence[Feature], name: str = "rpn") -> str:
    """Region proposal network: tensor ``(PROPOSALS, 4)`` of boxes clipped to the image, best first.

    ``pyramid`` has strides 4, 8, 16, ...; the convolutions are shared by its levels. Every level proposes its
    `PROPOSALS` best anchors (or all it has), of which the best `PROPOSALS` of all levels are kept and decoded.
    """
    levels = [
        _candidates(writer, level, name, f"{name}.level{number}") for number, level in enumerate(pyramid)
    ]
    scores, indices, deltas = (
        writer.operator("Concat", tensors, f"{name}.{kind}", axis=0)
        for kind, tensors in zip(("scores", "indices", "candidates"), zip(*levels, strict=True), strict=True)
    )
    best = [name + ".best", name + ".position"]
    writer.operator("TopK", [scores, writer.integers((PROPOSALS,))], name + ".top", best, axis=0)
    chosen = writer.operator("Gather", [deltas, best[1]], name + ".chosen", axis=0)
    column = writer.operator("Reshape", [best[1], writer.integers((PROPOSALS, 1))], name + ".column")
    index = writer.operator("Gather", [indices, column], name + ".index", axis=0)
    # The level of a candidate is the number of levels that end before its position.
    ends = writer.integers(tuple(accumulate(map(_most, pyramid[:-1]))))
    beyond = writer.operator("GreaterOrEqual", [column, ends], name + ".beyond")
    beyond = writer.operator("Cast", [beyond], name + ".beyond.number", to=_INT64)
    level_of = writer.operator("ReduceSum", [beyond, writer.integers((1,))], name + ".level", keepdims=1)
    widths = writer.integers(tuple(level.width for level in pyramid))
    width = writer.operator("Gather", [widths, level_of], name + ".width", axis=0)
    centers, sizes = _anchors(writer, index, level_of, width, name + ".anchor")
    return _decode(writer, centers, sizes, chosen, name + ".proposal")


def _most(level: Feature) -> int:
    """How many anchors a level proposes."""
    return min(RATIOS * level.height * level.width, PROPOSALS)


def _candidates(writer: OnnxWriter, level: Feature, name: str, path: str) -> tuple[str, str, str]:
    """Scores, indices and deltas ``(n, 4)`` of a level's best anchors, best first."""
    x = writer.conv(level, level.channels, 3, path + ".conv", bias=True, shared=name + ".conv")
    x = writer.relu(x, path + ".relu")
    score = writer.conv(x, RATIOS, 1, path + ".objectness", bias=True, shared=name + ".objectness")
    score = writer.sigmoid(score, path + ".sigmoid")
    delta = writer.conv(x, 4 * RATIOS, 1, path + ".deltas", bias=True, shared=name + ".deltas")
    best, index = path + ".best", path + ".index"
    scores = _by_anchor(writer, score, (-1,), path + ".score")
    writer.operator("TopK", [scores, writer.integers((_most(level),))], path + ".top", [best, index], axis=0)
    deltas = _by_anchor(writer, delta, (-1, 4), path + ".delta")
    return best, index, writer.operator("Gather", [deltas, index], path + ".chosen", axis=0)


def pool_regions(writer: OnnxWriter, pyramid: Sequence[Feature], boxes: str, name: str = "roi") -> Feature:
    """RoIAlign 7 x 7 of every box on the level that its size asks for: ``(PROPOSALS, channels, 7, 7)``.

    Level ``floor(log2(sqrt(area) / 56))``, within the first four of ``pyramid``. Every level reads all boxes, those
    of other levels shrunk to nothing (as MMDetection exports it), and each result comes from its own level.
    """
    low, high = _halves(writer, boxes, name + ".box")
    size = writer.operator("Sub", [high, low], name + ".size")
    area = writer.operator("ReduceProd", [size], name + ".area", axes=(1,), keepdims=1)
    x = writer.operator("Sqrt", [area], name + ".side")
    x = writer.operator("Div", [x, _scalar(writer, FINEST_REGION)], name + ".relative")
    x = writer.operator("Add", [x, _scalar(writer, 1e-6)], name + ".positive")
    x = writer.operator("Log", [x], name + ".log")
    x = writer.operator("Div", [x, _scalar(writer, math.log(2))], name + ".log2")
    x = writer.operator("Floor", [x], name + ".floor")
    limits = [_scalar(writer, 0), _scalar(writer, POOLED_LEVELS - 1)]
    level_of = writer.operator("Clip", [x, *limits], name + ".level")

    image = writer.constant(name + ".image", np.zeros(PROPOSALS, dtype=np.int64))
    pooled = ""
    for number, level in enumerate(pyramid[:POOLED_LEVELS]):
        path = f"{name}.level{number}"
        here = writer.operator("Equal", [level_of, _scalar(writer, number)], path + ".here")
        own = writer.operator("Where", [here, boxes, _scalar(writer, 0)], path + ".boxes")
        taken = writer.operator(
            "RoiAlign",
            [level.name, own, image],
            path + ".align",
            coordinate_transformation_mode="half_pixel",
            mode="avg",
            output_height=POOLED,
            output_width=POOLED,
            sampling_ratio=0,
            spatial_scale=1 / (FIRST_STRIDE << number),
        )
        if number:
            mask = writer.operator("Unsqueeze", [here, writer.integers((2, 3))], path + ".mask")
            taken = writer.operator("Where", [mask, taken, pooled], path + ".select")
        pooled = taken
    return Feature(pooled, pyramid[0].channels, POOLED, POOLED, PROPOSALS)


def box_head(
    writer: OnnxWriter, x: Feature, boxes: str, hidden: int, classes: int, name: str = "box"
) -> dict[str, tuple[int, ...]]:
    """Two hidden layers, then the class logits and one box for all classes; returns the outputs' shapes.

    `OUTPUT` is ``(PROPOSALS, classes)``, the last class the background; `BOXES` is ``(PROPOSALS, 4)``: ``boxes``
    refined and clipped to the image.
    """
    x = writer.flatten(x, name + ".flatten")
    for number in (0, 1):
        x = writer.relu(writer.linear(x, hidden, f"{name}.linear{number}"), f"{name}.relu{number}")
    writer.linear(x, classes, name + ".classifier", output=OUTPUT)
    deltas = writer.linear(x, 4, name + ".deltas").name
    low, high = _halves(writer, boxes, name + ".proposal")
    size = writer.operator("Sub", [high, low], name + ".size")
    total = writer.operator("Add", [low, high], name + ".total")
    center = writer.operator("Mul", [total, _scalar(writer, 0.5)], name + ".center")
    _decode(writer, center, size, deltas, name + ".refined", scales=(0.1, 0.2), output=BOXES)
    return {OUTPUT: (PROPOSALS, classes), BOXES: (PROPOSALS, 4)}


# ---- boxes -------------------------------------------------------------------------------------------------


def _anchors(writer: OnnxWriter, index: str, level: str, width: str, name: str) -> tuple[str, str]:
    """Centres and sizes, each ``(n, 2)`` with x first, of the anchors at ``index`` of a ``level``.

    All three are int64 ``(n, 1)``; ``width`` is that of the level. An index counts ratios first, then columns,
    then rows. Anchors are centred on the upper left corner of their stride; their sides are
    ``8 * stride * 2 ** (+-1/2 or 0)``.
    """
    ratios, one = (
        writer.constant(f"integer.{value}", np.asarray(value, dtype=np.int64)) for value in (RATIOS, 1)
    )
    ratio = writer.operator("Mod", [index, ratios], name + ".ratio")
    cell = writer.operator("Div", [index, ratios], name + ".cell")
    column = writer.operator("Mod", [cell, width], name + ".column")
    row = writer.operator("Div", [cell, width], name + ".row")
    place = writer.operator("Concat", [column, row], name + ".place", axis=1)
    place = writer.operator("Cast", [place], name + ".place.float", to=_FLOAT)
    depth = writer.operator("Cast", [level], name + ".level.float", to=_FLOAT)
    power = writer.operator("Pow", [_scalar(writer, 2), depth], name + ".power")
    stride = writer.operator("Mul", [power, _scalar(writer, FIRST_STRIDE)], name + ".stride")
    centers = writer.operator("Mul", [place, stride], name + ".center")

    flat = writer.operator("Sub", [one, ratio], name + ".flat")
    tall = writer.operator("Sub", [ratio, one], name + ".tall")
    shape = writer.operator("Concat", [flat, tall], name + ".shape", axis=1)
    shape = writer.operator("Cast", [shape], name + ".shape.float", to=_FLOAT)
    shape = writer.operator("Pow", [_scalar(writer, math.sqrt(2)), shape], name + ".aspect")
    side = writer.operator("Mul", [stride, _scalar(writer, 8)], name + ".side")
    return centers, writer.operator("Mul", [side, shape], name + ".size")


def _decode(
    writer: OnnxWriter,
    centers: str,
    sizes: str,
    deltas: str,
    name: str,
    scales: tuple[float, float] = (1.0, 1.0),
    output: str | None = None,
) -> str:
    """Boxes ``(n, 4)`` as corners within the image, from centres and sizes ``(n, 2)`` and deltas ``(n, 4)``.

    ``scales`` are what the two kinds of deltas, shifts of the centre and logarithms of the growth, count for.
    """
    shift, growth = _halves(writer, deltas, name + ".delta")
    if scales != (1.0, 1.0):
        shift = writer.operator("Mul", [shift, _scalar(writer, scales[0])], name + ".shift.scaled")
        growth = writer.operator("Mul", [growth, _scalar(writer, scales[1])], name + ".growth.scaled")
    limits = [_scalar(writer, -LARGEST_GROWTH), _scalar(writer, LARGEST_GROWTH)]
    growth = writer.operator("Clip", [growth, *limits], name + ".growth")
    growth = writer.operator("Exp", [growth], name + ".factor")
    shift = writer.operator("Mul", [sizes, shift], name + ".shift")
    center = writer.operator("Add", [centers, shift], name + ".center")
    size = writer.operator("Mul", [sizes, growth], name + ".size")
    half = writer.operator("Mul", [size, _scalar(writer, 0.5)], name + ".half")
    low = writer.operator("Sub", [center, half], name + ".low")
    high = writer.operator("Add", [center, half], name + ".high")
    corners = writer.operator("Concat", [low, high], name + ".corners", axis=1)
    side = _scalar(writer, writer.image.height)
    return writer.operator("Clip", [corners, _scalar(writer, 0), side], name + ".clip", [output or name])


def _by_anchor(writer: OnnxWriter, x: Feature, shape: tuple[int, ...], name: str) -> str:
    """Predictions of a level, one row per anchor: ratios first, then columns, then rows of the map."""
    last = writer.operator("Transpose", [x.name], name + ".transpose", perm=(0, 2, 3, 1))
    return writer.operator("Reshape", [last, writer.integers(shape)], name + ".flat")


def _halves(writer: OnnxWriter, pairs: str, name: str) -> tuple[str, str]:
    """Split ``(n, 4)`` into the first and the last two columns."""
    first, last = name + ".first", name + ".last"
    writer.operator("Split", [pairs], name + ".split", [first, last], axis=1)
    return first, last


def _scalar(writer: OnnxWriter, value: float) -> str:
    """Name of a stored single number."""
    return writer.constant(f"scalar.{value:.9g}", np.asarray(value, dtype=np.float32))
