"""Figures against scikit-learn, arithmetic, and cases counted by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from aiop.errors import AiopError
from aiop.tasks.latent import metrics
from aiop.tasks.latent.scene import VOID, Scene, SceneSpec

SPEC = SceneSpec(20, ("cat", "dog"), ("sky", "sea"))
Rectangle = tuple[int, int, int, int]
Array = npt.NDArray[Any]


@dataclass
class Seen:
    classes: Array
    scores: Array
    boxes: Array
    masks: Array


def mask_of(box: Rectangle) -> Array:
    mask = np.zeros((20, 20), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def scene_of(objects: list[tuple[int, Rectangle]], crowd: tuple[int, ...] = (), ground: int = 2) -> Scene:
    semantic = np.full((20, 20), ground, dtype=np.uint8)
    for label, box in objects:
        semantic[mask_of(box)] = label
    return Scene(
        image=np.zeros((20, 20, 3), dtype=np.uint8),
        classes=np.array([label for label, _ in objects], dtype=np.int64),
        boxes=np.array([box for _, box in objects], dtype=np.float32).reshape(-1, 4),
        masks=np.array([mask_of(box) for _, box in objects], dtype=bool).reshape(-1, 20, 20),
        keypoints=np.zeros((len(objects), 0, 3), dtype=np.float32),
        semantic=semantic,
        crowd=np.isin(np.arange(len(objects)), crowd),
    )


def seen(*objects: tuple[int, float, Rectangle]) -> Seen:
    return Seen(
        np.array([label for label, _, _ in objects], dtype=np.int64),
        np.array([score for _, score, _ in objects], dtype=np.float32),
        np.array([box for _, _, box in objects], dtype=np.float32).reshape(-1, 4),
        np.array([mask_of(box) for _, _, box in objects], dtype=bool).reshape(-1, 20, 20),
    )


def ap(scenes: list[Scene], found: list[Seen], kind: Any = "bbox") -> float:
    return metrics.average_precision(metrics.ground_truth(scenes, SPEC), found, kind)


def test_top1_is_scikit_learns_accuracy() -> None:
    rng = np.random.default_rng(0)
    predicted, measured = rng.integers(0, 3, (2, 50))
    assert metrics.top1(predicted, measured) == pytest.approx(100 * accuracy_score(measured, predicted))


def test_mean_iou_is_scikit_learns_jaccard_score() -> None:
    rng = np.random.default_rng(1)
    measured, predicted = rng.choice([0, 1, 2, 4], (2, 300))  # class 3 never occurs
    counts = confusion_matrix(measured, predicted, labels=range(5))
    expected = 100 * jaccard_score(measured, predicted, average="macro")
    assert metrics.mean_iou(counts) == pytest.approx(expected)


def test_pck_counts_labelled_keypoints_within_a_share_of_the_size() -> None:
    measured = np.zeros((2, 3, 3))
    measured[..., 2] = np.array([[2, 1, 0], [2, 2, 2]])
    predicted = np.zeros((2, 3, 2))
    predicted[0] = np.array([[3, 0], [5, 0], [0, 0]])  # size 40: 3 and 5 against 4, the third is not labelled
    predicted[1] = np.array([[0, 1], [0.8, 0.6], [2, 0]])  # size 10: 1, 1, 2 against 1
    assert metrics.pck(predicted, measured, np.array([40.0, 10.0]), 0.1) == pytest.approx(100 * 3 / 5)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ap_of_all_found_of_none_found_and_of_one_of_two(kind: Any) -> None:
    scenes = [scene_of([(0, (2, 2, 8, 8)), (1, (10, 10, 16, 18))]), scene_of([(0, (1, 1, 5, 9))])]
    whole = [seen((0, 0.9, (2, 2, 8, 8)), (1, 0.4, (10, 10, 16, 18))), seen((0, 0.3, (1, 1, 5, 9)))]
    assert ap(scenes, whole, kind) == pytest.approx(100)
    assert ap(scenes, [seen(), seen()], kind) == 0
    # Of class 0 recall ends at 1/2: precision is 1 at recalls 0, .01, ... .5, that is 51 of 101. Class 1 is all found.
    assert ap(scenes, [whole[0], seen()], kind) == pytest.approx(100 * (51 / 101 + 1) / 2)


def test_ap_is_over_thresholds_of_the_iou() -> None:
    scenes = [scene_of([(1, (0, 0, 10, 10))])]
    found = [seen((1, 0.5, (0, 0, 10, 8)))]
    found[0].boxes[0, 3] = 7.8  # IoU .78, enough for .5, .55, ... .75: 6 of 10 thresholds
    assert ap(scenes, found) == pytest.approx(60)
    found[0].masks = mask_of((0, 0, 10, 6))[None]
    found[0].masks[0, 6, 0] = True  # 61 of 100 pixels
    assert ap(scenes, found, "segm") == pytest.approx(30)  # .5, .55, .6


def test_ap_ranks_by_score() -> None:
    scenes = [scene_of([(0, (2, 2, 8, 8))])]
    right, wrong = (2, 2, 8, 8), (12, 12, 18, 18)
    assert ap(scenes, [seen((0, 0.9, right), (0, 0.2, wrong))]) == pytest.approx(100)
    assert ap(scenes, [seen((0, 0.9, wrong), (0, 0.2, right))]) == pytest.approx(50)


def test_ap_does_not_judge_crowds() -> None:
    scenes = [scene_of([(0, (2, 2, 8, 8)), (0, (10, 0, 20, 20))], crowd=(1,))]
    inside = seen((0, 0.9, (12, 2, 16, 6)), (0, 0.2, (2, 2, 8, 8)))
    assert ap(scenes, [inside]) == pytest.approx(100)


def test_ap_can_be_taken_twice_of_the_same_truth() -> None:
    truth = metrics.ground_truth([scene_of([(0, (2, 2, 8, 8))])], SPEC)
    found = [seen((0, 0.9, (2, 2, 8, 8)))]
    assert [metrics.average_precision(truth, found, kind) for kind in ("segm", "bbox", "segm")] == [100] * 3


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faster_coco_eval", None)
    with pytest.raises(AiopError, match=r"aiop\[latent\]"):
        metrics.ground_truth([], SPEC)


def segments(*parts: tuple[int, Rectangle], ground: int = 0) -> tuple[Array, Array]:
    """The first segment is the ground of class `ground`, unless that is 0: then the ground is void."""
    labels = np.full((20, 20), 1 if ground else 0, dtype=np.int32)
    classes = [ground] if ground else []
    for label, box in parts:
        classes.append(label)
        labels[mask_of(box)] = len(classes)
    return labels, np.array(classes, dtype=np.int64)


def test_panoptic_quality_of_the_truth_is_all() -> None:
    boxes = ((0, (2, 2, 8, 8)), (0, (8, 8, 12, 12)), (1, (12, 12, 18, 18)))
    scene = scene_of(list(boxes))
    assert metrics.panoptic_quality([scene], SPEC, [segments(*boxes, ground=2)]) == pytest.approx(100)


def test_panoptic_quality_counted_by_hand() -> None:
    scene = scene_of([(0, (0, 0, 10, 10)), (0, (10, 0, 20, 4)), (1, (0, 10, 10, 20))])
    predicted = segments(
        (0, (0, 0, 10, 8)),  # IoU .8 with the first cat
        (0, (10, 0, 14, 4)),  # IoU .4 with the second: neither is a match
        (0, (0, 10, 10, 20)),  # the dog, called a cat
        ground=2,
    )
    # The sky: 400 - 240 = 160 pixels measured; predicted 400 - 80 - 16 - 100 = 204; IoU = 160 / 204.
    cats = 0.8 / (1 + 2 / 2 + 1 / 2)  # one hit, two wrong, one missed
    expected = 100 * (cats + 0 + 160 / 204) / 3  # the sea does not occur
    assert metrics.panoptic_quality([scene], SPEC, [predicted]) == pytest.approx(expected)


def test_void_pixels_and_crowds_are_pardoned() -> None:
    scene = scene_of([(0, (0, 0, 10, 10)), (1, (10, 10, 20, 20))], crowd=(1,))
    scene.semantic[0:10, 10:20] = VOID
    predicted = segments(
        (0, (0, 0, 12, 10)),  # IoU 1: what lies on void does not count
        (0, (13, 0, 19, 6)),  # on void only
        (1, (12, 12, 18, 18)),  # on the crowd of its class
        ground=2,
    )
    # Sky measured: 100 pixels at the left below. Predicted: 400 - 120 - 36 - 36 = 208, of them 44 on void, the others
    # (100 + 64 of the crowd) count: IoU = 100 / 164.
    expected = 100 * (1 + 100 / 164) / 2
    assert metrics.panoptic_quality([scene], SPEC, [predicted]) == pytest.approx(expected)
    other = segments(
        (0, (0, 0, 10, 10)), (0, (12, 12, 18, 18)), ground=2
    )  # on the crowd of another class: wrong
    sky = 100 / (100 + 64)  # the same: 36 of the crowd's pixels are covered
    assert metrics.panoptic_quality([scene], SPEC, [other]) == pytest.approx(100 * (1 / 1.5 + sky) / 2)


def test_without_stuff_what_is_found_on_the_ground_is_wrong() -> None:
    spec = SceneSpec(20, ("cat", "dog"))
    scene = scene_of([(0, (0, 0, 10, 10))])
    predicted = segments((0, (0, 0, 10, 10)), (0, (10, 10, 20, 20)))
    assert metrics.panoptic_quality([scene], spec, [predicted]) == pytest.approx(100 / 1.5)


def test_nothing_to_judge_gives_nan() -> None:
    nothing = [
        metrics.top1(np.array([]), np.array([])),
        metrics.mean_iou(np.zeros((3, 3), dtype=np.int64)),
        metrics.pck(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)), np.ones(1)),
        ap([scene_of([])], [seen()]),
        metrics.panoptic_quality([scene_of([], ground=VOID)], SPEC, [segments()]),
    ]
    assert np.isnan(nothing).all()
