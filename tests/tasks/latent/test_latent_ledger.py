from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiop.errors import AiopError
from aiop.tasks.latent.ledger import Label, Ledger

IDENTITIES = {("truth", "dense"): "aa", ("latent", "dense"): "bb"}


def label(code: str, kind: str = "truth", seed: int = 0, identity: str = "aa") -> Label:
    return Label(kind, code, "dense", seed, {"detection": 12.5, "panoptic": 3.0}, 50.25, 2.5, identity)


def test_labels_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out" / "labels.jsonl"
    ledger = Ledger(path, IDENTITIES)
    written = [label("b"), label("a"), label("a", seed=1), label("a", kind="latent", identity="bb")]
    for entry in written:
        ledger.add(entry)
    assert list(Ledger(path, IDENTITIES).labels.values()) == written
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_passed_over_and_the_next_label_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "labels.jsonl"
    ledger = Ledger(path, IDENTITIES)
    for code in "ab":
        ledger.add(label(code))
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    again = Ledger(path, IDENTITIES)
    assert [entry.code for entry in again.labels.values()] == ["a"]
    assert label("b").key not in again
    again.add(label("b"))
    assert [entry.code for entry in Ledger(path, IDENTITIES).labels.values()] == ["a", "b"]


def test_labels_of_other_settings_stay_and_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    Ledger(path, IDENTITIES).add(label("a"))
    other = Ledger(path, {("truth", "dense"): "cc"})
    assert (len(other.labels), other.others) == (0, 1)
    other.add(label("a", identity="cc"))
    assert list(Ledger(path, IDENTITIES).labels) == [label("a").key]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "7",
        "{}",
        '{"kind": "truth"}',
        "\x00\xff",
        json.dumps({**vars(label("a")), "figures": {"x": "y"}}),
    ],
)
def test_damaged_lines_are_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    Ledger(path, IDENTITIES).add(label("b"))
    assert [entry.code for entry in Ledger(path, IDENTITIES).labels.values()] == ["b"]


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_figures_that_are_no_numbers_are_refused(figure: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Label("truth", "a", "dense", 0, {"detection": figure}, 1.0, 1.0, "aa")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(AiopError, match=r"labels .* cannot be kept"):
        Ledger(tmp_path / "out" / "labels.jsonl", IDENTITIES)
