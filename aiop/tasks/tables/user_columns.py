"""The columns of a user's own table: which task a header names, which cells are measurements of it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from aiop.errors import AiopError, suggest
from aiop.tasks.declare import COSTS
from aiop.tasks.spaces import list_spaces
from aiop.tasks.tables.sheet import Cell
from aiop.tasks.tables.table import list_tables
from aiop.tasks.task import DOMAINS, Task, get_task, list_tasks

__all__ = [
    "LICENCE",
    "Column",
    "Notes",
    "in_order",
    "own_source",
    "public",
    "quoted",
    "read_header",
    "settle",
    "slug",
]

LICENCE = "own"
_LONGEST_NAME = 200
_MOST_NOTES = 1000
# NAME, then [UNIT] and (lower) or (higher) if they are there.
_HEADER = re.compile(r"(.*?)\s*(?:\[([^\[\]]{1,20})\])?\s*(?:\((lower|higher)\))?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = ("nan", "inf", "infinity")


class Notes:
    """What was left out and why, each with the number of its row; beyond a thousand only counted."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, str]] = []
        self.count = 0

    def add(self, row: int, text: str) -> None:
        """Note something about a row, 0 for the whole table."""
        self.count += 1
        if self.count <= _MOST_NOTES:
            self.kept.append((row, _printable(text)))


def in_order(notes: Iterable[Notes]) -> list[str]:
    """All notes by row, those on the whole table first; at most a thousand, and how many more there are."""
    notes = list(notes)
    kept = [text for _, text in sorted(note for each in notes for note in each.kept)][:_MOST_NOTES]
    more = sum(each.count for each in notes) - len(kept)
    return [*kept, f"and {more:,} more"] if more else kept


@dataclass
class Column:
    """A column, the numbers found in it with the networks they are of, and what could not be read.

    ``task`` is why the header names none, where it does not: that matters if the column turns out to hold numbers.
    """

    header: str
    place: int
    task: Task | AiopError
    networks: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    notes: Notes = field(default_factory=Notes)
    texts: int = 0  # cells that are no numbers at all
    sample: str = ""  # one of them
    not_finite: str = ""  # the first number that is none, such as nan, and where it stands

    def add(self, row: int, place: str, network: int, cell: Cell) -> None:
        """Take the cell of a row, or note what is wrong with it."""
        if cell is None:
            return
        written = quoted(str(cell))
        if isinstance(cell, str) and _NUMBER.fullmatch(cell):
            cell = float(cell)
        if isinstance(cell, str) and cell.lower().lstrip("+-") not in _NOT_FINITE:
            self.texts += 1
            self.sample = self.sample or f"{written} in {place}"
            decimals = _NUMBER.fullmatch(cell.replace(",", "."))
            problem = f"is no number{', write its decimals after a point' if decimals else ''}"
        elif isinstance(cell, str) or not isfinite(cell):
            problem = "is not finite, leave the cell empty where nothing was measured"
            self.not_finite = self.not_finite or f"{place} has {written}, which is not finite"
        else:
            problem = _misfit(cell, self.task)
            if not problem:
                self.networks.append(network)
                self.values.append(cell)
                return
        self.notes.add(row, f"{place}, {self.header}: {written} {problem}")


def read_header(header: list[str], path: Path, table: str) -> tuple[int, list[Column]]:
    """The place of the column ``network``, and every other column that has a name."""
    named = [name for name in header if name]
    for name in named:
        if named.count(name) > 1:
            raise AiopError(f'table "{path}" has two columns {quoted(name)}: rename one')
        if len(name) > _LONGEST_NAME:
            raise AiopError(f'table "{path}" has a column of the name {quoted(name)}: shorten it')
    if "network" not in named:
        like = [name for name in named if "network" in name.lower()]
        near = f" (did you mean {quoted(like[0])}?)" if like else suggest("network", named)
        raise AiopError(
            f'table "{path}" has no column "network"{near}: name the one of ONNX paths and codes so'
        )
    return header.index("network"), [
        Column(name, place, _task(name, path, table))
        for place, name in enumerate(header)
        if name and name != "network"
    ]


