"""A CSV or Parquet file of unknown origin as a header and rows, each with its place in the file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aiop.errors import AiopError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["Cell", "Sheet", "open_sheet"]

_LARGEST_FILE = 64 * 2**20  # bytes
_LARGEST_CONTENT = 2**30  # bytes of a Parquet file, unpacked
_MOST_ROWS = 1_000_000
_MOST_COLUMNS = 256
_LONGEST_HEADER = 2**16  # characters
_LONGEST_CELL = 2**17 - 1  # characters; the limit of Python's csv module
_BATCH = 4096

Cell = str | float | None


@dataclass(frozen=True)
class Sheet:
    """A table as it stands in a file.

    header: name of each column, without surrounding spaces.
    rows: the place of each row (``"line 7"``, or ``"row 6"`` in Parquet, from 1) and its cells, as many as the
        header; or the reason why it has none. A cell is a text without surrounding spaces, a number, or None where
        nothing was measured. Empty rows are left out.
    notes: columns of the file that are neither texts nor numbers, and so not in ``header``.
    """

    header: list[str]
    rows: Iterator[tuple[str, list[Cell] | str]]
    notes: list[str]


@contextmanager
def open_sheet(path: Path) -> Iterator[Sheet]:
    """Open a CSV (comma, semicolon or tab; UTF-8) or Parquet file; its rows are read as they are asked for.

    A file that is missing, too large or damaged is an `AiopError`, which may come while rows are read.
    """
    try:
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise AiopError(f'table "{path}" {problem}: give the path of a CSV or Parquet file')
        if path.stat().st_size > _LARGEST_FILE:
            raise AiopError(f'table "{path}" has more than {_LARGEST_FILE >> 20} MiB: split it')
        if path.suffix.lower() == ".parquet":
            with _parquet_file(path) as file:
                yield _of_parquet(path, file)
        else:
            with path.open(encoding="utf-8-sig", newline="") as text:
                yield _of_csv(path, text)
    except UnicodeDecodeError:
        raise AiopError(f'table "{path}" is not UTF-8 text: save it in UTF-8') from None
    except OSError as error:
        raise AiopError(f'table "{path}" cannot be read ({error}): check the file') from None


def _of_csv(path: Path, file: TextIO) -> Sheet:
    line = file.readline(_LONGEST_HEADER)
    if not line.strip():
        raise AiopError(f'table "{path}" has no header: write the names of the columns into its first line')
    if len(line) == _LONGEST_HEADER:
        raise AiopError(
            f'table "{path}" has a header of more than {_LONGEST_HEADER:,} characters: shorten it'
        )
    found = {delimiter: _split(line, delimiter) for delimiter in ",;\t"}
    # The header decides which one it is; where none shows the column of networks, the one that splits most.
    delimiter = max(found, key=lambda sign: ("network" in found[sign], len(found[sign])))
    header = found[delimiter]
    if "network" not in header and not all(found.values()):
        raise AiopError(f'table "{path}" has a header whose quotes are not closed: mend its first line')
    _check_width(path, len(header))
    return Sheet(header, _csv_rows(path, file, delimiter, len(header)), [])


def _split(line: str, delimiter: str) -> list[str]:
    """Cells of one line, empty where its quotes are wrong."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error:
        return []


def _csv_rows(path: Path, file: TextIO, delimiter: str, width: int) -> Iterator[tuple[str, list[Cell] | str]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    for count in range(_MOST_ROWS + 1):
        first = reader.line_num + 2  # the header is line 1
        try:
            cells: list[Cell] | str = [cell.strip() or None for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise AiopError(f'table "{path}", line {first}: a quote is never closed; close it') from None
            if "larger than field limit" in str(error):
                raise AiopError(
                    f'table "{path}", line {first}: a cell has more than {_LONGEST_CELL:,} characters; '
                    "close its quote, or shorten it"
                ) from None
            cells = f"its quotes are wrong ({error})"
        if count == _MOST_ROWS:
            raise AiopError(f'table "{path}" has more than {_MOST_ROWS:,} rows: split it')
        last = reader.line_num + 1
        place = f"line {first}" if last == first else f"lines {first} to {last}"
        if isinstance(cells, list):
            if not any(cells):
                continue
            if len(cells) != width:
                more = f'; a code that holds "{delimiter}" must stand in quotes' if len(cells) > width else ""
                cells = f"{len(cells)} cells under a header of {width}{more}"
        yield place, cells


@contextmanager
def _parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
        # As dictionaries, repeated texts take no more memory than they take in the file.
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            yield file
    except (pa.ArrowException, MemoryError) as error:
        raise AiopError(f'table "{path}" cannot be read as Parquet ({error}): write it again') from None


def _of_parquet(path: Path, file: pq.ParquetFile) -> Sheet:
    from pyarrow import types

    groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
    if file.metadata.num_rows > _MOST_ROWS or sum(g.total_byte_size for g in groups) > _LARGEST_CONTENT:
        raise AiopError(f'table "{path}" has more than {_MOST_ROWS:,} rows or 1 GiB of content: split it')
    _check_width(path, len(file.schema_arrow))
    names, notes = [], []
    for field in file.schema_arrow:
        if types.is_nested(field.type):
            raise AiopError(
                f'table "{path}": column "{field.name}" is nested ({field.type}): give one value per cell'
            )
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if (
            _is_text(field.type)
            or types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_decimal(kind)
        ):
            names.append(field.name)
        else:
            notes.append(f'column "{field.name}" is left out: it holds no numbers but {field.type}')
    if len(set(names)) < len(names):  # `Sheet.rows` asks for columns by name
        return Sheet([name.strip() for name in names], iter(()), notes)
    return Sheet([name.strip() for name in names], _parquet_rows(path, file, names), notes)


def _parquet_rows(
    path: Path, file: pq.ParquetFile, names: list[str]
) -> Iterator[tuple[str, list[Cell] | str]]:
    count = 0
    for batch in file.iter_batches(_BATCH, columns=names, use_threads=False):
        batch.validate(full=True)  # a damaged file may refer to texts that are not there
        columns = [_cells(path, batch.column(name)) for name in names]
        for row in zip(*columns, strict=True):
            count += 1
            if any(cell is not None for cell in row):
                yield f"row {count}", list(row)


def _cells(path: Path, column: pa.Array) -> list[Cell]:
    from pyarrow import types

    if not types.is_dictionary(column.type):
        return [_cell(path, value) for value in column.to_pylist()]
    values = [_cell(path, value) for value in column.dictionary.to_pylist()]
    return [None if index is None else values[index] for index in column.indices.to_pylist()]


def _cell(path: Path, value: Any) -> Cell:
    if isinstance(value, str):
        if len(value) > _LONGEST_CELL:
            raise AiopError(
                f'table "{path}" has a cell of more than {_LONGEST_CELL:,} characters: shorten it'
            )
        return value.strip() or None
    return None if value is None or value != value else float(value)  # NaN is how numbers say "none"


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _check_width(path: Path, columns: int) -> None:
    if columns > _MOST_COLUMNS:
        raise AiopError(f'table "{path}" has {columns:,} columns: leave at most {_MOST_COLUMNS}')
