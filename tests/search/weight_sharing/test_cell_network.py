"""Networks of cells in PyTorch: the counts that papers print, and the outputs of the ONNX networks of the space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from aiop.errors import AiopError
from aiop.search.weight_sharing.images import Images, _cut, image_set
from aiop.search.weight_sharing.network import CellNetwork, fresh, load, weights_of
from aiop.search.weight_sharing.scratch import network_costs, train_alone
from aiop.search.weight_sharing.settings import DuelSettings
from aiop.tasks import get_space
from aiop.tasks.networks import build
from aiop.tasks.spaces.darts import DARTS_V2, PUBLISHED, RELATIVE_NAS

TWICE = "+".join(["|sep_conv_3x3~1|sep_conv_3x3~1|"] * 4)


def network(code, **settings):
    return CellNetwork(
        get_space("darts").parse(code), **{"cells": 3, "channels": 4, "classes": 10} | settings
    )


def pictures(count=40, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randn(count, 3, size, size, generator=generator) + labels[:, None, None, None] / 3
    return Images("made", images, labels, images[:20], labels[:20])


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("relative-nas", 3.93),
        ("darts-v2", 3.35),
        ("darts-v1", 3.17),
    ],  # as their papers and repositories print
)
def test_parameters_are_those_that_papers_print(name, millions):
    whole = network(PUBLISHED[name], cells=20, channels=36)
    assert round(sum(weight.numel() for weight in whole.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("code", [RELATIVE_NAS, DARTS_V2, f"{TWICE}/{TWICE}"])
def test_outputs_are_those_of_the_network_that_the_space_writes(code, tmp_path):
    path = tmp_path / "network.onnx"
    build(f"darts@search:{code}", path, weights="random", seed=3)
    proto = onnx.load(path)
    arrays = {
        one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in proto.graph.initializer
    }
    kept = [
        array
        for name, array in arrays.items()
        if not name.startswith("running") and array.is_floating_point()
    ]
    found = network(code, cells=8, channels=16, statistics=True)
    parameters = list(found.parameters())
    assert len(parameters) == len(kept)
    with torch.no_grad():
        for parameter, array in zip(parameters, kept, strict=True):
            parameter.copy_(array if array.shape == parameter.shape else array.T)
    image = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {proto.graph.input[0].name: image})
    with torch.no_grad():
        given = found.eval()(torch.from_numpy(image)).numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)


def test_names_say_where_a_weight_is_and_nothing_of_the_rest():
    one, other = (dict(network(code).named_parameters()) for code in (RELATIVE_NAS, DARTS_V2))
    # sep_conv_3x3 from source 0 at node 2 is in both normal cells, dil_conv_5x5 from 1 in the first alone.
    name = "cells.0.operations.node2-from0-sep_conv_3x3.0.depthwise.weight"
    assert name in one
    assert name in other
    assert "cells.0.operations.node2-from1-dil_conv_5x5.depthwise.weight" in set(one) - set(other)
    for shared in set(one) & set(other):
        assert one[shared].shape == other[shared].shape


def test_two_alike_inputs_of_a_node_are_two_operations():
    names = {
        name.rpartition(".operations.")[2].partition(".")[0]
        for name in weights_of(network(f"{TWICE}/{TWICE}"))
    }
    assert {"node2-from1-sep_conv_3x3", "node2-from1-sep_conv_3x3-again"} <= names


def test_fresh_weights_depend_on_their_name_alone():
    one, other = network(RELATIVE_NAS), network(DARTS_V2)
    load(one, {}, 4)
    load(other, {}, 4)
    first, second = weights_of(one), weights_of(other)
    for name in set(first) & set(second):
        assert torch.equal(first[name], second[name])
    assert not torch.equal(fresh("a.weight", torch.Size([4, 4]), 0), fresh("b.weight", torch.Size([4, 4]), 0))
    assert not torch.equal(fresh("a.weight", torch.Size([4, 4]), 0), fresh("a.weight", torch.Size([4, 4]), 1))
    drawn = fresh("a.weight", torch.Size([200, 50, 3, 3]), 0)
    assert drawn.var().item() == pytest.approx(2 / 450, rel=0.02)  # He et al. (2015)
    assert fresh("norm.weight", torch.Size([3]), 0).tolist() == [1, 1, 1]
    assert fresh("norm.bias", torch.Size([3]), 0).tolist() == [0, 0, 0]


def test_training_alone_learns_and_is_decided_by_its_seed():
    settings = replace(DuelSettings(), cells=3, channels=2, batch=10, shift=0)
    first, again, other = (
        train_alone(DARTS_V2, pictures(), settings, steps=25, rate=0.1, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.loss != other.loss
    assert first.loss < np.log(10) - 0.5  # chance is log 10
    assert (first.macs, first.params) == network_costs(DARTS_V2, pictures(), settings)


@pytest.mark.parametrize("name", ["digits", "scans"])
def test_image_sets_are_drawn_once_and_are_the_same_again(name, tmp_path):
    drawn = image_set(name, train=40, test=20, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    again = image_set(name, train=40, test=20, cache=tmp_path)
    assert path.stat().st_mtime_ns == before
    assert torch.equal(drawn.train, again.train)
    assert drawn.train.shape == (40, 3, 16, 16)
    assert drawn.train.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (drawn.train.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    assert set(drawn.train_labels.tolist()) <= set(range(10))
    assert drawn.half == 20


def test_a_cut_is_a_square_around_the_box():
    ramp = torch.arange(32, dtype=torch.uint8).mul(4)
    scene = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)], dim=2).to(
        torch.uint8
    )
    found = _cut(scene, 10, 12, 20, 18)
    # Side 1.3 * 10 = 13 around (15, 15): pixel i lies at 15 + 13 ((i + 0.5) / 16 - 0.5), and the ramp is 4 (x - 0.5).
    expected = [round(4 * (15 + 13 * ((place + 0.5) / 16 - 0.5) - 0.5)) for place in range(16)]
    assert found.shape == (3, 16, 16)
    assert (found[0, 5] - torch.tensor(expected)).abs().max() <= 1
    assert (found[1, :, 9] - torch.tensor(expected)).abs().max() <= 1


def test_unknown_images_are_said_with_the_nearest():
    with pytest.raises(AiopError, match='did you mean "digits"'):
        image_set("digit")
