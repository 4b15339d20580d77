"""The networks in ``examples/`` are what their scripts write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_resnet18_is_what_its_script_writes(tmp_path):
    written = tmp_path / "resnet18.onnx"
    subprocess.run([sys.executable, EXAMPLES / "make_resnet.py", written], check=True)
    shipped = EXAMPLES / "resnet18.onnx"
    assert onnx.load(written) == onnx.load(shipped)
    assert shipped.stat().st_size < 200_000
