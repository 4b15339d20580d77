"""From the names of benchmark tables to labelled corpora with fixed splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus
from aiop.pretrain.description import describe
from aiop.pretrain.sets import TrainingSet
from aiop.pretrain.targets import Target
from aiop.pretrain.watching import MOST_WATCHED, WatchedSet
from aiop.tasks import get_task
from aiop.tasks.corpora import build_corpus, corpus_path, open_corpus, plain
from aiop.tasks.tables import Table, load_table, split
from aiop.tasks.tables.split import joined_groups
from aiop.tasks.task import Task, match_tasks

__all__ = ["LabelledCorpus", "labelled_corpora", "limited"]


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
        available: networks of the table that could be trained on, were their number not limited.
    """

    table: Table
    corpus: Corpus
    values: NDArray[np.float64]
    macs: NDArray[np.float64]
    params: NDArray[np.float64]
    rows: dict[str, NDArray[np.int64]]
    groups: dict[str, str]
    available: int

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

    def watched_set(self, targets: Sequence[Target], seed: int) -> WatchedSet:
        """Some networks for a run to rank that is not trained on them: no test rows, which others may report on."""
        rows = self.own_rows("train")
        if len(rows) > MOST_WATCHED:
            rows = np.sort(np.random.default_rng([seed, 5]).choice(rows, MOST_WATCHED, replace=False))
        mine = [c for c in range(len(targets)) if np.isfinite(self.values[rows, c]).any()]
        return WatchedSet(self.name, self.corpus, self.values[:, mine], rows, [targets[c] for c in mine])


def labelled_corpora(
    tables: Sequence[str],
    tasks: Sequence[str] = ("*",),
    *,
    exclude: Sequence[str] = (),
    most_graphs: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[list[LabelledCorpus], list[Target]]:
    """Load tables and encode their networks (or take them from the cache).

    Args:
        tables: names of benchmark tables, or paths of users' own.
        tasks: globs; every column of the tables that matches one becomes a target.
        exclude: globs; a column that matches one does not. A table without a target is left out.
        most_graphs: of a table with more training graphs as many are drawn, in whole groups of twins.
        seed: of that draw.
        workers: processes that encode; as many as there are processors by default.
        progress: show a bar while encoding.

    Raises:
        AiopError: for an unknown table, where no task matches or an exclusion matches none, and for two tables of one
            name or task.
    """
    loaded = [load_table(name) for name in tables]
    _check_distinct("tables called", [table.name for table in loaded])
    everything = [name for table in loaded for name in table.values]
    for pattern in exclude:
        # A pattern for tables of other runs is fine, one with a typing error would let in what it should keep out.
        if not any(fnmatchcase(name, pattern) for name in everything):
            match_tasks(pattern)
    wanted = [name for name in everything if _matches(name, tasks)]
    if not wanted:
        raise AiopError(f"no task of {', '.join(tables)} matches {', '.join(tasks)}: see `aiop tasks`")
    names = [name for name in wanted if not _matches(name, exclude)]
    if not names:
        raise AiopError(
            f"the setting 'exclude' leaves no task of {', '.join(tables)}: give fewer patterns, or other corpora"
        )
    _check_distinct("tables with the task", names)
    targets = [_target(get_task(name)) for name in names]
    kept = [table for table in loaded if not table.values.keys().isdisjoint(names)]
    labelled = [_label(table, names, workers, progress) for table in kept]
    if most_graphs is not None:
        labelled = [limited(item, most_graphs, seed) for item in labelled]
    return labelled, targets


def limited(item: LabelledCorpus, most: int, seed: int) -> LabelledCorpus:
    """Return the corpus with at most ``most`` training rows: groups drawn at random, each whole or not at all."""
    rows = item.rows["train"]
    if len(rows) <= most:
        return item
    groups: dict[str, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(item.group(row), []).append(row)
    kept: list[int] = []
    found = list(groups.values())
    # The name is part of the draw, not the place among the run's corpora: other corpora change nothing here.
    mark = int.from_bytes(hashlib.sha256(item.name.encode()).digest()[:8], "big")
    for place in np.random.default_rng([seed, 4, mark]).permutation(len(found)):
        if len(kept) + len(found[place]) <= most:
            kept += found[place]
    if not kept:
        raise AiopError(
            f'table "{item.name}" has no group of at most {most} training graphs: raise the setting "most_graphs"'
        )
    return replace(item, rows=item.rows | {"train": np.array(sorted(kept), np.int64)})


def _target(task: Task) -> Target:
    return Target(
        task.name, task.transform, description=tuple(describe(task).tolist()), direction=task.direction
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


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
    twins = corpus.hashes_of(table.networks)
    rows = {}
    for part, indices in split(table, twins).items():
        inside = np.isin(place, indices)
        rows[part] = np.flatnonzero(inside if part == "train" else inside & own)
    # A network without a label of the run would take the place of one with some.
    rows["train"] = rows["train"][np.isfinite(values[rows["train"]]).any(axis=1)]
    groups = dict(zip(table.networks, map(str, joined_groups(table, twins)), strict=True))
    macs, params = corpus.macs.astype(np.float64), corpus.params.astype(np.float64)
    available = int(own[rows["train"]].sum())
    return LabelledCorpus(table, corpus, values, macs, params, rows, groups, available)
