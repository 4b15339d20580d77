"""What every head must do, and what the heads do with labels made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.tasks.latent.heads import GROUPS, TASKS, DenseHead, KeypointHead, Prepared, TaskHead, head_for
from aiop.tasks.latent.heads.keypoints import crop_of, heatmaps
from aiop.tasks.latent.scene import VOID, InMemoryScenes, Scene, SceneSpec

SPEC = SceneSpec(64, ("disc", "square"), ("dark", "light"), ("middle", "corner"))
CHANNELS, STRIDES = (6, 8, 10), (4, 8, 16)


def scene(seed: int, spec: SceneSpec = SPEC, objects: int = 2) -> Scene:
    """Bright rectangles on a dark or light ground, side by side."""
    rng = np.random.default_rng(seed)
    image = np.full((64, 64, 3), 40 + 60 * (seed % 2), dtype=np.uint8)
    semantic = np.full((64, 64), len(spec.things) + seed % 2, dtype=np.uint8)
    classes = rng.integers(0, 2, objects)
    boxes, masks = np.zeros((objects, 4), np.float32), np.zeros((objects, 64, 64), bool)
    keypoints = np.full((objects, len(spec.keypoints), 3), 2, np.float32)
    for row in range(objects):
        left, top = 4 + 30 * row, int(rng.integers(4, 30))
        width, height = int(rng.integers(12, 24)) + 2 * (row == 0), int(rng.integers(12, 24))
        masks[row, top : top + height, left : left + width] = True
        boxes[row] = left, top, left + width, top + height
        keypoints[row, :, :2] = (left + width / 2, top + height / 2)
        image[masks[row]] = (200, 255 * int(classes[row]), 30)
        semantic[masks[row]] = classes[row]
    crowd = np.zeros(objects, dtype=bool)
    return Scene(image, classes, boxes, masks, keypoints, semantic, crowd, f"made/{seed}")


SCENES = InMemoryScenes(SPEC, [scene(seed) for seed in range(6)])


class Pools(nn.Module):
    """A body that pools the image and mixes its channels at random."""

    channels, strides = CHANNELS, STRIDES

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(3, width, 1) for width in CHANNELS)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pairs = zip(self.mix, STRIDES, strict=True)
        return tuple(mix(nn.functional.avg_pool2d(images, stride)) for mix, stride in pairs)


@pytest.fixture(params=GROUPS)
def head(request: pytest.FixtureRequest) -> TaskHead:
    torch.manual_seed(0)
    return head_for(request.param, SPEC, CHANNELS, STRIDES)


def test_the_groups_serve_every_task_once() -> None:
    served = [task for group in GROUPS for task in head_for(group, SPEC, CHANNELS, STRIDES).tasks]
    assert sorted(served) == sorted(TASKS)


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(AiopError, match=r'group \'dens\' is unknown \(did you mean "dense"\?\)'):
        head_for("dens", SPEC, CHANNELS, STRIDES)


def test_batches_are_what_bodies_read(head: TaskHead) -> None:
    prepared = head.prepare(SCENES)
    images, targets = prepared.batch([2, 0])
    assert len(prepared) == 6
    assert images.shape == (2, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert -1 <= float(images.min()) < float(images.max()) <= 1
    assert "image" not in targets
    if head.group != "keypoints":  # which sees a crop
        wanted = SCENES[2].image.transpose(2, 0, 1) / 127.5 - 1
        assert images[0].numpy() == pytest.approx(wanted, abs=1e-6)


def test_records_beyond_the_memory_are_computed_again(
    head: TaskHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = head.prepare(SCENES).batch(range(6))
    monkeypatch.setattr("aiop.tasks.latent.heads.base.MEMORY", 1)
    lazy = head.prepare(SCENES)
    assert all(record is None for record in lazy.held)
    images, targets = lazy.batch(range(6))
    assert torch.equal(images, held[0])
    assert all(torch.equal(targets[name], held[1][name]) for name in targets)


def test_gradients_reach_every_weight_and_every_feature(head: TaskHead) -> None:
    images, targets = head.prepare(SCENES).batch(range(4))
    features = [feature.detach().requires_grad_() for feature in Pools()(images)]
    loss = head.loss(head(features), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dim() == 0
    assert torch.isfinite(loss)
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in head.parameters())
    assert features[-1].grad is not None
    if head.group == "dense":
        assert all(feature.grad is not None for feature in features)


def test_evaluation_gives_every_task_and_leaves_the_modes(head: TaskHead) -> None:
    body = Pools()
    head.train()
    prepared = head.prepare(SCENES)
    figures = head.evaluate(body, prepared, batch=4)
    assert tuple(figures) == head.tasks
    assert all(0 <= figure <= 100 for figure in figures.values())
    assert head.training
    assert body.training
    assert figures == head.evaluate(body, prepared, batch=6)  # batch norm must not see the batch


def test_scenes_without_labels_are_left_out_and_all_of_them_are_refused() -> None:
    empty = scene(1, objects=0)
    mixed = InMemoryScenes(SPEC, [empty, scene(2)])
    for group in ("classification", "keypoints"):
        head = head_for(group, SPEC, CHANNELS, STRIDES)
        assert head.prepare(mixed).rows == [1]
        with pytest.raises(AiopError, match=f"none of the 1 scenes has labels for {group}"):
            head.prepare(InMemoryScenes(SPEC, [empty]))
    dense = head_for("dense", SPEC, CHANNELS, STRIDES)
    assert dense.prepare(mixed).rows == [0, 1]
    images, targets = dense.prepare(InMemoryScenes(SPEC, [empty])).batch([0])
    assert torch.isfinite(dense.loss(dense(Pools()(images)), targets))


def test_data_that_a_head_cannot_serve_is_refused() -> None:
    with pytest.raises(AiopError, match="no keypoints"):
        KeypointHead(SceneSpec(64, ("a",)), CHANNELS, STRIDES)
    with pytest.raises(AiopError, match=r"images of 72 pixels do not fit .* multiple of 16"):
        DenseHead(SceneSpec(72, ("a",)), CHANNELS, STRIDES)


def test_a_crop_shows_the_object_in_the_middle_with_its_keypoints() -> None:
    made = scene(3, objects=1)
    left, top, right, bottom = made.boxes[0]
    image, points = crop_of(made, 0, 64)
    scale = 64 / (1.25 * max(right - left, bottom - top))
    across, down = scale * (right - left) / 2, scale * (bottom - top) / 2
    shown = np.argwhere(image.numpy()[0] == 200)
    assert shown.min(axis=0) == pytest.approx([32 - down, 32 - across], abs=2)
    assert shown.max(axis=0) + 1 == pytest.approx([32 + down, 32 + across], abs=2)
    assert points[:, :2].numpy() == pytest.approx(np.full((2, 2), 32.0), abs=1e-3)


def test_the_peak_of_a_heatmap_is_found_between_cells() -> None:
    torch.manual_seed(0)
    head = KeypointHead(SPEC, CHANNELS, STRIDES)
    points = torch.tensor([[[21.0, 33.5], [50.2, 7.9]], [[7.0, 57.0], [30.0, 30.0]]])
    maps = heatmaps(points, (16, 16), 4.0)
    found = head.decode({"maps": maps})
    assert len(found) == 2
    assert np.stack(found) == pytest.approx(points.numpy(), abs=1e-3)  # cells have 4 pixels


def test_hidden_keypoints_cost_and_unlabelled_ones_do_not() -> None:
    head = KeypointHead(SPEC, CHANNELS, STRIDES)
    maps = torch.zeros(1, 2, 16, 16)
    points = torch.tensor([[[20.0, 20, 1], [40, 40, 0]]])
    cost = head.loss({"maps": maps}, {"points": points})
    assert float(cost) == pytest.approx(float(heatmaps(points, (16, 16), 4.0)[0, 0].square().sum()))


def _perfect(head: DenseHead, prepared: Prepared) -> dict[str, torch.Tensor]:
    """Outputs that say exactly what the labels say: one prototype per object."""
    _, targets = prepared.batch(range(len(prepared)))
    n, most = targets["masks"].shape[:2]
    label, owner = targets["class"].long(), targets["object"].long()
    logits = torch.full((n, len(head.places), len(head.spec.things)), -20.0)
    boxes = torch.zeros(n, len(head.places), 4)
    coefficients = torch.zeros(n, len(head.places), most)
    for image, place in (label >= 0).nonzero().tolist():
        row = int(owner[image, place])
        logits[image, place, label[image, place]] = 20.0
        boxes[image, place] = targets["boxes"][image, row]
        coefficients[image, place, row] = 1.0
    semantic = targets["semantic"].long()
    scores = nn.functional.one_hot(semantic, head.spec.labels).permute(0, 3, 1, 2).float() * 40
    return {
        "logits": logits,
        "boxes": boxes,
        "centreness": torch.full((n, len(head.places)), 20.0),
        "coefficients": coefficients,
        "prototypes": targets["masks"].float() * 40 - 20,
        "semantic": scores,
    }


def test_outputs_that_say_what_the_labels_say_are_nearly_perfect() -> None:
    # A scene's rectangles have odd edges, so masks of cells of 2 pixels are not exact; boxes are.
    head = DenseHead(SPEC, CHANNELS, STRIDES)
    prepared = head.prepare(SCENES)
    outputs = _perfect(head, prepared)
    figures = head.figures(head.decode(outputs), prepared)
    assert figures["detection"] == pytest.approx(100, abs=0.1)
    assert figures["instance"] > 85
    assert figures["semantic"] > 93
    assert figures["panoptic"] > 90
    undecided = dict(
        outputs, centreness=torch.zeros(6, len(head.places))
    )  # costs log 2, and all else nearly nothing
    assert 0.69 < float(head.loss(undecided, prepared.batch(range(6))[1])) < 0.8


def test_pixels_of_no_known_class_cost_nothing() -> None:
    head = DenseHead(SPEC, CHANNELS, STRIDES)
    prepared = head.prepare(SCENES)
    outputs = _perfect(head, prepared)
    targets = prepared.batch(range(6))[1]
    base = float(head.loss(outputs, targets))
    wrong = dict(outputs, semantic=outputs["semantic"].roll(1, dims=1))
    assert float(head.loss(wrong, targets)) > base + 10
    unknown = dict(targets, semantic=torch.full_like(targets["semantic"], VOID))
    assert float(head.loss(wrong, unknown)) <= base
