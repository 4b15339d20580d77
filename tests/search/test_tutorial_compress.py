"""The tutorial of compression does what it says: its blocks run in their order, and the numbers are as it tells."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import onnx
import pytest
import torch

import aiop

TUTORIAL = Path(__file__).parents[2] / "docs" / "compress-tutorial.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("onnx2torch") is None, reason="onnx2torch is not installed"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning"),
]


def blocks(text: str) -> list[tuple[int, str]]:
    """The lines at which blocks of Python begin, and the blocks."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in found]


def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    space: dict[str, object] = {"__name__": "tutorial"}
    try:
        for line, code in blocks(TUTORIAL.read_text(encoding="utf-8")):
            exec(compile("\n" * line + code, str(TUTORIAL), "exec"), space)
    finally:
        torch.set_num_threads(threads)

    whole, smaller = aiop.read("digits.onnx"), aiop.read("smaller.onnx")
    assert 0.6 * whole.macs < smaller.macs <= 0.7 * whole.macs
    for path in ("digits.onnx", "smaller.onnx", "candidate.onnx"):
        onnx.checker.check_model(onnx.load(path), full_check=True)
    trained = accuracy_of(space, "network")
    assert trained > 0.8
    assert accuracy_of(space, "smaller") > trained - 0.05
    printed = capsys.readouterr().out
    assert re.search(r"digits\.onnx: top-1 [\d.]+%, [\d.]+ ms, [\d,]+ MACs", printed)
    assert f"{trained:.1%}" in printed


def accuracy_of(space: dict[str, object], name: str) -> float:
    return space["accuracy"](space[name])  # type: ignore[operator, no-any-return]
