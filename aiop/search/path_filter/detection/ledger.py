"""Evaluations as they come, kept in a file, so that none is made twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from aiop.errors import AiopError
from aiop.journal import append, read_lines

__all__ = ["Evaluations"]


class Evaluations:
    """Figures of bodies, and the CPU seconds each took; those of other identities in the file are left alone.

    path: a file of JSON lines, made at the first evaluation.

    Raises:
        AiopError: for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[str, str], tuple[float, float]] = {}
        try:
            records = list(read_lines(path))
        except OSError as error:
            raise AiopError(
                f"evaluations {path} cannot be read ({error.strerror}): delete the file to make them again"
            ) from None
        for record in records:
            try:
                key = str(record["identity"]), str(record["code"])
                self._known[key] = float(record["figure"]), float(record["seconds"])
            except (KeyError, TypeError, ValueError):
                continue  # as an unfinished line: it is made again

    def get(self, identity: str, code: str, make: Callable[[], float]) -> float:
        """Return the figure of a body, made where it is not known yet.

        identity: of all that the figure depends on beside the body.
        """
        key = identity, code
        if key not in self._known:
            begun = time.process_time()
            figure = make()
            self._known[key] = figure, time.process_time() - begun
            record = {"identity": identity, "code": code, "figure": figure, "seconds": self._known[key][1]}
            append(self._path, record)
        return self._known[key][0]

    def seconds(self, identity: str, code: str) -> float:
        """CPU seconds that an evaluation took when it was made; `KeyError` for one that was not."""
        return self._known[identity, code][1]
