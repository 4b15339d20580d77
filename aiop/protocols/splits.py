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

SCHEMA = 2
DRAWS = 8
LABELS = 500
TESTED = 1000
_SEED = 20

#: A table of fewer networks is judged on all that are not labelled: its test side would be too small to tell methods
#: apart. Only a predictor that has seen none of it can be judged so.
_SMALL, _SMALL_LABELS = 400, 100

#: Tables whose groups are families of different functions, not ways to write one function.
_OF_FAMILIES = ("timm",)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TableSplit:
    """The test networks and the label draws of one table.

    test: at most 1,000 indices, of the side that no predictor is trained on; no twin of them is on another side.
        Each function is there once (see `make_split`).
    copies: the other networks of that side that are a function of ``test``: where published comparisons count every
        row of a table, they are counted on both.
    draws: indices of networks to label, in order: n labels of a task are the first n that were measured in it.
        Within a draw no two networks are the same function.
    tests: of a small table, test networks for every draw instead: all but the labelled ones and their twins.
    digest: SHA-256 of the file, which stands for all of it in results.
    """

    table: str
    test: Indices
    copies: Indices
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
        return np.unique(np.concatenate([self.test, self.copies, *self.draws, *self.tests]))


def make_split(table: Table, corpus: Corpus) -> dict[str, Any]:
    """Return what the split file of a table says; the same for the same table.

    Labels are drawn from all networks of the training and validation sides, each function once, until every task of
    the table has 500. Of a table with fewer than 400 networks 100 are drawn from all.

    Each function is judged once too. Of TransNAS micro's 819 test cells only 185 are different functions, and 169 are
    cells without a path: one value, at chance, which whoever knows of it ranks below all others. Counted 169 times,
    that one fact makes a fifth of every rank (MACs: Spearman .53 on scenes over all cells, .45 over functions;
    .33 and .05 on jigsaw), and which side of the split such a class falls on decides more than the methods do.
    NAS-Bench-Macro keeps 796 of 1,312 (MACs .75 and .74), NAS-Bench-201 861 of 875, the others all but a handful.
    What is left out here is kept as ``copies``, for comparisons with numbers that count every row.
    """
    twins = corpus.hashes_of(table.networks)
    sides = split(table, twins)
    joined = np.array(joined_groups(table, twins))
    functions = _functions(table, twins, joined)
    random = np.random.default_rng(_SEED)
    order = random.permutation(sides["test"])
    test = np.sort(_once(order, functions)[:TESTED])
    copies = np.sort(order[np.isin(functions[order], functions[test]) & ~np.isin(order, test)])
    small = len(table) < _SMALL
    pool = np.arange(len(table)) if small else np.sort(np.concatenate([sides["train"], sides["val"]]))
    labels = _SMALL_LABELS if small else LABELS
    draws = [_draw(_once(random.permutation(pool), functions), table, labels) for _ in range(DRAWS)]
    tests = [_rest(draw, joined, functions) for draw in draws] if small else []
    return {
        "kind": "aiop-split",
        "schema": SCHEMA,
        "table": table.name,
        "made_from": _made_from(table, twins),
        "test": test.tolist(),
        "copies": copies.tolist(),
        "tests": [rows.tolist() for rows in tests],
        "draws": [rows.tolist() for rows in draws],
    }


def _functions(table: Table, twins: Sequence[str], joined: Indices) -> Indices:
    """One number per network ``(n,)``, equal where two are the same function, by hash or by the table's own classes."""
    if table.name not in _OF_FAMILIES:
        return joined
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(twin or row, len(numbers)) for row, twin in enumerate(twins)])


def _once(order: Indices, functions: Indices) -> Indices:
    """The networks of an order whose function has not come before."""
    return order[np.sort(np.unique(functions[order], return_index=True)[1])]


def _rest(draw: Indices, joined: Indices, functions: Indices) -> Indices:
    """All networks that share no group with a draw, sorted, each function once."""
    return np.sort(_once(np.flatnonzero(~np.isin(joined, joined[draw])), functions))


def _draw(order: Indices, table: Table, labels: int) -> Indices:
    """The beginning of an order that holds ``labels`` values of every task, or all there are."""
    missing = dict.fromkeys(table.values, labels)
    drawn: list[int] = []
    for row in order.tolist():
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
        test, copies = (_indices(values[part], len(table)) for part in ("test", "copies"))
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
    return TableSplit(table.name, test, copies, draws, tests, hashlib.sha256(content).hexdigest())


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
