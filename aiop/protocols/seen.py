"""What a predictor sees of a table's networks, computed once per predictor and table and kept in the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.finetune.views import Views
from aiop.graph_ir.corpus import Corpus
from aiop.protocols.code import code_digest
from aiop.protocols.folds import Holder
from aiop.protocols.splits import TableSplit, load_split
from aiop.tasks.corpora import cache_dir, open_corpus
from aiop.tasks.tables import Table, load_table, split

__all__ = ["Bench", "Seen", "bench", "look", "plain_views", "see", "written_whole"]

Array = npt.NDArray[Any]
_TEXTS = ("names", "sources")
_ARRAYS = tuple(field.name for field in fields(Views) if field.name not in _TEXTS)


@dataclass(frozen=True, eq=False)
class Bench:
    """A table with all that judging on it needs.

    places: table row -> row of the corpus; rows that the corpus could not read are not there.
    data: digest of the split file and of what the corpus holds.
    """

    table: Table
    corpus: Corpus
    split: TableSplit
    places: dict[int, int]
    data: str

    def side(self, *names: str) -> Array:
        """Return the table rows of the sides ``train``, ``val`` and ``test`` that are named."""
        sides = split(self.table, self.corpus.hashes_of(self.table.networks))
        return self.readable(np.concatenate([sides[name] for name in names]))

    def few_shot(self, draw: int, values: Array, space_seen: bool) -> tuple[Array, Array, Array]:
        """Return the table rows that a draw labels, in order, those that it is judged on, and copies of these.

        All are measured. Of a small table that was trained on only the test side is judged on, and none of it is
        labelled.
        """
        copies = np.empty(0, np.int64) if self.split.tests else self.split.copies
        labelled, tested = self.split.labelled(draw, values), self.split.tested(draw)
        if self.split.tests and space_seen:
            labelled, tested = labelled[np.isin(labelled, self.side("train", "val"))], self.split.test
        measured = [self.readable(rows[np.isfinite(values[rows])]) for rows in (tested, copies)]
        return self.readable(labelled), measured[0], measured[1]

    def distinct(self, *, costs: bool = True) -> tuple[Array, Array]:
        """Return table rows in order, one of every set of equal networks, and which of these each row equals.

        Equal are those that compute the same, and with ``costs`` also have the same MACs and parameters: what a network
        computes without using it counts as cost and is no part of its graph. Rows that the corpus could not read equal
        -1.
        """
        hashes = self.corpus.hashes_of(self.table.networks)
        first: dict[tuple[str, float, float], int] = {}
        macs, params = self.corpus.macs, self.corpus.params
        keys = {
            row: (hashes[row], float(macs[place]) * costs, float(params[place]) * costs)
            for row, place in self.places.items()
        }
        for row, key in keys.items():
            first.setdefault(key, row)
        number = {key: place for place, key in enumerate(first)}
        equals = [number[keys[row]] if row in keys else -1 for row in range(len(hashes))]
        return np.array(list(first.values()), np.int64), np.array(equals, np.int64)

    def readable(self, rows: Array) -> Array:
        """Return those of some table rows that the corpus holds."""
        return np.array([row for row in rows.tolist() if row in self.places], np.int64)


@lru_cache(maxsize=16)
def bench(name: str, folder: Path) -> Bench:
    """Load a table, its corpus and its split file from ``folder``, and check that they are of each other."""
    table = load_table(name)
    corpus = open_corpus(table)
    found = load_split(folder, table, corpus)
    numbers = {network: row for row, network in enumerate(corpus.names)}
    places = {row: numbers[network] for row, network in enumerate(table.networks) if network in numbers}
    made = f"{found.digest} {corpus.fingerprint} {corpus.metadata.get('builder', '')}"
    return Bench(table, corpus, found, places, hashlib.sha256(made.encode()).hexdigest()[:16])


@dataclass(frozen=True, eq=False)
class Seen:
    """Some of a table's networks as a predictor sees them.

    views: of n networks.
    far: float ``(n, C)``, remoteness from each of the C tables the predictor was trained on.
    tables: names of the C tables.
    positions: table row -> position among the n.
    """

    views: Views
    far: Array
    tables: tuple[str, ...]
    positions: dict[int, int]

    def at(self, rows: Array) -> Array:
        """Return the positions of table rows."""
        return np.array([self.positions[row] for row in rows.tolist()], np.int64)


@lru_cache(maxsize=4)
def see(holder: Holder, name: str, folder: Path, *, whole: bool = False) -> Seen:
    """Return what a predictor sees of the networks in a table's split file; from the cache where it was seen before.

    With ``whole`` of all networks of the table, one of every set of equal ones (`Bench.distinct`).
    """
    from aiop.predictor import load

    found = bench(name, folder)
    rows = found.distinct()[0] if whole else found.readable(found.split.rows())
    made = f"{found.data} {code_digest('aiop.predictor.predictor')} {_ARRAYS}"
    made += f" {hashlib.sha256(rows.tobytes()).hexdigest()}" if whole else ""
    made = hashlib.sha256(made.encode()).hexdigest()[:16]
    path = cache_dir() / "bench" / "views" / f"{holder.digest[:16]}-{name}-{made}.npz"
    positions = {row: position for position, row in enumerate(rows.tolist())}
    names = tuple(found.table.networks[row] for row in rows)
    if not path.is_file():
        predictor = load(holder.folder)
        views = predictor.views_corpus(found.corpus, np.array([found.places[row] for row in rows.tolist()]))
        far = predictor.remoteness(views.embedding, views.graph)
        parts = {part: getattr(views, part) for part in _ARRAYS if getattr(views, part) is not None}
        parts |= {"far": np.stack([far[table] for table in far], axis=1)}
        parts |= {"sources": np.array(views.sources), "tables": np.array(list(far))}
        with written_whole(path) as part:
            np.savez(part, **parts)
    with np.load(path) as stored:
        arrays = {part: stored[part] for part in (*_ARRAYS, "far") if part in stored}
        sources, tables = tuple(map(str, stored["sources"])), tuple(map(str, stored["tables"]))
    far_from = arrays.pop("far")
    return Seen(Views(names=names, sources=sources, **arrays), far_from, tables, positions)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path of this process alone that takes the place of ``path`` once written: others may look for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    yield part
    part.replace(path)


@lru_cache(maxsize=4)
def look(name: str, folder: Path, *, whole: bool = False) -> Seen:
    """Return the networks in a table's split file, or with ``whole`` those of `see`, without any predictor."""
    found = bench(name, folder)
    rows = found.distinct()[0] if whole else found.readable(found.split.rows())
    positions = {row: position for position, row in enumerate(rows.tolist())}
    return Seen(plain_views(found, rows), np.zeros((len(rows), 0)), (), positions)


def plain_views(found: Bench, rows: Sequence[int] | Array) -> Views:
    """Return table rows without any predictor: graph features and costs, no embedding and no outputs."""
    places = np.array([found.places[int(row)] for row in rows], np.int64)
    corpus = found.corpus
    return Views(
        names=tuple(corpus.names[place] for place in places),
        embedding=np.zeros((len(places), 0), np.float32),
        outputs=np.zeros((len(places), 0), np.float32),
        graph=np.asarray(corpus.graph_features()[places]),
        macs=np.asarray(corpus.macs[places], np.float64),
        params=np.asarray(corpus.params[places], np.float64),
        sources=(),
    )
