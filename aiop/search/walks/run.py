"""``aiop bench compress`` from beginning to end: what is missing is walked and stored, then the tables are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path
from aiop.protocols.folds import Case, Holder, aio_p_of, holders_in
from aiop.protocols.judge import Failure
from aiop.protocols.methods import Method, find_methods
from aiop.protocols.plan import Plan, load_plan
from aiop.protocols.seen import see
from aiop.protocols.splits import DRAWS
from aiop.protocols.store import Store
from aiop.protocols.workers import worked_off
from aiop.search.walks.ground import ground_of
from aiop.search.walks.judge import identity, judge
from aiop.search.walks.plan import COUNT, walked_cases, walkers
from aiop.search.walks.report import render
from aiop.search.walks.summary import Walks, summarise
from aiop.tasks.corpora import cache_dir

__all__ = ["DOCUMENT", "Outcome", "holders_of", "predictor_notes", "run_walks", "write_document"]

DOCUMENT = "compress-tables.md"


@dataclass(frozen=True)
class Outcome:
    """What was found: of every task what each method's walks did, the document, and where it was written."""

    entries: list[Walks]
    text: str
    written: Path | None
    computed: int


@dataclass(frozen=True)
class _Unit:
    """One method on one draw of labels of one task."""

    case: Case
    name: str
    draw: int
    starts: int


def run_walks(
    *,
    predictor: str | Path | None = None,
    predictors: str | Path | None = None,
    aio_p: str | Path | None = None,
    tasks: str | None = None,
    methods: str | None = None,
    draws: int = 3,
    starts: int = COUNT,
    jobs: int = 1,
    protocols: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Outcome:
    """Walk from architectures of benchmark tables to cheaper ones, guided by a head and by its baselines.

    Args:
        predictor: folder of one predictor, which walks the tables that its card does not hold.
        predictors: folder with one predictor per fold of the plan instead.
        aio_p: file of a trained AIO-P to compare with, or folder with ``FOLD.safetensors`` per fold; without one it is
            left out.
        tasks: globs, joined by commas; by default the plan's representative ones that can be walked.
        methods: globs, joined by commas, of `aiop.search.walks.plan.walkers`.
        draws: of the labels.
        starts: architectures of each table, of each kind.
        jobs: processes.
        protocols: folder of plan and split files.
        out: where `DOCUMENT` is written; None writes nothing.
        progress: show a bar on stderr.

    Raises:
        AiopError: for whatever of this does not fit.
    """
    if not 1 <= draws <= DRAWS:
        raise AiopError(
            f"--seeds is {draws}: the split files hold {DRAWS} draws; give a number from 1 to {DRAWS}"
        )
    if starts < 2 or jobs < 1:
        raise AiopError(f"--starts is {starts} and --jobs {jobs}: give at least 2 starts and 1 process")
    plan = load_plan(protocols)
    compared = Path(aio_p) if aio_p is not None else None
    cases = walked_cases(holders_of(predictor, predictors, plan, compared), plan, tasks)
    chosen = walkers(find_methods(), methods)
    if compared is None and methods is None:
        chosen.pop("aio-p", None)
    store = Store(cache_dir() / "bench" / "compress.jsonl")
    asked = [
        _Unit(case, name, draw, starts)
        for case in cases
        for name, method in chosen.items()
        for draw in range(_draws(name, method, draws))
    ]
    failures: dict[str, str] = {}
    computed = 0
    keys = {unit: _key(unit, chosen, plan) for unit in asked}
    missing = [unit for unit in asked if keys[unit] not in store]
    for unit, result in _results(missing, chosen, plan, jobs, progress):
        if isinstance(result, str):
            failures.setdefault(unit.name, f"{unit.case.task}: {result}")
            continue
        store.add(identity(unit.case, unit.name, chosen[unit.name], unit.draw, starts, plan) | result)
        computed += 1
    records = [(unit.case, store.records[key]) for unit, key in keys.items() if key in store]
    entries = summarise(records, plan, starts)
    text = render(entries, predictor_notes(cases, plan), failures, starts=starts, draws=draws)
    written = write_document(out, DOCUMENT, text)
    return Outcome(entries, text, written, computed)


def holders_of(
    predictor: str | Path | None, predictors: str | Path | None, plan: Plan, aio_p: Path | None = None
) -> list[Holder]:
    """Return the predictors that guide: one per fold of a folder, or one alone; none or both is an `AiopError`."""
    if (predictor is None) == (predictors is None):
        raise AiopError(
            "a predictor that was kept from the table is needed: give one per fold with --predictors FOLDER, or one "
            "with --predictor (the one of the package has seen all tables)"
        )
    if predictors is not None:
        return holders_in(predictors, plan, aio_p)
    path = Path(str(predictor))
    name = path.resolve().name
    return [Holder(name, path, aio_p=aio_p_of(name, aio_p))]


def write_document(folder: str | Path | None, name: str, text: str) -> Path | None:
    """Write a document into a folder, complete or not at all, and return where it is; without a folder nothing."""
    if folder is None:
        return None
    with atomic_path(Path(folder) / name) as part:
        part.write_text(text, encoding="utf-8")
    return Path(folder) / name


def _draws(name: str, method: Method | None, draws: int) -> int:
    """Walks that know no labels and no chance are walked once."""
    labelled = method is not None and (method.ours or method.least_labels > 0)
    return draws if labelled or name == "random" else 1


def _key(unit: _Unit, methods: Mapping[str, Method | None], plan: Plan) -> tuple[Any, ...]:
    return Store.key(identity(unit.case, unit.name, methods[unit.name], unit.draw, unit.starts, plan))


def predictor_notes(cases: Sequence[Case], plan: Plan) -> list[str]:
    """Return one line per predictor: which tables it guides on."""
    lines = []
    for holder in dict.fromkeys(case.holder for case in cases):
        tables = dict.fromkeys(case.table for case in cases if case.holder == holder)
        walked = ", ".join(
            f"{table} ({len(ground_of(table, plan.folder).macs):,} networks)" for table in tables
        )
        lines.append(
            f"- {walked}: predictor `{holder.name}` ({holder.digest[:12]}), trained without this table."
        )
    return lines


def _results(
    units: Sequence[_Unit], methods: Mapping[str, Method | None], plan: Plan, jobs: int, progress: bool
) -> Iterator[tuple[_Unit, dict[str, Any] | str]]:
    return worked_off(
        units,
        partial(_do, plan=plan),
        jobs=jobs,
        progress=progress,
        title="walks",
        describe=lambda unit: f"{unit.case.task} {unit.name}",
        before=partial(_look, units, methods, plan),
    )


def _look(units: Sequence[_Unit], methods: Mapping[str, Method | None], plan: Plan) -> None:
    """Let predictors look at their tables before several processes ask for it."""
    looking = {
        (unit.case.holder, unit.case.table)
        for unit in units
        if (method := methods[unit.name]) is not None and method.ours
    }
    for holder, table in sorted(looking, key=lambda item: item[1]):
        see(holder, table, plan.folder, whole=True)


def _do(unit: _Unit, *, plan: Plan) -> dict[str, Any] | str:
    method = walkers(find_methods(), unit.name)[unit.name]
    try:
        return judge(unit.case, unit.name, method, unit.draw, unit.starts, plan)
    except Failure as failure:
        return str(failure)
