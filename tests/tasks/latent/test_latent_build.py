from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import spearmanr

from aiop.errors import AiopError
from aiop.tasks.latent.build import build, draw_bodies
from aiop.tasks.latent.config import LatentConfig
from aiop.tasks.latent.ledger import Label
from aiop.tasks.latent.record import agreement, rows_of

TASKS = ("classification", "keypoints", "detection", "instance", "semantic", "panoptic")

REDUCED = """
out: {out}
data: {{digits: {{train: 64, test: 16}}, size: 64}}
supernet: {{steps: [3, 1, 1, 1, 2], batch: 8, every: 2}}
bodies: {{truth: 3, repeats: 1, pseudo: 2, bins: 5, per_bin: 1}}
groups:
  classification:
    shared: {{steps: 4, batch: 8}}
    pseudo: {{steps: 1, batch: 8}}
    truth: {{steps: 2, batch: 8}}
  keypoints:
    shared: {{steps: 4, batch: 8}}
    pseudo: {{steps: 1, batch: 8}}
    truth: {{steps: 2, batch: 8}}
  dense:
    shared: {{steps: 4, batch: 8}}
    pseudo: {{steps: 1, batch: 8}}
    truth: {{steps: 2, batch: 8}}
"""


def write(folder: Path, text: str = REDUCED, out: str = "out") -> Path:
    path = folder / "reduced.yaml"
    path.write_text(text.format(out=out), encoding="utf-8")
    return path


class Stop(Exception):
    pass


class Watching:
    """Keeps what it is told, and stops the build when ``stop`` says so."""

    def __init__(self, stage: str = "", at: int = -1) -> None:
        self.stop = (stage, at)
        self.stages: dict[str, list[int]] = {}
        self.notes: list[str] = []

    def begin(self, stage: str, total: int, done: int = 0) -> None:
        self.stages[stage] = [total, done]

    def advance(self, stage: str, done: int, note: str = "") -> None:
        self.stages[stage].append(done)
        if (stage, done) == self.stop:
            raise Stop

    def note(self, text: str) -> None:
        self.notes.append(text)


def numbers(card: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    """What a table says, without what it cost."""
    rows = pq.read_table(out / "labels.parquet").to_pylist()
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Watching]:
    """One whole build in one process."""
    folder = tmp_path_factory.mktemp("latent")
    watch = Watching()
    card = build(LatentConfig.load(write(folder)), watch=watch)
    return card, folder / "out", watch


def test_every_stage_runs_and_every_body_has_its_labels(built: tuple[dict[str, Any], Path, Watching]) -> None:
    card, out, watch = built
    rows = pq.read_table(out / "labels.parquet").to_pylist()
    assert [(row["role"], row["repeat"]) for row in rows] == [
        ("truth", 0), ("truth", 1), ("truth", 0), ("truth", 0), ("pseudo", 0), ("pseudo", 0),
    ]  # fmt: skip
    for row in rows:
        kinds = {
            "pseudo": {"latent"},
            "truth": {"truth"} if row["repeat"] else {"truth", "latent", "swapping"},
        }
        for kind in ("truth", "latent", "swapping"):
            for task in TASKS:
                value = row[f"{kind}/{task}"]
                assert (value is not None) == (kind in kinds[row["role"]])
                assert value is None or 0 <= value <= 100
    assert len({row["network"] for row in rows}) == 5
    assert rows[0]["truth_seed/dense"] != rows[1]["truth_seed/dense"]
    assert card["failures"] == {}
    assert set(card["seconds"]["heads"]) == {
        f"{method}/{group}"
        for method in ("latent", "swapping")
        for group in ("classification", "keypoints", "dense")
    }
    assert all(seconds > 0 for seconds in card["seconds"]["heads"].values())
    assert card["seconds"]["supernet"] > 0
    assert json.loads((out / "labels.json").read_text()) == card
    assert watch.stages["truth"] == [12, 0, *range(1, 13)]
    assert watch.stages["supernet"][0] == 8


def test_a_finished_build_is_not_done_again(built: tuple[dict[str, Any], Path, Watching]) -> None:
    card, out, _ = built
    lines = (out / "labels.jsonl").read_bytes()
    watch = Watching()
    again = build(LatentConfig.load(out.parent / "reduced.yaml"), watch=watch)
    assert (out / "labels.jsonl").read_bytes() == lines
    assert "rehearsal" not in watch.stages
    assert watch.stages["truth"] == [12, 12]
    assert again["agreement"] == card["agreement"]
    assert again["seconds"] == card["seconds"]


@pytest.mark.slow
def test_interrupted_builds_and_two_processes_give_the_same_numbers(
    built: tuple[dict[str, Any], Path, Watching], tmp_path: Path
) -> None:
    card, out, _ = built
    config = LatentConfig.load(write(tmp_path))
    for stage, at in (("supernet", 3), ("head latent dense", 3), ("truth", 4), ("pseudo-labels", 2)):
        with pytest.raises(Stop):
            build(config, watch=Watching(stage, at))
    whole = (tmp_path / "out" / "labels.jsonl").read_bytes()
    (tmp_path / "out" / "labels.jsonl").write_bytes(whole[:-20])  # as a kill may leave it
    again = build(config, jobs=2)
    assert numbers(again, tmp_path / "out") == numbers(card, out)


