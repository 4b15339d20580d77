"""What a search was told, on disk: an interrupted one goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.journal import append, read_lines

__all__ = ["SearchLog"]


class SearchLog:
    """A file of codes and values, in the order in which they were told; its first line holds the settings.

    Args:
        path: of the file, made with its folder where it is not there.
        settings: plain values that must be the same for a search to go on.

    Raises:
        AiopError: a file that cannot be read or written, or that belongs to a search with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._told: list[tuple[str, float]] = []
        self._first: dict[str, Any] | None = None
        plain = json.loads(json.dumps(dict(settings)))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            records = list(read_lines(path))
        except OSError as error:
            raise self._unusable(error) from None
        if not records:
            self._first = {
                "settings": plain
            }  # written with the first tell: a search that fails at once binds nobody
        elif records[0].get("settings") != plain:
            known = records[0].get("settings") or {}
            changed = [name for name in {**known, **plain} if known.get(name) != plain.get(name)]
            parts = [f"{name} was {known.get(name)}, is {plain.get(name)}" for name in changed]
            raise AiopError(
                f'"{path}" holds a search with other settings ({"; ".join(parts)}): give another folder, or the same '
                "settings"
            )
        for record in records[1:]:
            try:
                self._told.append((str(record["code"]), float(record["value"])))
            except (KeyError, TypeError, ValueError):
                continue

    def __len__(self) -> int:
        return len(self._told)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(tuple(self._told))

    def add(self, code: str, value: float) -> None:
        """Append what was told; it is on the disk when this returns."""
        try:
            if self._first is not None:
                append(self.path, self._first)
                self._first = None
            append(self.path, {"code": code, "value": float(value)})
        except OSError as error:
            raise self._unusable(error) from None
        self._told.append((code, float(value)))

    def _unusable(self, error: OSError) -> AiopError:
        return AiopError(
            f"the log {self.path} cannot be kept ({error.strerror or error}): give a folder that can be written"
        )
