"""The plan: which tasks are near-copies of each other, and what every fold's pretraining keeps out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from aiop.errors import AiopError, suggest

__all__ = ["PLAN", "Fold", "Plan", "load_plan", "protocols_dir"]

PLAN = "plan.yaml"


@dataclass(frozen=True)
class Fold:
    """What one pretraining keeps out: whole spaces, and groups of tasks of the spaces that it has.

    only: the one space it is trained on, for a pair; else every space but ``spaces``.
    """

    name: str
    spaces: tuple[str, ...]
    groups: tuple[str, ...] = ()
    only: str = ""

    def corpora(self, spaces: Sequence[str]) -> list[str]:
        """Return the spaces it is trained on, of all ``spaces``."""
        return [space for space in spaces if (space == self.only if self.only else space not in self.spaces)]


@dataclass(frozen=True)
class Plan:
    """Near-copies and folds.

    groups: name -> globs of the tasks that are near-copies.
    folds: at most six, and the pairs after them.
    budgets: glob of tasks -> further numbers of labels.
    beyond: numbers of labels that only baselines from scratch are given, to see how many they need.
    settings: name of a fold or pair -> settings of its pretraining that are not those of the others.
    representative: globs of the tasks that stand for all: what is judged where nothing else is asked for.
    """

    folder: Path
    groups: Mapping[str, tuple[str, ...]]
    folds: tuple[Fold, ...]
    budgets: Mapping[str, tuple[int, ...]]
    representative: tuple[str, ...] = ("*",)
    beyond: tuple[int, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def group(self, task: str) -> str:
        """Return the group of a task; a task of no group is one of its own, under its name."""
        for name, globs in self.groups.items():
            if any(fnmatchcase(task, glob) for glob in globs):
                return name
        return task

    def exclude(self, fold: Fold) -> list[str]:
        """Return the globs of the tasks that a fold keeps out of the spaces it has."""
        return [glob for name in fold.groups for glob in self.groups[name]]

    def fold(self, name: str) -> Fold:
        """Return a fold by name; an unknown one is an `AiopError`."""
        for fold in self.folds:
            if fold.name == name:
                return fold
        names = [fold.name for fold in self.folds]
        raise AiopError(f'fold "{name}" is not planned{suggest(name, names)}: planned are {", ".join(names)}')

    def further_budgets(self, task: str) -> tuple[int, ...]:
        """Return the numbers of labels that are asked of a task besides the usual ones."""
        return tuple(
            count for glob, counts in self.budgets.items() if fnmatchcase(task, glob) for count in counts
        )


def protocols_dir(folder: str | Path | None = None) -> Path:
    """Return the folder of plan and split files: the one given, else ``benchmarks/protocols`` of the checkout.

    Raises:
        AiopError: where it holds no plan.
    """
    found = Path(folder) if folder is not None else Path(__file__).parents[2] / "benchmarks" / "protocols"
    if not (found / PLAN).is_file():
        raise AiopError(
            f"{found} holds no {PLAN}: give the folder benchmarks/protocols of the sources with --protocols"
        )
    return found


def load_plan(folder: str | Path | None = None) -> Plan:
    """Read the plan of `protocols_dir`.

    Raises:
        AiopError: for a missing or damaged plan, or a fold that names a group that is not there.
    """
    found = protocols_dir(folder)
    path = found / PLAN
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        plan = _plan(found, values)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise AiopError(f"plan {path} cannot be used ({error}): take it from the sources again") from None
    for fold in plan.folds:
        for name in fold.groups:
            if name not in plan.groups:
                raise AiopError(
                    f'plan {path}: {fold.name} keeps out "{name}", which is no group{suggest(name, plan.groups)}'
                )
    return plan


def _plan(folder: Path, values: Mapping[str, Any]) -> Plan:
    folds = [
        Fold(str(name), tuple(entry["spaces"]), tuple(entry.get("groups", ())))
        for name, entry in values["folds"].items()
    ]
    pairs = [
        Fold(str(name), (str(entry["to"]),), only=str(entry["from"]))
        for name, entry in (values.get("pairs") or {}).items()
    ]
    return Plan(
        folder=folder,
        groups={str(name): tuple(map(str, globs)) for name, globs in values["groups"].items()},
        folds=(*folds, *pairs),
        budgets={
            str(glob): tuple(int(count) for count in counts)
            for glob, counts in (values.get("budgets") or {}).items()
        },
        representative=tuple(map(str, values.get("representative") or ("*",))),
        beyond=tuple(map(int, values.get("beyond") or ())),
        settings={
            str(name): dict(entry["settings"])
            for part in ("folds", "pairs")
            for name, entry in (values.get(part) or {}).items()
            if "settings" in entry
        },
    )
