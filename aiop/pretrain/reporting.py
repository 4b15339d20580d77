"""What a run tells while it runs: a progress bar for people, JSON lines for programs."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path

__all__ = ["RunLog", "RunProgress"]


class RunLog:
    """Append records to a JSON-lines file.

    A run that goes on at step s first drops the records after s: they are written again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        try:
            kept = [line for line in _lines(path) if _step(line) <= step] if step else []
        except OSError as error:
            raise AiopError(f"log {path} cannot be read ({error.strerror}): check the folder") from error
        with atomic_path(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; on disk when the call returns."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _step(line: str) -> float:
    """Step of a record; infinity for a line that a kill cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


class RunProgress:
    """A bar with the loss and the held-out SRCC of every corpus; nothing at all where it is disabled."""

    def __init__(self, steps: int, step: int, enabled: bool) -> None:
        self._progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self._task = self._progress.add_task("training", total=steps, completed=step, note="")
        self._scores = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, step: int, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, note=f"loss {loss:.3f} {self._scores}")

    def scores(self, scores: dict[str, float | None]) -> None:
        """Show the mean SRCC per corpus from now on."""
        self._scores = " ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
