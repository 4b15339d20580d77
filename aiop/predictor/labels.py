"""Labels for a head of one's own: which networks, which values, of which task.

They come from a table of the user's own (`aiop.tasks.tables.user`), from a benchmark table, of which the rows of its
split are meant, or from a mapping of networks to values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.finetune.views import Views
from aiop.graph_ir.corpus import Corpus
from aiop.graph_ir.features import GraphArrays, encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.predictor.predictor import Predictor, check_predictable
from aiop.tasks.corpora import build_corpus, corpus_path, open_corpus
from aiop.tasks.networks import read
from aiop.tasks.tables import Table, list_tables, load_table, split
from aiop.tasks.task import get_task

__all__ = [
    "HeadTask",
    "LabelSource",
    "LabelledViews",
    "Labels",
    "check_cells",
    "find_task",
    "read_labels",
    "see",
]

Array = npt.NDArray[Any]
LabelSource = str | Path | Mapping[str, float]
"""A table's path or name, or network -> value."""

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class HeadTask:
    """What a head predicts.

    name: ``DOMAIN/SPACE/DATASET-METRIC``; of a mapping, the metric as given.
    metric, unit: of the values.
    direction: ``max`` where higher is better, else ``min``.
    transform: the scale on which the head works: of the values, or of their logarithms.
    """

    name: str
    metric: str
    unit: str = ""
    direction: Literal["max", "min"] = "max"
    transform: Literal["identity", "log"] = "identity"

    def to_dict(self) -> dict[str, str]:
        """Return plain values ready for JSON."""
        return asdict(self)

    def scale(self, values: Array) -> Array:
        """Return values on the scale of `transform`; a log task with values that have none is an AiopError."""
        if self.transform == "identity":
            return np.asarray(values, np.float64)
        if (values <= 0).any():
            raise AiopError(
                f"labels {self.name} go down to {values.min():g}, but must be above 0: leave those out"
            )
        return np.asarray(np.log(values))

    def unscale(self, scaled: Array) -> Array:
        """Return values in the unit of what `scale` returned."""
        return np.asarray(np.exp(scaled) if self.transform == "log" else scaled)

    @classmethod
    def from_dict(cls, data: object) -> HeadTask:
        """Restore what `to_dict` returned; anything else is a ValueError."""
        if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
            raise ValueError("task")
        try:
            task = cls(**data)
        except TypeError:
            raise ValueError("task") from None
        if task.direction not in ("max", "min") or task.transform not in ("identity", "log"):
            raise ValueError("direction or transform")
        return task


@dataclass(frozen=True, eq=False)
class Labels:
    """Values of n distinct networks.

    source: the table's path or name, for messages.
    table: the table they are from, None for a mapping.
    networks: n names; values: float64 ``(n,)``, finite, in the task's unit.
    notes: what was left out and why, one line each.
    """

    source: str
    task: HeadTask
    table: Table | None
    networks: tuple[str, ...]
    values: Array
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.networks)

    def rows(self, places: Sequence[int] | Array) -> Labels:
        """Some of the labels, in the order of ``places``."""
        found = np.asarray(places, np.int64)
        return replace(self, networks=tuple(self.networks[i] for i in found), values=self.values[found])


@dataclass(frozen=True, eq=False)
class LabelledViews:
    """n labelled networks as the predictor sees them.

    marks: n content hashes, equal for the same network.
    graphs: returns the n networks, encoded, which few need; of views alone it returns none.
    """

    labels: Labels
    views: Views
    marks: tuple[str, ...]
    graphs: Callable[[], list[GraphArrays]] = list

    @property
    def values(self) -> Array:
        """The labels' values, float64 ``(n,)``."""
        return self.labels.values

    def __len__(self) -> int:
        return len(self.labels)


def read_labels(
    source: LabelSource,
    metric: str | None = None,
    *,
    part: Part = "train",
    lower: bool = False,
    like: HeadTask | None = None,
) -> Labels:
    """Read the labels of one column.

    Args:
        source: path of a user's own table (.csv, .parquet), name of a benchmark table, or network -> value.
        metric: the column's header, with or without its unit, or the task's name; where it is the only column it may
            be left out. Of a mapping, what to call the values.
        part: of a benchmark table, the rows of this part of its split; of anything else all rows.
        lower: lower values are better, of a column whose header does not say so.
        like: where no metric is given, take the column of this task, or the one of its metric.

    Raises:
        AiopError: a table or column that is not there, values that are not finite or contradict each other.
    """
    if isinstance(source, Mapping):
        return _from_mapping(source, metric or "value", lower)
    name = str(source)
    table = load_table(name)
    if metric is None and like is not None and len(table.values) > 1:
        metric = like.name if like.name in table.values else like.metric
    task_name = find_task(table, metric, name)
    task = get_task(task_name)
    if lower and task.direction == "max" and not table.path:
        raise AiopError(f"of {task_name} higher is better, as its benchmark says: leave out --lower")
    values = table.values[task_name]
    known = np.isfinite(values)
    if table.path:
        check_cells(table, task_name, name)
    else:
        mine = np.zeros(len(table), bool)
        mine[split(table, _public_corpus(table).hashes_of(table.networks))[part]] = True
        known &= mine
    places = np.flatnonzero(known)
    return Labels(
        source=name,
        task=HeadTask(task.name, task.metric, task.unit, "min" if lower else task.direction, task.transform),
        table=table,
        networks=tuple(table.networks[place] for place in places),
        values=np.asarray(values[places], np.float64),
        notes=tuple(table.notes),
    )


