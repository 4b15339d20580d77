from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from aiop.errors import AiopError
from aiop.tasks.latent.heads.base import Prepared
from aiop.tasks.latent.heads.classification import ClassificationHead
from aiop.tasks.latent.latent_sampling import BodyBank, LatentSampler
from aiop.tasks.latent.scene import InMemoryScenes, Scene, SceneSpec
from aiop.tasks.latent.shared_heads import train_shared_head
from aiop.tasks.latent.training import FitSettings

SPEC = SceneSpec(size=8, things=("dark", "bright"), stuff=("ground",))
BINS = [["1", "2"], ["3"], ["4", "5"]]


def scene(row: int) -> Scene:
    """One object that fills the image: dark or bright."""
    bright = row % 2
    return Scene(
        image=np.full((8, 8, 3), 200 * bright + row, dtype=np.uint8),
        classes=np.array([bright]),
        boxes=np.array([[0, 0, 8, 8]], dtype=np.float32),
        masks=np.ones((1, 8, 8), dtype=bool),
        keypoints=np.zeros((1, 0, 3), dtype=np.float32),
        semantic=np.full((8, 8), bright, dtype=np.uint8),
        crowd=np.zeros(1, dtype=bool),
    )


class Blurred:
    """A body that pools the image and multiplies it by its name."""

    def __init__(self, code: str) -> None:
        self.factor = float(code)

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        pooled = torch.nn.functional.avg_pool2d(images, 4)
        return pooled, self.factor * pooled


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return make_head().prepare(InMemoryScenes(SPEC, [scene(row) for row in range(20)]))


def make_head() -> ClassificationHead:
    torch.manual_seed(0)
    return ClassificationHead(SPEC, (3, 3), (2, 4))


def sampler() -> LatentSampler:
    return LatentSampler(BodyBank(Blurred), BINS, seed=4)


SETTINGS = FitSettings(steps=12, batch=5, rate=0.05)


def test_a_head_learns_from_the_features_of_many_bodies(prepared: Prepared) -> None:
    head = make_head()
    losses: list[float] = []
    done = train_shared_head(
        head,
        sampler(),
        prepared,
        FitSettings(steps=60, batch=10, rate=0.05),
        seed=0,
        progress=lambda step, steps, loss: losses.append(loss),
    )
    assert (done.steps, len(losses)) == (60, 60)
    assert not head.training
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:3])
    images, targets = prepared.batch(range(20))
    for code in "12345":  # it fits bodies that it saw only in the mean
        assert (head(Blurred(code)(images))["logits"].argmax(dim=1) == targets["class"]).all()


def test_an_interrupted_training_ends_where_a_whole_one_does(prepared: Prepared, tmp_path: Path) -> None:
    whole = make_head()
    train_shared_head(whole, sampler(), prepared, SETTINGS, seed=1)

    path = tmp_path / "head.safetensors"
    for at in (1, 5, 9):

        def stop(step: int, steps: int, loss: float, at: int = at) -> None:
            if step == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_shared_head(
                make_head(), sampler(), prepared, SETTINGS, seed=1, checkpoint=path, every=2, progress=stop
            )
    steps: list[int] = []
    head = make_head()
    train_shared_head(
        head,
        sampler(),
        prepared,
        SETTINGS,
        seed=1,
        checkpoint=path,
        every=2,
        progress=lambda step, *_: steps.append(step),
    )
    assert steps == [9, 10, 11, 12]  # the last checkpoint is of step 8
    for name, value in whole.state_dict().items():
        assert torch.equal(head.state_dict()[name], value)


def test_a_finished_head_is_read_and_its_cost_stays(prepared: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    first, second = make_head(), make_head()
    cost = train_shared_head(first, sampler(), prepared, SETTINGS, seed=1, checkpoint=path)
    content = path.read_bytes()
    again = train_shared_head(second, sampler(), prepared, SETTINGS, seed=1, checkpoint=path)
    assert again.seconds == pytest.approx(cost.seconds, abs=0.05)
    assert path.read_bytes() == content
    assert torch.equal(first.linear.weight, second.linear.weight)


def test_a_checkpoint_of_another_training_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    train_shared_head(make_head(), sampler(), prepared, SETTINGS, seed=1, checkpoint=path, identity="a")
    with pytest.raises(AiopError, match="head trained with other settings"):
        train_shared_head(make_head(), sampler(), prepared, SETTINGS, seed=1, checkpoint=path, identity="b")
    other = ClassificationHead(SPEC, (3, 7), (2, 4))
    with pytest.raises(AiopError, match="not of this head"):
        train_shared_head(other, sampler(), prepared, SETTINGS, seed=1, checkpoint=path, identity="a")


def test_a_loss_that_is_no_number_stops(prepared: Prepared) -> None:
    class Broken:
        def features(self, images: Tensor, step: int) -> tuple[Tensor, ...]:
            return (torch.full((len(images), 3, 2, 2), torch.nan),) * 2

    with pytest.raises(AiopError, match="loss of classification is no number at step 1"):
        train_shared_head(make_head(), Broken(), prepared, SETTINGS, seed=1)