def test_an_out_folder_of_other_settings_is_refused(built: tuple[dict[str, Any], Path, Watching]) -> None:
    _, out, _ = built
    text = REDUCED.replace("[3, 1, 1, 1, 2]", "[3, 1, 1, 1, 1]")
    other = out.parent / "other.yaml"
    other.write_text(text.format(out="out"), encoding="utf-8")
    with pytest.raises(
        AiopError, match=r"supernet.safetensors was made with other settings or data.*--fresh"
    ):
        build(LatentConfig.load(other))


def test_labels_that_fail_are_told_and_tried_again(
    built: tuple[dict[str, Any], Path, Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, out, _ = built
    ledger = out / "labels.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))
    lost = json.loads(lines[-1])

    def diverge(*_: object) -> Label:
        raise AiopError("the loss is no number")

    config = LatentConfig.load(out.parent / "reduced.yaml")
    with monkeypatch.context() as patched:
        patched.setattr("aiop.tasks.latent.studio.Studio.label", diverge)
        watch = Watching()
        failed = build(config, watch=watch)
    (name,) = failed["failures"]
    assert lost["code"] in name
    assert watch.notes == [f"{name}: the loss is no number"]
    again = build(config)
    assert again["failures"] == {}
    assert again["agreement"] == card["agreement"]


def test_threads_are_left_as_they_were(built: tuple[dict[str, Any], Path, Watching]) -> None:
    _, out, _ = built
    before = torch.get_num_threads()
    build(LatentConfig.load(out.parent / "reduced.yaml"))
    assert torch.get_num_threads() == before


def test_bodies_of_all_roles_are_different_networks(tmp_path: Path) -> None:
    text = (
        REDUCED.replace("truth: 3,", "truth: 12,")
        .replace("pseudo: 2,", "pseudo: 20,")
        .replace("per_bin: 1", "per_bin: 3")
    )
    bodies = draw_bodies(LatentConfig.load(write(tmp_path, text)))
    assert [len(codes) for codes in bodies.bins] == [3] * 5
    codes = [*bodies.truth, *bodies.pseudo, *(code for codes in bodies.bins for code in codes)]
    assert len(codes) == len(set(codes)) == 12 + 20 + 15
    depths = [{code.count("k") for code in codes} for codes in bodies.bins]
    assert [max(depth) for depth in depths[:-1]] < [min(depth) for depth in depths[1:]]


def test_what_would_fail_late_fails_before_the_supernet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, float]:
        raise AiopError("figures need a package that is not there")

    monkeypatch.setattr("aiop.tasks.latent.heads.DenseHead.evaluate", broken)
    watch = Watching()
    with pytest.raises(AiopError, match="a package that is not there"):
        build(LatentConfig.load(write(tmp_path)), watch=watch)
    assert "supernet" not in watch.stages


def label(kind: str, code: str, figure: float, seed: int = 0) -> Label:
    return Label(kind, code, "classification", seed, {"classification": figure}, 2.0, 1.0, "x")


def test_agreement_is_spearmans_over_first_trainings_and_noise_is_of_one_training() -> None:
    codes = [
        "16-k3e2/24-k3e2/48-k3e2",
        "16-k3e4/24-k3e2/48-k3e2",
        "24-k7e4/24-k3e2/48-k3e2",
        "24-k7e4/40-k7e4/80-k7e4",
    ]
    truth, latent = [50.0, 61.0, 58.0, 70.0], [20.0, 30.0, 35.0, 33.0]
    labels = [label("truth", code, figure) for code, figure in zip(codes, truth, strict=True)]
    labels += [label("truth", codes[0], 53.0, seed=1), label("truth", codes[1], 57.0, seed=1)]
    labels += [label("latent", code, figure) for code, figure in zip(codes, latent, strict=True)]
    entry = agreement(rows_of(codes, [], labels, "digits-ofa"))["classification"]
    assert entry["n"] == 4
    assert entry["latent"] == pytest.approx(spearmanr(truth, latent).statistic)
    assert entry["macs"] == pytest.approx(0.8)  # costs rise along the list; ranks of the truth are 1, 3, 2, 4
    assert entry["noise"] == pytest.approx(2.5)  # differences 3 and 4: sqrt((9 + 16) / 2 / 2)
    assert "swapping" not in entry


def test_nothing_is_said_of_too_few_or_constant_figures() -> None:
    codes = ["16-k3e2/24-k3e2/48-k3e2", "16-k3e4/24-k3e2/48-k3e2", "24-k7e4/24-k3e2/48-k3e2"]
    labels = [label("truth", code, 50.0) for code in codes]
    entry = agreement(rows_of(codes, [], labels, "digits-ofa"))["classification"]
    assert (entry["macs"], entry["noise"]) == (None, None)
    assert agreement(rows_of(codes, [], labels[:2], "digits-ofa"))["classification"]["macs"] is None


def test_unwritable_folders_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(AiopError, match="cannot be written"):
        build(LatentConfig.load(write(tmp_path)))
