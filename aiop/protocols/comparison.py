"""The head beside its baselines over all tasks of a protocol: label efficiency, losses, errors and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from aiop.protocols.methods import HEAD, Method
from aiop.protocols.summary import (
    BEST_ON_MEAN,
    BEST_PER_TASK,
    Chosen,
    Entry,
    best,
    chosen,
    efficiency,
    losses,
    usual_budgets,
)

__all__ = ["average", "comparison", "heading"]

_CHOSEN = """\
Which baseline is best on a task shows only once its test networks are measured. Two references stand for all that know
nothing but labels and costs: the one that is *best on the mean* over tasks at a number of labels (in brackets the one
that stands in where a space has no codes), and the *best per task*, on the very test networks, which favours it."""

_EFFICIENCY = """\
Per task: the number of labels at which the baseline's mean SRCC over draws reaches the head's with 20 (between measured
numbers linear in the logarithm of the labels; more labels never count as worse), divided by 20. A baseline that never
comes there counts with the largest number it was given, one that is there with its fewest with these. The mean is
geometric."""

_LOSSES = """\
The head is worse where a baseline's SRCC is larger by more than .02. All baselines: those that transfer from other
tasks of the space among them. Gain: SRCC of the head less that of the baseline, mean over tasks."""


def comparison(entries: Sequence[Entry], methods: Mapping[str, Method]) -> list[str]:
    """Return what the head gains over baselines over all tasks: labels, ranks, errors; nothing without a head."""
    if not any(HEAD in entry.cells for entry in entries):
        return []
    budgets = usual_budgets(entries)
    choices = {labels: chosen(entries, labels, methods) for labels in budgets if labels}
    lines = ["## The head and baselines from scratch", "", _CHOSEN, "", heading("labels", ["SRCC", "MAE"])]
    for labels, choice in choices.items():
        of_errors = chosen(entries, labels, methods, "mae")
        lines.append(f"| {labels} | {_names(choice)} | {_names(of_errors)} |")
    lines += ["", "### How many times as many labels a baseline needs for what the head has with 20", ""]
    lines += [_EFFICIENCY, "", heading("baseline", ["factor", "tasks", "at least this on"])]
    for name in [BEST_ON_MEAN, BEST_PER_TASK, *(name for name, method in methods.items() if not method.ours)]:
        factor, count, beyond = efficiency(entries, methods, baseline=name)
        if count:
            lines.append(f"| {name} | {factor:.2f} | {count} | {beyond} |")
    lines += ["", "### Ranks at equal labels", "", _LOSSES, ""]
    against = ("from scratch, best on the mean", "all baselines, best per task")
    columns = [f"{what}: {part}" for what in against for part in ("worse on", "worst", "mean gain")]
    lines.append(heading("labels | tasks", columns))
    for labels in budgets:
        asked = [entry for entry in entries if math.isfinite(entry.score(HEAD, labels))]
        first = _compared(asked, labels, methods, choices[labels]) if labels else ["", "", ""]
        cells = [*first, *_compared(asked, labels, methods, None)]
        lines.append(f"| {labels} | {len(asked)} | {' | '.join(cells)} |")
    worse = [
        f"- {entry.task} ({entry.fold}), {labels} labels: {name} is better by {lost:.3f}"
        for labels in budgets
        for entry, name, lost in losses(entries, labels, methods)
    ]
    lines += ["", "Where a baseline ranks better by more than .02:", "", *(worse or ["Nowhere."]), ""]
    return [*lines, *_errors(entries, methods, [labels for labels in budgets if labels])]


def _names(choice: Chosen) -> str:
    return choice.name + (f" ({choice.stand_in})" if choice.stand_in not in ("", choice.name) else "")


def _compared(
    entries: Sequence[Entry], labels: int, methods: Mapping[str, Method], choice: Chosen | None
) -> list[str]:
    """On how many tasks the head is worse, where most, and by how much it is better on the mean."""
    found = losses(entries, labels, methods, choice)
    gains = [
        entry.score(HEAD, labels)
        - (choice.of(entry, labels, "srcc") if choice else best(entry, labels, "srcc", methods))[1]
        for entry in entries
    ]
    worst = f"{found[0][2]:.3f} {found[0][0].task}" if found else "none"
    return [str(len(found)), worst, f"{average(gains):+.3f}"]


def _errors(entries: Sequence[Entry], methods: Mapping[str, Method], budgets: Sequence[int]) -> list[str]:
    """MAE side by side, where it has a common unit: as a ratio, of which the geometric mean is taken."""
    lines = ["### Mean absolute error and intervals at equal labels", ""]
    lines.append(
        heading(
            "labels",
            [
                "tasks",
                "head lowest of all methods",
                "head lower than the best on the mean",
                "head / best on the mean",
                "head / best per task",
                "coverage of 80%",
                "least to most covered task",
            ],
        )
    )
    for labels in budgets:
        asked = [entry for entry in entries if math.isfinite(entry.score(HEAD, labels, "mae"))]
        choice = chosen(entries, labels, methods, "mae")
        ours = [entry.score(HEAD, labels, "mae") for entry in asked]
        mean = [choice.of(entry, labels, "mae")[1] for entry in asked]
        top = [best(entry, labels, "mae", methods)[1] for entry in asked]
        covered = [entry.score(HEAD, labels, "coverage") for entry in asked]
        known = [value for value in covered if math.isfinite(value)]
        lines.append(
            f"| {labels} | {len(asked)} | {sum(not a > b for a, b in zip(ours, top, strict=True))} | "
            f"{sum(not a > b for a, b in zip(ours, mean, strict=True))} | {_ratio(ours, mean)} | {_ratio(ours, top)} | "
            f"{average(known):.3f} | {f'{min(known):.2f} to {max(known):.2f}' if known else ''} |"
        )
    return [*lines, ""]


def _ratio(ours: Sequence[float], others: Sequence[float]) -> str:
    logs = [
        math.log(a / b) for a, b in zip(ours, others, strict=True) if a > 0 and b > 0 and math.isfinite(a * b)
    ]
    return f"{math.exp(sum(logs) / len(logs)):.3f}" if logs else ""


def heading(first: str, columns: Sequence[str]) -> str:
    """Return the first two lines of a table; ``first`` may hold several columns."""
    left = first.count("|") + 1
    return f"| {first} | {' | '.join(columns)} |\n|{'---|' * (left + len(columns))}"


def average(values: Iterable[float]) -> float:
    """Return the mean of what is known, nan for nothing."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
