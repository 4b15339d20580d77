"""Predictors that are judged, what their cards say they have seen, and the cases that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from aiop.errors import AiopError, suggest
from aiop.protocols.plan import Fold, Plan
from aiop.tasks import get_task, list_tasks
from aiop.tasks.declare import COSTS
from aiop.tasks.tables import list_tables
from aiop.tasks.task import match_tasks

__all__ = [
    "PROTOCOLS",
    "Case",
    "Holder",
    "Kind",
    "aio_p_of",
    "find_cases",
    "holders_in",
    "planned_holders",
    "table_tasks",
]

PROTOCOLS = ("unseen-networks", "unseen-task", "unseen-space", "unseen-family")

Kind = Literal["few-shot", "known"]


@dataclass(frozen=True)
class Holder:
    """A predictor in a folder, known by its card alone until it has to predict.

    path: its folder; None for a fold that is planned, not trained: enough for methods that see no predictor.
    fold: what the plan says is kept out of it; None for a predictor that is no fold.
    aio_p: file of an AIO-P that was trained under the same rules, to compare with.
    planned: the tasks that its fold leaves it, where there is no card to say so.
    most: of a planned one, networks of a table that it may train on, 0 for all.
    """

    name: str
    path: Path | None
    fold: Fold | None = None
    aio_p: Path | None = None
    planned: tuple[str, ...] = ()
    most: int = 0

    @property
    def folder(self) -> Path:
        """Its folder; an `AiopError` for a fold that is not trained."""
        if self.path is None:
            raise AiopError(
                f"{self.name} is not trained: run `aiop pretrain benchmarks/protocols/{self.name}.yaml`, or ask for "
                "--baselines-only"
            )
        return self.path

    @cached_property
    def card(self) -> dict[str, Any]:
        """Its card; reading it loads no weights. A folder without a predictor is an `AiopError`."""
        from aiop.pretrain.card import read_card

        return read_card(self.folder)

    @cached_property
    def tables(self) -> frozenset[str]:
        """The tables it was trained on."""
        if self.path is None:
            return frozenset(get_task(task).space for task in self.planned)
        return frozenset(map(str, self.card["tables"]))

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it was trained on."""
        from aiop.pretrain.card import card_tasks

        return self.planned if self.path is None else tuple(card_tasks(self.card))

    @cached_property
    def networks(self) -> int:
        """How many networks of a table it was trained on at most, 0 for all."""
        return self.most if self.path is None else int(self.card.get("config", {}).get("most_graphs") or 0)

    @cached_property
    def aio_p_digest(self) -> str:
        """SHA-256 of the file of AIO-P, empty where there is none."""
        from aiop.tasks.tables.table import sha256

        return sha256(self.aio_p) if self.aio_p is not None else ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its weights file: the card in it and all tensors."""
        from aiop.pretrain.card import WEIGHTS
        from aiop.tasks.tables.table import sha256

        return sha256(self.folder / WEIGHTS)

    def groups(self, plan: Plan) -> set[str]:
        """The groups of near-copies of which it has seen at least one task."""
        return {plan.group(task) for task in self.tasks}


@dataclass(frozen=True)
class Case:
    """One task that one predictor is judged on.

    kind: ``few-shot`` fits methods to few labels of a task that the predictor has not seen; ``known`` asks it for a
        task it has seen, of networks it has not.
    space_seen: whether other tasks of the table, or this one, were trained on.
    """

    kind: Kind
    holder: Holder
    table: str
    task: str
    space_seen: bool


def table_tasks() -> dict[str, list[str]]:
    """Return table -> its tasks, sorted, of all benchmark tables."""
    found: dict[str, list[str]] = {name: [] for name in list_tables()}
    for task in list_tasks():
        space = get_task(task).space
        if space in found:
            found[space].append(task)
    return found


def aio_p_of(name: str, path: Path | None) -> Path | None:
    """Return the AIO-P that stands beside a predictor: ``path``, or ``NAME.safetensors`` in it where it is a folder.

    Raises:
        AiopError: where there is no such file.
    """
    file = path / f"{name}.safetensors" if path is not None and path.is_dir() else path
    if file is not None and not file.is_file():
        raise AiopError(
            f"{file} does not exist: give the file of a trained AIO-P, or a folder with one per fold"
        )
    return file


def holders_in(folder: str | Path, plan: Plan, aio_p: Path | None = None) -> list[Holder]:
    """Return the predictors of a folder that has one folder per fold, in the order of the plan.

    Folds that are missing or still in training are passed over.

    Raises:
        AiopError: where there is none.
    """
    from aiop.pretrain.card import WEIGHTS

    found = [
        Holder(fold.name, Path(folder) / fold.name, fold, aio_p_of(fold.name, aio_p))
        for fold in plan.folds
        if (Path(folder) / fold.name / WEIGHTS).is_file()
    ]
    if not found:
        names = ", ".join(fold.name for fold in plan.folds)
        raise AiopError(
            f"{folder} holds no predictor of a fold: expected folders called {names}, as `aiop pretrain` leaves them"
        )
    return found


def planned_holders(plan: Plan, aio_p: Path | None = None) -> list[Holder]:
    """Return every fold as its settings in the plan's folder say it will be trained, whether it is there or not.

    Raises:
        AiopError: for settings that cannot be read.
    """
    return [_planned(plan, fold, aio_p) for fold in plan.folds]


def _planned(plan: Plan, fold: Fold, aio_p: Path | None) -> Holder:
    from aiop.pretrain.config import PretrainConfig

    path = plan.folder / f"{fold.name}.yaml"
    most = (PretrainConfig.load(path).most_graphs or 0) if path.is_file() else 0
    tables = table_tasks()
    exclude = plan.exclude(fold)
    tasks = [
        task
        for table in fold.corpora(list(tables))
        for task in tables[table]
        if not any(fnmatchcase(task, glob) for glob in exclude)
    ]
    return Holder(fold.name, None, fold, aio_p_of(fold.name, aio_p), tuple(tasks), most)


def find_cases(protocol: str, holders: Sequence[Holder], plan: Plan, tasks: str | None = "*") -> list[Case]:
    """Return what a protocol judges, table by table.

    A fold is judged on what the plan keeps out of it; another predictor on what its card does not hold. ``tasks`` are
    globs, joined by commas; None asks for the plan's representative ones.

    Raises:
        AiopError: an unknown protocol, a pattern without a task, a fold's predictor that has seen what its fold keeps
            out, or one that leaves nothing to judge.
    """
    if protocol not in PROTOCOLS:
        raise AiopError(
            f'protocol "{protocol}" is unknown{suggest(protocol, PROTOCOLS)}: the protocols are {", ".join(PROTOCOLS)}'
        )
    every = [(table, task) for table, names in table_tasks().items() for task in names]
    globs = list(plan.representative) if tasks is None else [glob.strip() for glob in tasks.split(",")]
    for glob in globs:
        match_tasks(glob)  # one that matches nothing is an error
    tasks = "representative" if tasks is None else tasks
    wanted = [(table, task) for table, task in every if any(fnmatchcase(task, glob) for glob in globs)]
    if not wanted:
        raise AiopError(f'task pattern "{tasks}" matches no task of a benchmark table: see `aiop tasks`')
    found = [
        case
        for table, task in wanted
        for holder in holders
        if (case := _case(protocol, holder, plan, table, task)) is not None
    ]
    cases: dict[tuple[str, str, str], Case] = {}
    for case in found:
        # what several folds know is asked of the first; what they do not know, of each that keeps it out
        cases.setdefault((case.kind, case.task, case.holder.name if case.kind == "few-shot" else ""), case)
    if not cases:
        names = ", ".join(holder.name for holder in holders)
        raise AiopError(
            f'{protocol} has nothing to ask {names} of the {len(wanted)} tasks that match "{tasks}": '
            f"{_why(protocol)}; choose other --tasks, or predictors that were kept from them"
        )
    return list(cases.values())


def _why(protocol: str) -> str:
    if protocol == "unseen-networks":
        return "it asks for tasks that were trained on"
    return "it asks for what was kept out of training, with all near-copies"


def _case(protocol: str, holder: Holder, plan: Plan, table: str, task: str) -> Case | None:
    seen = table in holder.tables
    known = Case("known", holder, table, task, seen) if task in holder.tasks else None
    if protocol == "unseen-networks":
        return known
    if protocol == "unseen-family" and table == "timm" and known:
        return known  # no family of timm has networks on two sides
    if protocol == "unseen-family" and get_task(task).domain not in COSTS:
        return None
    new = (
        _unseen_space(holder, table)
        if protocol == "unseen-space"
        else _unseen_task(holder, plan, table, task)
    )
    return Case("few-shot", holder, table, task, seen) if new else None


def _unseen_space(holder: Holder, table: str) -> bool:
    planned = holder.fold is not None and table in holder.fold.spaces
    if planned and table in holder.tables:
        raise _has_seen(holder, f"table {table}")
    return planned if holder.fold else table not in holder.tables


def _unseen_task(holder: Holder, plan: Plan, table: str, task: str) -> bool:
    group = plan.group(task)
    if holder.fold is None:
        return group not in holder.groups(plan)
    if holder.fold.only:
        return False
    if table in holder.fold.spaces:
        # a space with nothing but this group: kept out as a whole, it is kept out here
        planned = {plan.group(other) for other in table_tasks()[table]} == {group}
    else:
        planned = group in holder.fold.groups
    if planned and group in holder.groups(plan):
        raise _has_seen(holder, f'a task of the group "{group}"')
    return planned


def _has_seen(holder: Holder, what: str) -> AiopError:
    return AiopError(
        f"the predictor in {holder.path} has seen {what}, which {holder.name} keeps out: train it with "
        f"`aiop pretrain benchmarks/protocols/{holder.name}.yaml`"
    )
