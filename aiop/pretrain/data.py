"""From the names of benchmark tables to labelled corpora with fixed splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingSet
from aiop.tasks import get_task
from aiop.tasks.corpora import build_corpus, corpus_path, open_corpus, plain
from aiop.tasks.tables import Table, load_table, split
from aiop.tasks.tables.split import joined_groups

__all__ = ["LabelledCorpus", "labelled_corpora"]


@dataclass(frozen=True, eq=False)
class LabelledCorpus:
    """A table whose networks are encoded, with the columns of a run's tasks.

    Attributes:
        table: as `load_table` gives it.
        corpus: n graphs.
        values: float (n, T), in the unit of each task, NaN where not measured.
        macs, params: float (n,), counted from the networks as given.
        rows: ``train``, ``val`` and ``test`` indices into the corpus. Other forms of an architecture (`variants` of
            `aiop.tasks.corpora`) are trained on where the architecture is, and never scored.
        groups: network of the table -> the group it belongs to: what a split keeps together.
    """

    table: Table
    corpus: Corpus
    values: NDArray[np.float64]
    macs: NDArray[np.float64]
    params: NDArray[np.float64]
    rows: dict[str, NDArray[np.int64]]
    groups: dict[str, str]

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    def own_rows(self, part: str) -> NDArray[np.int64]:
        """Return the rows of a part that are the table's own networks, without other forms of them."""
        own = set(self.table.networks)
        return np.array([row for row in self.rows[part] if self.corpus.names[row] in own], np.int64)

    def group(self, row: int) -> str:
        """Return the group that a row's architecture belongs to: what a split keeps together."""
        name = self.corpus.names[row]
        return self.groups[name if name in self.groups else plain(name)]

    def training_set(self) -> TrainingSet:
        """The part that training sees: test rows are not in it."""
        return TrainingSet(self.name, self.corpus, self.values, self.rows["train"], self.rows["val"])


def labelled_corpora(
    tables: Sequence[str], tasks: Sequence[str] = ("*",), *, workers: int | None = None, progress: bool = True
) -> tuple[list[LabelledCorpus], list[Target]]:
    """Load tables and encode their networks (or take them from the cache).

    Args:
        tables: names of benchmark tables, or paths of users' own.
        tasks: globs; every column of the tables that matches one becomes a target.
        workers: processes that encode; as many as there are processors by default.
        progress: show a bar while encoding.

    Raises:
        AiopError: for an unknown table, where no task matches, and for two tables of one name or task.
    """
    loaded = [load_table(name) for name in tables]
    _check_distinct("tables called", [table.name for table in loaded])
    names = [
        name
        for table in loaded
        for name in table.values
        if any(fnmatchcase(name, pattern) for pattern in tasks)
    ]
    if not names:
        raise AiopError(f"no task of {', '.join(tables)} matches {', '.join(tasks)}: see `aiop tasks`")
    _check_distinct("tables with the task", names)
    targets = [Target(name, get_task(name).transform) for name in names]
    return [_label(table, names, workers, progress) for table in loaded], targets


def _check_distinct(what: str, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise AiopError(f'the run has {count} {what} "{name}": rename all but one')


def _label(table: Table, names: list[str], workers: int | None, progress: bool) -> LabelledCorpus:
    if corpus_path(table).is_file():
        corpus = open_corpus(table)  # a stale one is for the user to build again
    else:
        corpus = build_corpus(table, workers=workers, progress=progress)
    position = {name: row for row, name in enumerate(table.networks)}
    # row of the corpus -> row of the table
    place = np.array([position[name if name in position else plain(name)] for name in corpus.names])
    values = np.full((len(corpus), len(names)), np.nan)
    for column, name in enumerate(names):
        if name in table.values:
            values[:, column] = table.values[name][place]
    own = np.array([name in position for name in corpus.names])
    hashes = dict(zip(corpus.names, corpus.hashes, strict=True))
    twins = [hashes.get(name, "") for name in table.networks]
    rows = {}
    for part, indices in split(table, twins).items():
        inside = np.isin(place, indices)
        rows[part] = np.flatnonzero(inside if part == "train" else inside & own)
    groups = dict(zip(table.networks, map(str, joined_groups(table, twins)), strict=True))
    macs, params = corpus.macs.astype(np.float64), corpus.params.astype(np.float64)
    return LabelledCorpus(table, corpus, values, macs, params, rows, groups)
