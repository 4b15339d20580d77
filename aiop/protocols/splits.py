"""Split files: which networks of a table are judged on, and which are labelled, in what order, draw by draw.

A file holds indices into ``Table.networks`` and the SHA-256 of what they were made from. A table whose files, networks
or twins have changed since then is refused: its numbers would not be those of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus
from aiop.tasks.tables import Table, split
from aiop.tasks.tables.split import joined_groups

__all__ = ["DRAWS", "LABELS", "TESTED", "TableSplit", "load_split", "make_split"]

SCHEMA = 1
DRAWS = 8
LABELS = 500
TESTED = 1000
_SEED = 20

#: A table of fewer networks is judged on all that are not labelled: its test side would be too small to tell methods
#: apart. Only a predictor that has seen none of it can be judged so.
_SMALL, _SMALL_LABELS = 400, 100

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TableSplit:
    """The test networks and the label draws of one table.

    test: at most 1,000 indices, of the side that no predictor is trained on; no twin of them is on another side.
    draws: indices of networks to label, in order: n labels of a task are the first n that were measured in it.
        Within a draw no two networks are the same function.
    tests: of a small table, test networks for every draw instead: all but the labelled ones and their twins.
    digest: SHA-256 of the file, which stands for all of it in results.
    """

    table: str
    test: Indices
    draws: tuple[Indices, ...]
    tests: tuple[Indices, ...]
    digest: str

    def tested(self, draw: int) -> Indices:
        """Return the networks that draw number ``draw`` is judged on."""
        return self.tests[draw] if self.tests else self.test

    def labelled(self, draw: int, values: npt.NDArray[np.float64]) -> Indices:
        """Return the networks of a draw with a value, in the order in which they are labelled."""
        rows = self.draws[draw]
        return rows[np.isfinite(values[rows])]

    def rows(self) -> Indices:
        """Return every network of the file, sorted."""
        return np.unique(np.concatenate([self.test, *self.draws, *self.tests]))


def make_split(table: Table, corpus: Corpus) -> dict[str, Any]:
    """Return what the split file of a table says; the same for the same table.

    Labels are drawn from all networks of the training and validation sides, each function once, until every task of
    the table has 500. Of a table with fewer than 400 networks 100 are drawn from all.
    """
    twins = corpus.hashes_of(table.networks)
    sides = split(table, twins)
    random = np.random.default_rng(_SEED)
    test = np.sort(random.permutation(sides["test"])[:TESTED])
    joined = np.array(joined_groups(table, twins))
    small = len(table) < _SMALL
    pool = np.arange(len(table)) if small else np.sort(np.concatenate([sides["train"], sides["val"]]))
    draws = [
        _draw(random.permutation(pool), table, twins, _SMALL_LABELS if small else LABELS)
        for _ in range(DRAWS)
    ]
    tests = [np.flatnonzero(~np.isin(joined, joined[draw])) for draw in draws] if small else []
    return {
        "kind": "aiop-split",
        "schema": SCHEMA,
        "table": table.name,
        "made_from": _made_from(table, twins),
        "test": test.tolist(),
        "tests": [rows.tolist() for rows in tests],
        "draws": [rows.tolist() for rows in draws],
    }


def _draw(order: Indices, table: Table, twins: Sequence[str], labels: int) -> Indices:
    """The beginning of an order, twins left out, that holds ``labels`` values of every task, or all there are."""
    missing = dict.fromkeys(table.values, labels)
    drawn: list[int] = []
    seen: set[str] = set()
    for row in order.tolist():
        if twins[row] and twins[row] in seen:
            continue
        seen.add(twins[row])
        drawn.append(row)
        for task in list(missing):
            if np.isfinite(table.values[task][row]):
                missing[task] -= 1
                if not missing[task]:
                    del missing[task]
        if not missing:
            break
    return np.array(drawn, np.int64)


def load_split(folder: Path, table: Table, corpus: Corpus) -> TableSplit:
    """Read the split file of a table from ``folder`` (of the plan) and check that it is of this very table.

    Raises:
        AiopError: for a missing or damaged file, or where the table's files, networks or twins are others.
    """
    path = folder / "tables" / f"{table.name}.json"
    again = "make it again with `python -m benchmarks.protocols.make`"
    try:
        content = path.read_bytes()
        values = json.loads(content)
        if values["kind"] != "aiop-split" or values["schema"] != SCHEMA or values["table"] != table.name:
            raise KeyError("kind, schema or table")
        draws, tests = (
            tuple(_indices(rows, len(table)) for rows in values[part]) for part in ("draws", "tests")
        )
        test = _indices(values["test"], len(table))
        made_from: Mapping[str, Any] = values["made_from"]
        if (tests and len(tests) != len(draws)) or not draws:
            raise ValueError("draws")
    except FileNotFoundError:
        raise AiopError(f"split file {path} does not exist: {again}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise AiopError(f"split file {path} is damaged ({error}): {again}") from None
    now = _made_from(table, corpus.hashes_of(table.networks))
    changed = [part for part in now if made_from.get(part) != now[part]]
    if changed:
        raise AiopError(
            f'split file {path} was made from another table "{table.name}" ({", ".join(changed)} changed): '
            f"fetch the table's files again, or {again}"
        )
    return TableSplit(table.name, test, draws, tests, hashlib.sha256(content).hexdigest())


def _indices(rows: Iterable[int], count: int) -> Indices:
    found = np.array(list(rows), np.int64)
    if len(found) and (found.min() < 0 or found.max() >= count or len(np.unique(found)) < len(found)):
        raise ValueError("indices that are no networks of the table, or twice there")
    return found


def _made_from(table: Table, twins: Sequence[str]) -> dict[str, Any]:
    """Files, networks, and which networks are twins of each other (whatever the hashes of this version are)."""
    numbers: dict[str, int] = {}
    classes = [numbers.setdefault(twin or f"row {row}", len(numbers)) for row, twin in enumerate(twins)]
    return {
        "files": dict(sorted(table.files.items())),
        "networks": hashlib.sha256("\n".join(table.networks).encode()).hexdigest(),
        "twins": hashlib.sha256(json.dumps(classes).encode()).hexdigest(),
    }
