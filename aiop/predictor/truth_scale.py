"""Predictions of an infused task on the scale of what was truly measured, by a few true labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.finetune.calibration import Interval
from aiop.finetune.rescaling import LEAST, Line, Method
from aiop.finetune.views import Views
from aiop.predictor.labels import LabelSource, read_labels, see
from aiop.predictor.predictor import COVERAGE, Predictor
from aiop.tasks.tables import load_table

__all__ = ["check_truth", "rescaled", "scaled_to_truth"]

Array = npt.NDArray[Any]


def scaled_to_truth(
    predictor: Predictor,
    truth: LabelSource,
    tasks: Sequence[str] = (),
    *,
    method: Method = "shrunk",
    progress: bool = False,
) -> Predictor:
    """Return the predictor with infused tasks on the scale of true labels; 20 of each are plenty.

    Values and intervals change, ranks and the views that heads see do not. Doing it again starts from where it is.

    Args:
        predictor: with infused tasks.
        truth: a table of networks and true values, whose columns are called like the tasks or their metrics; or, for a
            single task, network -> value.
        tasks: names of infused tasks; by default all of which the truth has a column.
        method: of `aiop.finetune.rescaling.Line`.
        progress: show a bar on stderr while the networks of a table are read.

    Raises:
        AiopError: for a predictor or task that nothing was infused into, and labels that are missing, fewer than
            four or constant.
    """
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
        predictor = rescaled(predictor, name, seen.views, seen.values, method=method)
    return predictor


def check_truth(truth: LabelSource, tasks: Sequence[str]) -> None:
    """Refuse what cannot give every one of some tasks a scale: columns that are not there, labels that are too few."""
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
    predictor: Predictor, task: str, views: Views, values: Array, *, method: Method = "shrunk"
) -> Predictor:
    """As `scaled_to_truth`, of one task: from networks that the predictor has seen, and their values ``(n,)``."""
    if task not in predictor.infused:
        raise AiopError(f"task {task!r} was not infused{suggest(task, predictor.infused)}: name one that was")
    card = predictor.task_card(task)
    measured = np.asarray(values, np.float64)
    if card.scaler.link == "log":
        if not (measured > 0).all():
            raise AiopError(
                f"labels of {task} go down to {measured.min():g}, but must be above 0: leave those out"
            )
        measured = np.log(measured)
    # Infused tasks have two knots: a line, and on top of a line another one is a line.
    knots, targets = np.array(card.scaler.values), np.array(card.scaler.scaled)
    outputs = views.outputs[:, views.sources.index(task)].astype(np.float64)
    steepness = (knots[-1] - knots[0]) / (targets[-1] - targets[0])
    line = Line.fit(knots[0] + steepness * (outputs - targets[0]), measured, method=method, coverage=COVERAGE)
    scaler = replace(card.scaler, values=tuple(line(knots).tolist()))
    interval = Interval((0.0,), (line.reach / (line.slope * steepness),))
    scale = {"labels": len(measured), "method": method, "intercept": line.intercept, "slope": line.slope}
    extra = card.extra | {
        "interval": {"centres": interval.centres, "widths": interval.widths},
        "truth": scale,
    }
    return predictor.with_task_card(replace(card, scaler=scaler, extra=extra))
