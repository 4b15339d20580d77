"""What a run tells while it runs: a progress bar for people, JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

__all__ = ["EventLog", "RunLog", "RunProgress"]


class RunLog:
    """Append records to a JSON-lines file.

    A run that goes on at step s first drops the records after s: they are written again. ``events`` gets them too.
    """

    def __init__(self, path: Path, step: int, events: EventLog | None = None) -> None:
        self.path, self.events = path, events
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
        if self.events is not None:
            self.events.write(record)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _step(line: str) -> float:
    """Step of a record; infinity for a line that a kill cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


class EventLog:
    """The numbers of a run as event files that TensorBoard reads.

    A run that goes on at step s hides what the interrupted one wrote after s.

    Raises:
        AiopError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise AiopError(
                "the setting 'tensorboard' needs its package: pip install 'aiop[tensorboard]', or leave it out"
            ) from None
        # Purging drops events of this step and later ones.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Add every number of a record of `RunLog` under its path of keys."""
        for name, value in _numbers(record):
            if name != "step":
                self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _numbers(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)


class RunProgress:
    """A bar with the loss and the held-out SRCC of every corpus; nothing at all where it is disabled."""

    def __init__(self, steps: int, step: int, enabled: bool, label: str = "training") -> None:
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
        self._task = self._progress.add_task(label, total=steps, completed=step, note="")
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
