"""``aiop bench search`` from beginning to end: what is missing is searched and stored, then the tables are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.protocols.folds import Case
from aiop.protocols.plan import Plan, load_plan
from aiop.protocols.seen import see
from aiop.protocols.store import Store
from aiop.protocols.workers import worked_off
from aiop.search.comparison.judge import Contender, contenders, identity, search
from aiop.search.comparison.report import render
from aiop.search.comparison.summary import Race, summarise
from aiop.search.walks.plan import walked_cases
from aiop.search.walks.run import holders_of, predictor_notes, write_document
from aiop.tasks.corpora import cache_dir

__all__ = ["DOCUMENT", "EVALUATIONS", "SEEDS", "Outcome", "run_searches"]

DOCUMENT = "search.md"
SEEDS, EVALUATIONS = 20, 300


@dataclass(frozen=True)
class Outcome:
    """What was found: of every task where each method's searches were, the document, and where it was written."""

    entries: list[Race]
    text: str
    written: Path | None
    computed: int


@dataclass(frozen=True)
class _Unit:
    """One search."""

    case: Case
    contender: Contender
    seed: int


def run_searches(
    *,
    predictor: str | Path | None = None,
    predictors: str | Path | None = None,
    tasks: str | None = None,
    methods: str | None = None,
    seeds: int = SEEDS,
    evaluations: int = EVALUATIONS,
    jobs: int = 1,
    protocols: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Outcome:
    """Search benchmark tables with every method, with the pretrained predictor and without.

    Args:
        predictor: folder of one predictor, which guides on the tables that its card does not hold.
        predictors: folder with one predictor per fold of the plan instead.
        tasks: globs, joined by commas; by default the plan's representative ones that say how good a network is.
        methods: globs, joined by commas, of `aiop.search.comparison.judge.contenders`.
        seeds: searches of each method on each task.
        evaluations: architectures that a search may ask for.
        jobs: processes.
        protocols: folder of plan and split files.
        out: where `DOCUMENT` is written; None writes nothing.
        progress: show a bar on stderr.

    Raises:
        AiopError: for whatever of this does not fit.
    """
    if seeds < 1 or evaluations < 1 or jobs < 1:
        raise AiopError(
            f"--seeds is {seeds}, --evaluations {evaluations} and --jobs {jobs}: give at least 1 of each"
        )
    plan = load_plan(protocols)
    cases = walked_cases(holders_of(predictor, predictors, plan), plan, tasks)
    chosen = contenders(methods)
    store = Store(cache_dir() / "bench" / "search.jsonl")
    asked = [_Unit(case, one, seed) for case in cases for one in chosen for seed in range(seeds)]
    keys = {unit: Store.key(_identity(unit, evaluations, plan)) for unit in asked}
    missing = [unit for unit in asked if keys[unit] not in store]
    work = worked_off(
        missing,
        partial(_do, evaluations=evaluations, plan=plan),
        jobs=jobs,
        progress=progress,
        title="searches",
        describe=lambda unit: f"{unit.case.task} {unit.contender.name}",
        before=partial(_look, missing, plan),
    )
    for unit, result in work:
        store.add(_identity(unit, evaluations, plan) | result)
    records = [(unit.case, unit.contender.name, store.records[key]) for unit, key in keys.items()]
    entries = summarise(records, plan, evaluations)
    text = render(entries, predictor_notes(cases, plan), evaluations=evaluations, seeds=seeds)
    written = write_document(out, DOCUMENT, text)
    return Outcome(entries, text, written, len(missing))


def _identity(unit: _Unit, evaluations: int, plan: Plan) -> dict[str, Any]:
    return identity(unit.case, unit.contender, unit.seed, evaluations, plan)


def _do(unit: _Unit, *, evaluations: int, plan: Plan) -> dict[str, Any]:
    return search(unit.case, unit.contender, unit.seed, evaluations, plan)


def _look(units: Sequence[_Unit], plan: Plan) -> None:
    """Let predictors look at their tables before several processes ask for it."""
    for holder, table in {(unit.case.holder, unit.case.table) for unit in units if unit.contender.predictor}:
        see(holder, table, plan.folder, whole=True)
