"""``aiop bench compress`` from beginning to end: what is missing is walked and stored, then the tables are written."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiop.errors import AiopError
from aiop.protocols.folds import Case, Holder, aio_p_of, holders_in
from aiop.protocols.judge import Failure
from aiop.protocols.methods import Method, find_methods
from aiop.protocols.plan import Plan, load_plan
from aiop.protocols.seen import see
from aiop.protocols.splits import DRAWS
from aiop.protocols.store import Store
from aiop.search.walks.ground import ground_of
from aiop.search.walks.judge import identity, judge
from aiop.search.walks.plan import COUNT, walked_cases, walkers
from aiop.search.walks.report import render
from aiop.search.walks.summary import Walks, summarise
from aiop.tasks.corpora import cache_dir

__all__ = ["DOCUMENT", "Outcome", "run_walks"]

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
    cases = walked_cases(_holders(predictor, predictors, plan, compared), plan, tasks)
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
    text = render(entries, _notes(cases, plan), failures, starts=starts, draws=draws)
    written = None
    if out is not None:
        written = Path(out) / DOCUMENT
        written.parent.mkdir(parents=True, exist_ok=True)
        part = written.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(written)
    return Outcome(entries, text, written, computed)


def _holders(
    predictor: str | Path | None, predictors: str | Path | None, plan: Plan, aio_p: Path | None
) -> list[Holder]:
    if (predictor is None) == (predictors is None):
        raise AiopError(
            "walks need a predictor that was kept from the table: give one per fold with --predictors FOLDER, or one "
            "with --predictor (the one of the package has seen all tables)"
        )
    if predictors is not None:
        return holders_in(predictors, plan, aio_p)
    path = Path(str(predictor))
    name = path.resolve().name
    return [Holder(name, path, aio_p=aio_p_of(name, aio_p))]


def _draws(name: str, method: Method | None, draws: int) -> int:
    """Walks that know no labels and no chance are walked once."""
    labelled = method is not None and (method.ours or method.least_labels > 0)
    return draws if labelled or name == "random" else 1


def _key(unit: _Unit, methods: Mapping[str, Method | None], plan: Plan) -> tuple[Any, ...]:
    return Store.key(identity(unit.case, unit.name, methods[unit.name], unit.draw, unit.starts, plan))


def _notes(cases: Sequence[Case], plan: Plan) -> list[str]:
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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        walking = bar.add_task("walks", total=len(units))
        if jobs == 1 or len(units) < 2:
            for unit in units:
                bar.update(walking, description=f"{unit.case.task} {unit.name}")
                yield unit, _do(unit, methods[unit.name], plan)
                bar.advance(walking)
            return
        looking = {
            (unit.case.holder, unit.case.table)
            for unit in units
            if (method := methods[unit.name]) is not None and method.ours
        }
        for holder, table in sorted(
            looking, key=lambda item: item[1]
        ):  # into the cache, once for all processes
            bar.update(walking, description=f"networks of {table}")
            see(holder, table, plan.folder, whole=True)
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(jobs, len(units)), context, initializer=_prepare)
        try:
            running = {pool.submit(_do_in_process, unit, plan): unit for unit in units}
            for future in as_completed(running):
                yield running[future], future.result()
                bar.advance(walking)
        except BrokenProcessPool as error:
            raise AiopError(
                "a process that walks ended early, perhaps for want of memory: run the command again with fewer "
                "--jobs; what is finished is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _do(unit: _Unit, method: Method | None, plan: Plan) -> dict[str, Any] | str:
    try:
        return judge(unit.case, unit.name, method, unit.draw, unit.starts, plan)
    except Failure as failure:
        return str(failure)


def _do_in_process(unit: _Unit, plan: Plan) -> dict[str, Any] | str:
    return _do(unit, walkers(find_methods(), unit.name)[unit.name], plan)


def _prepare() -> None:
    """Set up a process of the pool: deaf to Ctrl-C, which its parent hears, and on one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    torch.set_num_threads(1)
