"""What the commands print with: errors on stderr, JSON lines, tables that fit, readable numbers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

__all__ = [
    "INDENT",
    "Name",
    "console",
    "human",
    "number",
    "piped",
    "print_error",
    "print_json",
    "print_notes",
    "table",
]

PIPE_WIDTH = 200
"""Columns where stdout is no terminal, so that `aiop tasks | grep ...` sees whole lines."""

MOST_NOTES = 10


def console() -> Console:
    """Return a console on stdout that prints names as they are (no markup, no emoji codes)."""
    return Console(width=PIPE_WIDTH if piped() else None, markup=False, emoji=False, highlight=False)


def piped() -> bool:
    """Return whether stdout is no terminal and nothing says how wide it is: lines are read by programs."""
    return not sys.stdout.isatty() and "COLUMNS" not in os.environ


def print_error(message: str) -> None:
    """Print ``error: message`` as one line on stderr."""
    print("error:", " ".join(message.split()), file=sys.stderr, flush=True)


def print_notes(notes: Sequence[str]) -> None:
    """Print ``note: ...`` on stderr, one line each; of many the first ten and how many more there are."""
    for note in notes[:MOST_NOTES]:
        print("note:", " ".join(note.split()), file=sys.stderr)
    if len(notes) > MOST_NOTES:
        print(f"note: and {len(notes) - MOST_NOTES:,} more; --json gives all", file=sys.stderr)
    sys.stderr.flush()


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    print(json.dumps(value), flush=True)


def human(count: float) -> str:
    """Return a count with three significant digits.

    >>> human(1_814_073_344), human(999_600), human(512)
    ('1.81 G', '1 M', '512')
    """
    for prefix in ("", " k", " M", " G"):
        if count < 999.5:
            return f"{count:.3g}{prefix}"
        count /= 1000
    return f"{count:.4g} T"


def number(value: float) -> str:
    """Return a measurement with the digits that matter.

    >>> number(93.0312), number(0.04512), number(2051.7)
    ('93.03', '0.0451', '2,052')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def table(*columns: str, left: int = 1) -> Table:
    """Return an empty table; the first ``left`` columns are texts, the rest numbers that are never broken."""
    result = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        if index < left:
            result.add_column(column, overflow="fold")
        else:
            result.add_column(column, justify="right", no_wrap=True)
    return result


class Name:
    """A task name or the like: broken after ``/`` where its column is narrow, after ``-`` where it must be."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Widths the name can be shown in: with every part on a line of its own, to all on one line."""
        longest = max(map(len, _parts(self.text, "/"))) + len(_further(self.text))
        return Measurement(min(longest, len(self.text)), len(self.text)).clamp(max_width=options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines that fit the column."""
        yield Text("\n".join(_lines(self.text, options.max_width)), overflow="fold")


INDENT = "  "
"""Before the further lines of a name, so that the next name is seen to begin."""


def _further(text: str) -> str:
    """Return what stands before the further lines of ``text``, which may be indented itself."""
    return " " * (len(text) - len(text.lstrip(" "))) + INDENT


def _parts(text: str, separator: str) -> list[str]:
    """Cut ``text`` after every separator.

    >>> _parts("latency/nas-bench-201/1080ti", "/")
    ['latency/', 'nas-bench-201/', '1080ti']
    """
    *parts, last = text.split(separator)
    return [part + separator for part in parts] + [last]


def _lines(text: str, width: int) -> Iterator[str]:
    indent = _further(text)
    line = ""
    for part in _parts(text, "/"):
        whole = len(indent) + len(part) <= width
        for piece in [part] if whole else _parts(part, "-"):
            if line.strip() and len(line) + len(piece) > width:
                yield line
                line = indent
            line += piece
    yield line
