"""What ``import aiop`` gives, and what it does not cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aiop


def test_public_surface():
    assert aiop.__all__ == [
        "AiopError", "Compression", "__version__", "build", "fit_head", "inspect", "load", "load_head", "operator",
        "read"
    ]  # fmt: skip
    assert dir(aiop) == sorted(aiop.__all__)


@pytest.mark.parametrize(
    "name", ["Compression", "build", "fit_head", "inspect", "load", "load_head", "operator", "read"]
)
def test_every_name_is_there(name):
    assert callable(getattr(aiop, name))


def test_unknown_name():
    with pytest.raises(AttributeError, match="predictt"):
        _ = aiop.predictt


def test_importing_loads_nothing_heavy():
    program = "import sys, aiop; print(sorted({'torch', 'dgl', 'onnx', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
