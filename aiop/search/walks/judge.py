"""One method on one task: what it says of every network of a table, and where walks under its guidance end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.protocols.code import code_digest
from aiop.protocols.folds import Case
from aiop.protocols.judge import Failure, sees, setting_of
from aiop.protocols.methods import Method
from aiop.protocols.plan import Plan
from aiop.protocols.seen import bench, look, see
from aiop.search.walks.ground import Ground, ground_of
from aiop.search.walks.plan import LABELS, SETUPS, TARGETS, drawn
from aiop.search.walks.walk import MOST, WIDTH, Walked, cut_first, guided, random_moves
from aiop.tasks import get_task

__all__ = ["TRUTH", "identity", "judge", "walks"]

Array = npt.NDArray[Any]

TRUTH = "oracle"


def identity(
    case: Case, name: str, method: Method | None, draw: int, starts: int, plan: Plan
) -> dict[str, Any]:
    """Return what the result of a method depends on, as the store tells results apart (`aiop.protocols.store.KEY`)."""
    modules = [f"aiop.search.walks.{module}" for module in ("ground", "walk", "judge")]
    made = [code_digest(module) for module in (*modules, "aiop.protocols.seen")]
    made += [method.code if method else name, f"{starts} {TARGETS} {[vars(setup) for setup in SETUPS]}"]
    return {
        "kind": "walk",
        "sees": sees(case, method, plan) if method else "nothing",
        "data": bench(case.table, plan.folder).data,
        "task": case.task,
        "method": name,
        "code": hashlib.sha256("\n".join(made).encode()).hexdigest()[:16],
        "labels": LABELS if method and method.least_labels + method.ours else 0,
        "draw": draw,
    }


def judge(case: Case, name: str, method: Method | None, draw: int, starts: int, plan: Plan) -> dict[str, Any]:
    """Walk from all starts in all setups.

    Returns:
        ``ends``: setup -> target (as text) -> row of the table where each walk ended, -1 where the target was not met;
        ``scored``: candidates that a walk looked at, on average; ``seconds``: of fitting, predicting and walking.

    Raises:
        Failure: where the method could not be fitted.
    """
    started = time.perf_counter()
    found, ground = bench(case.table, plan.folder), ground_of(case.table, plan.folder)
    better = _better(case, found.table.values[case.task])
    score = better if name == TRUTH else (_scores(case, method, draw, plan) if method else None)
    ends: dict[str, dict[str, list[int]]] = {}
    looked: list[int] = []
    for setup in SETUPS:
        rows = drawn(better, upper=setup.upper, count=starts)
        moves = ground.cutting if setup.cutting else ground
        for target in TARGETS:
            walked = walks(moves, rows, target, name, score, draw)
            ends.setdefault(setup.name, {})[str(target)] = [walk.row for walk in walked]
            looked += [walk.scored for walk in walked]
    seconds = round(time.perf_counter() - started, 3)
    return {"ends": ends, "scored": round(float(np.mean(looked)), 1), "seconds": seconds}


def walks(
    ground: Ground, starts: Array, target: float, name: str, score: Array | None, draw: int
) -> list[Walked]:
    """Walk from each start to at most ``1 - target`` of its MACs; without a score by costs or chance, as ``name`` says.

    A network without a score (nan) is no candidate.
    """
    how: Callable[[int, float], Walked]
    if score is not None:
        known = np.where(np.isfinite(score), score, -np.inf)

        def how(start: int, cap: float) -> Walked:
            return guided(ground, start, cap, known, width=WIDTH, most=MOST)

    elif name == "random":

        def how(start: int, cap: float) -> Walked:
            return random_moves(ground, start, cap, seed=[draw, start])

    else:

        def how(start: int, cap: float) -> Walked:
            return cut_first(ground, start, cap, largest=name == "largest-cut")

    return [how(int(start), (1 - target) * float(ground.macs[start])) for start in starts]


def _better(case: Case, values: Array) -> Array:
    return values if get_task(case.task).direction == "max" else -values


def _scores(case: Case, method: Method, draw: int, plan: Plan) -> Array:
    """Fit a method to the first labels of a draw; return what it says of every network of the table, larger is better.

    Equal networks are looked at once.
    """
    found = bench(case.table, plan.folder)
    values = found.table.values[case.task]
    labelled = found.few_shot(draw, values, case.space_seen)[0][:LABELS]
    few = see(case.holder, case.table, plan.folder) if method.ours else look(case.table, plan.folder)
    whole = (
        see(case.holder, case.table, plan.folder, whole=True)
        if method.ours
        else look(case.table, plan.folder, whole=True)
    )
    graphs = lambda: _graphs(case.table, get_task(case.task).form, plan.folder)  # noqa: E731
    try:
        fitted = method.make(replace(setting_of(case, draw, plan), graphs=graphs))
        fitted.fit(few.views.rows(few.at(labelled)), values[labelled])
        predicted = np.asarray(fitted.predict(whole.views), np.float64)
    except (ArithmeticError, ValueError) as error:
        raise Failure(str(error) or type(error).__name__) from error
    if predicted.shape != (len(whole.views),) or not np.isfinite(predicted).all():
        raise Failure("predictions are not one finite number per network")
    return _better(case, predicted[found.distinct()[1]])


@lru_cache(maxsize=1)
def _graphs(table: str, form: str, folder: Path) -> Any:
    """Graphs in AIO-P's form of a whole table, from the cache.

    Of networks that compute the same it holds one; the few others of them that differ in costs are read when asked for.
    """
    from aiop.finetune.baselines.aio_p import GraphStore

    rows = bench(table, folder).distinct(costs=False)[0]
    return GraphStore.of_table(table, form=form, rows=rows.tolist(), progress=False)
