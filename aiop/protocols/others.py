"""What trees on codes say of the other tasks of a space, computed once per table and task and kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.protocols.code import code_digest
from aiop.protocols.seen import bench, written_whole
from aiop.tasks.corpora import cache_dir

__all__ = ["OtherColumns"]

Array = npt.NDArray[Any]


class OtherColumns:
    """`aiop.finetune.baselines.OtherTasks` of some tasks of a table, asked of the networks in its split file.

    The trees of every task are fitted on the training side, where no test network is, apart from those of the others:
    whichever tasks are left out, what the rest say is the same. Trees of thousands of networks take a gigabyte; kept
    is what they say.

    Raises:
        AiopError: for tasks of which none has enough labels, and a space without codes.
    """

    def __init__(self, table: str, folder: Path, tasks: Sequence[str]) -> None:
        found = bench(table, folder)
        rows = found.readable(found.split.rows())
        self._position = {found.table.networks[row]: place for place, row in enumerate(rows.tolist())}
        columns = [_column(table, folder, task, rows) for task in tasks]
        known = [column for column in columns if len(column)]
        if not known:
            raise AiopError(
                f"none of {len(tasks)} other tasks of {table} has enough labels: there is nothing to transfer"
            )
        self._columns = np.stack(known, axis=1)

    def predict(self, names: Sequence[str]) -> Array:
        """Return standardised values of the T other tasks ``(n, T)``."""
        return np.asarray(self._columns[[self._position[name] for name in names]])


def _column(table: str, folder: Path, task: str, rows: Array) -> Array:
    """Return what the trees of a task say of table rows ``(n,)``; nothing for one with too few labels."""
    found = bench(table, folder)
    made = f"{found.data} {task} {code_digest('aiop.finetune.baselines.transfer')}"
    path = cache_dir() / "bench" / "others" / f"{table}-{hashlib.sha256(made.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        from aiop.finetune.baselines import OtherTasks

        train = found.side("train")
        names = found.table.networks
        labels = found.table.values[task][train]
        if np.isfinite(labels).sum() < _LEAST:
            return np.empty(0)
        trees = OtherTasks([names[row] for row in train], {task: labels})
        values = trees.predict([names[row] for row in rows.tolist()])[:, 0]
        with written_whole(path) as part:
            np.save(part, values)
    return np.asarray(np.load(path))


_LEAST = 20  # as `OtherTasks` asks for
