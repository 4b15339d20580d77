"""The pure parts of the dense head, against numbers worked out by hand or by other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aiop.tasks.latent.heads.assignment import BACKGROUND, IGNORED, assign, levels_of, locations
from aiop.tasks.latent.heads.decoding import Found, box_overlaps, object_masks, suppressed
from aiop.tasks.latent.heads.losses import centreness, focal, giou_loss
from aiop.tasks.latent.heads.panoptic import merge
from aiop.tasks.latent.scene import SceneSpec

STRIDES = (4, 8, 16)
NO_CROWD = torch.zeros(1, dtype=torch.bool)


def test_places_are_the_centres_of_cells_finest_level_first() -> None:
    places, levels = locations(64, STRIDES), levels_of(64, STRIDES)
    assert len(places) == len(levels) == 256 + 64 + 16
    assert places[0].tolist() == [2, 2]
    assert places[1].tolist() == [6, 2]  # x first
    assert places[256].tolist() == [4, 4]
    assert places[-1].tolist() == [56, 56]
    assert torch.bincount(levels).tolist() == [256, 64, 16]


def test_an_object_is_answered_for_around_its_centre_on_the_level_of_its_size() -> None:
    # 12 x 12 around (20, 20): stride 4, within 6 pixels of the centre: cells with centres 18, 22 and 14, 26 (the
    # latter two lie on the box's edge, which is not inside).
    label, owner = assign(torch.tensor([[14.0, 14, 26, 26]]), torch.tensor([7]), NO_CROWD, 64, STRIDES)
    places = locations(64, STRIDES)
    answering = places[label == 7].tolist()
    assert sorted(answering) == [[18, 18], [18, 22], [22, 18], [22, 22]]
    assert (owner[label == 7] == 0).all()
    assert (label[label != 7] == BACKGROUND).all()
    assert (owner[label != 7] == -1).all()


@pytest.mark.parametrize(("side", "level"), [(16.0, 0), (17.0, 1), (32.0, 1), (33.0, 2), (60.0, 2)])
def test_the_longer_side_chooses_the_level(side: float, level: int) -> None:
    label, _ = assign(torch.tensor([[1.0, 1, 1 + side, 9]]), torch.tensor([0]), NO_CROWD, 64, STRIDES)
    assert set(levels_of(64, STRIDES)[label == 0].tolist()) == {level}


def test_even_the_smallest_object_has_a_place_and_the_smaller_of_two_wins() -> None:
    tiny = torch.tensor([[8.2, 8.2, 8.8, 8.8], [2.0, 2, 16, 16]])
    label, owner = assign(tiny, torch.tensor([3, 4]), torch.zeros(2, dtype=torch.bool), 64, STRIDES)
    places = locations(64, STRIDES)
    assert places[owner == 0].tolist() == [[10, 10]]
    assert label[owner == 0].tolist() == [3]
    assert (label[owner == 1] == 4).all()
    assert (owner == 1).sum() > 3


def test_a_crowd_is_ignored_but_for_the_objects_in_it() -> None:
    boxes = torch.tensor([[0.0, 0, 32, 32], [10, 10, 20, 20]])
    label, owner = assign(boxes, torch.tensor([1, 2]), torch.tensor([True, False]), 64, STRIDES)
    places = locations(64, STRIDES)
    inside = (places < 32).all(dim=1)
    assert (owner != 0).all()
    assert set(label[inside].tolist()) == {IGNORED, 2}
    assert (label[~inside] == BACKGROUND).all()


def test_nothing_to_find_is_background() -> None:
    label, owner = assign(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.bool), 64, STRIDES)
    assert (label == BACKGROUND).all()
    assert (owner == -1).all()


def test_focal_loss_is_its_formula() -> None:
    logits, wanted = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 1.0, 0.0])
    p = [0.5, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))]
    by_hand = [
        -0.25 * (1 - p[0]) ** 2 * math.log(p[0]),
        -0.25 * (1 - p[1]) ** 2 * math.log(p[1]),
        -0.75 * p[2] ** 2 * math.log(1 - p[2]),
    ]
    assert focal(logits, wanted).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_giou_of_hand_made_boxes() -> None:
    found = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]])
    wanted = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 3, 1]])
    # same box: 0. Half beside: IoU 2/6, hull 6 = union. Apart by one: IoU 0, union 2, hull 3.
    assert giou_loss(found, wanted).tolist() == pytest.approx([0.0, 2 / 3, 1 + 1 / 3], abs=1e-5)


def test_centreness_is_one_in_the_middle_and_nought_at_the_edge() -> None:
    box = torch.tensor([[0.0, 0, 8, 4]])
    places = torch.tensor([[4.0, 2], [2, 2], [0, 2], [9, 2]])
    # (2, 2): left 2 of 6, top 2 of 2
    by_hand = [1.0, math.sqrt(2 / 6), 0.0, 0.0]
    assert centreness(places, box.expand(4, 4)).tolist() == pytest.approx(by_hand, abs=1e-6)


def test_overlaps_of_boxes() -> None:
    boxes = torch.tensor([[[0.0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5]]])
    by_hand = [[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 0]]
    assert box_overlaps(boxes)[0].numpy() == pytest.approx(np.array(by_hand))


def _greedy(boxes: torch.Tensor, classes: torch.Tensor, valid: torch.Tensor, overlap: float) -> list[bool]:
    """Non-maximum suppression of one image the plain way, box by box."""
    stay: list[int] = []
    for row in range(len(boxes)):
        if not valid[row]:
            continue
        for other in stay:
            low, high = (
                torch.maximum(boxes[row, :2], boxes[other, :2]),
                torch.minimum(boxes[row, 2:], boxes[other, 2:]),
            )
            common = float((high - low).clamp(min=0).prod())
            areas = float(
                (boxes[row, 2:] - boxes[row, :2]).prod() + (boxes[other, 2:] - boxes[other, :2]).prod()
            )
            if classes[row] == classes[other] and common / (areas - common) > overlap:
                break
        else:
            stay.append(row)
    return [row in stay for row in range(len(boxes))]


def test_suppression_of_a_batch_is_the_greedy_one_of_every_image() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(4, 30, 2, generator=generator) * 20
    boxes = torch.cat([low, low + 5 + 10 * torch.rand(4, 30, 2, generator=generator)], dim=2)
    classes = torch.randint(2, (4, 30), generator=generator)
    valid = torch.rand(4, 30, generator=generator) > 0.2
    stay = suppressed(boxes, classes, valid, 0.4)
    for image in range(4):
        assert stay[image].tolist() == _greedy(boxes[image], classes[image], valid[image], 0.4)
    assert 0 < int(stay.sum()) < int(valid.sum())


def test_masks_are_sums_of_prototypes_cut_at_their_boxes() -> None:
    left = torch.full((4, 4), -1.0)
    left[:, :2] = 1.0
    prototypes = torch.stack([left, torch.ones(4, 4)])
    boxes = torch.tensor([[0.0, 0, 8, 4], [0, 0, 8, 8], [0, 0, 8, 8]])
    masks = object_masks(torch.tensor([[1.0, 0], [-1, 0], [0, -1]]), prototypes, boxes, 8)
    expected = np.zeros((3, 8, 8), dtype=bool)
    expected[0, :4, :4] = True
    expected[1, :, 4:] = True
    assert np.array_equal(masks.numpy(), expected)


SPEC = SceneSpec(10, ("cat", "dog"), ("sky", "sea"))


def _found(masks: list[np.ndarray], classes: list[int], scores: list[float], semantic: np.ndarray) -> Found:
    return Found(
        np.array(classes, dtype=np.int64),
        np.array(scores, dtype=np.float32),
        np.zeros((len(masks), 4), dtype=np.float32),
        np.stack(masks),
        semantic.astype(np.uint8),
    )


def test_better_objects_take_pixels_first_then_stuff_and_the_rest_is_void() -> None:
    best, covered, beside, weak = (np.zeros((10, 10), dtype=bool) for _ in range(4))
    best[:4, :4] = True
    covered[:4, :5] = True  # 4 of its 20 pixels are free: too few
    beside[2:6, :4] = True  # 8 of 16 are free: enough
    weak[8:, 8:] = True
    semantic = np.full((10, 10), 2)
    semantic[:, 9] = 1  # a thing that no object takes
    semantic[9, 0] = 3  # one pixel of another stuff: below 2 % of the image
    found = _found([best, covered, beside, weak], [0, 1, 1, 0], [0.9, 0.8, 0.7, 0.1], semantic)
    segments, classes = merge(found, SPEC, confident=0.4, free=0.5, area=0.02)
    assert classes.tolist() == [0, 1, 2]
    expected = np.full((10, 10), 3)
    expected[:4, :4], expected[4:6, :4] = 1, 2
    expected[:, 9], expected[9, 0] = 0, 0
    assert np.array_equal(segments, expected)


def test_without_objects_there_is_stuff() -> None:
    found = _found([np.zeros((10, 10), dtype=bool)], [0], [0.1], np.full((10, 10), 3))
    segments, classes = merge(found, SPEC)
    assert (segments == 1).all()
    assert classes.tolist() == [3]
