"""From the names of benchmark tables to labelled corpora with fixed splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingSet
from aiop.tasks import get_task
from aiop.tasks.corpora import open_corpus, plain
from aiop.tasks.tables import Table, load_table, split

__all__ = ["LabelledCorpus", "labelled_corpora"]


@dataclass(frozen=True, eq=False)
class LabelledCorpus:
    """A table whose networks are encoded, with the columns of a run's tasks.

    Attributes:
        table: as `load_table` gives it.
        corpus: n graphs.
        values: float (n, T), in the unit of each task, NaN where not measured.
        macs, params: float (n,), counted from the networks as given.
        rows: ``train``, ``val`` and ``test`` indices into the corpus. Other forms of an architecture (`FORMS` of
            `aiop.tasks.corpora`) are trained on where the architecture is, and never scored.
    """

    table: Table
    corpus: Corpus
    values: NDArray[np.float64]
    macs: NDArray[np.float64]
    params: NDArray[np.float64]
    rows: dict[str, NDArray[np.int64]]

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
        return self._groups[plain(self.corpus.names[row])]

    @cached_property
    def _groups(self) -> dict[str, str]:
        return dict(zip(self.table.networks, self.table.groups, strict=True))

    def training_set(self) -> TrainingSet:
        """The part that training sees: test rows are not in it."""
        return TrainingSet(self.name, self.corpus, self.values, self.rows["train"], self.rows["val"])


def labelled_corpora(
    tables: Sequence[str], tasks: Sequence[str] = ("*",), *, workers: int | None = None, progress: bool = True
) -> tuple[list[LabelledCorpus], list[Target]]:
    """Load tables and encode their networks (or take them from the cache).

    Args:
        tables: names of benchmark tables.
        tasks: globs; every column of the tables that matches one becomes a target.
        workers: processes that encode; as many as there are processors by default.
        progress: show a bar while encoding.

    Raises:
        AiopError: for an unknown table, or where no task matches.
    """
    loaded = [load_table(name) for name in tables]
    names = [
        name
        for table in loaded
        for name in table.values
        if any(fnmatchcase(name, pattern) for pattern in tasks)
    ]
    if not names:
        raise AiopError(f"no task of {', '.join(tables)} matches {', '.join(tasks)}: see `aiop tasks`")
    targets = [Target(name, get_task(name).transform) for name in names]
    return [_label(table, names, workers, progress) for table in loaded], targets


def _label(table: Table, names: list[str], workers: int | None, progress: bool) -> LabelledCorpus:
    corpus = open_corpus(table, workers=workers, progress=progress)
    position = {name: row for row, name in enumerate(table.networks)}
    place = np.array(
        [position[plain(name)] for name in corpus.names]
    )  # row of the corpus -> row of the table
    values = np.full((len(corpus), len(names)), np.nan)
    for column, name in enumerate(names):
        if name in table.values:
            values[:, column] = table.values[name][place]
    own = np.array([name in position for name in corpus.names])
    rows = {}
    for part, indices in split(table).items():
        inside = np.isin(place, indices)
        rows[part] = np.flatnonzero(inside if part == "train" else inside & own)
    macs, params = (np.asarray(corpus.metadata[key], np.float64) for key in ("macs", "params"))
    return LabelledCorpus(table, corpus, values, macs, params, rows)
