"""The embedded scenes: determinism, splits that share no scan, labels that agree with each other and with the image."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits

from aiop.errors import AiopError
from aiop.tasks.latent.digits import KEYPOINTS, _sticker, digit_scenes, scans_of
from aiop.tasks.latent.scene import InMemoryScenes

SCENES = digit_scenes("train", 120, seed=3)


def same(one: InMemoryScenes, other: InMemoryScenes) -> bool:
    return all(
        np.array_equal(getattr(a, field.name), getattr(b, field.name))
        for a, b in zip(one, other, strict=True)
        for field in fields(a)
    )


def test_a_seed_gives_the_same_scenes_however_many() -> None:
    assert same(
        digit_scenes("test", 6, seed=1),
        InMemoryScenes(SCENES.spec, list(digit_scenes("test", 9, seed=1))[:6]),
    )
    assert not same(digit_scenes("test", 6, seed=1), digit_scenes("test", 6, seed=2))
    assert not same(digit_scenes("test", 6), digit_scenes("train", 6))


def test_splits_share_no_scan_and_have_every_class_alike() -> None:
    train, test = scans_of("train"), scans_of("test")
    assert sorted([*train, *test]) == list(range(1797))
    labels = load_digits().target
    share = np.bincount(labels[test]) / np.bincount(labels)
    assert share == pytest.approx(np.full(10, 1 / 3), abs=0.01)


def test_what_is_said_of_a_scene_agrees_with_itself() -> None:
    things = len(SCENES.spec.things)
    assert SCENES.spec.keypoints == KEYPOINTS
    assert SCENES.spec.labels == 14
    for scene in SCENES:
        assert scene.image.shape == (64, 64, 3)
        assert scene.image.dtype == np.uint8
        assert 1 <= len(scene.classes) <= 5
        assert scene.masks.sum(axis=0).max() == 1  # true occlusion: no pixel is of two
        assert np.array_equal(scene.masks.any(axis=0), scene.semantic < things)
        for label, box, mask in zip(scene.classes, scene.boxes, scene.masks, strict=True):
            assert set(scene.semantic[mask]) == {label}
            rows, columns = ndimage.find_objects(mask.astype(int))[0]
            assert tuple(box) == (columns.start, rows.start, columns.stop, rows.stop)
        assert scene.main is not None
        areas = np.sort(scene.masks.sum(axis=(1, 2)))
        assert len(areas) == 1 or areas[-1] >= 1.25 * areas[-2]


def test_keypoints_lie_on_the_digit_or_are_hidden() -> None:
    near = 0
    for scene in SCENES:
        for points, mask in zip(scene.keypoints, scene.masks, strict=True):
            for x, y, visible in points:
                if visible == 2:
                    assert mask[round(float(y)), round(float(x))]
                    near += 1
                else:
                    assert visible in (0, 1)
    assert near > 500


def test_the_centre_is_the_centre_of_the_scans_ink() -> None:
    images = load_digits().images
    for row in (0, 7, 500, 1796):
        expected = np.array(ndimage.center_of_mass(images[row]))[::-1]  # in the scan's pixels
        found = (_sticker(row).keypoints[4] - 8 - 1.5) / 4  # without border; the middle of 4 fine pixels
        assert found == pytest.approx(expected, abs=0.15)


def test_ends_are_where_the_ink_ends() -> None:
    for row in range(40):
        top, bottom, left, right, _ = _sticker(row).keypoints
        ink = np.argwhere(_sticker(row).layers[0] >= 0.4)
        assert (top[1], left[0]) == tuple(ink.min(axis=0))
        assert (bottom[1], right[0]) == tuple(ink.max(axis=0))


def test_ink_is_darker_than_its_backing_and_classes_can_be_told_apart() -> None:
    """A nearest neighbour on the main digit's box, 8 x 8, knows far more classes than chance."""

    def crops(scenes: InMemoryScenes) -> tuple[np.ndarray, np.ndarray]:
        images, labels = [], []
        for scene in scenes:
            main = scene.main
            assert main is not None
            left, top, right, bottom = scene.boxes[main].astype(int)
            grey = scene.image[top:bottom, left:right].mean(axis=2) / 255
            grey = ndimage.zoom(
                grey, (8 / grey.shape[0], 8 / grey.shape[1]), order=1, grid_mode=True, mode="nearest"
            )
            images.append(((grey - grey.mean()) / grey.std()).ravel())
            labels.append(scene.classes[main])
        return np.stack(images), np.array(labels)

    known, labels = crops(digit_scenes("train", 200))
    asked, answers = crops(digit_scenes("test", 60))
    nearest = labels[(asked @ known.T).argmax(axis=1)]
    assert (nearest == answers).mean() > 0.3


def test_sizes_and_refusals() -> None:
    assert digit_scenes("train", 1, size=96)[0].image.shape == (96, 96, 3)
    with pytest.raises(AiopError, match="validation"):
        digit_scenes("validation", 3)  # type: ignore[arg-type]
    with pytest.raises(AiopError, match="count 0"):
        digit_scenes("train", 0)
