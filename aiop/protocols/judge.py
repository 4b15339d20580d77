"""One evaluation: a method fitted to the labels of a draw, and what it says of the test networks scored."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
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
from aiop.protocols.others import OtherColumns
from aiop.protocols.plan import Plan
from aiop.protocols.seen import bench, look, plain_views, see
from aiop.tasks import get_task, list_tasks
from aiop.tasks.task import Task

__all__ = ["ALL", "PREDICTOR", "Failure", "few_shot", "known", "predictor_alone", "sees", "setting_of"]

Array = npt.NDArray[Any]
Scores = dict[str, Any]

PREDICTOR = "predictor"
"""Name of the predictor itself where it is asked for a task that it has seen."""

ALL = -1
"""Number of labels that stands for all training networks."""

_BEST = (1, 10)
_FEW = 100
_RANKS: dict[str, Callable[[Array, Array], float]] = {"srcc": srcc, "tau": kendall_tau}


def sees(case: Case, method: Method | None, plan: Plan) -> str:
    """Return what a method's results on a case depend on besides labels, as the store tells them apart.

    A head depends on the weights of its predictor. A method that transfers depends on the tasks that it is given: two
    folds that keep the same tasks out of a table share its results. What knows nothing but labels is fitted once for
    all predictors, before any of them is trained. None is the predictor itself.
    """
    if method is None or method.sees == "predictor":
        return case.holder.digest[:16]
    if case.kind == "known":
        return f"{case.holder.networks or 'all'} networks"
    found: str = method.sees
    if found == "others":
        tasks = "\n".join(_distinct_tasks(case, plan))
        found = f"others {hashlib.sha256(tasks.encode()).hexdigest()[:12]}"
    elif found == "aio-p":
        found = f"aio-p {case.holder.aio_p_digest[:12]}{'' if case.space_seen else ' new space'}"
    if case.space_seen and bench(case.table, plan.folder).split.tests:
        found += " test side"
    return found


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
    seen = (
        see(case.holder, case.table, plan.folder)
        if method.sees == "predictor"
        else look(case.table, plan.folder)
    )
    values = found.table.values[case.task]
    labelled, tested, copies = found.few_shot(draw, values, case.space_seen)
    test = seen.views.rows(seen.at(tested))
    every = np.concatenate([tested, copies])
    whole = (seen.views.rows(seen.at(every)), values[every]) if len(copies) else None

    setting = setting_of(case, draw, plan)
    results: dict[int, Scores | str] = {}
    for budget in budgets:
        if budget > len(labelled) or budget < method.least_labels:
            continue
        rows = labelled[:budget]
        try:
            results[budget] = _fit_and_score(
                method, setting, seen.views.rows(seen.at(rows)), values[rows], test, values[tested], whole
            )
        except Failure as failure:
            results[budget] = str(failure)
    return results


def setting_of(case: Case, draw: int, plan: Plan) -> Setting:
    """Return what a method may know of a case besides the labels of a draw; nothing is made before it is asked for."""
    found, task = bench(case.table, plan.folder), get_task(case.task)

    def others() -> Any:
        return _others(case.table, plan.folder, tuple(_distinct_tasks(case, plan)))

    def tuning(head: Any) -> Any:
        from aiop.predictor import load
        from aiop.predictor.tuning import TunedHead

        corpus = found.corpus
        module = load(case.holder.folder).module
        return TunedHead(head, module, lambda names: [corpus[corpus.index(name)] for name in names])

    def graphs() -> Any:
        return _graphs(case.table, task.form, plan.folder)

    return Setting(task, draw, others, lambda: _aio_p(case, plan), tuning, graphs)


def known(case: Case, method: Method, seed: int, plan: Plan) -> Scores | str:
    """Fit a baseline to training networks of a task and score it on networks kept out.

    It is given as many networks of the table as the predictor, drawn under ``seed``.
    """
    found = bench(case.table, plan.folder)
    values = found.table.values[case.task]
    train = np.random.default_rng(seed).permutation(found.side("train"))
    train = _measured(np.sort(train[: case.holder.networks or len(train)]), values)
    test = _measured(found.readable(found.split.test), values)
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
    predictor = load(case.holder.folder)
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
    method: Method,
    setting: Setting,
    views: Views,
    labels: Array,
    test: Views,
    measured: Array,
    whole: tuple[Views, Array] | None = None,
) -> Scores:
    """Fit, predict and score; ``whole`` are the test networks with all copies of them, and their values."""
    again = predicted = np.empty(0)
    interval: tuple[Array, Array] | None = None
    try:
        fitted = method.make(setting)  # what it knows of other tasks is made once for all fits, and not timed
        started = time.perf_counter()
        fitted.fit(views, labels)
        predicted = np.asarray(fitted.predict(test), np.float64)
        if len(labels) and hasattr(fitted, "interval"):
            interval = fitted.interval(test)
        seconds = _since(started)
        if whole is not None:
            again = np.asarray(fitted.predict(whole[0]), np.float64)
    except (AiopError, ArithmeticError, ValueError) as error:  # bad numbers end one fit, not a night of them
        raise Failure(str(error) or type(error).__name__) from error
    if predicted.shape != measured.shape or not np.isfinite(predicted).all():
        raise Failure("predictions are not one finite number per network")
    scores = _scores(setting.task, predicted, measured, ranks_only=method.ranks_only or not len(labels))
    if interval is not None:
        scores["coverage"] = _number(coverage(*interval, measured))
    if whole is not None:
        scores |= {f"{name}_rows": _rank(measure, again, whole[1]) for name, measure in _RANKS.items()}
    return scores | {"seconds": seconds}


def _scores(task: Task, predicted: Array, measured: Array, *, ranks_only: bool) -> Scores:
    """Score predictions; a constant one ranks nothing, which is a correlation of 0."""
    scores: Scores = {
        "tested": len(measured),
        **{name: _rank(measure, predicted, measured) for name, measure in _RANKS.items()},
        "mae": None if ranks_only else _number(mae(predicted, measured)),
    }
    for k in _BEST:
        scores[f"regret{k}"] = _number(regret(predicted, measured, k, task.direction))
    return scores


def _rank(measure: Callable[[Array, Array], float], predicted: Array, measured: Array) -> float | None:
    return 0.0 if np.ptp(predicted) == 0 else _number(measure(predicted, measured))


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 4)


def _distinct_tasks(case: Case, plan: Plan) -> list[str]:
    """The tasks of the table that are no near-copies of the one judged, and that the predictor was given; sorted."""
    own = plan.group(case.task)
    return sorted(
        task for task in case.holder.tasks if get_task(task).space == case.table and plan.group(task) != own
    )


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


@lru_cache(maxsize=2)
def _graphs(table: str, form: str, folder: Path) -> Any:
    """Graphs in AIO-P's form, from the cache, of the networks that are judged and of those that few labels are of.

    Any other is read when it is asked for.
    """
    from aiop.finetune.baselines.aio_p import GraphStore

    found = bench(table, folder).split
    few = [draw[:_FEW] for draw in found.draws]
    rows = np.unique(np.concatenate([found.test, found.copies, *found.tests, *few]))
    return GraphStore.of_table(table, form=form, rows=rows.tolist(), progress=False)


@lru_cache(maxsize=4)
def _others(table: str, folder: Path, tasks: tuple[str, ...]) -> OtherColumns:
    if not tasks:
        raise AiopError("the predictor was given no other task of this space: there is nothing to transfer")
    return OtherColumns(table, folder, tasks)
