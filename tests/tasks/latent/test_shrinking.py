"""Progressive shrinking: what learns in which phase, resuming, and that something is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aiop.errors import AiopError
from aiop.tasks import get_space
from aiop.tasks.latent import shrinking
from aiop.tasks.latent.heads.base import Prepared
from aiop.tasks.latent.heads.classification import ClassificationHead
from aiop.tasks.latent.scene import VOID, InMemoryScenes, Scene, SceneSpec
from aiop.tasks.latent.shrinking import PHASES, ShrinkingSettings, draw, smallest, top1, train
from aiop.tasks.latent.supernet import LARGEST_CODE, SMALLEST_CODE, Supernet

SPACE = get_space("digits-ofa")
TINY = ShrinkingSettings(steps=(2, 1, 1, 1, 2), batch=4, every=1)


def prepared(count: int, side: int = 32) -> Prepared:
    """Noise with a bright half: left is class 0, right is class 1, above is class 2; pixels are bright or not."""
    rng = np.random.default_rng(0)
    scenes: list[Scene] = []
    for row in range(count):
        bright = np.zeros((side, side), dtype=np.uint8)
        bright[(slice(None), slice(None), slice(0, side // 2))[row % 3], _half(row % 3, side)] = 1
        image = rng.integers(0, 120, (side, side, 3)) + 100 * bright[..., None]
        none = np.zeros((0, 4), dtype=np.float32)
        scenes.append(
            Scene(
                image=image.astype(np.uint8),
                classes=np.array([row % 3]),
                boxes=none,
                masks=np.ones((1, side, side), dtype=bool),
                keypoints=none,
                semantic=bright,
                crowd=np.zeros(1, dtype=bool),
            )
        )
    spec = SceneSpec(side, ("left", "right", "above"))
    return ClassificationHead(spec, (24, 40, 80), (4, 8, 16)).prepare(InMemoryScenes(spec, scenes))


def _half(kind: int, side: int) -> slice:
    """The columns that are bright."""
    return (slice(0, side // 2), slice(side // 2, side), slice(None))[kind]


def fresh() -> Supernet:
    torch.manual_seed(0)
    return Supernet(classes=3)


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_varies_what_those_before_it_did_and_one_thing_more(phase: str) -> None:
    rng = np.random.default_rng(0)
    codes = {draw(phase, rng) for _ in range(60)} | {smallest(phase)}
    bodies = [SPACE.parse(code) for code in codes]
    stages = [stage for body in bodies for stage in body.stages]  # type: ignore[attr-defined]
    varies = {
        "kernel": len({block.kernel for stage in stages for block in stage.blocks}) > 1,
        "depth": len({len(stage.blocks) for stage in stages}) > 1,
        "expansion": len({block.expansion for stage in stages for block in stage.blocks}) > 1,
        "width": len({stage.width for stage in stages}) > 3,
    }
    assert [name for name, found in varies.items() if found] == list(PHASES[1 : PHASES.index(phase) + 1])


def test_the_first_phase_is_the_largest_and_the_last_reaches_the_smallest() -> None:
    assert draw("largest", np.random.default_rng(0)) == smallest("largest") == LARGEST_CODE
    assert smallest("width") == SMALLEST_CODE


def test_an_epoch_reads_every_row_once() -> None:
    steps = [shrinking._rows(23, 5, seed=3, step=step) for step in range(8)]
    for epoch in (steps[:4], steps[4:]):  # three rows are left over
        rows = [row for step in epoch for row in step]
        assert len(rows) == len(set(rows)) == 20
        assert set(rows) <= set(range(23))
    assert steps[:4] != steps[4:]
    assert shrinking._rows(3, 5, seed=3, step=7) != []


@pytest.mark.parametrize("stop", [2, 6])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, stop: int) -> None:
    data = prepared(12)
    whole = fresh()
    calls: list[tuple[int, int]] = []
    cost = train(whole, data, TINY, seed=1, progress=lambda done, total, loss: calls.append((done, total)))
    assert calls == [(done, 7) for done in range(1, 8)]
    assert cost.steps == 7
    assert cost.seconds > 0

    def interrupt(done: int, total: int, loss: float) -> None:
        if done == stop:
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), data, TINY, seed=1, checkpoint=path, progress=interrupt)
    resumed = Supernet(classes=3)
    left: list[int] = []
    train(resumed, data, TINY, seed=1, checkpoint=path, progress=lambda done, *_: left.append(done))
    assert left == list(range(stop + 1, 8))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    finished = Supernet(classes=3)  # the file of a finished training gives its weights at once
    train(finished, data, TINY, seed=1, checkpoint=path, progress=lambda *_: pytest.fail("trained again"))
    assert torch.equal(finished.classifier.weight, whole.classifier.weight)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    data, path = prepared(12), tmp_path / "checkpoint.safetensors"
    train(fresh(), data, replace(TINY, steps=(1, 0, 0, 0, 0)), checkpoint=path)
    for settings, seed, other, what in [
        (TINY, 0, data, "settings"),
        (replace(TINY, steps=(1, 0, 0, 0, 0)), 1, data, "seed"),
        (replace(TINY, steps=(1, 0, 0, 0, 0)), 0, prepared(9), "data"),
    ]:
        with pytest.raises(AiopError, match=f"trained with other {what}: delete it"):
            train(fresh(), other, settings, seed, path)


def test_the_largest_and_the_smallest_body_learn() -> None:
    data = prepared(64)
    settings = ShrinkingSettings(steps=(12, 1, 1, 1, 40), batch=16, rate=5e-3, shrink_rate=5e-3, shift=1)
    supernet = fresh()
    train(supernet, data, settings)
    calibration = torch.stack([data.batch([row])[0][0] for row in range(64)])
    assert top1(supernet, LARGEST_CODE, calibration, data) > 60  # a third by chance
    assert top1(supernet, SMALLEST_CODE, calibration, data) > 60


def test_pixels_guide_by_their_shares_under_every_position() -> None:
    data = prepared(3)
    data.scenes[1].semantic[:8, 24:] = VOID
    run = shrinking._Run(fresh(), data, replace(TINY, shift=1), 0, None)
    shares = run._shares([0, 1, 2], np.array([[2, 1], [2, 1], [2, 1]]))  # one row down the image
    assert [tuple(share.shape) for share in shares] == [(3, 4, 4, 4), (3, 4, 2, 2)]
    for row, moved in enumerate(_moved(data.scenes[row].semantic) for row in range(3)):
        for share, stride in zip(shares, (8, 16), strict=True):
            for kind in range(4):
                cells = (moved == kind).reshape(32 // stride, stride, 32 // stride, stride)
                np.testing.assert_allclose(share[row, kind].numpy(), cells.mean(axis=(1, 3)), atol=1e-6)


def _moved(image: np.ndarray) -> np.ndarray:
    """One row further down the image, its last row twice."""
    return np.concatenate([image[1:], image[-1:]])


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_guidance_changes_what_is_learnt_and_leaves_no_weights(guidance: float) -> None:
    supernet = fresh()
    names = set(supernet.state_dict())
    train(supernet, prepared(6), replace(TINY, guidance=guidance))
    assert set(supernet.state_dict()) == names
    other = fresh()
    train(other, prepared(6), replace(TINY, guidance=1.0 - guidance))
    assert not torch.equal(supernet.body.stem.conv.weight, other.body.stem.conv.weight)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    supernet = fresh()
    with torch.no_grad():
        supernet.classifier.weight.fill_(float("inf"))
    with pytest.raises(AiopError, match="nan at step 0: lower its learning rates"):
        train(supernet, prepared(8), TINY)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": (0, 0, 0, 0, 0)}, {"steps": (1, 2)}, {"batch": 1}, {"rate": 0.0}, {"taught": 1.5}],
)
def test_settings_that_train_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(AiopError, match="setting '"):
        ShrinkingSettings(**wrong)  # type: ignore[arg-type]
