"""Training a body with a head: it learns, it repeats itself, and it freezes what it is told to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.tasks.latent.heads import ClassificationHead, Prepared
from aiop.tasks.latent.scene import InMemoryScenes, Scene, SceneSpec
from aiop.tasks.latent.training import FitSettings, Fitted, fit, one_cycle, shuffled

SPEC = SceneSpec(32, ("red", "green"))


def coloured(row: int) -> Scene:
    """One square, red or green, on noise."""
    rng = np.random.default_rng(row)
    image = rng.integers(0, 120, (32, 32, 3)).astype(np.uint8)
    mask = np.zeros((1, 32, 32), dtype=bool)
    left, top = rng.integers(0, 16, 2)
    mask[0, top : top + 14, left : left + 14] = True
    image[mask[0], row % 2] += 130
    box = np.array([[left, top, left + 14, top + 14]], dtype=np.float32)
    semantic = np.where(mask[0], row % 2, 2).astype(np.uint8)
    return Scene(
        image, np.array([row % 2]), box, mask, np.zeros((1, 0, 3)), semantic, np.zeros(1, dtype=bool)
    )


class Small(nn.Module):
    """A body of three convolutions."""

    channels, strides = (4, 6, 8), (2, 4, 8)

    def __init__(self) -> None:
        super().__init__()
        pairs = zip((3, 4, 6), self.channels, strict=True)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fed, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
            for fed, width in pairs
        )

    def forward(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        features = []
        for layer in self.layers:
            images = layer(images)
            features.append(images)
        return features


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    scenes = InMemoryScenes(SPEC, [coloured(row) for row in range(48)])
    return ClassificationHead(SPEC, Small.channels, Small.strides).prepare(scenes)


def trained(
    prepared: Prepared, seed: int = 0, steps: int = 30, freeze: bool = False
) -> tuple[Small, ClassificationHead, Fitted]:
    torch.manual_seed(0)
    body, head = Small(), ClassificationHead(SPEC, Small.channels, Small.strides)
    settings = FitSettings(steps, batch=16, rate=1e-2)
    return body, head, fit(body, head, prepared, settings, seed=seed, freeze_body=freeze)


def test_it_learns_and_its_cost_is_counted(prepared: Prepared) -> None:
    body, head, fitted = trained(prepared)
    assert head.evaluate(body, prepared)["classification"] > 90
    assert len(fitted.losses) == 30
    assert np.mean(fitted.losses[-5:]) < np.mean(fitted.losses[:5]) - 0.1
    assert fitted.seconds > 0
    assert not body.training
    assert not head.training


def test_the_same_seed_gives_the_same_weights_and_another_does_not(prepared: Prepared) -> None:
    first, again, other = (trained(prepared, seed, steps=4) for seed in (0, 0, 1))
    assert first[2].losses == again[2].losses
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), again[0].parameters(), strict=True))
    assert first[2].losses[1:] != other[2].losses[1:]


def test_a_frozen_body_does_not_change(prepared: Prepared) -> None:
    torch.manual_seed(0)
    untouched = Small().state_dict()
    body, head, _ = trained(prepared, steps=4, freeze=True)
    torch.manual_seed(0)
    Small()
    fresh = ClassificationHead(SPEC, Small.channels, Small.strides)
    assert all(torch.equal(value, untouched[name]) for name, value in body.state_dict().items())
    assert not torch.equal(head.linear.weight, fresh.linear.weight)


def test_progress_is_told_of_every_step(prepared: Prepared) -> None:
    told: list[tuple[int, int]] = []
    body, head = Small(), ClassificationHead(SPEC, Small.channels, Small.strides)
    fit(body, head, prepared, FitSettings(3, 8), seed=0, progress=lambda *step: told.append(step[:2]))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_training_that_breaks_says_so(prepared: Prepared) -> None:
    body, head = Small(), ClassificationHead(SPEC, Small.channels, Small.strides)
    nn.init.constant_(head.linear.weight, float("nan"))
    with pytest.raises(AiopError, match="loss of classification is no number at step 1"):
        fit(body, head, prepared, FitSettings(3, 8), seed=0)


def test_every_row_is_seen_once_in_a_pass() -> None:
    rows = torch.cat(list(shuffled(10, 4, 5, seed=3)))
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert len(next(shuffled(3, 8, 1, seed=0))) == 8  # fewer rows than a batch has


def test_the_rate_rises_to_its_highest_and_falls_to_nearly_nothing() -> None:
    shares = [one_cycle(step, 100, 0.2) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[20] == max(shares) == 1.0
    assert shares[60] == pytest.approx(0.5)  # half of the cosine
    assert shares[:21] == sorted(shares[:21])
    assert shares[20:] == sorted(shares[20:], reverse=True)
    assert 0 < shares[-1] < 0.001


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("batch", 1), ("rate", -1.0), ("warmup", 1.5)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(AiopError, match=f"setting '{name}' is {value}"):
        FitSettings(**{name: value})  # type: ignore[arg-type]
