"""The benchmark of compressed networks: cuts meet their budgets, and the table says what was measured."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from aiop.search.editing.coupling import coupling
from aiop.search.editing.network import EditableNetwork
from benchmarks.compress import measuring
from benchmarks.compress.methods import METHODS
from benchmarks.compress.networks import NETWORKS, make
from benchmarks.compress.originals import export
from benchmarks.compress.table import Measured, lines
from benchmarks.compress.training import Images, Plan, _zoomed


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_names_ten_classes(kind):
    network = make(kind, seed=0).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    again = make(kind, seed=0).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


@pytest.fixture(scope="module")
def resnet():
    return EditableNetwork.read(export(make("resnet", seed=0)), name="resnet")


@pytest.mark.parametrize("method", ["uniform", "magnitude", "random"])
@pytest.mark.parametrize("level", [0.7, 0.5])
def test_cuts_meet_their_budgets(resnet, method, level):
    cut = METHODS[method](resnet, level, 0, None)
    cut.check(like=resnet)
    assert (level - 0.06) * resnet.macs < cut.macs <= level * resnet.macs


def test_uniform_takes_the_same_share_of_every_group(resnet):
    cut = METHODS["uniform"](resnet, 0.5, 0, None)
    before, after = coupling(resnet).groups, coupling(EditableNetwork.read(cut.proto())).groups
    shares = [after[where].units / before[where].units for where in before]
    assert max(shares) - min(shares) < 0.3  # up to rounding to eights
    assert 0.5 < sum(shares) / len(shares) < 0.9  # costs fall with the square of the widths


def test_magnitude_takes_small_channels_first(resnet):
    weak = EditableNetwork.read(resnet.proto())
    value = weak.graph.initializers["features.1.branch.0.0.weight"]
    weak.derive(value, tuple(value.shape), lambda array: array * ([[[[1.0]]]] * 12 + [[[[1e-4]]]] * 12))
    cut = METHODS["magnitude"](EditableNetwork.read(weak.proto()), 0.9, 0, None)
    kept = cut.graph.initializers["features.1.branch.0.0.weight"].const_value.numpy()
    norms = (kept**2).sum(axis=(1, 2, 3))
    assert (norms > 1e-3).sum() == 12
    assert len(norms) <= 13  # one of the weak ones may come back to use the budget up


def test_a_crop_grows_to_the_whole_picture():
    pictures = torch.rand(2, 3, 64, 64)
    boxes = torch.tensor([[10.0, 20.0, 30.0, 50.0], [0.0, 0.0, 20.0, 20.0]])
    torch.testing.assert_close(_zoomed(pictures, boxes, 1.0), pictures, atol=1e-4, rtol=0)
    column = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)  # brightness is where a pixel comes from
    crop = _zoomed(column, boxes[:1], 0.0)[0, 0, 0]
    # 1.2 times the height of 30 around the middle at 20: 2 to 38 pixels
    assert float(crop[0]) * 64 == pytest.approx(2, abs=1)
    assert float(crop[-1]) * 64 == pytest.approx(38, abs=1)


def test_the_table_is_of_means_over_networks_and_seeds():
    measured = [
        Measured(kind, method, level, seed, level, 0.8, 50.0, after + seed)
        for kind, shift in (("a", 0), ("b", 10))
        for method, level, after in (
            ("original", 1.0, 80 + shift), ("one", 0.7, 70 + shift), ("two", 0.7, 60 + 2 * shift),
        )
        for seed in (0, 1)
    ]  # fmt: skip
    measured.append(Measured("c", "one", 0.7, 0, 0.7, 0.8, 50.0, 1.0))  # misses the other method
    text = "\n".join(lines(measured, {"a": 79.0, "b": 89.0, "c": 0.0}, ["one", "two"]))
    assert "2 networks, 2 fine-tunings" in text
    assert "| original | 1 | 84.0 | 85.5 | 1 | |" in text
    assert "| one, at most 70% | 0.700 | 50.0 | 75.5 | 0.80 | 2 of 2 |" in text
    assert "| two, at most 70% | 0.700 | 50.0 | 70.5 | 0.80 | 1 of 2 |" in text  # b: a draw
    assert (
        "0.71 points; of a mean over 2 networks and 2 fine-tunings 0.35" in text
    )  # sqrt(1/2), and half of it


@pytest.mark.skipif(importlib.util.find_spec("onnx2torch") is None, reason="onnx2torch is not installed")
def test_a_cut_is_fine_tuned_and_measured(resnet, monkeypatch):
    monkeypatch.setattr(measuring, "FINE_TUNING", Plan(steps=2, rate=1e-3, batch=4))
    images = torch.randint(0, 256, (16, 3, 64, 64), dtype=torch.uint8)
    classes, boxes = torch.arange(16) % 10, torch.tensor([[0.0, 0.0, 40.0, 40.0]] * 16)
    scenes = Images(images, classes, boxes, images[:8], classes[:8])
    cut = METHODS["uniform"](resnet, 0.5, 0, None).proto()
    assert measuring.fine_tuned(cut, scenes, 0) == measuring.fine_tuned(cut, scenes, 0)
    assert 0.2 < measuring.latency_ratio(cut, resnet.proto(), blocks=2) < 1.5
