"""One search on one table: which architectures it asked for, and how good the best of them is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.finetune.views import Views
from aiop.protocols.code import code_digest
from aiop.protocols.folds import Case
from aiop.protocols.plan import Plan
from aiop.protocols.seen import bench, look, see
from aiop.search.methods.base import Exhausted, Problem, searchers
from aiop.search.methods.scoring import Scorer
from aiop.search.methods.surrogate import ProcessScorer
from aiop.search.walks.ground import ground_of
from aiop.tasks.tables import nas_bench_201, table_dir

__all__ = ["CHECKPOINTS", "OWN", "Contender", "contenders", "identity", "search"]

Array = npt.NDArray[Any]

CHECKPOINTS = (0, 10, 50, 100, 300)
"""Evaluations after which a search is judged; 0 is the architecture it asks for before anything is measured."""

OWN = "guided+predictor"
"""The project's own searcher."""

_GUIDANCE = "aiop.search.methods.surrogate"


@dataclass(frozen=True)
class Contender:
    """A search method, and what it may see.

    method: name of a searcher.
    predictor: whether the pretrained predictor guides it.
    """

    method: str
    predictor: bool

    @property
    def name(self) -> str:
        """``METHOD``, with ``+predictor`` where that guides it."""
        return f"{self.method}+predictor" if self.predictor else self.method


def contenders(names: str | None = None) -> list[Contender]:
    """Return what competes: every search method, with the predictor and without as far as it can.

    ``names`` are globs, joined by commas; all by default.

    Raises:
        AiopError: for a pattern that matches none.
    """
    able = [
        Contender(name, predictor)
        for name, kind in searchers().items()
        for predictor in (False, True)
        if kind.uses_scorer or not predictor
    ]
    if names is None:
        return able
    globs = [glob.strip() for glob in names.split(",")]
    known = [contender.name for contender in able]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in known):
            raise AiopError(
                f'method pattern "{glob}" matches no search{suggest(glob, known)}: they are {", ".join(known)}'
            )
    return [one for one in able if any(fnmatchcase(one.name, glob) for glob in globs)]


def identity(case: Case, contender: Contender, seed: int, evaluations: int, plan: Plan) -> dict[str, Any]:
    """Return what a result depends on, as the store tells results apart (`aiop.protocols.store.KEY`)."""
    made = [code_digest(searchers()[contender.method].__module__, "aiop.search")]
    if contender.predictor or searchers()[contender.method].needs_scorer:
        made.append(code_digest(_GUIDANCE))
    made.append(code_digest(__name__))
    return {
        "kind": "search",
        "sees": case.holder.digest[:16] if contender.predictor else "nothing",
        "data": bench(case.table, plan.folder).data,
        "task": case.task,
        "method": contender.name,
        "code": hashlib.sha256("\n".join(made).encode()).hexdigest()[:16],
        "labels": evaluations,
        "draw": seed,
    }


def search(case: Case, contender: Contender, seed: int, evaluations: int, plan: Plan) -> dict[str, Any]:
    """Let a method ask for so many architectures of a table, each told its measured value.

    Returns:
        ``asked``: number of evaluations -> row of the table, of those asked for that were better than all before;
        ``seconds``: that the search took.
    """
    started = time.perf_counter()
    problem, values = table_problem(case.table, case.task, plan.folder)
    searcher = searchers()[contender.method](
        problem, seed=seed, scorer=_scorer(case, contender, problem, seed, plan)
    )
    rows = _rows(case.table, plan.folder)
    found: list[tuple[int, int]] = []
    best = -np.inf
    for count in range(1, evaluations + 1):
        try:
            code = searcher.ask()
        except Exhausted:
            break
        value = float(values[rows[code]])
        searcher.tell(code, value)
        if problem.goodness(value) > best:
            best = problem.goodness(value)
            found.append((count, rows[code]))
    return {"asked": found, "seconds": round(time.perf_counter() - started, 3)}


def table_problem(table: str, task: str, folder: Path) -> tuple[Problem, Array]:
    """Return the problem of a table's measured networks, and all values of the table ``(n,)``."""
    values = bench(table, folder).table.values[task]
    rows, macs = _rows(table, folder), ground_of(table, folder).macs
    codes = tuple(code for code, row in rows.items() if np.isfinite(values[row]))
    twins = _twins(table) if table == "nas-bench-201" else {}
    return Problem(table, (task,), lambda code: float(macs[rows[code]]), None, codes, twins), values


def _scorer(case: Case, contender: Contender, problem: Problem, seed: int, plan: Plan) -> Scorer | None:
    """Return guidance by the predictor, by counting where a method needs guidance and may not see it, or none."""
    if not contender.predictor and not searchers()[contender.method].needs_scorer:
        return None
    found = bench(case.table, plan.folder)
    seen = (
        see(case.holder, case.table, plan.folder, whole=True)
        if contender.predictor
        else look(case.table, plan.folder, whole=True)
    )
    rows, number = _rows(case.table, plan.folder), found.distinct()[1]
    whole = replace(seen.views, structure=None)  # many columns that no guidance reads

    def views(codes: Sequence[str]) -> Views:
        return whole.rows([int(number[rows[code]]) for code in codes])

    return ProcessScorer(problem, views, seed=seed)


@lru_cache(maxsize=8)
def _rows(table: str, folder: Path) -> dict[str, int]:
    names = bench(table, folder).table.networks
    return {name.partition(":")[2]: row for row, name in enumerate(names)}


@lru_cache(maxsize=2)
def _twins(table: str) -> dict[str, str]:
    return nas_bench_201.representatives(table_dir(table))
