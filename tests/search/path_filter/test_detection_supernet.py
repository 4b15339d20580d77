"""Training a detection supernet: what is drawn, resuming, determinism, and that something is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aiop.errors import AiopError
from aiop.search.path_filter.detection.detector import (
    DetectionSettings,
    Detector,
    Survivors,
    WholeSpace,
    box_ap,
    train_detector,
)
from aiop.tasks.latent.body import SPACE
from aiop.tasks.latent.heads.base import Prepared
from aiop.tasks.latent.scene import InMemoryScenes, Scene, SceneSpec
from aiop.tasks.latent.supernet import LARGEST_CODE, SMALLEST_CODE, Supernet

SIDE = 32
SPEC = SceneSpec(SIDE, ("dark", "light"))
TINY = DetectionSettings(steps=5, batch=2, every=2)
FEW = Survivors(["16-k5e2/24-k3e2/48-k3e2", "16-k3e2/24-k3e3/48-k3e2"])


def scene(seed: int) -> Scene:
    """One dark or light square on grey."""
    random = np.random.default_rng(seed)
    left, top = (int(place) for place in random.integers(2, 14, 2))
    kind = seed % 2
    mask = np.zeros((1, SIDE, SIDE), dtype=bool)
    mask[0, top : top + 14, left : left + 14] = True
    image = np.full((SIDE, SIDE, 3), 120, dtype=np.uint8)
    image[mask[0]] = 240 * kind
    semantic = np.full((SIDE, SIDE), 2, dtype=np.uint8)
    semantic[mask[0]] = kind
    box = np.array([[left, top, left + 14, top + 14]], dtype=np.float32)
    none = np.zeros((1, 0, 3), dtype=np.float32)
    return Scene(image, np.array([kind]), box, mask, none, semantic, np.zeros(1, dtype=bool))


def detector(seed: int = 0) -> Detector:
    torch.manual_seed(1)
    return Detector(Supernet(classes=2), SPEC, seed)


@pytest.fixture(scope="module")
def data() -> Prepared:
    scenes = InMemoryScenes(SPEC, [scene(seed) for seed in range(16)])
    return detector().head.prepare(scenes)


def weights(of: Detector) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in of.state_dict().items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=name)


def stop_at(step: int) -> object:
    def progress(done: int, total: int, loss: float) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_training_ends_as_an_uninterrupted_one(data: Prepared, tmp_path: Path) -> None:
    whole = detector()
    train_detector(whole, data, FEW, TINY, seed=3)
    part = tmp_path / "part.safetensors"
    for step in (3, 5):  # after the first checkpoint, and at the last step
        with pytest.raises(KeyboardInterrupt):
            train_detector(detector(), data, FEW, TINY, seed=3, checkpoint=part, progress=stop_at(step))  # type: ignore[arg-type]
    seen: list[int] = []
    resumed = detector()
    cost = train_detector(
        resumed, data, FEW, TINY, seed=3, checkpoint=part, progress=lambda done, *_: seen.append(done)
    )
    assert seen == [5]
    assert cost.steps == 5
    assert_equal(weights(whole), weights(resumed))


def test_a_finished_training_is_read_and_not_repeated(data: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "done.safetensors"
    first = detector()
    cost = train_detector(first, data, FEW, TINY, seed=3, checkpoint=path)
    again = detector()
    seen: list[int] = []
    found = train_detector(
        again, data, FEW, TINY, seed=3, checkpoint=path, progress=lambda done, *_: seen.append(done)
    )
    assert not seen
    assert found.seconds == pytest.approx(cost.seconds, abs=0.5)
    assert_equal(weights(first), weights(again))


def test_a_training_depends_on_its_seed(data: Prepared) -> None:
    ends = []
    for seed in (3, 4):
        one = detector()
        train_detector(one, data, FEW, replace(TINY, steps=1), seed=seed)
        ends.append(weights(one)["supernet.body.stem.conv.weight"])
    assert not torch.equal(*ends)


def test_the_head_depends_on_its_seed_alone() -> None:
    one, same, other = (detector(seed).head.state_dict()["classes.weight"] for seed in (0, 0, 1))
    torch.rand(3)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def drawn_codes(drawn: Survivors | WholeSpace, data: Prepared, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    loss = Detector.loss

    def watched(self: Detector, code: str, *rest: object) -> torch.Tensor:
        seen.append(code)
        return loss(self, SMALLEST_CODE, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Detector, "loss", watched)
    train_detector(detector(), data, drawn, replace(TINY, steps=6, bodies=3), seed=0)
    return seen


def test_only_survivors_are_drawn_and_the_extremes_of_the_space_take_turns(
    data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = drawn_codes(FEW, data, monkeypatch)
    assert len(seen) == 6 * 3
    assert set(seen) == {*FEW.codes, LARGEST_CODE, SMALLEST_CODE}
    assert [at for at, code in enumerate(seen) if code == LARGEST_CODE] == [
        0,
        9,
    ]  # the first of steps 1 and 4
    assert [at for at, code in enumerate(seen) if code == SMALLEST_CODE] == [3, 12]  # of steps 2 and 5


def test_the_whole_space_is_trained_without_a_filter(data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn_codes(WholeSpace(), data, monkeypatch)
    assert seen[0] == LARGEST_CODE
    assert seen[3] == SMALLEST_CODE
    others = set(seen) - {LARGEST_CODE, SMALLEST_CODE}
    assert len(others) > 10
    assert all(SPACE.format(SPACE.parse(code)) == code for code in others)


def test_training_teaches_to_detect(data: Prepared) -> None:
    taught, settings = detector(), replace(TINY, steps=60, batch=16, bodies=1, rate=3e-2, body_rate=0.3)
    calibration = data.batch(range(16))[0]
    before = box_ap(taught, SMALLEST_CODE, calibration, data)
    train_detector(taught, data, Survivors([SMALLEST_CODE]), settings, seed=0)
    assert before < 1
    assert box_ap(taught, SMALLEST_CODE, calibration, data) > 10


def test_an_evaluation_changes_nothing_of_the_detector(data: Prepared) -> None:
    one = detector()
    before = weights(one)
    box_ap(one, SMALLEST_CODE, data.batch(range(8))[0], data)
    assert_equal(before, weights(one))


def test_a_damaged_checkpoint_is_one_line(data: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"
    train_detector(detector(), data, FEW, replace(TINY, steps=1), seed=3, checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AiopError, match=r"part\.safetensors") as error:
        train_detector(detector(), data, FEW, replace(TINY, steps=1), seed=3, checkpoint=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("other", ["seed", "settings", "bodies", "starting weights", "data"])
def test_a_checkpoint_of_another_training_is_refused(data: Prepared, tmp_path: Path, other: str) -> None:
    path = tmp_path / "part.safetensors"
    short = replace(TINY, steps=1)
    train_detector(detector(), data, FEW, short, seed=3, checkpoint=path)
    kept = path.read_bytes()
    scenes = InMemoryScenes(SPEC, [scene(seed) for seed in range(5)])
    with pytest.raises(AiopError, match=f"trained with other {other}: delete it") as error:
        train_detector(
            detector(1 if other == "starting weights" else 0),
            detector().head.prepare(scenes) if other == "data" else data,
            WholeSpace() if other == "bodies" else FEW,
            replace(short, rate=1e-3) if other == "settings" else short,
            seed=4 if other == "seed" else 3,
            checkpoint=path,
        )
    assert "\n" not in str(error.value)
    assert path.read_bytes() == kept


def test_a_loss_that_is_no_number_is_one_line(data: Prepared) -> None:
    with pytest.raises(AiopError, match="lower the learning rate") as error:
        train_detector(detector(), data, FEW, replace(TINY, steps=9, rate=1e25), seed=0)
    assert "\n" not in str(error.value)


def test_survivors_are_needed() -> None:
    with pytest.raises(AiopError, match="no body survives"):
        Survivors([])


@pytest.mark.parametrize(("setting", "value"), [("steps", 0), ("batch", 1), ("rate", -1.0), ("warmup", 1.0)])
def test_settings_that_train_nothing_are_refused(setting: str, value: float) -> None:
    with pytest.raises(AiopError, match=f"setting '{setting}'"):
        replace(TINY, **{setting: value})  # type: ignore[arg-type]
