"""A bounded share of what ``python -m benchmarks.fuzz`` tries at length, and that it would notice."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import fuzz


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    counts = Counter(
        fuzz.check(fuzz.fuzzed(1_000, index), tmp_path / "net.onnx" if index % 4 == 0 else None)
        for index in range(1_500)
    )
    assert counts["read"] > 300
    assert counts["refused"] > 300


def test_an_input_is_known_by_its_number() -> None:
    assert fuzz.fuzzed(3, 14) == fuzz.fuzzed(3, 14)
    assert len({fuzz.fuzzed(3, index) for index in range(50)}) > 40


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda: os._exit(7), "the process died (7)"),
        (lambda: time.sleep(600), "hangs"),
        (lambda: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_what_breaks_is_found_and_the_rest_is_tried(
    monkeypatch: pytest.MonkeyPatch, fault, said: str
) -> None:
    def check(data: bytes, path: Path | None = None) -> str:
        if data == b"7":
            fault()
        return "read"

    monkeypatch.setattr(fuzz, "check", check)
    monkeypatch.setattr(fuzz, "fuzzed", lambda seed, index: str(index).encode())
    monkeypatch.setattr(fuzz, "_HANGS_AFTER", 0.3)
    found: dict[int, str] = {}
    counts = fuzz.run(0, 0, 20, 2, found.__setitem__)
    assert list(found) == [7]
    assert said in found[7]
    assert counts["read"] == 19
