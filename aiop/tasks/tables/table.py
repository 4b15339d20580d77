"""The `Table`, where its files lie, and the registry of loaders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError, suggest

__all__ = [
    "Table",
    "data_dir",
    "is_own",
    "list_tables",
    "load_table",
    "mean_of_rows",
    "read_columns",
    "register_table",
    "sha256",
    "spread_of_rows",
    "table_dir",
]


@dataclass
class Table:
    """Measured values of ``n`` distinct architectures.

    networks: ``n`` names, such as ``nas-bench-201:...``.
    values: task name -> float64 ``(n,)`` in the task's unit, nan where not measured.
    groups: ``n`` labels; architectures of one label must never be on two sides of a split.
    macs, params: float64 ``(n,)``, the table's own count (see the loader), nan where it has none.
    files: file name -> SHA-256 (hex) of what was read.
    noise: task name -> standard deviation between repeated measurements of one network, in the task's unit;
        only tasks that the files themselves measure more than once.
    extras: further ``(n,)`` columns that the loader describes.
    notes: what the loader left out of a user's own table or changed, and why, one line each.
    doubts: task name -> what makes its column no set of labels: a value that is not finite, or values of one network
        that differ; of a user's own table, which leaves out the former and means the latter.
    path: absolute path of a user's own table, empty for a benchmark table.
    """

    name: str
    networks: list[str]
    values: dict[str, NDArray[np.float64]]
    groups: list[str]
    macs: NDArray[np.float64]
    params: NDArray[np.float64]
    files: dict[str, str]
    licence: str
    noise: dict[str, float] = field(default_factory=dict)
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    doubts: dict[str, str] = field(default_factory=dict)
    path: str = ""

    def __len__(self) -> int:
        return len(self.networks)


def data_dir() -> Path:
    """The folder of the benchmark tables: ``$AIOP_DATA``, else ``../shared/data`` beside the repository.

    Where neither exists, an `AiopError` says how to set it.
    """
    given = os.environ.get("AIOP_DATA")
    if given:
        path = Path(given)
        if not path.is_dir():
            raise AiopError(f'AIOP_DATA is "{given}", which is not a folder: set it to the benchmark tables')
        return path
    repository = Path(__file__).resolve().parents[3]
    for start in (repository, Path.cwd()):
        path = start.parent / "shared" / "data"
        if path.is_dir():
            return path
    raise AiopError(
        "the benchmark tables were not found: set AIOP_DATA to the folder that holds nas_bench_201.parquet"
    )


Loader = Callable[[Path], Table]
_LOADERS: dict[str, Loader] = {}
_EMBEDDED: dict[str, Path] = {}  # tables that come with the package -> their folder


def register_table(name: str, *, embedded: Path | None = None) -> Callable[[Loader], Loader]:
    """Decorator: make a loader available to `load_table` under ``name``.

    ``embedded`` is the folder of a table that comes with the package; all others lie in `data_dir`.
    """

    def register(loader: Loader) -> Loader:
        _LOADERS[name] = loader
        if embedded is not None:
            _EMBEDDED[name] = embedded
        return loader

    return register


def list_tables(*, embedded: bool = False) -> list[str]:
    """Names of the public benchmark tables, sorted; with ``embedded`` also of those that come with the package."""
    return sorted(name for name in _LOADERS if embedded or name not in _EMBEDDED)


def table_dir(name: str) -> Path:
    """The folder that the files of a table lie in: `data_dir`, or the package for one that comes with it."""
    return _EMBEDDED[name] if name in _EMBEDDED else data_dir()


def is_own(name: str) -> bool:
    """Whether ``name`` is the path of a user's own table, not the name of a benchmark table."""
    return name.lower().endswith((".csv", ".parquet"))


def load_table(name: str) -> Table:
    """Read a benchmark table from `data_dir`, or the user's own one where ``name`` ends in .csv or .parquet.

    An unknown name is an `AiopError` with the nearest one; see `aiop.tasks.tables.user` for tables of one's own.
    """
    if is_own(name):
        from aiop.tasks.tables.user import load

        return load(Path(name))
    if name not in _LOADERS:
        raise AiopError(
            f'table "{name}" is unknown{suggest(name, _LOADERS)}: the tables are {", ".join(list_tables())}; '
            "a table of your own is a path that ends in .csv or .parquet"
        )
    return _LOADERS[name](table_dir(name))


def read_columns(path: Path, columns: list[str]) -> dict[str, list[Any]]:
    """Columns of a Parquet file as Python lists; a missing or unreadable file is an `AiopError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise AiopError(f'benchmark table "{path}" does not exist: set AIOP_DATA to the folder that holds it')
    try:
        table = pq.read_table(path, columns=columns)
        return {column: table[column].to_pylist() for column in columns}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise AiopError(f'benchmark table "{path}" cannot be read ({error}): fetch the file again') from error


def mean_of_rows(
    values: Sequence[float | None] | NDArray[np.float64], rows: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Mean of the measured ``values`` of each network, float64 ``(count,)``; nan where a network has none.

    ``rows``, int64 and as long as ``values``, says which network each value belongs to; None and nan are no values.
    """
    numbers = np.asarray(values, dtype=np.float64)
    measured = np.isfinite(numbers)
    found = np.bincount(rows[measured], minlength=count)
    total = np.bincount(rows[measured], weights=numbers[measured], minlength=count)
    means: NDArray[np.float64] = np.where(found > 0, total / np.maximum(found, 1), np.nan)
    return means


def spread_of_rows(
    values: Sequence[float | None] | NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Standard deviation (of n - 1 degrees) between the values of each network that has several, float64 ``(k,)``.

    ``rows`` as in `mean_of_rows`.
    """
    numbers = np.asarray(values, dtype=np.float64)
    measured = np.isfinite(numbers)
    numbers, rows = numbers[measured], rows[measured]
    found = np.bincount(rows)
    means = np.bincount(rows, weights=numbers) / np.maximum(found, 1)
    squares = np.bincount(rows, weights=(numbers - means[rows]) ** 2)
    several = found > 1
    spreads: NDArray[np.float64] = np.sqrt(squares[several] / (found[several] - 1))
    return spreads


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
