from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_cases import Run

GOOD = """
out: runs
data: {digits: {train: 16, test: 8}}
groups:
  classification: {shared: {steps: 2}, pseudo: {steps: 1}, truth: {steps: 2}}
"""


def test_without_a_command_it_says_what_there_is(aiop_cli: Callable[..., Run]) -> None:
    assert "build" in aiop_cli("latent").out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("digits:", "digitts:"), "line 3: setting 'digitts' is unknown (did you mean \"digits\"?)"),
        (("train: 16", "train: lots"), "line 3: setting 'data.digits.train' is 'lots'"),
        (("out: runs", "out: runs: no"), "line 2 is not YAML"),
    ],
)
def test_a_wrong_file_is_told_in_one_line_with_its_place(
    aiop_cli: Callable[..., Run], tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = tmp_path / "latent.yaml"
    path.write_text(GOOD.replace(*change))
    run = aiop_cli("latent", "build", path)
    assert run.status == 1
    assert run.err.startswith(f"error: {path}, ")
    assert message in run.err
    assert run.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_not_there(aiop_cli: Callable[..., Run], tmp_path: Path) -> None:
    run = aiop_cli("latent", "build", tmp_path / "absent.yaml")
    assert (run.status, run.out) == (1, "")
    assert "absent.yaml cannot be read" in run.err


def test_no_processes_are_refused(aiop_cli: Callable[..., Run], tmp_path: Path) -> None:
    run = aiop_cli("latent", "build", tmp_path / "a.yaml", "--jobs", "0")
    assert run.status == 1
    assert "--jobs" in run.err
