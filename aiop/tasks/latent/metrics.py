"""The figures of the six tasks from predictions and labels, all in %; larger is better. Nothing to judge gives nan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.tasks.latent.scene import VOID, Scene, SceneSpec

__all__ = [
    "Detections",
    "GroundTruth",
    "average_precision",
    "ground_truth",
    "mean_iou",
    "panoptic_quality",
    "pck",
    "top1",
]

Array = npt.NDArray[Any]
MOST = 100  # the best detections of a class in an image that AP counts, as COCO does


class Detections(Protocol):
    """What was found in one image: m objects; masks are read for mask AP only."""

    @property
    def classes(self) -> Array:
        """Integers ``(m,)``."""

    @property
    def scores(self) -> Array:
        """Float ``(m,)``."""

    @property
    def boxes(self) -> Array:
        """Float ``(m, 4)``: left, top, right, bottom in pixels."""

    @property
    def masks(self) -> Array:
        """Bool ``(m, H, W)``."""


@dataclass(frozen=True)
class GroundTruth:
    """The objects of a data set as the COCO evaluation reads them; made once, used for every evaluation."""

    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    annotations: list[dict[str, Any]]


def top1(predicted: Array, measured: Array) -> float:
    """Share of equal classes, %; both int ``(n,)``."""
    return 100.0 * float(np.mean(predicted == measured)) if len(measured) else float("nan")


def pck(predicted: Array, measured: Array, sizes: Array, threshold: float = 0.1) -> float:
    """Percentage of correct keypoints: predicted at most ``threshold`` of the object's size away.

    Args:
        predicted: ``(n, K, 2)``, x and y in pixels.
        measured: ``(n, K, 3)``, x, y, visibility; points of visibility 0 are not labelled and do not count.
        sizes: of the objects, ``(n,)``, pixels.
        threshold: share of the size.
    """
    labelled = measured[..., 2] > 0
    if not labelled.any():
        return float("nan")
    away = np.linalg.norm(predicted.astype(np.float64) - measured[..., :2], axis=-1)
    return 100.0 * float(np.mean((away <= threshold * sizes[:, None])[labelled]))


def mean_iou(confusion: Array) -> float:
    """Mean over the classes that occur of intersection over union, %.

    Args:
        confusion: int ``(L, L)``, pixels by class measured (row) and predicted (column), void ones left out.
    """
    common = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - common
    occurs = union > 0
    return 100.0 * float(np.mean(common[occurs] / union[occurs])) if occurs.any() else float("nan")


def _coco() -> Any:
    """The package of COCO's own evaluation, loaded when it is needed."""
    try:
        import faster_coco_eval
    except ImportError:
        raise AiopError(
            "average precision needs faster-coco-eval: install it with `pip install 'aiop[latent]'`"
        ) from None
    return faster_coco_eval


def _objects(
    image: int, classes: Array, boxes: Array, masks: Array | None, mask_tools: Any
) -> list[dict[str, Any]]:
    """COCO entries of one image. Areas are of masks where there are any, as in COCO."""
    boxes = np.asarray(boxes, dtype=np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    places = np.concatenate([boxes[:, :2], sides], axis=1).tolist()
    areas = sides.prod(axis=1).tolist()
    entries = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": place, "area": area, "iscrowd": 0}
        for label, place, area in zip(classes, places, areas, strict=True)
    ]
    if masks is not None and len(entries):
        runs = mask_tools.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
        for entry, run, area in zip(entries, runs, masks.sum(axis=(1, 2)).tolist(), strict=True):
            entry["segmentation"], entry["area"] = run, float(area)
    return entries


def ground_truth(scenes: Iterable[Scene], spec: SceneSpec) -> GroundTruth:
    """Prepare the objects of the scenes for `average_precision`.

    Raises:
        AiopError: where faster-coco-eval is not installed.
    """
    tools = _coco().mask
    images: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for image, scene in enumerate(scenes, start=1):
        height, width = scene.semantic.shape
        images.append({"id": image, "height": height, "width": width})
        found = _objects(image, scene.classes, scene.boxes, scene.masks, tools)
        for entry, crowd in zip(found, scene.crowd, strict=True):
            entry["iscrowd"] = int(crowd)
        entries += found
    categories = [{"id": index, "name": name} for index, name in enumerate(spec.things, start=1)]
    return GroundTruth(images, categories, _numbered(entries))


def _numbered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for number, entry in enumerate(entries, start=1):
        entry["id"] = number
    return entries


