"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from cli_cases import Run, StubPredictor
from onnx import TensorProto, helper
from typer.testing import CliRunner

import aiop
from aiop.cli.main import app


@pytest.fixture
def aiop_cli() -> Callable[..., Run]:
    """Run ``aiop ARGUMENTS...`` in this process."""

    def run(*arguments: object) -> Run:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="aiop")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Run(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def write_network(tmp_path: Path) -> Callable[..., Path]:
    """Write a one-convolution network whose input has the given shape (text where a size is open)."""

    def write(name: str, shape: list[int | str], inputs: bool = True) -> Path:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
        weight = helper.make_tensor("weight", TensorProto.FLOAT, [4, 3, 3, 3], [0.1] * 108)
        start = helper.make_tensor("image", TensorProto.FLOAT, [1, 3, 8, 8], [0.1] * 192)
        graph = helper.make_graph(
            [helper.make_node("Conv", ["image", "weight"], ["out"], name="conv", pads=[1] * 4)],
            "network",
            [image] if inputs else [],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [weight] if inputs else [weight, start],
        )
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return write


@pytest.fixture
def stub_predictor(monkeypatch: pytest.MonkeyPatch) -> StubPredictor:
    """Put `StubPredictor` in the place of the shipped predictor."""
    predictor = StubPredictor()
    monkeypatch.setitem(vars(aiop), "load", lambda path=None: predictor)  # without importing the real one
    return predictor
