from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from aiop.tasks.latent.latent_sampling import BodyBank, BodySwapper, LatentSampler

BINS = [["a0", "a1"], ["b0", "b1", "b2"], ["c0"], ["d0", "d1"], ["e0", "e1"]]
LEVEL = {code: float(index**2) for index, code in enumerate(code for codes in BINS for code in codes)}


class Constant:
    """A body that answers with its level, plus the image's mean, on two boundaries."""

    def __init__(self, code: str) -> None:
        self.level = LEVEL[code]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        base = images.mean(dim=(1, 2, 3))[:, None, None, None]
        return (self.level + base).expand(-1, 3, 64, 64), (2 * self.level + base).expand(-1, 5, 32, 32)


@pytest.fixture
def images() -> Tensor:
    return torch.stack([torch.full((3, 8, 8), value) for value in (0.0, 1.0, 5.0)])


def test_one_body_of_every_bin_is_present_and_the_oldest_leaves_for_the_next_bin() -> None:
    sampler = LatentSampler(BodyBank(Constant), BINS, seed=3)
    for step in range(40):
        before, after = sampler.present(step), sampler.present(step + 1)
        assert sorted(code[0] for code in before) == ["a", "b", "c", "d", "e"]
        assert after[:-1] == before[1:]
        assert after[-1][0] == before[0][0]  # five bins: the next one after the newest is that of the oldest


def test_every_body_of_a_bin_has_its_turn() -> None:
    sampler = LatentSampler(BodyBank(Constant), BINS, seed=3)
    seen = [code for step in range(30) for code in sampler.present(5 * step)]
    counts = {code: seen.count(code) for code in LEVEL}
    assert counts == {code: 30 // len(codes) for codes in BINS for code in codes}


def test_samples_have_the_mean_and_the_unbiased_deviation_of_the_bodies(images: Tensor) -> None:
    sampler = LatentSampler(BodyBank(Constant), BINS, seed=0)
    levels = np.array([LEVEL[code] for code in sampler.present(7)])
    first, second = sampler.features(images, 7)
    assert first.shape == (3, 3, 64, 64)
    assert second.shape == (3, 5, 32, 32)
    for maps, factor in ((first, 1.0), (second, 2.0)):
        for row, base in enumerate((0.0, 1.0, 5.0)):
            expected = (factor * levels.mean() + base, factor * levels.std(ddof=1))
            zeta = (maps[row].numpy().ravel() - expected[0]) / expected[1]
            # A wrong (biased) deviation would make zeta 11 % too narrow, which 5,000 elements show.
            assert stats.kstest(zeta, "norm").pvalue > 1e-3


def test_zeta_is_fresh_at_every_step_and_for_every_element(images: Tensor) -> None:
    bins = [["a0"], ["c0"]]
    sampler = LatentSampler(BodyBank(Constant), bins, seed=0)
    first, again, later = (sampler.features(images, step)[0].numpy().ravel() for step in (0, 0, 2))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first[:12288], first[12288:24576])[0, 1]) < 0.05
    noise = [maps[:12288] - maps[:12288].mean() for maps in (first, later)]  # of the first image
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.05


def test_where_all_bodies_agree_nothing_is_added(images: Tensor) -> None:
    sampler = LatentSampler(BodyBank(Constant), [["a1"], ["a1"]], seed=0)
    maps, _ = sampler.features(images, 0)
    assert torch.equal(maps[2], torch.full((3, 64, 64), LEVEL["a1"] + 5.0))


def test_swapping_gives_one_body_a_batch_from_bin_to_bin(images: Tensor) -> None:
    swapper = BodySwapper(BodyBank(Constant), BINS, seed=1)
    present = [swapper.present(step)[0] for step in range(10)]
    assert [code[0] for code in present] == list("abcdeabcde")
    for step, code in enumerate(present):
        maps, _ = swapper.features(images, step)
        assert torch.equal(maps[0], torch.full((3, 64, 64), LEVEL[code]))


def test_the_seed_decides_the_order() -> None:
    orders = [
        [LatentSampler(BodyBank(Constant), BINS, seed).present(step)[0] for step in range(40)]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_a_bank_keeps_the_bodies_used_last() -> None:
    made: list[str] = []

    def make(code: str) -> Constant:
        made.append(code)
        return Constant(code)

    bank = BodyBank(make, most=2)
    for code in ("a0", "a1", "a0", "b0", "a0", "a1"):
        bank[code]
    assert made == ["a0", "a1", "b0", "a1"]


def test_a_deviation_needs_two_bodies() -> None:
    with pytest.raises(ValueError, match="at least two"):
        LatentSampler(BodyBank(Constant), [["a0"]], seed=0)
