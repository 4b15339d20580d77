"""Records as they come: one JSON object per line, appended whole, so that a kill at any moment loses one at most."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["append", "read_lines"]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record; it is on the disk when this returns. Several processes may append to one file.

    A line that a killed process left unfinished is ended first.

    Raises:
        OSError: the file cannot be written.
        ValueError: the record holds what JSON has no word for.
    """
    line = json.dumps(dict(record), allow_nan=False) + "\n"
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a file, in order; lines that are unfinished or no JSON objects are passed over.

    A file that does not exist has none.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                continue
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
