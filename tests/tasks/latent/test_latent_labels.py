"""Labels of bodies: what they are measured on, which seeds and statistics they use, and when older ones still count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aiop.tasks.latent.body import Body
from aiop.tasks.latent.build import Bodies, plan, vars_of
from aiop.tasks.latent.config import BodiesConfig, DataConfig, DigitsData, GroupConfig, LatentConfig
from aiop.tasks.latent.digits import digit_scenes
from aiop.tasks.latent.heads import KeypointHead
from aiop.tasks.latent.heads.base import BodyLike, Prepared
from aiop.tasks.latent.labels import GroupData, pseudo_label
from aiop.tasks.latent.studio import LabelJob, Studio
from aiop.tasks.latent.supernet import Supernet
from aiop.tasks.latent.training import FitSettings, LabelSettings

CODE, OTHER, THIRD = "16-k3e2/24-k3e2/48-k3e2", "16-k3e4/24-k3e2/48-k3e2", "24-k7e4/24-k3e2/48-k3e2"
GROUP = GroupConfig(shared=FitSettings(4), pseudo=LabelSettings(1), truth=LabelSettings(2))


def configured(folder: Path, group: GroupConfig = GROUP) -> LatentConfig:
    return LatentConfig(
        out=str(folder),
        data=DataConfig(digits=DigitsData(train=16, test=8)),
        groups={"keypoints": group},
        bodies=BodiesConfig(truth=2, repeats=1, pseudo=1, bins=2, per_bin=1),
    )


def jobs_of(config: LatentConfig) -> list[LabelJob]:
    bodies = Bodies((CODE, OTHER), (THIRD,), (("16-k5e2/24-k3e2/48-k3e2",), ("24-k7e2/24-k3e2/48-k3e2",)))
    return plan(config, Studio(config), bodies)[1]


class Kept(KeypointHead):
    """Keeps itself and the body that it was evaluated on."""

    seen: ClassVar[list[tuple[Kept, Body]]] = []

    def evaluate(self, body: BodyLike, prepared: Prepared, batch: int = 64) -> dict[str, float]:
        assert isinstance(body, Body)
        self.seen.append((self, body))
        return super().evaluate(body, prepared, batch)


@pytest.fixture(scope="module")
def data() -> GroupData:
    spec = digit_scenes("train", 1).spec

    def make() -> Kept:
        return Kept(spec, Body.channels, Body.strides)

    train, test = (make().prepare(digit_scenes(split, 24)) for split in ("train", "test"))
    return GroupData("keypoints", make, train, test, train.batch(range(24))[0])


def labelled(data: GroupData, settings: LabelSettings) -> tuple[Kept, Body]:
    torch.manual_seed(0)
    pseudo_label(CODE, Supernet(), data.make(), data, settings, seed=0)
    head, body = Kept.seen.pop()
    assert not head.training
    assert not body.training
    return head, body


def mean_of(maps: Tensor) -> Tensor:
    return maps.mean(dim=(0, 2, 3))


def test_recalibrated_statistics_are_those_of_the_trained_weights_on_all_images(data: GroupData) -> None:
    settings = LabelSettings(steps=3, batch=8, rate=1e-2)
    head, body = labelled(data, replace(settings, recalibrate=True))
    as_before, _ = labelled(data, settings)
    assert isinstance(head.layers[1], nn.BatchNorm2d)
    assert isinstance(as_before.layers[1], nn.BatchNorm2d)
    # The training itself is the same.
    assert torch.equal(head.maps.weight, as_before.maps.weight)
    with torch.no_grad():
        torch.testing.assert_close(body.stem.norm.running_mean, mean_of(body.stem.conv(data.calibration)))
        found = head.layers[1].running_mean
        assert found is not None
        body.train()
        features: Sequence[Tensor] = body(data.calibration)
        expected = mean_of(head.layers[0](features[-1]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(as_before.layers[1].running_mean, expected, rtol=0.05)  # type: ignore[arg-type]


def test_one_seed_is_one_for_all_bodies_and_methods_but_not_for_repeats(tmp_path: Path) -> None:
    own = jobs_of(configured(tmp_path))
    assert len({job.seed for job in own}) == len(own) == 8
    same = replace(GROUP, pseudo=replace(GROUP.pseudo, one_seed=True))
    jobs = jobs_of(configured(tmp_path, same))
    assert len({job.seed for job in jobs if job.kind in ("latent", "swapping")}) == 1
    assert [job for job in jobs if job.kind == "truth"] == [job for job in own if job.kind == "truth"]
    truth = jobs_of(configured(tmp_path, replace(same, truth=replace(GROUP.truth, one_seed=True))))
    seeds = [job.seed for job in truth if job.kind == "truth"]
    assert seeds[0] == seeds[1] != seeds[2]
    assert len({job.seed for job in truth}) == 3


def test_labels_made_before_a_setting_came_still_count() -> None:
    settings = LabelSettings(steps=7, rate=1e-2)
    assert vars_of(settings) == asdict(FitSettings(steps=7, rate=1e-2))
    assert vars_of(replace(settings, recalibrate=True)) == vars_of(settings) | {"recalibrate": True}


def identities(config: LatentConfig) -> dict[str, str]:
    return {job.kind: job.identity for job in jobs_of(config)}


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"pseudo": LabelSettings(1, one_seed=True)}, {"latent", "swapping"}),
        ({"pseudo": LabelSettings(1, recalibrate=True)}, {"latent", "swapping"}),
        ({"truth": LabelSettings(2, recalibrate=True)}, {"truth"}),
        ({"measured": 12}, {"truth", "latent", "swapping"}),
        ({"threshold": 0.05}, {"truth", "latent", "swapping"}),
    ],
)
def test_labels_of_other_settings_do_not_count(
    tmp_path: Path, change: dict[str, Any], kinds: set[str]
) -> None:
    before = identities(configured(tmp_path))
    after = identities(configured(tmp_path, replace(GROUP, **change)))
    assert {kind for kind in before if before[kind] != after[kind]} == kinds


def test_a_group_may_be_measured_on_more_scenes_than_the_others(tmp_path: Path) -> None:
    plain = Studio(configured(tmp_path))
    more = Studio(configured(tmp_path, replace(GROUP, measured=12)))
    found, usual = more.group("keypoints"), plain.group("keypoints")
    assert (len(found.test), len(usual.test)) == (12, 8)
    assert torch.equal(found.test.batch(range(8))[0], usual.test.batch(range(8))[0])
    assert torch.equal(found.calibration, usual.calibration)
    assert more.bodies_identity == plain.bodies_identity  # supernet and shared heads stay


def test_the_threshold_is_that_of_pck(tmp_path: Path) -> None:
    found = {}
    for threshold in (None, 0.05, 0.2):
        data = Studio(configured(tmp_path, replace(GROUP, threshold=threshold))).group("keypoints")
        head = data.make()
        measured = data.test.batch(range(len(data.test)))[1]["points"].numpy()
        # Off by 0.075 of the object's longer side: an image of 64 pixels is 1.25 times as wide as the object.
        moved = list(measured[..., :2] + np.array([0.075 * 64 / 1.25, 0.0]))
        found[threshold] = head.figures(moved, data.test)["keypoints"]
    assert found == {None: 100.0, 0.05: 0.0, 0.2: 100.0}