def average_precision(
    truth: GroundTruth, found: Sequence[Detections], kind: Literal["bbox", "segm"] = "bbox"
) -> float:
    """COCO's AP, %: the mean over classes and over thresholds .50 to .95 of the IoU of boxes or masks.

    Args:
        truth: of `ground_truth`.
        found: in every image, in the order of the truth's scenes.
        kind: ``"bbox"`` or ``"segm"``.

    Raises:
        AiopError: where faster-coco-eval is not installed.
    """
    package = _coco()
    entries: list[dict[str, Any]] = []
    for image, one in zip(truth.images, found, strict=True):
        masks = one.masks if kind == "segm" else None
        objects = _objects(image["id"], one.classes, one.boxes, masks, package.mask)
        for entry, score in zip(objects, one.scores, strict=True):
            entry["score"] = float(score)
        entries += objects
    sides = []
    for side in (truth.annotations, _numbered(entries)):
        # The evaluation writes into the entries: it gets copies.
        copies = [dict(entry) for entry in side]
        sides.append(
            package.COCO(
                {"images": truth.images, "categories": truth.categories, "annotations": copies, "info": {}}
            )
        )
    evaluation = package.COCOeval_faster(*sides, iouType=kind, rle_iou_max_workers=1)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.params.maxDets = [MOST]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])  # -1 for classes without an object
    judged = precision[precision > -1]
    return 100.0 * float(judged.mean()) if judged.size else float("nan")


def _segments(scene: Scene, spec: SceneSpec) -> tuple[Array, Array, Array]:
    """Panoptic labels of a scene.

    Where masks overlap the smaller object is on top. Without classes of stuff, what is no thing is known but no
    segment.

    Returns:
        int64 ``(H, W)``: 0 for void, 1 for what is no segment, s + 2 for segment s; classes and whether each is a
        crowd, ``(segments,)``.
    """
    labels = (scene.semantic != VOID).astype(np.int64)
    classes: list[int] = []
    crowds: list[bool] = []
    for label in range(len(spec.things), len(spec.things) + len(spec.stuff)):
        pixels = scene.semantic == label
        if pixels.any():
            labels[pixels] = len(classes) + 2
            classes.append(label)
            crowds.append(False)
    areas = scene.masks.sum(axis=(1, 2))
    for row in np.argsort(-areas, kind="stable"):
        labels[scene.masks[row]] = len(classes) + 2
        classes.append(int(scene.classes[row]))
        crowds.append(bool(scene.crowd[row]))
    return labels, np.asarray(classes, dtype=np.int64), np.asarray(crowds, dtype=bool)


def panoptic_quality(
    scenes: Iterable[Scene], spec: SceneSpec, predicted: Iterable[tuple[Array, Array]]
) -> float:
    """Mean over the classes that occur of PQ (Kirillov et al. 2019, "Panoptic segmentation"), %.

    A predicted and a measured segment of one class match where their IoU exceeds one half, void pixels left out of it.
    A crowd matches nothing and is not missed; a prediction that matches nothing is no mistake where more than half of
    it lies on void pixels or crowds of its class.

    Args:
        scenes: measured.
        spec: of the scenes.
        predicted: of every scene the segments, int ``(H, W)``, 0 for void, s + 1 for segment s, and their classes
            (`SceneSpec.labels`), int ``(segments,)``.
    """
    overlap = np.zeros(spec.labels)  # IoU summed over matches
    hit, wrong, missed = np.zeros((3, spec.labels))
    for scene, (segments, found) in zip(scenes, predicted, strict=True):
        labels, classes, crowds = _segments(scene, spec)
        rows, columns = len(classes) + 2, len(found) + 1
        common = np.bincount(labels.ravel() * columns + segments.ravel(), minlength=rows * columns)
        common = common.reshape(rows, columns)[:, 1:].astype(np.float64)
        areas = common.sum(axis=0)  # of predictions
        union = np.bincount(labels.ravel(), minlength=rows)[2:, None] + areas - common[2:] - common[0]
        iou = common[2:] / np.maximum(union, 1)
        match = (iou > 0.5) & (classes[:, None] == found) & ~crowds[:, None]
        pardoned = common[0] + (common[2:] * (crowds[:, None] & (classes[:, None] == found))).sum(axis=0)
        np.add.at(overlap, classes, (iou * match).sum(axis=1))
        np.add.at(hit, classes, match.any(axis=1))
        seen = np.bincount(labels.ravel(), minlength=rows)[2:] > 0
        np.add.at(missed, classes, seen & ~match.any(axis=1) & ~crowds)
        np.add.at(wrong, found, (areas > 0) & ~match.any(axis=0) & (pardoned <= 0.5 * areas))
    judged = hit + wrong / 2 + missed / 2
    occurs = judged > 0
    return 100.0 * float(np.mean(overlap[occurs] / judged[occurs])) if occurs.any() else float("nan")
