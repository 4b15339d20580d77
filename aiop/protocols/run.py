"""A run of a protocol: what is missing is computed, in one process or several, and stored as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from aiop.finetune.metrics import auroc
from aiop.protocols import judge
from aiop.protocols.code import code_digest
from aiop.protocols.folds import Case, Holder
from aiop.protocols.judge import ALL, PREDICTOR
from aiop.protocols.methods import HEAD, KNOWN, Method, find_methods
from aiop.protocols.plan import Plan
from aiop.protocols.seen import bench, see
from aiop.protocols.store import Key, Record, Store
from aiop.protocols.workers import in_processes, progress_bar

__all__ = ["BUDGETS", "Run", "separation"]

BUDGETS = (0, 10, 20, 50, 100)

#: Draws of a baseline that is fitted to thousands of networks: seeds of its own and of the networks it is given.
_DRAWS_OF_ALL = 2

#: Draws of what only says how many labels a baseline needs.
_DRAWS_BEYOND = 3


@dataclass(frozen=True)
class _Job:
    """One method on one draw of one case, with the budgets that are missing."""

    case: Case
    method: str
    draw: int
    budgets: tuple[int, ...]


@dataclass(eq=False)
class Run:
    """Everything that a protocol asks, and where its answers are kept.

    budgets: numbers of labels for every task; None takes the usual ones and what the plan adds.
    methods: those that are compared.
    draws: the first so many draws of the split files.
    failures: method -> why it has no result, as far as it was tried.
    besides: predictors and tables whose networks are looked at as well.
    """

    cases: Sequence[Case]
    plan: Plan
    store: Store
    methods: Mapping[str, Method]
    draws: int = 8
    budgets: Sequence[int] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    besides: tuple[tuple[Holder, str], ...] = ()
    _sees: dict[tuple[Case, str], str] = field(default_factory=dict)

    @property
    def holders(self) -> list[Holder]:
        """The predictors that are judged."""
        return list(dict.fromkeys(case.holder for case in self.cases))

    def compute(self, *, jobs: int = 1, progress: bool = True) -> int:
        """Compute what is missing and return how many results that were.

        Raises:
            AiopError: for a split file that is not of its table, a corpus that is not there, a process that ends early.
        """
        done = 0
        with progress_bar(progress) as bar:
            work = self._jobs()
            looking = [(job.case.holder, job.case.table) for job in work if self._looks(job)]
            seen = list(dict.fromkeys([*looking, *self.besides]))
            reading = bar.add_task("networks", total=len(seen))
            for holder, table in seen:
                bar.update(reading, description=f"networks of {table}")
                see(holder, table, self.plan.folder)
                bar.advance(reading)
            bar.remove_task(reading)
            fitting = bar.add_task("fitting", total=sum(len(job.budgets) for job in work))
            for job, results in self._results(work, jobs):
                bar.update(fitting, description=f"{job.case.task} {job.method}")
                for budget, scores in results.items():
                    if isinstance(scores, str):
                        self.failures.setdefault(job.method, f"{job.case.task}: {scores}")
                        continue
                    self.store.add(self._record(job, budget, scores))
                    done += 1
                bar.advance(fitting, len(job.budgets))
        return done

    def records(self) -> list[Record]:
        """Return the results that are there of all that the protocol asks, in the order of cases and methods."""
        found = []
        for case in self.cases:
            for name in self._methods_of(case):
                for draw in range(self.draws):
                    for budget in self._budgets_of(case, name, draw):
                        record = self.store.records.get(self._key(case, name, draw, budget))
                        if record is not None:
                            found.append(_placed(record, case))
        return found

    def stored(self) -> list[Record]:
        """Return all results that are there of the cases, whatever their labels and draws, in the same order."""
        stored: dict[tuple[str, str, str], list[Record]] = {}
        for record in self.store.records.values():
            stored.setdefault((record["kind"], record["task"], record["method"]), []).append(record)
        return [
            _placed(record, case)
            for case in self.cases
            for name in self._methods_of(case)
            for record in stored.get((case.kind, case.task, name), ())
            if Store.key(record) == self._key(case, name, record["draw"], record["labels"])
        ]

    def _jobs(self) -> list[_Job]:
        jobs: list[_Job] = []
        later: list[_Job] = []
        planned: set[Key] = set()  # what several predictors share is computed once
        for case in self.cases:
            for draw in range(self.draws):
                for name in self._methods_of(case):
                    keys = {
                        budget: self._key(case, name, draw, budget)
                        for budget in self._budgets_of(case, name, draw)
                    }
                    missing = tuple(
                        budget for budget, key in keys.items() if key not in self.store and key not in planned
                    )
                    planned.update(keys.values())
                    beyond = tuple(n for n in missing if n in self.plan.beyond and self.budgets is None)
                    usual = tuple(n for n in missing if n not in beyond)
                    jobs += [_Job(case, name, draw, usual)] if usual else []
                    later += [_Job(case, name, draw, beyond)] if beyond else []
        return jobs + later

    def _looks(self, job: _Job) -> bool:
        return job.method == PREDICTOR or self.methods[job.method].sees == "predictor"

    def _methods_of(self, case: Case) -> list[str]:
        if case.kind == "few-shot":
            return list(self.methods)
        alone = [PREDICTOR] if HEAD in self.methods and case.holder.path is not None else []
        return [*alone, *(name for name in self.methods if name in KNOWN)]

    def _budgets_of(self, case: Case, method: str, draw: int) -> list[int]:
        """Budgets of a draw that can differ from those of the first: without labels there is nothing to draw."""
        split = bench(case.table, self.plan.folder).split
        if draw >= len(split.draws):
            return []
        if case.kind == "known":
            alone = method == PREDICTOR or self.methods[method].least_labels == 0
            return [] if draw >= (1 if alone else _DRAWS_OF_ALL) else [ALL]
        asked = self.methods[method]
        if asked.most_draws is not None and draw >= asked.most_draws:
            return []
        usual = asked.usual_labels or (*BUDGETS, *self.plan.further_budgets(case.task))
        wanted = set(usual if self.budgets is None else self.budgets)
        if self.budgets is None and asked.sees == "labels" and draw < _DRAWS_BEYOND:
            wanted |= {*self.plan.beyond} if asked.least_labels else set()
        if draw and not split.tests:
            wanted -= {0}
        return sorted(budget for budget in wanted if budget >= asked.least_labels)

    def _key(self, case: Case, method: str, draw: int, budget: int) -> Key:
        return Store.key(self._identity(case, method, draw, budget))

    def _identity(self, case: Case, method: str, draw: int, budget: int) -> dict[str, Any]:
        code = _PREDICTOR_CODE if method == PREDICTOR else self.methods[method].code
        if (case, method) not in self._sees:
            self._sees[case, method] = judge.sees(case, self.methods.get(method), self.plan)
        return {
            "kind": case.kind,
            "sees": self._sees[case, method],
            "data": bench(case.table, self.plan.folder).data,
            "task": case.task,
            "method": method,
            "code": code,
            "labels": budget,
            "draw": draw,
        }

    def _record(self, job: _Job, budget: int, scores: dict[str, Any]) -> Record:
        identity = self._identity(job.case, job.method, job.draw, budget)
        return {**identity, **scores}

    def _results(
        self, work: Sequence[_Job], jobs: int
    ) -> Iterator[tuple[_Job, dict[int, dict[str, Any] | str]]]:
        if jobs == 1 or len(work) < 2:
            for job in work:
                yield job, _do(job, self.methods, self.plan)
            return
        do = partial(_do_in_process, plan=self.plan)
        yield from in_processes(work, do, jobs, who="a process that fits methods")


def _placed(record: Record, case: Case) -> Record:
    """A result beside the case that it answers: results of baselines answer the cases of several predictors."""
    return {**record, "fold": case.holder.name, "space_seen": case.space_seen}


_PREDICTOR_CODE = code_digest("aiop.finetune.calibration")


def _do(job: _Job, methods: Mapping[str, Method], plan: Plan) -> dict[int, dict[str, Any] | str]:
    if job.case.kind == "few-shot":
        return judge.few_shot(job.case, methods[job.method], job.draw, job.budgets, plan)
    if job.method == PREDICTOR:
        return {ALL: judge.predictor_alone(job.case, plan)}
    return {ALL: judge.known(job.case, methods[job.method], job.draw, plan)}


def _do_in_process(job: _Job, *, plan: Plan) -> dict[int, dict[str, Any] | str]:
    return _do(job, find_methods(), plan)


def separation(holder: Holder, tables: Sequence[str], plan: Plan) -> dict[str, float]:
    """Return kept-out table -> how well remoteness tells its networks from kept-out rows of the tables trained on.

    The area under the ROC curve of the distance to the nearest corpus of training; every table trained on gives as
    many kept-out networks (500 at most).
    """
    random = np.random.default_rng(0)
    inside = []
    for table in sorted(holder.tables):
        found, seen = bench(table, plan.folder), see(holder, table, plan.folder)
        rows = found.readable(found.split.test)
        rows = np.sort(random.permutation(rows)[:500])
        inside.append(seen.far[seen.at(rows)].min(axis=1))
    result = {}
    for table in tables:
        found, seen = bench(table, plan.folder), see(holder, table, plan.folder)
        rows = found.split.tests[0] if found.split.tests else found.split.test
        far = seen.far[seen.at(found.readable(rows))].min(axis=1)
        result[table] = auroc(far, np.concatenate(inside))
    return result
