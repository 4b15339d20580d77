"""A user's own table: a CSV or Parquet file with a column ``network`` and columns of measurements.

    network,top1 [%],peak memory [MB] (lower),latency/my-phone/batch1,comment
    nets/small.onnx,71.2,14.1,3.9,the baseline
    nas-bench-201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|,68.0,,2.2,
    "nas-bench-mr:16,16,1,1,16,1,1,1,16,16,1,1,1,1,16,16,16,1,1,1,1,1,16,16,16,16,16",83.6,17.5,3.1,in quotes

A network is the path of an ONNX file, looked for beside the table first and then from the working directory, or
``space:code`` or ``space@form:code``, in quotes if it holds commas. An empty cell was not measured.
Columns without numbers are left out.

A column of numbers is a task. ``top1`` of ``my.csv`` is called ``own/my/top1``; a header with a known domain, such as
``latency/my-phone/batch1``, is the name itself. After the name may stand its unit in square brackets, and ``(lower)``
where lower is better. Of a cost (latency, energy, throughput, ...) the domain says both; other domains are in % unless
they say otherwise.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aiop.errors import AiopError
from aiop.tasks.networks import is_code, parse_code
from aiop.tasks.spaces import list_spaces
from aiop.tasks.tables.sheet import Cell, open_sheet
from aiop.tasks.tables.table import Table, list_tables, mean_of_rows, sha256, spread_of_rows
from aiop.tasks.tables.user_columns import (
    LICENCE,
    Column,
    Notes,
    in_order,
    own_source,
    public,
    quoted,
    read_header,
    settle,
    slug,
)
from aiop.tasks.task import Task, register_task

__all__ = ["load"]


class _Network(NamedTuple):
    """What a cell of the column ``network`` names.

    name: ``space:code`` as the space spells it, or the absolute path of a file.
    group: the same for every form of an architecture, and wherever the table lies.
    space: empty for a file.
    place: the row that names it first.
    """

    name: str
    group: str
    space: str
    place: str


def load(path: Path) -> Table:
    """Read a table of the user's own and register the tasks of its columns (anew where it was loaded before).

    Networks keep the order of the file; one that stands in several rows has the mean of their values, and ``noise`` is
    the median standard deviation between such values. ``groups`` are codes without the form, and paths as the table
    has them. ``notes`` say by line which rows and cells are left out and why.

    Raises:
        AiopError: for a file that is no table, columns that are missing, double or unclear, and a table without a
            usable row.
    """
    name = _table_name(path)
    notes = Notes()
    networks, columns = _read(path, name, notes)
    measured = settle(columns, notes, path)
    for column, task in measured:
        _check_space(column, task, networks, path)
    for _, task in measured:
        if task.source == own_source(path):
            register_task(task, replace=True)
    values, noise, doubts = {}, {}, {}
    for column, task in measured:
        rows = np.asarray(column.networks, dtype=np.int64)
        values[task.name] = mean_of_rows(column.values, rows, len(networks))
        spreads = spread_of_rows(column.values, rows)
        if spreads.any():
            noise[task.name] = float(np.median(spreads))
        doubt = column.not_finite or _contradiction(column, networks)
        if doubt:
            doubts[task.name] = doubt
    return Table(
        name=name,
        networks=[network.name for network in networks],
        values=values,
        groups=[network.group for network in networks],
        macs=np.full(len(networks), np.nan),
        params=np.full(len(networks), np.nan),
        files={path.name: sha256(path)},
        licence=LICENCE,
        noise=noise,
        notes=in_order([notes, *(column.notes for column, _ in measured)]),
        doubts=doubts,
        path=str(path.absolute()),
    )


def _contradiction(column: Column, networks: list[_Network]) -> str:
    """Which network has several values in a column that differ; empty where none has."""
    lowest, highest = np.full(len(networks), np.inf), np.full(len(networks), -np.inf)
    np.minimum.at(lowest, column.networks, column.values)
    np.maximum.at(highest, column.networks, column.values)
    differing = np.flatnonzero(highest > lowest)
    if not len(differing):
        return ""
    first = int(differing[0])
    return f"{quoted(networks[first].name)} has several values, from {lowest[first]:g} to {highest[first]:g}"


def _read(path: Path, table: str, notes: Notes) -> tuple[list[_Network], list[Column]]:
    """The distinct networks of a file, and its columns filled with what was measured of them."""
    networks: list[_Network] = []
    position: dict[str, int] = {}
    repeats: list[str] = []
    with open_sheet(path) as sheet:
        at, columns = read_header(sheet.header, path, table)
        for text in sheet.notes:
            notes.add(0, text)
        for row, (place, cells) in enumerate(sheet.rows, start=1):
            try:
                if isinstance(cells, str):
                    raise AiopError(cells)
                network = _network(cells[at], path.parent, place)
            except AiopError as problem:
                notes.add(row, f"{place} is left out: {problem}")
                continue
            index = position.setdefault(network.name, len(networks))
            if index == len(networks):
                networks.append(network)
            else:
                repeats.append(place)
            for column in columns:
                column.add(row, place, index, cells[column.place])
    if not networks:
        why = next((f": {text}" for row, text in notes.kept if row), "")
        raise AiopError(f'table "{path}" has no usable row{why}')
    if repeats:
        some = ", ".join(repeats[:3]) + (f" and {len(repeats) - 3:,} more" if len(repeats) > 3 else "")
        notes.add(0, f"networks that stand in several rows have the mean of their values: {some}")
    return networks, columns


def _table_name(path: Path) -> str:
    name = slug(path.stem)
    if not name or name in (*list_tables(embedded=True), *list_spaces()):
        why = f'"{name}" is a public one' if name else "it has no Latin letter or digit"
        raise AiopError(f'table "{path}" cannot be called after its file ({why}): rename the file')
    return name


def _network(text: Cell, folder: Path, place: str) -> _Network:
    """The network that a cell names; what is wrong with it is an `AiopError`."""
    if not isinstance(text, str):
        raise AiopError("it names no network" if text is None else f"{text:g} is no network")
    found = next((path for path in (folder / text, Path(text)) if os.path.lexists(path)), None)
    if found is not None:
        try:
            mode = found.stat().st_mode
        except OSError as error:
            raise AiopError(f"file {quoted(text)} cannot be read ({error.strerror})") from None
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise AiopError(f"network {quoted(text)} is {kind}")
        return _Network(str(found.absolute()), Path(text).as_posix(), "", place)
    if not is_code(text):
        raise AiopError(
            f"file {quoted(text)} does not exist, neither beside the table nor from the working directory"
        )
    space, form, code = parse_code(text)
    code = space.validate(code)
    space.form(form)
    plain = f"{space.name}:{code}"
    name = plain if form in (None, space.default_form) else f"{space.name}@{form}:{code}"
    return _Network(name, plain, space.name, place)


def _check_space(column: Column, task: Task, networks: list[_Network], path: Path) -> None:
    """Refuse a task of a public space or table for networks that are not of it."""
    if not public(task.space):
        return
    other = next((network for network in networks if network.space != task.space), None)
    if other is not None:
        raise AiopError(
            f'column {quoted(column.header)} of "{path}" names a task of {task.space}, but the network of '
            f"{other.place} is not of that space: name the column differently"
        )
