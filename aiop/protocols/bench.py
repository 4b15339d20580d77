"""A protocol from beginning to end: cases, results, tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiop.errors import AiopError
from aiop.protocols.folds import Holder, aio_p_of, find_cases, holders_in, planned_holders
from aiop.protocols.methods import HEAD, find_methods, match_methods
from aiop.protocols.plan import Plan, load_plan
from aiop.protocols.report import render
from aiop.protocols.run import Run, separation
from aiop.protocols.splits import DRAWS
from aiop.protocols.store import Store
from aiop.protocols.summary import Entry, summarise
from aiop.protocols.targets import Row, target_rows
from aiop.tasks.corpora import cache_dir

__all__ = ["Outcome", "run_protocol"]


@dataclass(frozen=True)
class Outcome:
    """What a protocol found: of what was asked for, and the document of all that is there."""

    entries: list[Entry]
    targets: list[Row]
    text: str
    written: tuple[Path, ...]
    computed: int


def run_protocol(
    protocol: str,
    *,
    predictor: str | Path | None = None,
    predictors: str | Path | None = None,
    aio_p: str | Path | None = None,
    tasks: str | None = None,
    methods: str | None = None,
    baselines_only: bool = False,
    seeds: int = DRAWS,
    budgets: Sequence[int] | None = None,
    jobs: int = 1,
    protocols: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Outcome:
    """Compute what is missing of a protocol, and write its tables.

    Args:
        protocol: one of `aiop.protocols.folds.PROTOCOLS`.
        predictor: folder of one predictor, judged on what its card does not hold; the shipped one by default.
        predictors: folder with one predictor per fold of the plan instead.
        aio_p: file of a trained AIO-P to compare with, or folder with ``FOLD.safetensors`` per fold.
        tasks: globs, joined by commas; the plan's representative tasks by default.
        methods: globs, joined by commas; by default all but those that are set aside (`ASIDE`).
        baselines_only: ask only methods that see no predictor, of every fold of the plan, trained or not, or of
            ``predictor`` where it is given. Their results are there for every later run; documents are not written.
        seeds: draws of labels.
        budgets: numbers of labels; the usual ones by default.
        jobs: processes.
        protocols: folder of plan and split files.
        out: where ``PROTOCOL.md`` and ``PROTOCOL.json`` are written; None
            writes nothing. Written is all that is known of the same predictors, whatever was asked for this time.
        progress: show a bar on stderr.

    Raises:
        AiopError: for whatever of this does not fit.
    """
    _check(predictor, predictors, seeds, budgets, jobs)
    plan = load_plan(protocols)
    compared = Path(aio_p) if aio_p is not None else None
    known = find_methods()
    if baselines_only:
        known, out = {name: method for name, method in known.items() if not method.ours}, None
    if baselines_only and predictor is None:
        holders = planned_holders(plan, compared)
    else:
        holders = _holders(predictor, predictors, plan, compared)
    if compared is None and methods is None:
        known = {name: method for name, method in known.items() if method.sees != "aio-p"}
    store = Store(cache_dir() / "bench" / "results.jsonl")
    cases = find_cases(protocol, holders, plan, tasks)
    run = Run(cases, plan, store, match_methods(known, methods), seeds, budgets)
    if protocol == "unseen-space" and HEAD in run.methods:  # what is far has to be told from what is near
        run.besides = tuple((holder, table) for holder in run.holders for table in sorted(holder.tables))
    computed = run.compute(jobs=jobs, progress=progress)
    entries = summarise(run.records())
    asked = _document(protocol, run, entries)
    written: tuple[Path, ...] = ()
    if out is not None:
        every = Run(find_cases(protocol, holders, plan), plan, store, known, failures=run.failures)
        written = _write(Path(out), protocol, every, summarise(every.stored()))
    return Outcome(entries, asked[1], asked[0], written, computed)


def _check(
    predictor: str | Path | None,
    predictors: str | Path | None,
    seeds: int,
    budgets: Sequence[int] | None,
    jobs: int,
) -> None:
    if predictor is not None and predictors is not None:
        raise AiopError("--predictor and --predictors were both given: judge one predictor, or one per fold")
    if not 1 <= seeds <= DRAWS:
        raise AiopError(
            f"--seeds is {seeds}: the split files hold {DRAWS} draws; give a number from 1 to {DRAWS}"
        )
    if jobs < 1:
        raise AiopError(f"--jobs is {jobs}: give a number of processes, at least 1")
    if budgets is not None and (not budgets or min(budgets) < 0 or max(budgets) > 500):
        raise AiopError("--budgets are numbers of labels from 0 to 500 joined by commas, such as 0,10,20")


def _holders(
    predictor: str | Path | None, predictors: str | Path | None, plan: Plan, aio_p: Path | None
) -> list[Holder]:
    if predictors is not None:
        return holders_in(predictors, plan, aio_p)
    from aiop.pretrain.card import SHIPPED

    name = "shipped" if predictor is None else Path(predictor).resolve().name
    return [Holder(name, SHIPPED if predictor is None else Path(predictor), aio_p=aio_p_of(name, aio_p))]


def _document(protocol: str, run: Run, entries: list[Entry]) -> tuple[str, list[Row]]:
    separations: dict[tuple[str, str], float] = {}
    if protocol == "unseen-space" and HEAD in run.methods:
        judged = dict.fromkeys((entry.fold, entry.space) for entry in entries)
        for holder in run.holders:
            tables = [table for fold, table in judged if fold == holder.name]
            found = separation(holder, tables, run.plan) if tables else {}
            separations |= {(holder.name, table): value for table, value in found.items()}
    pairs = [fold.name for fold in run.plan.folds if fold.only]
    targets = target_rows(protocol, entries, run.methods, separations, pairs)
    shown = {name: method for name, method in run.methods.items() if any(name in e.cells for e in entries)}
    return render(protocol, entries, shown, targets, _notes(run, entries), run.failures), targets


def _notes(run: Run, entries: list[Entry]) -> list[str]:
    """What was judged, and how: every table says which predictor it is of."""
    lines = []
    for holder in run.holders:
        kept = (
            f"its fold keeps out {', '.join([*holder.fold.spaces, *holder.fold.groups])}"
            if holder.fold
            else ("no fold of the plan")
        )
        lines.append(
            f"- Predictor `{holder.name}` ({holder.digest[:12] if holder.path else 'not trained'}), on "
            f"{', '.join(sorted(holder.tables))}, {len(holder.tasks)} tasks; {kept}."
        )
    draws = {
        cell.draws for entry in entries for cells in entry.cells.values() for n, cell in cells.items() if n
    }
    few, many = (min(draws), max(draws)) if draws else (0, 0)
    drawn = str(few) if few == many else f"{few} to {many}"
    seconds = sum(
        cell.seconds * cell.draws
        for entry in entries
        for cells in entry.cells.values()
        for cell in cells.values()
    )
    lines.append(
        f"- Tasks: {len({entry.task for entry in entries})}; draws of labels: {drawn}; fitting and predicting took "
        f"{seconds / 60:.1f} minutes in all."
    )
    return lines


def _write(out: Path, protocol: str, run: Run, entries: list[Entry]) -> tuple[Path, ...]:
    text, targets = _document(protocol, run, entries)
    values = {
        "protocol": protocol,
        "predictors": {
            holder.name: {
                "weights_sha256": holder.digest,
                "tables": sorted(holder.tables),
                "tasks": len(holder.tasks),
            }
            for holder in run.holders
        },
        "targets": [vars(row) for row in targets],
        "entries": [entry.to_dict() for entry in entries],
    }
    out.mkdir(parents=True, exist_ok=True)
    paths = (out / f"{protocol}.md", out / f"{protocol}.json")
    paths[0].write_text(text, encoding="utf-8")
    head, rows = {key: value for key, value in values.items() if key != "entries"}, values["entries"]
    lines = ",\n".join(json.dumps(row) for row in rows)
    paths[1].write_text(f'{json.dumps(head)[:-1]}, "entries": [\n{lines}\n]}}\n', encoding="utf-8")
    return paths
