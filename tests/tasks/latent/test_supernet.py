"""Weights shared by all bodies: what is cut out, what sorting keeps, what gradients reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from aiop.errors import AiopError
from aiop.tasks import get_space
from aiop.tasks.latent.body import Body
from aiop.tasks.latent.supernet import LARGEST_CODE, SMALLEST_CODE, Supernet

SPACE = get_space("digits-ofa")
SMALL = "16-k3e2/32-k5e3-k7e2/48-k3e4"


@pytest.fixture
def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(classes=5)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_extremes_are_those_of_the_space() -> None:
    assert SMALLEST_CODE == "16-k3e2/24-k3e2/48-k3e2"
    assert "/".join(f"{width}" + 4 * "-k7e4" for width in (24, 40, 80)) == LARGEST_CODE


@pytest.mark.parametrize("seed", range(4))
def test_an_extracted_body_computes_what_the_supernet_does(supernet: Supernet, seed: int) -> None:
    code = SPACE.sample(np.random.default_rng(seed))
    body = supernet.extract(code)
    assert isinstance(body, Body)
    body.train()  # statistics of the batch, as in the supernet
    with torch.no_grad():
        for one, other in zip(body(images()), supernet.features(images(), code), strict=True):
            torch.testing.assert_close(one, other)
        assert supernet(images(), code).shape == (4, 5)


def test_a_body_takes_first_blocks_first_channels_and_middles(supernet: Supernet) -> None:
    shared = {name: value.detach().numpy() for name, value in supernet.body.named_parameters()}
    own = {name: value.detach().numpy() for name, value in supernet.extract(SMALL).named_parameters()}
    block = "stages.1.blocks.1."  # kernel 7, 32 channels times 2
    np.testing.assert_array_equal(
        own[block + "expand.conv.weight"], shared[block + "expand.conv.weight"][:64, :32]
    )
    np.testing.assert_array_equal(
        own[block + "depthwise.conv.weight"], shared[block + "depthwise.conv.weight"][:64]
    )
    np.testing.assert_array_equal(
        own[block + "project.conv.weight"], shared[block + "project.conv.weight"][:32, :64]
    )
    np.testing.assert_array_equal(own[block + "project.norm.bias"], shared[block + "project.norm.bias"][:32])
    name = "stages.1.blocks.0.depthwise.conv.weight"  # kernel 5, 24 channels times 3
    np.testing.assert_array_equal(own[name], shared[name][:72, :, 1:6, 1:6])
    name = "stages.2.blocks.0.depthwise.conv.weight"  # kernel 3, 40 channels times 4
    np.testing.assert_array_equal(own[name], shared[name][:160, :, 2:5, 2:5])
    np.testing.assert_array_equal(own["stages.1.out.conv.weight"], shared["stages.1.out.conv.weight"][:, :32])


def test_smaller_kernels_pass_through_the_learnt_matrices(supernet: Supernet) -> None:
    rng = np.random.default_rng(0)
    three, five = (rng.standard_normal((side**2, side**2)).astype(np.float32) for side in (3, 5))
    with torch.no_grad():
        supernet.kernels[8][0].copy_(torch.from_numpy(three))  # type: ignore[index]
        supernet.kernels[8][1].copy_(torch.from_numpy(five))  # type: ignore[index]
    name = "stages.2.blocks.0.depthwise.conv.weight"
    whole = dict(supernet.body.named_parameters())[name].detach().numpy()[:160, 0]
    middle = np.einsum("oi,ci->co", five, whole[:, 1:6, 1:6].reshape(160, 25)).reshape(160, 5, 5)
    inner = np.einsum("oi,ci->co", three, middle[:, 1:4, 1:4].reshape(160, 9)).reshape(160, 1, 3, 3)
    found = dict(supernet.extract(SMALL).named_parameters())[name].detach().numpy()
    np.testing.assert_allclose(found, inner, rtol=1e-4, atol=1e-5)


def test_a_body_has_weights_of_its_own(supernet: Supernet) -> None:
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    body = supernet.extract(LARGEST_CODE)
    with torch.no_grad():
        for value in body.parameters():
            value.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_gradients_reach_what_the_body_takes_and_nothing_else(supernet: Supernet) -> None:
    supernet(images(), SMALL).square().sum().backward()
    shared = dict(supernet.body.named_parameters())
    weight = shared["stages.2.blocks.0.expand.conv.weight"].grad  # 40 channels times 4 of 4
    assert weight is not None
    assert (weight.abs().sum(dim=(1, 2, 3)) > 0).float().mean() > 0.9
    weight = shared["stages.1.blocks.0.expand.conv.weight"].grad  # 24 times 3 of 4
    assert weight is not None
    reached = weight.abs().sum(dim=(1, 2, 3)) > 0
    assert reached[:72].any()
    assert not reached[72:].any()
    assert shared["stages.0.blocks.1.expand.conv.weight"].grad is None  # the stage has one block
    assert supernet.kernels[4][0].grad is None  # type: ignore[index]
    assert supernet.kernels[4][1].grad is not None  # type: ignore[index]


def test_sorting_keeps_what_the_largest_body_computes(supernet: Supernet) -> None:
    with torch.no_grad():
        for name, value in supernet.named_parameters():
            if ".norm." in name:
                value.uniform_(0.5, 1.5)
        before, small = supernet(images()), supernet(images(), SMALL)
        supernet.sort()
        after, other = supernet(images()), supernet(images(), SMALL)
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(small, other, rtol=1e-2)


def test_sorting_puts_the_most_read_channels_first(supernet: Supernet) -> None:
    supernet.sort()
    shared = {name: value.detach().numpy() for name, value in supernet.body.named_parameters()}
    for at, depth in ((0, 4), (1, 4), (2, 4)):
        readers = [shared[f"stages.{at}.blocks.{place}.expand.conv.weight"] for place in range(1, depth)]
        readers.append(shared[f"stages.{at}.out.conv.weight"])
        importance = np.abs(np.concatenate(readers)).sum(axis=(0, 2, 3))
        assert (np.diff(importance) <= 1e-4).all()
        hidden = np.abs(shared[f"stages.{at}.blocks.2.project.conv.weight"]).sum(axis=(0, 2, 3))
        assert (np.diff(hidden) <= 1e-4).all()


def test_a_saved_supernet_comes_back(supernet: Supernet, tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    supernet.save(path)
    back = Supernet.load(path)
    with torch.no_grad():
        assert torch.equal(back(images(), SMALL), supernet(images(), SMALL))
    supernet.extract(SMALL).save(path)
    with pytest.raises(AiopError, match="does not hold the weights of a supernet"):
        Supernet.load(path)
