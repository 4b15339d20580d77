"""One evaluation: a method fitted to the labels of a draw, and what it says of the test networks scored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.finetune.metrics import coverage, kendall_tau, mae, regret, srcc
from aiop.finetune.views import Views
from aiop.protocols.folds import Case
from aiop.protocols.methods import Method, Setting
from aiop.protocols.plan import Plan
from aiop.protocols.seen import Bench, bench, plain_views, see
from aiop.tasks import get_task, list_tasks
from aiop.tasks.task import Task

__all__ = ["ALL", "PREDICTOR", "Failure", "few_shot", "known", "predictor_alone"]

Array = npt.NDArray[Any]
Scores = dict[str, Any]

PREDICTOR = "predictor"
"""Name of the predictor itself where it is asked for a task that it has seen."""

ALL = -1
"""Number of labels that stands for all training networks."""

_BEST = (1, 10)


class Failure(Exception):
    """A method could not be fitted, or said something that is no prediction; the text says why."""


def few_shot(
    case: Case, method: Method, draw: int, budgets: Sequence[int], plan: Plan
) -> dict[int, Scores | str]:
    """Fit a method to the first labels of a draw, one budget after another.

    Returns:
        budget -> scores, or why the method has none. A budget that the draw has too few labels for, or that is below
        what the method asks for, is left out.
    """
    found = bench(case.table, plan.folder)
    seen = see(case.holder, case.table, plan.folder)
    values = found.table.values[case.task]
    labelled, tested = found.few_shot(draw, values, case.space_seen)
    task = get_task(case.task)
    test = seen.views.rows(seen.at(tested))

    def others() -> Any:
        return _others(case.table, case.task, plan.folder, tuple(_distinct_tasks(case, plan)))

    setting = Setting(task, draw, others, lambda: _aio_p(case, plan))
    results: dict[int, Scores | str] = {}
    for budget in budgets:
        if budget > len(labelled) or budget < method.least_labels:
            continue
        rows = labelled[:budget]
        try:
            results[budget] = _fit_and_score(
                method, setting, seen.views.rows(seen.at(rows)), values[rows], test, values[tested]
            )
        except Failure as failure:
            results[budget] = str(failure)
    return results


def known(case: Case, method: Method, seed: int, plan: Plan) -> Scores | str:
    """Fit a baseline to all training networks of a task and score it on networks kept out."""
    found = bench(case.table, plan.folder)
    values = found.table.values[case.task]
    train, test = _measured(found.side("train"), values), _measured(found.readable(found.split.test), values)
    try:
        return _fit_and_score(
            method,
            Setting(get_task(case.task), seed, turned=True),
            plain_views(found, train),
            values[train],
            plain_views(found, test),
            values[test],
        )
    except Failure as failure:
        return str(failure)


def predictor_alone(case: Case, plan: Plan) -> Scores:
    """Score what the predictor itself says of networks kept out, in a task that it has seen."""
    from aiop.predictor import load

    started = time.perf_counter()
    found, seen = bench(case.table, plan.folder), see(case.holder, case.table, plan.folder)
    predictor = load(case.holder.path)
    values = found.table.values[case.task]
    test = _measured(found.readable(found.split.test), values)
    positions = seen.at(test)
    index = predictor.names.index(case.task)
    scaled = seen.views.outputs[positions, index]
    low, high = predictor.bounds(index, scaled, seen.far[positions, seen.tables.index(case.table)])
    scores = _scores(get_task(case.task), predictor.values(index, scaled), values[test], ranks_only=False)
    return scores | {"coverage": _number(coverage(low, high, values[test])), "seconds": _since(started)}


def _measured(rows: Array, values: Array) -> Array:
    return rows[np.isfinite(values[rows])]


def _fit_and_score(
    method: Method, setting: Setting, views: Views, labels: Array, test: Views, measured: Array
) -> Scores:
    started = time.perf_counter()
    interval: tuple[Array, Array] | None = None
    try:
        fitted = method.make(setting)
        fitted.fit(views, labels)
        predicted = np.asarray(fitted.predict(test), np.float64)
        if len(labels) and hasattr(fitted, "interval"):
            interval = fitted.interval(test)
    except (AiopError, ArithmeticError, ValueError) as error:  # bad numbers end one fit, not a night of them
        raise Failure(str(error) or type(error).__name__) from error
    seconds = _since(started)
    if predicted.shape != measured.shape or not np.isfinite(predicted).all():
        raise Failure("predictions are not one finite number per network")
    scores = _scores(setting.task, predicted, measured, ranks_only=method.ranks_only or not len(labels))
    if interval is not None:
        scores["coverage"] = _number(coverage(*interval, measured))
    return scores | {"seconds": seconds}


def _scores(task: Task, predicted: Array, measured: Array, *, ranks_only: bool) -> Scores:
    """Score predictions; a constant one ranks nothing, which is a correlation of 0."""
    constant = np.ptp(predicted) == 0
    scores: Scores = {
        "tested": len(measured),
        "srcc": 0.0 if constant else _number(srcc(predicted, measured)),
        "tau": 0.0 if constant else _number(kendall_tau(predicted, measured)),
        "mae": None if ranks_only else _number(mae(predicted, measured)),
    }
    for k in _BEST:
        scores[f"regret{k}"] = _number(regret(predicted, measured, k, task.direction))
    return scores


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 4)


def _distinct_tasks(case: Case, plan: Plan) -> list[str]:
    """The tasks of the table that are no near-copies of the one judged, and that the predictor was given."""
    own = plan.group(case.task)
    return [
        task for task in case.holder.tasks if get_task(task).space == case.table and plan.group(task) != own
    ]


def _aio_p(case: Case, plan: Plan) -> Any:
    """The AIO-P beside the predictor, held to the same rules: what is new to the one is new to the other."""
    if case.holder.aio_p is None:
        raise AiopError("no trained AIO-P was given: name it with --aio-p")
    found = _load_aio_p(case.holder.aio_p)
    seen = [task for task in (found.task, *found.adapters) if task in list_tasks()]
    if case.space_seen:
        leaks = [task for task in seen if plan.group(task) == plan.group(case.task)]
    else:
        leaks = [task for task in seen if get_task(task).space == case.table]
    if leaks:
        raise AiopError(f"the AIO-P in {case.holder.aio_p} was trained on {leaks[0]}, which is kept out here")
    return found


@lru_cache(maxsize=2)
def _load_aio_p(path: Path) -> Any:
    from aiop.finetune.baselines.aio_p import load_aio_p

    return load_aio_p(path)


@lru_cache(maxsize=4)
def _others(table: str, task: str, folder: Path, tasks: tuple[str, ...]) -> Any:
    """Trees that know the other tasks of a table on its training side, where no test network is."""
    from aiop.finetune.baselines import OtherTasks

    found: Bench = bench(table, folder)
    if not tasks:
        raise AiopError("the predictor was given no other task of this space: there is nothing to transfer")
    rows = found.side("train")
    return OtherTasks(
        [found.table.networks[row] for row in rows],
        {other: found.table.values[other][rows] for other in tasks},
    )
