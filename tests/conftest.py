"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from aiop.tasks import task

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the benchmark tables: ``AIOP_DATA``, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("AIOP_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"benchmark tables are not at {folder}; set AIOP_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def onnx_light() -> Path:
    """Folder of the well-known networks, weights left out, that the ``onnx`` package carries."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    if not folder.is_dir():
        pytest.skip(f"this build of onnx carries no light networks at {folder}")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _tasks_of_own_tables() -> Iterator[None]:
    """Forget the tasks that a module registers by loading tables of its own."""
    known = dict(task._TASKS)
    yield
    task._TASKS.clear()
    task._TASKS.update(known)
