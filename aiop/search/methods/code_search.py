"""NCP as a user runs it: from a predictor to the best architectures for its tasks in seconds, without evaluations.

A student of the predictor (`aiop.search.methods.distilling`) is followed from many starts at once; of what it comes by
the predictor judges the best, and those that it expects most of within the budget are the result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiop.errors import AiopError
from aiop.search.methods.code_vectors import code_vectors
from aiop.search.methods.distilling import ROUNDS, SAMPLES, distil, settle
from aiop.search.methods.judging import Judge, Progress, Said
from aiop.search.methods.ncp import NetworkCodingPropagation
from aiop.search.methods.problem import Budget, Problem
from aiop.search.methods.propagation import START, objective_weights, propagate
from aiop.search.methods.running import BEST, LOG, RESULT
from aiop.tasks import get_task
from aiop.tasks.corpora import cache_dir
from aiop.tasks.networks import build, write_atomically

if TYPE_CHECKING:
    from aiop.predictor import Predictor

__all__ = ["following", "search_codes"]

_STARTS = 64
_JUDGED = 16
_SHOWN = 10
_MARGINS = (0.03, 0.12)
"""By so much a budget is narrowed at its ends, the next where the one before leaves few: a search goes to where its
student counts too few MACs."""
_WITHIN = 16  # draws within the budget that are judged where the search found none there


def search_codes(
    problem: Problem,
    predictor: Predictor,
    folder: Path,
    *,
    seed: int = 0,
    samples: int = SAMPLES,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search the codes of a space for the best weighted sum of tasks, and write the result.

    Args:
        problem: space, tasks, weights and budget.
        predictor: that knows the tasks.
        folder: where `RESULT` and `BEST` are written.
        seed: of the student and the starts.
        samples: see `distil`.
        rounds: see `distil`.
        progress: called with how many architectures the predictor has judged for the student, and how many it will;
            what was judged is kept in the cache, and a search that was interrupted goes on there.

    Returns:
        what `RESULT` holds.

    Raises:
        AiopError: a space without code vectors, a task that the predictor does not know, weights that are none, a
            budget that nothing meets, or a folder that cannot be used or holds another search.
    """
    vectors = code_vectors(problem.space)
    directions = [get_task(task).direction for task in problem.tasks]
    aims = objective_weights(problem.tasks, directions, problem.weights)
    settings = {
        "method": "ncp",
        **problem.to_dict(),
        "seed": int(seed),
        "values": "predicted",
        "evaluations": 0,
    }
    _check(folder, settings)
    kept = cache_dir() / "students"
    judge = Judge(predictor, problem.space, problem.tasks, cache=kept)
    random = np.random.default_rng((seed, _STARTS))
    first = problem.sample(random)  # a budget that nothing meets is said before anything takes long
    started = time.perf_counter()
    student = distil(judge, samples=samples, rounds=rounds, seed=seed, cache=kept, progress=progress)
    taught = time.perf_counter()
    grammar = problem.grammar
    start = START if problem.space == "nas-bench-mr" else grammar.validate(grammar.example)
    drawn = (grammar.sample(random) for _ in range(_STARTS - 2))
    starts, visited, met = list(dict.fromkeys([start, first, *drawn])), 0, dict[str, None]()
    for margin in _MARGINS:
        found = propagate(student, starts, aims, budget=_narrowed(problem.budget, margin), cost=0.0)
        visited += found.visited
        met |= dict.fromkeys(settle(found.codes, judge, student, aims, problem.budget, most=_JUDGED)[0])
        if len(met) >= _SHOWN or problem.budget is None:
            break
    if not met:
        met = dict.fromkeys([first, *(problem.sample(random) for _ in range(_WITHIN))])
    codes, said = settle(list(met), judge, student, aims, problem.budget, most=len(met))
    seconds = {"student": round(taught - started, 2), "search": round(time.perf_counter() - taught, 2)}
    entries = [_entry(problem, judge, code, said, row) for row, code in enumerate(codes[:_SHOWN])]
    document = settings | {
        "numbers": vectors.width,
        "start": _entry(problem, judge, start, judge([start]), 0),
        "best": entries[0],
        "next": entries[1:],
        "visited": visited,
        "judged": len(codes),
        "seconds": seconds,
        "file": BEST,
    }
    build(problem.written(codes[0]), folder / BEST, weights="random")
    write_atomically((json.dumps(document, indent=1) + "\n").encode(), folder / RESULT)
    return document


def following(
    problem: Problem, predictor: Predictor, *, seed: int = 0, progress: Progress | None = None
) -> NetworkCodingPropagation:
    """Return a searcher with evaluations that follows several tasks at once, by a student of the predictor."""
    kept = cache_dir() / "students"
    judge = Judge(predictor, problem.space, problem.tasks, cache=kept)
    student = distil(judge, seed=seed, cache=kept, progress=progress)
    return NetworkCodingPropagation(problem, seed=seed, student=student)


def _narrowed(budget: Budget | None, margin: float) -> Budget | None:
    """Return a budget without shares of its upper end at its ends; a quarter of its width stays at least."""
    if budget is None:
        return None
    low, high = budget
    cut = min(margin * high, 0.375 * (high - low))
    return low + cut if low else 0.0, high - cut


def _entry(problem: Problem, judge: Judge, code: str, said: Said, row: int) -> dict[str, Any]:
    """Return an architecture with what the predictor says of it for each task."""
    predicted = {
        task: {
            "value": float(said.values[row, column]),
            "low": float(said.low[row, column]),
            "high": float(said.high[row, column]),
            "unit": get_task(task).unit,
            "in_distribution": bool(said.inside[row, column]),
        }
        for column, task in enumerate(judge.tasks)
    }
    return {
        "network": problem.written(code), "code": code, "macs": float(said.macs[row]),
        "params": float(said.params[row]), "predicted": predicted,
    }  # fmt: skip


def _check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder, and refuse one with another search."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = (
            json.loads((folder / RESULT).read_text(encoding="utf-8")) if (folder / RESULT).exists() else {}
        )
    except OSError as error:
        raise AiopError(
            f'"{folder}" cannot be used ({error.strerror or error}): give a folder that can be written'
        ) from None
    except ValueError:
        known = {}
    plain = json.loads(json.dumps(dict(settings)))
    changed = [name for name in plain if known and known.get(name) != plain[name]]
    if (folder / LOG).exists() or changed:
        parts = "; ".join(f"{name} was {known.get(name)}, is {plain[name]}" for name in changed)
        raise AiopError(
            f'"{folder}" holds another search ({parts or f"with evaluations, see {LOG}"}): give another folder'
        )
