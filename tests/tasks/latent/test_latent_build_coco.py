"""A build on a user's own images and annotations, some of them wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from aiop.errors import AiopError
from aiop.tasks.latent.build import build
from aiop.tasks.latent.coco_writer import write_coco_folder
from aiop.tasks.latent.config import LatentConfig
from aiop.tasks.latent.digits import digit_scenes

CONFIG = """
out: out
data:
  coco:
    train: {images: train/images, annotations: train/annotations.json}
    test: {images: test/images, annotations: test/annotations.json}
  size: 64
supernet: {steps: [2, 0, 0, 0, 1], batch: 4}
bodies: {truth: 3, repeats: 0, pseudo: 1, bins: 2, per_bin: 1}
swapping: false
groups:
  classification: {shared: {steps: 2, batch: 4}, pseudo: {steps: 1, batch: 4}, truth: {steps: 1, batch: 4}}
  keypoints: {shared: {steps: 2, batch: 4}, pseudo: {steps: 1, batch: 4}, truth: {steps: 1, batch: 4}}
  dense: {shared: {steps: 2, batch: 4}, pseudo: {steps: 1, batch: 4}, truth: {steps: 1, batch: 4}}
"""


class Notes:
    """Keeps what a build says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, stage: str, total: int, done: int = 0) -> None: ...

    def advance(self, stage: str, done: int, note: str = "") -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 24), ("test", 16)):
        write_coco_folder(digit_scenes(split, count), tmp_path / split)
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def test_own_images_go_through_every_stage_and_what_is_wrong_is_said(folder: Path) -> None:
    path = folder / "train" / "annotations.json"
    lines = path.read_text("utf-8").splitlines()
    place = next(row for row, line in enumerate(lines) if '"bbox"' in line)
    entry = json.loads(lines[place].rstrip(","))
    lines[place] = json.dumps(entry | {"bbox": [500, 500, 20, 20]}) + "," * lines[place].endswith(",")
    path.write_text("\n".join(lines), encoding="utf-8")
    watch = Notes()
    card = build(LatentConfig.load(folder / "config.yaml"), watch=watch)
    assert any(
        f"annotations.json, line {place + 1}:" in note and "outside" in note for note in watch.notes
    ), watch.notes
    rows = pq.read_table(folder / "out" / "labels.parquet").to_pylist()
    assert [row["role"] for row in rows] == ["truth"] * 3 + ["pseudo"]
    assert all(row["latent/panoptic"] is not None for row in rows)
    assert card["failures"] == {}


def test_splits_of_other_classes_stop_before_anything_is_trained(folder: Path) -> None:
    path = folder / "test" / "annotations.json"
    path.write_text(path.read_text("utf-8").replace('"name": "3"', '"name": "three"'), encoding="utf-8")
    with pytest.raises(AiopError, match="name different classes"):
        build(LatentConfig.load(folder / "config.yaml"))
    assert not (folder / "out" / "supernet.safetensors").exists()