def _task(header: str, path: Path, table: str) -> Task | AiopError:
    """The task that a header names, or why it names none."""
    where = f'column {quoted(header)} of "{path}"'
    match = _HEADER.fullmatch(header)
    text, unit, better = match.groups() if match else (header, None, None)
    parts = [slug(part) for part in text.split("/")]
    if len(parts) == 3 and parts[0] in DOMAINS:
        domain, space, suffix = parts
    elif len(parts) == 3 and (near := suggest(parts[0], DOMAINS)):
        return AiopError(f'{where}: domain "{parts[0]}" is unknown{near}')
    else:
        domain, space, suffix = "own", table, slug(text)
    if not (space and suffix):
        return AiopError(f"{where} names no task: write it with Latin letters and digits")
    name = f"{domain}/{space}/{suffix}"
    task = get_task(name) if list_tasks(name) else None
    if task is None or task.source == own_source(
        path
    ):  # which may have been loaded with other headers before
        task = _own_task(name, unit, better, header, path)
    elif not public(space):
        return AiopError(f"{where} would be {name}, which is of the {task.source}: rename it")
    higher = "higher" if task.direction == "max" else "lower"
    if (unit or task.unit) != task.unit or (better or higher) != higher:
        return AiopError(f"{where}: {name} is in {task.unit}, and {higher} is better; name another task")
    return task


def _own_task(name: str, unit: str | None, better: str | None, header: str, path: Path) -> Task:
    domain, space, suffix = name.split("/")
    cost = domain in COSTS
    own = domain == "own"
    return Task(
        name=name,
        metric=domain if cost else suffix if own else suffix.rpartition("-")[2],
        unit=COSTS[domain][0] if cost else unit or ("" if own else "%"),
        direction=COSTS[domain][1] if cost else "min" if better == "lower" else "max",
        domain=domain,
        dataset=f"column {quoted(header)}",
        space=space,
        source=own_source(path),
        licence=LICENCE,
        transform="log" if cost else "identity",
    )


def own_source(path: Path) -> str:
    """What the tasks of a user's own table give as their source."""
    return f"own measurements of {path.name}"


def public(space: str) -> bool:
    """Whether ``space`` is a search space or benchmark table that comes with the package."""
    return space in list_spaces() or space in list_tables(embedded=True)


def _misfit(value: float, task: Task | AiopError) -> str:
    """Why a task cannot have a value, empty where it can."""
    if isinstance(task, Task):
        if task.transform == "log" and value <= 0:
            return f"is no {task.domain}, which is above 0 {task.unit}"
        if task.unit == "%" and not 0 <= value <= 100:
            return "is no percentage, give the column its unit in square brackets"
    return ""


def settle(columns: list[Column], notes: Notes, path: Path) -> list[tuple[Column, Task]]:
    """The columns of numbers with their tasks; a note on each of the others.

    Most of what stands in a column of numbers must be one.
    """
    measured: dict[str, tuple[Column, Task]] = {}
    for column in columns:
        if column.texts > len(column.values) or not column.values:
            problem = column.notes.kept[0][1] if column.notes.kept else "it is empty"
            why = f"most of its cells are no numbers, such as {column.sample}" if column.texts else problem
            notes.add(0, f"column {quoted(column.header)} is left out: {why}")
            continue
        if isinstance(column.task, AiopError):
            raise column.task
        name = column.task.name
        if name in measured:
            other = quoted(measured[name][0].header)
            raise AiopError(
                f'columns {other} and {quoted(column.header)} of "{path}" are both {name}: rename one'
            )
        measured[name] = column, column.task
    if not measured:
        reasons = "".join(f"; {text}" for _, text in notes.kept[:1])
        raise AiopError(f'table "{path}" has no column of numbers: add one of what was measured{reasons}')
    return list(measured.values())


def slug(text: str) -> str:
    """``text`` as a part of a name: lower case, with ``-`` for all but letters, digits, ``_`` and ``.``.

    >>> slug("Peak memory (MB)")
    'peak-memory-mb'
    """
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.")


def quoted(text: str) -> str:
    """``text`` in quotes, shortened, on one line."""
    return f'"{_printable(text if len(text) <= 80 else text[:77] + "...")}"'


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
