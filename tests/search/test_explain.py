"""Gradients with respect to the widths of networks, against arithmetic and against networks that were changed."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import aiop
from aiop.cli.main import app
from aiop.errors import AiopError
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, encode
from aiop.predictor.gradient import FeatureGradient, feature_gradient
from aiop.search.editing.network import EditableNetwork
from aiop.search.explain import explain, width_effects
from aiop.search.mutations.width import prune
from aiop.search.widths import width_features
from aiop.tasks import get_space

RESNET18 = Path(__file__).resolve().parents[2] / "examples" / "resnet18.onnx"
IMAGENET = "classification/timm/imagenet-top1"


def chain(*channels, depthwise=False):
    """Convolutions of 3 x 3 one after the other on 8 x 8 images, each but the last with an activation."""
    nodes, weights, x = [], [], "image"
    for place, (before, after) in enumerate(pairwise(channels)):
        groups = before if depthwise and place == 1 else 1
        shape = (after, before // groups, 3, 3)
        weights.append(numpy_helper.from_array(np.ones(shape, np.float32), f"w{place}"))
        nodes.append(
            helper.make_node(
                "Conv", [x, f"w{place}"], [f"y{place}"], f"conv{place}", pads=[1] * 4, group=groups
            )
        )
        x = f"y{place}"
        if place < len(channels) - 2:
            nodes.append(helper.make_node("Relu", [x], [f"z{place}"], f"relu{place}"))
            x = f"z{place}"
    size = [1, channels[0], 8, 8], [1, channels[-1], 8, 8]
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("image", TensorProto.FLOAT, size[0])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, size[1])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return EditableNetwork.read(model, name="chain")


def of(graph=None, node=None, value=50.0):
    """A gradient that knows some features by name."""

    def differentiate(arrays):
        found = FeatureGradient(value, np.zeros(arrays.node.shape), np.zeros(len(GRAPH_FEATURES)))
        for name, weight in (graph or {}).items():
            found.graph[GRAPH_FEATURES.index(name)] = weight
        for name, weight in (node or {}).items():
            found.node[:, NODE_FEATURES.index(name)] = weight
        return found

    return differentiate


def test_a_known_gradient():
    """The value is twice log2(1 + MACs) and thrice the sum of log2(1 + channels written) of all operations."""
    network = chain(3, 16, 24, 32)
    macs = [64 * 9 * before * after for before, after in ((3, 16), (16, 24), (24, 32))]
    total = sum(macs)
    grown = [(macs[0] + macs[1]), (macs[1] + macs[2])]
    features, _, effects, rate = width_effects(
        network, of(graph={"log_macs": 2.0}, node={"log_channels_out": 3.0})
    )
    assert features.total_macs == total
    assert [(item.layer, item.width) for item in effects] == [("conv0", 16), ("conv1", 24)]
    expected = []
    for own, channels, item in zip(grown, (16, 24), effects, strict=True):
        # a convolution and the activation after it write so many channels
        slope = 2 * own / (1 + total) / math.log(2) + 3 * 2 * channels / (1 + channels) / math.log(2)
        expected.append(slope)
        assert item.value_per_10 == pytest.approx(slope * math.log(1.1), rel=1e-3)
        assert item.macs_share == pytest.approx(own / total)
        assert item.macs_per_10 == pytest.approx(own * math.log(1.1))
        assert item.value_per_percent_macs == pytest.approx(slope / (100 * own / total), rel=1e-3)
    assert rate == pytest.approx(sum(expected) / (100 * sum(grown) / total), rel=1e-3)
    params = [9 * (3 * 16 + 16 * 24), 9 * (16 * 24 + 24 * 32)]
    np.testing.assert_allclose(features.params, params)


def test_advice_follows_the_exchange_rate_and_the_direction():
    """Only the 16 channels of the first convolution matter: MACs of the others buy nothing."""
    network = chain(3, 16, 64, 24, 8)

    def gradient(arrays):
        found = of()(arrays)
        column = NODE_FEATURES.index("log_channels_out")
        found.node[np.isclose(arrays.node[:, column], math.log2(17), atol=0.01), column] = 1.0
        return found

    more = {item.layer: item.advice for item in width_effects(network, gradient)[2]}
    assert more == {"conv0": "widen", "conv1": "cut", "conv2": "cut"}
    less = {item.layer: item.advice for item in width_effects(network, gradient, "min")[2]}
    assert less == {"conv0": "cut", "conv1": "widen", "conv2": "widen"}
    same = {item.advice for item in width_effects(network, of())[2]}
    assert same == {"keep"}


def test_a_depthwise_convolution_grows_once():
    network = chain(3, 16, 16, 24, depthwise=True)
    features = width_features(network)
    assert [group.where for group in features.groups] == ["conv0"]
    own = 64 * 9 * (3 * 16 + 16 + 16 * 24)
    assert features.macs[0] == pytest.approx(own)
    assert features.total_macs == own
    groups = NODE_FEATURES.index("log_groups")
    assert (features.node[:, groups, 0] > 0).sum() == 1
    assert features.node[:, groups, 0].max() == pytest.approx(1 / math.log(2))


@pytest.mark.parametrize("space", ["ofa-mbv3", "nas-bench-mr", "nats-size"])
def test_features_change_as_those_of_thinner_networks(space):
    network = EditableNetwork.read(f"{space}:{get_space(space).example}", fill=0)
    features = width_features(network)
    checked = 0
    for number in np.linspace(0, len(features.groups) - 1, 4).astype(int):
        group = features.groups[number]
        kept = group.units - (8 if group.units >= 32 and group.units % 8 == 0 else max(1, group.units // 16))
        thinner = network.clone()
        prune(thinner, {group.where: kept / group.units}, importance="first")
        thinner.infer()
        step = math.log(kept / group.units)
        arrays = encode(thinner.compute_graph())
        for name, now, before, slope in (
            ("node", arrays.node, features.arrays.node, features.node[:, :, number]),
            ("graph", arrays.graph, features.arrays.graph, features.graph[:, number]),
        ):
            change = now.astype(float) - before.astype(float)
            if name == "graph":  # of several widest layers one alone changes nothing
                wide = np.array([feature.endswith("_wide") for feature in GRAPH_FEATURES])
                change, slope = change[~wide], slope[~wide]
            # half precision, and the second order
            tolerance = 0.02 + 0.6 * step**2 + 0.12 * np.abs(slope * step)
            assert (np.abs(change - slope * step) <= tolerance).all(), (group.where, name)
        checked += 1
    assert checked == 4


@pytest.fixture(scope="module")
def resnet():
    return EditableNetwork.read(RESNET18)


@pytest.fixture(scope="module")
def explanation(resnet):
    return explain(resnet, aiop.load(), IMAGENET)


def test_the_predictor_says_so_of_thinner_networks(resnet, explanation):
    predictor = aiop.load()
    card, column = predictor.task_card(IMAGENET), predictor.names.index(IMAGENET)

    def scaled(network):
        return float(predictor.corrected(predictor.views([network.compute_graph()]))[0, column])

    at = scaled(resnet)
    low, high = card.scaler.inverse(np.array([at - 0.25, at + 0.25]))
    effects = {item.layer: item for item in explanation.widths}
    for layer, kept in (("conv1", 56), ("layer2.0.conv1", 120), ("layer4.0.conv2", 504)):
        thinner = resnet.clone()
        prune(thinner, {layer: kept / effects[layer].width}, importance="first")
        thinner.infer()
        step = math.log(thinner_width(thinner, layer) / effects[layer].width)
        change = (scaled(thinner) - at) / step * (high - low) / 0.5
        assert effects[layer].value_per_10 / math.log(1.1) == pytest.approx(change, rel=0.2)
    assert explanation.value == pytest.approx(predictor.predict(RESNET18, IMAGENET)[IMAGENET].value, abs=0.01)


def thinner_width(network, layer):
    return network.shape(network.node(layer).outputs[0])[1]


def test_one_task_of_the_predictor_with_an_expert_and_one_without(resnet):
    predictor = aiop.load()
    columns = {column for blend in predictor.blends for column in blend.columns}
    assert columns
    arrays = encode(resnet.compute_graph())
    with_expert = predictor.names[min(columns)]
    found = feature_gradient(predictor, arrays, with_expert)
    assert found.node.shape == arrays.node.shape
    assert np.abs(found.graph).max() > 0
    assert np.isfinite(found.graph).all()
    with pytest.raises(AiopError, match="knows no task"):
        feature_gradient(predictor, arrays, "no/such/task")


def test_the_report(explanation):
    assert [item.layer for item in explanation.widths][:2] == ["conv1", "layer1.0.conv1"]
    assert explanation.widths[0].width == 64
    assert explanation.macs == 1_814_073_344
    plain = json.loads(json.dumps(explanation.to_dict()))
    assert plain["widths"][0]["layers"][0] == "conv1"
    root = ElementTree.fromstring(explanation.to_svg())
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any("layer4.0.conv2" in text for text in texts)
    assert sum(text.startswith(("▲", "▼")) for text in texts) == sum(
        item.advice != "keep" for item in explanation.widths
    )


def test_a_network_without_widths_is_refused():
    network = chain(3, 16)
    with pytest.raises(AiopError, match="no width that could change"):
        explain(network, aiop.load(), IMAGENET)


def test_command(tmp_path):
    path = tmp_path / "resnet.svg"
    run = CliRunner().invoke(
        app,
        ["explain", str(RESNET18), "--task", "imagenet/top1", "-o", str(path), "--json"],
        catch_exceptions=False,
    )
    assert run.exit_code == 0
    report = json.loads(run.stdout)
    assert report["task"] == IMAGENET
    assert report["out"] == str(path)
    ElementTree.parse(path)
    run = CliRunner().invoke(
        app, ["explain", str(RESNET18), "--task", "imagenet/top1"], catch_exceptions=False
    )
    assert "layer4.0.conv2" in run.stdout
    for arguments, cause in (
        (["--task", "imagenet/top1", "-o", "picture.png"], ".svg"),
        (["--task", "no-such-task"], "no task"),
    ):
        run = CliRunner().invoke(app, ["explain", str(RESNET18), *arguments])
        assert run.exit_code == 1
        assert cause in run.output
        assert len(run.output.strip().splitlines()) == 1
