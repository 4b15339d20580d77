"""GAIA's detectors against published counts and references in torch and numpy."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch.nn import functional

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.tasks import get_space
from aiop.tasks.spaces.detection import PROPOSALS, box_head, pool_regions
from aiop.tasks.spaces.gaia_det import Detector, GaiaDet
from aiop.tasks.spaces.writer import OnnxWriter

SPACE = GaiaDet()
Array = NDArray[np.float32]
# Its stages end at 28, 14, 7 and 4 pixels: one resize is not by two. 2,352 + 588 + 147 + 48 + 12 anchors.
SMALL = Detector(112, 8, (4, 8, 12, 16), (1, 2, 3, 1))
SIDES = (28, 14, 7, 4, 2)


def run(network: onnx.ModelProto, names: list[str], image: Array) -> dict[str, Array]:
    """Values of any tensors of a network."""
    declared = {output.name for output in network.graph.output}
    for name in names:
        if name not in declared:
            network.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(network.SerializeToString())
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


# ---- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "convolutions", "params", "body"),
    [
        ("3,480,480/48/80,160,320,640/4,6,29,4", 95_885_028_096, 103_574_076, 84_775_792),
        ("3,800,800/48/48,96,192,384/4,2,23,3", 121_333_449_216, 41_958_716, 23_651_952),
    ],
)
def test_worked_examples(code: str, convolutions: int, params: int, body: int) -> None:
    graph = read_onnx(SPACE.build(code))
    counted = {
        kind: sum(operation.macs for operation in graph.operations if operation.op == kind)
        for kind in ("Conv", "Linear")
    }
    assert counted == {"Conv": convolutions, "Linear": 14_611_456_000}
    assert (graph.macs, graph.params) == (convolutions + 14_611_456_000, params)
    # The classifier has the same body; a fully connected layer reads its last stage.
    last = 4 * int(code.split("/")[2].split(",")[-1])
    assert read_onnx(SPACE.build(code, "imagenet")).params == body + 1000 * last + 1000


def test_levels_propose_their_thousand_best_anchors() -> None:
    tensors = read_onnx(SPACE.build("3,480,480/48/80,160,320,640/4,6,29,4")).tensors
    # 3 anchors at each of 120, 60, 30, 15 and 8 squared places
    anchors = [tensors[f"rpn.level{level}.score.flat"].elements for level in range(5)]
    assert anchors == [43_200, 10_800, 2_700, 675, 192]
    chosen = [tensors[f"rpn.level{level}.chosen"].shape for level in range(5)]
    assert chosen == [(1000, 4), (1000, 4), (1000, 4), (675, 4), (192, 4)]
    assert tensors["rpn.proposal"].shape == (1000, 4)


def test_weights_of_the_proposal_network_are_written_once() -> None:
    graph = SPACE._write(SMALL, "small", SPACE.form("coco"), "random", 0).graph
    stored = {w.name: tuple(w.dims) for w in graph.initializer if w.name.startswith("rpn.")}
    assert stored == {
        "rpn.conv.weight": (256, 256, 3, 3),
        "rpn.conv.bias": (256,),
        "rpn.objectness.weight": (3, 256, 1, 1),
        "rpn.objectness.bias": (3,),
        "rpn.deltas.weight": (12, 256, 1, 1),
        "rpn.deltas.bias": (12,),
    }
    readers = [node.name for node in graph.node if "rpn.conv.weight" in node.input]
    assert len(readers) == 5
    # Nothing that is stored with the anchors or the boxes is large, or could be taken for a trained tensor.
    others = {w.name: w for w in graph.initializer if not w.name.endswith((".weight", ".bias"))}
    others = {k: w for k, w in others.items() if not k.endswith((".scale", ".shift")) and "running" not in k}
    assert max(math.prod(w.dims) for w in others.values()) <= PROPOSALS
    assert all(w.data_type == onnx.TensorProto.INT64 or not w.dims for w in others.values())


# ---- the network as a function -----------------------------------------------------------------------------


def small_network() -> tuple[onnx.ModelProto, dict[str, torch.Tensor]]:
    """A small detector whose biases and norms are random too, and its weights by name."""
    network = SPACE._write(SMALL, "small", SPACE.form("coco"), "random", 3)
    rng = np.random.default_rng(4)
    weights = {}
    for tensor in network.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name.endswith((".bias", ".shift")) or tensor.name.startswith("running_mean"):
            values = rng.normal(0, 0.1, values.shape).astype(np.float32)
        elif tensor.name.endswith(".scale") or tensor.name.startswith("running_variance"):
            values = rng.uniform(0.5, 1.5, values.shape).astype(np.float32)
        if tensor.name in ("rpn.deltas.weight", "rpn.objectness.weight"):
            values = values * np.float32(0.005)  # boxes that are neither empty nor the whole image
        if tensor.name == "box.deltas.weight":
            values = values * np.float32(0.1)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        weights[tensor.name] = torch.from_numpy(values.copy())
    return network, weights


def reference_pyramid(image: torch.Tensor, weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """ResNet of bottlenecks and feature pyramid, as the paper and MMDetection describe them."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        size = x.shape[1]
        mean, variance = weights[f"running_mean.{size}"], weights[f"running_variance.{size}"]
        scale, shift = weights[name + ".norm.scale"], weights[name + ".norm.shift"]
        return functional.batch_norm(x, mean, variance, scale, shift, eps=1e-5)

    def unit(x: torch.Tensor, name: str, stride: int = 1, padding: int = 0) -> torch.Tensor:
        x = functional.conv2d(x, weights[name + ".conv.weight"], stride=stride, padding=padding)
        return norm(x, name)

    x = functional.relu(unit(image, "stem", 2, 3))
    x = functional.max_pool2d(x, 3, 2, 1)
    stages = []
    for stage, depth in enumerate(SMALL.depth):
        for block in range(depth):
            name = f"stage{stage + 1}.block{block}"
            stride = 2 if stage and not block else 1
            y = functional.relu(unit(x, name + ".reduce"))
            y = functional.relu(unit(y, name + ".spatial", stride, 1))
            y = unit(y, name + ".expand")
            x = functional.relu(y + (x if block else unit(x, name + ".shortcut", stride)))
        stages.append(x)

    def conv(x: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        return functional.conv2d(x, weights[name + ".weight"], weights[name + ".bias"], padding=padding)

    laterals = [conv(x, f"pyramid.lateral{level}", 0) for level, x in enumerate(stages, start=2)]
    for i in (2, 1, 0):
        laterals[i] = laterals[i] + functional.interpolate(laterals[i + 1], size=laterals[i].shape[2:])
    levels = [conv(x, f"pyramid.level{level}", 1) for level, x in enumerate(laterals, start=2)]
    return [*levels, levels[-1][:, :, ::2, ::2]]


def decoded(anchors: NDArray[np.float64], deltas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes ``(n, 4)`` from corners of anchors and deltas, clipped to the small image."""
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    x = (anchors[:, 0] + anchors[:, 2]) / 2 + deltas[:, 0] * width
    y = (anchors[:, 1] + anchors[:, 3]) / 2 + deltas[:, 1] * height
    limit = abs(np.log(16 / 1000))
    width = width * np.exp(np.clip(deltas[:, 2], -limit, limit))
    height = height * np.exp(np.clip(deltas[:, 3], -limit, limit))
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    return np.clip(corners, 0, SMALL.side)


def reference_proposals(values: dict[str, Array]) -> NDArray[np.float64]:
    """The best anchors of every level, then of all, decoded: loops over a list of all anchors."""
    scores, boxes = [], []
    for level, side in enumerate(SIDES):
        stride = 4 * 2**level
        score = values[f"rpn.level{level}.sigmoid"][0]  # (3, side, side)
        delta = values[f"rpn.level{level}.deltas"][0].reshape(3, 4, side, side)
        flat_scores, anchors, deltas = [], [], []
        for row in range(side):
            for column in range(side):
                for i, ratio in enumerate((0.5, 1.0, 2.0)):
                    width, height = 8 * stride / math.sqrt(ratio), 8 * stride * math.sqrt(ratio)
                    x, y = column * stride, row * stride
                    anchors.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
                    flat_scores.append(score[i, row, column])
                    deltas.append(delta[i, :, row, column])
        order = np.argsort(-np.asarray(flat_scores), kind="stable")[:1000]
        scores.append(np.asarray(flat_scores)[order])
        boxes.append(decoded(np.asarray(anchors)[order], np.asarray(deltas, dtype=np.float64)[order]))
    best = np.argsort(-np.concatenate(scores), kind="stable")[:1000]
    return np.concatenate(boxes)[best]


def reference_align(feature: Array, box: Array, stride: int) -> Array:
    """RoIAlign of one box on ``(C, H, W)``: the mean of bilinear samples, as many as fit a bin at steps below 1."""
    sides = (box.astype(np.float32) * np.float32(1 / stride)).reshape(2, 2)
    taps = []
    for axis in (1, 0):  # rows, columns
        start, size = sides[0, axis] - np.float32(0.5), sides[1, axis] - sides[0, axis]
        count = math.ceil(size / 7)
        extent = feature.shape[1 if axis else 2]
        places = start + size / 7 * (np.arange(7 * count) + 0.5) / count
        places = np.clip(places, 0, extent - 1)
        weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(extent)))
        taps.append(weights.reshape(7, count, extent).mean(axis=1))
    return np.einsum("ph,chw,qw->cpq", taps[0], feature, taps[1])


def test_small_detector_against_references() -> None:
    network, weights = small_network()
    image = np.random.default_rng(5).standard_normal((1, 3, 112, 112), dtype=np.float32)
    names = [f"pyramid.level{level}" for level in range(2, 7)]
    for level in range(5):
        names += [f"rpn.level{level}.{tensor}" for tensor in ("sigmoid", "deltas")]
    names += ["rpn.proposal", "roi.level3.select", "box.deltas", "logits", "boxes"]
    values = run(network, names, image)

    pyramid = reference_pyramid(torch.from_numpy(image), weights)
    assert [tuple(x.shape) for x in pyramid] == [(1, 256, side, side) for side in SIDES]
    for level, x in enumerate(pyramid):
        expected = x.numpy()
        np.testing.assert_allclose(
            values[f"pyramid.level{level + 2}"], expected, rtol=1e-4, atol=1e-5 * expected.std()
        )
        hidden = functional.conv2d(x, weights["rpn.conv.weight"], weights["rpn.conv.bias"], padding=1).relu()
        score = functional.conv2d(hidden, weights["rpn.objectness.weight"], weights["rpn.objectness.bias"])
        delta = functional.conv2d(hidden, weights["rpn.deltas.weight"], weights["rpn.deltas.bias"])
        np.testing.assert_allclose(values[f"rpn.level{level}.sigmoid"], score.sigmoid(), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(values[f"rpn.level{level}.deltas"], delta, rtol=1e-3, atol=1e-3)

    proposals = reference_proposals(values)
    np.testing.assert_allclose(values["rpn.proposal"], proposals, atol=1e-2)
    sizes = proposals[:, 2:] - proposals[:, :2]
    solid = np.flatnonzero((sizes > 1).all(axis=1))
    assert len(solid) > 300
    for i in solid[:: len(solid) // 20]:
        level = min(max(math.floor(math.log2(math.sqrt(sizes[i].prod()) / 56)), 0), 3)
        feature = values[f"pyramid.level{level + 2}"][0]
        expected = reference_align(feature, values["rpn.proposal"][i], 4 * 2**level)
        np.testing.assert_allclose(
            values["roi.level3.select"][i], expected, rtol=1e-3, atol=1e-3 * feature.std()
        )

    x = torch.from_numpy(values["roi.level3.select"]).flatten(1)
    for number in (0, 1):
        x = functional.linear(x, weights[f"box.linear{number}.weight"], weights[f"box.linear{number}.bias"])
        x = x.relu()
    logits = functional.linear(x, weights["box.classifier.weight"], weights["box.classifier.bias"]).numpy()
    deltas = functional.linear(x, weights["box.deltas.weight"], weights["box.deltas.bias"]).numpy()
    np.testing.assert_allclose(values["logits"], logits, rtol=1e-3, atol=1e-4 * logits.std())
    np.testing.assert_allclose(values["box.deltas"], deltas, rtol=1e-3, atol=1e-4 * deltas.std())
    scaled = values["box.deltas"].astype(np.float64) * (0.1, 0.1, 0.2, 0.2)
    refined = decoded(values["rpn.proposal"].astype(np.float64), scaled)
    np.testing.assert_allclose(values["boxes"], refined, atol=1e-2)
    assert refined.std(axis=0).min() > 10


def test_regions_are_pooled_from_the_level_of_their_size() -> None:
    cases = [
        ((100, 60, 130, 90), 0),  # side 30
        ((0, 0, 111.5, 111.5), 0),
        ((0, 0, 112.5, 112.5), 1),
        ((10, 400, 470, 440), 1),  # side sqrt(460 * 40) = 135.6
        ((3.3, 200.7, 223, 479.5), 2),
        ((7, 9, 230, 233), 1),  # side 223.5
        ((16, 16, 464, 465), 3),
        ((0, 0, 480, 480), 3),
        ((250, 240, 250.5, 240.25), 0),
    ]
    boxes = np.zeros((PROPOSALS, 4), dtype=np.float32)
    boxes[: len(cases)] = [box for box, _ in cases]
    writer = OnnxWriter("regions", 3, 480, 480)
    kernels = (4, 8, 16, 32)
    pyramid = [writer.max_pool(writer.image, k, f"level{k}", stride=k) for k in kernels]
    regions = pool_regions(writer, pyramid, writer.constant("corners", boxes))
    network = writer.finish({regions.name: (PROPOSALS, 3, 7, 7)})
    image = np.random.default_rng(6).standard_normal((1, 3, 480, 480), dtype=np.float32)
    values = run(network, [regions.name, *(f"level{k}" for k in kernels)], image)
    for i, (_, level) in enumerate(cases):
        feature = values[f"level{kernels[level]}"][0]
        expected = reference_align(feature, boxes[i], kernels[level])
        np.testing.assert_allclose(values[regions.name][i], expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(values[regions.name]).all()


def test_boxes_grow_to_at_most_a_thousand_sixteenths() -> None:
    writer = OnnxWriter("head", 1, 7, 7, batch=PROPOSALS)
    boxes = np.tile(np.asarray([[3.48, 3.38, 3.52, 3.42]], dtype=np.float32), (PROPOSALS, 1))
    network = writer.finish(box_head(writer, writer.image, writer.constant("corners", boxes), 4, 5))
    (bias,) = (tensor for tensor in network.graph.initializer if tensor.name == "box.deltas.bias")
    bias.CopyFrom(numpy_helper.from_array(np.asarray([0, 100, 30, -30], dtype=np.float32), bias.name))
    values = run(network, ["boxes"], np.zeros((PROPOSALS, 1, 7, 7), dtype=np.float32))
    # Sides of 0.04: up by 100 / 10 of the height, 62.5 times as wide, 62.5 times less high.
    expected = (3.5 - 1.25, 3.8 - 0.00032, 3.5 + 1.25, 3.8 + 0.00032)
    np.testing.assert_allclose(values["boxes"][0], expected, atol=1e-4)


def test_smallest_architecture_runs() -> None:
    code = "3,480,480/32/48,96,192,384/2,2,5,2"
    network = SPACE.build(code, weights="random", seed=1)
    image = np.random.default_rng(7).standard_normal((1, 3, 480, 480), dtype=np.float32)
    values = run(network, ["logits", "boxes"], 1e-3 * image)
    assert {name: value.shape for name, value in values.items()} == SPACE.output_shapes(code)
    assert all(np.isfinite(value).all() for value in values.values())
    boxes = values["boxes"]
    assert (boxes >= 0).all()
    assert (boxes <= 480).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    assert len(np.unique(values["logits"], axis=0)) > 500


# ---- the grammar -------------------------------------------------------------------------------------------


def test_neighbours_change_one_number() -> None:
    found = SPACE.neighbours("3,480,480/48/80,160,320,640/4,6,29,4")
    # 4 sides, 2 stems, 2 of each width, and depths of 3, 3, 13 and 3 choices.
    assert len(found) == 4 + 2 + 4 * 2 + 2 + 2 + 12 + 2
    assert "3,800,800/48/80,160,320,640/4,6,29,4" in found
    assert "3,480,480/48/80,160,192,640/4,6,29,4" in found
    assert "3,480,480/48/80,160,320,640/4,6,5,4" in found
    assert not {code for code in found if not code.startswith("3,480,480/48/80")} - {
        *(f"3,{side},{side}/48/80,160,320,640/4,6,29,4" for side in (560, 640, 720, 800)),
        *(f"3,480,480/{stem}/80,160,320,640/4,6,29,4" for stem in (32, 64)),
        *(f"3,480,480/48/{width},160,320,640/4,6,29,4" for width in (48, 64)),
    }


def test_samples_use_every_choice() -> None:
    rng = np.random.default_rng(0)
    drawn = [SPACE.parse(SPACE.sample(rng)) for _ in range(500)]
    assert {detector.side for detector in drawn} == {480, 560, 640, 720, 800}
    assert {detector.stem for detector in drawn} == {32, 48, 64}
    assert {detector.width[2] for detector in drawn} == {192, 256, 320}
    assert {detector.depth[2] for detector in drawn} == set(range(5, 31, 2))
    assert {detector.depth[1] for detector in drawn} == {2, 4, 6}


def test_the_code_holds_the_input() -> None:
    code = "3,720,720/32/48,96,192,384/2,2,5,2"
    assert get_space("gaia-det").input_shape(code) == (1, 3, 720, 720)
    assert SPACE.output_shapes(code) == {"logits": (1000, 697), "boxes": (1000, 4)}
    assert SPACE.output_shapes(code, "imagenet") == {"logits": (1, 1000)}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("48/80,160,320,640/4,6,29,4", "expected 4 columns .* found 3"),
        ("3,480,480/48/80,160,320,640/4,6,29,4/", "expected 4 columns .* found 5"),
        ("480,480/48/80,160,320,640/4,6,29,4", "input_shape must have 3 numbers, found 2"),
        ("3,480,480/48,48/80,160,320,640/4,6,29,4", "stem must have 1 numbers, found 2"),
        ("3,480,560/48/80,160,320,640/4,6,29,4", "must be square, found 480 x 560"),
        ("1,480,480/48/80,160,320,640/4,6,29,4", 'number 0 of input_shape is "1", must be one of 3'),
        ("3,500,500/48/80,160,320,640/4,6,29,4", 'number 1 of input_shape is "500"'),
        ("3,480,480/40/80,160,320,640/4,6,29,4", 'number 0 of stem is "40", must be one of 32, 48, 64'),
        ("3,480,480/48/80,160,480,640/4,6,29,4", 'number 2 of width is "480", must be one of 192, 256, 320'),
        ("3,480,480/48/80,160,320,640/4,6,28,4", 'number 2 of depth is "28", must be one of 5, 7, 9'),
        ("3,480,480/48/80,160,320,640/4,5,29,4", 'number 1 of depth is "5", must be one of 2, 4, 6'),
        ("3,480,480/048/80,160,320,640/4,6,29,4", 'number 0 of stem is "048"'),
        ("3,480,480/+48/80,160,320,640/4,6,29,4", r'number 0 of stem is "\+48"'),
        ("3,480,480/48/80, 160,320,640/4,6,29,4", 'number 1 of width is " 160"'),
        ("3,480,480/٤٨/80,160,320,640/4,6,29,4", "number 0 of stem"),
        ("3,480,480/" + "9" * 5000 + "/80,160,320,640/4,6,29,4", f'number 0 of stem is "{"9" * 20}"'),
        ("3,480,480/48/80,160,320,640/4,6,29,", 'number 3 of depth is ""'),
    ],
)
def test_refusals_name_the_defect(code: str, reason: str) -> None:
    with pytest.raises(AiopError, match=reason):
        SPACE.parse(code)