def see(predictor: Predictor, labels: Labels, *, progress: bool = False) -> LabelledViews:
    """Let the predictor see labelled networks; one that cannot be read is left out with a note.

    A table's networks are encoded once and kept (`aiop.tasks.corpora`), so that what is interrupted goes on where it
    was and a second call reads nothing.

    Raises:
        AiopError: where no network can be read.
    """
    if labels.table is None:
        return _read_directly(predictor, labels)
    corpus = (
        build_corpus(labels.table, progress=progress) if labels.table.path else _public_corpus(labels.table)
    )
    place = {name: row for row, name in enumerate(corpus.names)}
    kept = [row for row, name in enumerate(labels.networks) if name in place]
    refused = corpus.metadata["refused"]
    notes = [f"{name} is left out: {refused.get(name, 'its corpus has no such network')}"
             for name in labels.networks if name not in place]  # fmt: skip
    found = replace(labels.rows(kept), notes=(*labels.notes, *notes))
    if not kept:
        raise AiopError(
            f"no network of {labels.source} can be read, e.g. {notes[0] if notes else 'it names none'}"
        )
    rows = np.array([place[name] for name in found.networks])
    return LabelledViews(
        found,
        predictor.views_corpus(corpus, rows),
        tuple(corpus.hashes[row] for row in rows),
        lambda: [corpus[row] for row in rows.tolist()],
    )


def _read_directly(predictor: Predictor, labels: Labels) -> LabelledViews:
    graphs = [read(name) for name in labels.networks]
    for graph in graphs:
        check_predictable(graph)
    marks = tuple(content_hash(canonicalise(graph)) for graph in graphs)
    return LabelledViews(labels, predictor.views(graphs), marks, lambda: [encode(graph) for graph in graphs])


def _public_corpus(table: Table) -> Corpus:
    # A stale one is for the user to build again: it may be in use elsewhere. A table of the package is small, and
    # changes with the package.
    kept = corpus_path(table).is_file() and table.name in list_tables()
    return open_corpus(table) if kept else build_corpus(table)


def _from_mapping(source: Mapping[str, float], metric: str, lower: bool) -> Labels:
    for name, value in source.items():
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise AiopError(f"the label of {name} is {value!r}: give finite numbers only")
    return Labels(
        "the labels", HeadTask(metric, metric, direction="min" if lower else "max"), None,
        tuple(str(name) for name in source), np.array([float(value) for value in source.values()]),
    )  # fmt: skip


def find_task(table: Table, metric: str | None, source: str) -> str:
    """Return the name of the task that ``metric`` means: a task, a header, or a header without its unit."""
    spoken = {name: _spellings(name) for name in table.values}
    if metric is None:
        if len(spoken) == 1:
            return next(iter(spoken))
        raise AiopError(
            f'table "{source}" has {len(spoken)} columns of numbers: choose one with --metric, such as '
            f"{', '.join(list(spoken)[:4])}"
        )
    for exact in (True, False):
        wanted = metric if exact else metric.strip().lower()
        found = [
            name for name, ways in spoken.items() if wanted in (ways if exact else [w.lower() for w in ways])
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise AiopError(
                f'"{metric}" of table "{source}" may be {" or ".join(found)}: give the whole name'
            )
    left_out = next((note for note in table.notes if note.startswith(f'column "{metric}')), "")
    near = suggest(metric, [way for ways in spoken.values() for way in ways])
    columns = ", ".join(list(spoken)[:4]) + (" ..." if len(spoken) > 4 else "")
    raise AiopError(
        left_out + ": nothing to fit"
        if left_out
        else f'table "{source}" has no column of numbers "{metric}"{near}: it has {columns}'
    )


def _spellings(name: str) -> list[str]:
    """The ways to write a task: its name, the part after the last slash, and the header of a user's own column."""
    dataset = get_task(name).dataset
    header = dataset.removeprefix('column "').removesuffix('"') if dataset.startswith('column "') else ""
    ways = [
        name,
        name.rpartition("/")[2],
        header,
        header.partition("[")[0].strip(),
        header.partition("(")[0].strip(),
    ]
    return list(dict.fromkeys(way for way in ways if way))


def check_cells(table: Table, task: str, source: str) -> None:
    """Refuse a column of a user's own table with values that are not finite or contradict each other."""
    if task in table.doubts:
        raise AiopError(
            f'labels {task} of "{source}" are unclear: {table.doubts[task]}; leave cells empty where nothing was '
            "measured, and give every network one value"
        )
