"""The table of a build (`aiop latent build`) as tables of labels: pseudo-labels to infuse, and true ones.

In it stand both, of different bodies, and what they cost: as it is, it is no table of labels.
"""

from __future__ import annotations

import csv
import hashlib
import math
from pathlib import Path

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path
from aiop.tasks.corpora import cache_dir
from aiop.tasks.tables.table import read_columns, sha256

__all__ = ["cheap_labels", "is_build", "true_labels"]

_MARKS = ("network", "role", "repeat")


def is_build(path: Path) -> bool:
    """Whether a file is the Parquet table of a build."""
    return bool(_header(path))


def cheap_labels(path: Path) -> Path:
    """Return a table of the pseudo-labels in a build's table, of its bodies for these; any other file as it is.

    Pseudo-labels of the bodies of truth are left out: on these predictions are judged. Its columns are called as the
    tasks, ``classification [%]``.
    """
    return _part(path, "pseudo", "latent")


def true_labels(path: Path) -> Path:
    """Return a table of the true labels in a build's table, the first of each body; any other file as it is."""
    return _part(path, "truth", "truth")


def _header(path: Path) -> list[str]:
    """Return the columns of a build's table; none for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() != ".parquet" or not path.is_file():
        return []
    try:
        names = [str(name) for name in pq.read_schema(path).names]
    except (pa.ArrowException, OSError):  # the reader of tables says it better
        return []
    built = all(name in names for name in _MARKS) and any(name.startswith("truth/") for name in names)
    return names if built else []


def _part(path: Path, role: str, kind: str) -> Path:
    header = _header(path)
    if not header:
        return path
    tasks = [name for name in header if name.startswith(f"{kind}/")]
    columns = read_columns(path, [*_MARKS, *tasks])
    rows = [
        place
        for place, (own, repeat) in enumerate(zip(columns["role"], columns["repeat"], strict=True))
        if own == role and repeat == 0
    ]
    if not rows or not tasks:
        raise AiopError(
            f'"{path}" has no bodies with {kind} labels: give the finished table of `aiop latent build`'
        )
    lines = [["network", *(f"{name.partition('/')[2]} [%]" for name in tasks)]]
    lines += [[str(columns["network"][row]), *(_cell(columns[name][row]) for name in tasks)] for row in rows]
    # The name of the file is part of the names of tasks: the contents are told apart by the folder.
    mark = hashlib.sha256(f"{sha256(path)} {kind}".encode()).hexdigest()[:12]
    out = cache_dir() / "latent-tables" / mark / f"{path.stem}.csv"
    with atomic_path(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return out


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))
