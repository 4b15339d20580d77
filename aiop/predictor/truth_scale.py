"""Predictions of an infused task put right by a few true labels: their scale, and what cheap labels get wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aiop.errors import AiopError, suggest
from aiop.finetune.combination import honest_quantile
from aiop.finetune.correction import Correction, link_of
from aiop.finetune.rescaling import LEAST, Line, Method
from aiop.finetune.views import Views
from aiop.predictor.blend import TruthStep, correction_array
from aiop.predictor.build_table import true_labels
from aiop.predictor.labels import LabelSource, read_labels, see
from aiop.predictor.predictor import COVERAGE, Predictor
from aiop.tasks.tables import load_table

__all__ = ["MARK", "Scaling", "TruthWarning", "check_truth", "rescaled", "scaled_to_truth"]

Array = npt.NDArray[Any]
Scaling = Literal["corrected"] | Method
"""``corrected``: by `aiop.finetune.correction`; the others: a line of `aiop.finetune.rescaling`, which leaves ranks."""

MARK = 16
"""Digits of a content hash that tell the networks of an infusion from others."""


class TruthWarning(UserWarning):
    """True labels are of networks that cheap labels of were infused."""


def scaled_to_truth(
    predictor: Predictor,
    truth: LabelSource,
    tasks: Sequence[str] = (),
    *,
    method: Scaling = "corrected",
    progress: bool = False,
) -> Predictor:
    """Return the predictor with infused tasks put right by true labels; 20 of each are plenty.

    Values, intervals and, where ``corrected``, ranks change; the views that heads see do not. Doing it again, with all
    labels there are, takes the place of what was done before. Networks that cheap labels of were infused show too
    small errors: a `TruthWarning` says how many of the labels are of such.

    Args:
        predictor: with infused tasks.
        truth: a table of networks and true values, whose columns are called like the tasks or their metrics; or, for a
            single task, network -> value.
        tasks: names of infused tasks; by default all of which the truth has a column.
        method: one of `Scaling`.
        progress: show a bar on stderr while the networks of a table are read.

    Raises:
        AiopError: for a predictor or task that nothing was infused into, and labels that are missing, fewer than
            four or constant.
    """
    truth = _own_columns(truth)
    if not predictor.infused:
        raise AiopError("nothing was infused into the predictor: add tasks with `aiop infuse` first")
    for name in tasks:
        if name not in predictor.infused:
            raise AiopError(
                f"task {name!r} was not infused{suggest(name, predictor.infused)}: name infused ones"
            )
    columns = _columns(truth, tasks or predictor.infused)
    if tasks or not columns:
        check_truth(truth, tasks or predictor.infused)
    for name, column in columns.items():
        seen = see(predictor, read_labels(truth, column, part="train"), progress=progress)
        known = predictor.marks(str(predictor.task_card(name).extra["corpus"]))
        taught = sum(mark[:MARK] in known for mark in seen.marks)
        if taught:
            warnings.warn(
                f"{taught} of the {len(seen)} true labels of {name} are of networks whose cheap labels were infused: "
                "errors and intervals come out too small; measure others",
                TruthWarning,
                stacklevel=2,
            )
        predictor = rescaled(predictor, name, seen.views, seen.values, method=method, taught=taught)
    return predictor


def _own_columns(truth: LabelSource) -> LabelSource:
    return true_labels(Path(truth)) if isinstance(truth, str | Path) else truth


def check_truth(truth: LabelSource, tasks: Sequence[str]) -> None:
    """Refuse what cannot give every one of some tasks a scale: columns that are not there, labels that are too few."""
    truth = _own_columns(truth)
    columns = _columns(truth, tasks)
    for name in tasks:
        if name not in columns:
            raise AiopError(f"{_called(truth)} has no column of true values of {name}: call one so")
        labels = read_labels(truth, columns[name], part="train")
        if len(labels) < LEAST:
            raise AiopError(
                f"{_called(truth)} has {len(labels)} labels of {name}: measure at least {LEAST} networks, better 20"
            )


def _columns(truth: LabelSource, tasks: Sequence[str]) -> dict[str, str]:
    """Return the columns of the tasks that have one: called as the task, or as the part after its last slash."""
    if isinstance(truth, Mapping):
        return {tasks[0]: tasks[0]} if len(tasks) == 1 else {}
    found = {}
    known = load_table(str(truth)).values
    for task in tasks:
        alike = [name for name in known if name.rpartition("/")[2] == task.rpartition("/")[2]]
        if task in known or len(alike) == 1:
            found[task] = task if task in known else alike[0]
        elif len(tasks) == len(known) == 1:
            found[task] = next(iter(known))
    return found


def _called(truth: LabelSource) -> str:
    return "the mapping" if isinstance(truth, Mapping) else f'table "{truth}"'


def rescaled(
    predictor: Predictor,
    task: str,
    views: Views,
    values: Array,
    *,
    method: Scaling = "corrected",
    taught: int = 0,
) -> Predictor:
    """As `scaled_to_truth`, of one task: from networks that the predictor has seen, and their values ``(n,)``.

    ``taught``: how many of them it was infused with, for the record.
    """
    if task not in predictor.infused:
        raise AiopError(f"task {task!r} was not infused{suggest(task, predictor.infused)}: name one that was")
    known = (*get_args(Method), "corrected")
    if method not in known:
        raise AiopError(
            f"rescaling {method!r} is unknown{suggest(method, known)}: use {', '.join(sorted(known))}"
        )
    card = predictor.task_card(task)
    values = np.asarray(values, np.float64)
    if card.scaler.link == "log" and not (values > 0).all():
        raise AiopError(f"labels of {task} go down to {values.min():g}, but must be above 0: leave those out")
    measured = np.log(values) if card.scaler.link == "log" else values
    # Infused tasks have two knots: a line, and on top of a line another one is a line.
    knots, targets = np.array(card.scaler.values), np.array(card.scaler.scaled)
    outputs = views.outputs[:, views.sources.index(task)].astype(np.float64)
    steepness = (knots[-1] - knots[0]) / (targets[-1] - targets[0])
    scale: Method = "shrunk" if method == "corrected" else method
    line = Line.fit(knots[0] + steepness * (outputs - targets[0]), measured, method=scale, coverage=COVERAGE)
    scaler = replace(card.scaler, values=tuple(line(knots).tolist()))
    width = line.reach / (line.slope * steepness)
    record: dict[str, Any] = {
        "labels": len(values), "method": method, "intercept": line.intercept, "slope": line.slope, "infused": taught,
    }  # fmt: skip
    arrays: dict[str, Tensor] = {}
    if method == "corrected":
        column = predictor.names.index(task)
        others, sources = _related(predictor, task)
        blocks = TruthStep.blocks(views.outputs, views.embedding, views.graph, others, sources)
        link = link_of(values, card.unit, card.scaler.link)
        found = Correction.fit(views.outputs[:, column], blocks, values, link)
        assert found.held_out is not None  # of one that was just fitted
        width = honest_quantile(np.abs(scaler.transform(found.held_out) - scaler.transform(values)), COVERAGE)
        record["correction"] = {
            "link": found.link,
            "intercept": found.intercept,
            "others": [predictor.names[place] for place in others],
            "sources": [predictor.names[place] for place in sources],
        }
        arrays = {
            correction_array(task, part): torch.from_numpy(array) for part, array in found.arrays().items()
        }
    interval = {"centres": (0.0,), "widths": (width,)}
    extra = card.extra | {"interval": interval, "truth": record}
    return predictor.with_task_card(replace(card, scaler=scaler, extra=extra), arrays)


def _related(predictor: Predictor, task: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of the tasks that were infused with one, and of all that the predictor knew before."""
    known = len(predictor.names) - len(predictor.infused)
    for record in predictor.card["infusions"]:
        if task in record["tasks"]:
            break
        known += len(record["tasks"])
    others = tuple(predictor.names.index(name) for name in record["tasks"] if name != task)
    return others, tuple(range(known))
