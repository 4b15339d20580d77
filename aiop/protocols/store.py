"""Results as they come: one JSON object per line, appended, never computed twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.journal import append, read_lines

__all__ = ["KEY", "Key", "Record", "Store"]

Record = Mapping[str, Any]
Key = tuple[Any, ...]

KEY = ("kind", "sees", "data", "task", "method", "code", "labels", "draw")
"""What a result depends on: what the method sees besides labels (`aiop.protocols.judge.sees`: a predictor, other tasks,
or nothing), split file and corpus, task, method and its code, labels and their draw."""


class Store:
    """A file of records, which several processes may append to at the same time.

    The line that an interrupted process left unfinished is passed over. Where one key is there twice, the first counts.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.records: dict[Key, Record] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for record in self._read():
            self.records.setdefault(self.key(record), record)

    @staticmethod
    def key(record: Record) -> Key:
        """Return what tells a record from others."""
        return tuple(record[name] for name in KEY)

    def __contains__(self, key: Key) -> bool:
        return key in self.records

    def add(self, record: Record) -> None:
        """Append a record; it is on the disk when this returns."""
        append(self.path, record)
        self.records.setdefault(self.key(record), record)

    def _read(self) -> Iterator[Record]:
        try:
            for record in read_lines(self.path):
                if all(name in record for name in KEY):
                    yield record
        except OSError as error:
            raise AiopError(
                f"results {self.path} cannot be read ({error.strerror}): check the path"
            ) from None
