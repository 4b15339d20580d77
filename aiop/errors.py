"""The one root of every error a user can cause, and the helper that suggests the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["AiopError", "suggest"]


class AiopError(Exception):
    """An error a user can cause.

    The message is one line that names the thing, the cause and the next step; the command line prints it
    and exits with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` for the candidate nearest to ``name``, or ``''`` where none is near.

    >>> suggest("nas-bench-202", ["nas-bench-201", "timm"])
    ' (did you mean "nas-bench-201"?)'
    """
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""
