"""The tables of searches as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aiop.protocols.comparison import average, heading
from aiop.search.comparison.judge import OWN
from aiop.search.comparison.summary import Race, checkpoints
from aiop.search.methods.base import searchers

__all__ = ["render", "targets"]

_AIM, _AT, _STRICT = 0.1, 50, ("nas-bench-201", "nats-size")
_BASELINES = ("random", "evolution", "local", "tpe", "macs")
"""Methods that know nothing of predictors, with one or without."""

_ABOUT = """\
Search methods on benchmark tables that hold (nearly) every network of their space, so that the best one is known.

A method asks for an architecture, is told its measured value, and asks for the next; no architecture twice, no budget
of MACs. *Regret* is the best value of the table less the best found so far; *better* is the share of the table's
networks that are better than that. Both are medians over {seeds} seeds; what is found after 0 evaluations is the
architecture that a method asks for before anything was measured.

`+predictor` is guided by a predictor that was pretrained without this table and never saw its space; whatever it is
told after that comes from the search itself. Methods that choose by themselves take its ranking without labels as their
beginning. `guided` alone fits its process to codes, graph features and costs, without a pretrained network. The
baselines are {baselines}, with the predictor and without; `macs` counts and learns nothing."""


def render(entries: Sequence[Race], notes: Sequence[str], *, evaluations: int, seeds: int) -> str:
    """Return the document: targets, then every method by space and by task."""
    names = _names(entries)
    lines = [
        "# search",
        "",
        _ABOUT.format(seeds=seeds, baselines=", ".join(f"`{name}`" for name in _BASELINES)),
        "",
        *_methods(names),
        "",
        *notes,
        "",
    ]
    lines += [
        f"    aiop bench search --predictors FOLDER --seeds {seeds} --evaluations {evaluations}",
        "",
        *targets(entries),
        *_by_space(entries, evaluations),
        *_by_task(entries, evaluations),
        *_seconds(entries),
    ]
    return "\n".join(lines).rstrip() + "\n"


def targets(entries: Sequence[Race]) -> list[str]:
    """Return what was aimed at beside what was reached; nothing without the project's own searcher."""
    entries = [entry for entry in entries if OWN in entry.regrets and _AT in entry.regrets[OWN]]
    if not entries:
        return []
    lines = [
        "## Targets",
        "",
        f"After {_AT} evaluations, median over seeds, mean over the tasks of a space:",
        "",
    ]
    lines.append(heading("space | tasks", [
        f"{OWN}: better, %", f"at most {_AIM}%", "regret, deviations", "best baseline", "its regret",
        "better than every baseline", "tasks where no baseline is better", "best of all others", "its regret",
    ]))  # fmt: skip
    for table, group in _grouped(entries):
        place = average(entry.place(OWN, _AT) for entry in group)
        own = _spread(group, OWN, _AT)
        others = {name: _spread(group, name, _AT) for name in _names(group) if name != OWN}
        baselines = {name: regret for name, regret in others.items() if _is_baseline(name)}
        rival, any_other = (
            min(some, key=lambda name: others[name], default="") for some in (baselines, others)
        )
        held = sum(
            all(entry.regret(OWN, _AT) <= entry.regret(name, _AT) for name in baselines) for entry in group
        )
        aim = _yes(place <= _AIM) if table in _STRICT else "no aim"
        cells = [
            f"{place:.3f}", aim, f"{own:.4f}", rival, f"{others[rival]:.4f}" if rival else "",
            _yes(own < others[rival]) if rival else "", f"{held} of {len(group)}",
            any_other, f"{others[any_other]:.4f}" if any_other else "",
        ]  # fmt: skip
        lines.append(f"| {table} | {len(group)} | {' | '.join(cells)} |")
    return [*lines, ""]


def _methods(names: Sequence[str]) -> list[str]:
    known = searchers()
    shown = dict.fromkeys(name.removesuffix("+predictor") for name in names)
    return [f"- `{name}`: {known[name].summary}." for name in shown if name in known]


def _by_space(entries: Sequence[Race], evaluations: int) -> list[str]:
    lines = [
        "## By space",
        "",
        "Mean over tasks: regret in deviations of the metric, and in brackets better, %.",
        "",
    ]
    lines.append(heading("space | method", [f"{count} evaluations" for count in checkpoints(evaluations)]))
    for table, group in _grouped(entries):
        for name in _names(group):
            cells = [
                f"{_spread(group, name, count):.3f} ({average(entry.place(name, count) for entry in group):.2f})"
                for count in checkpoints(evaluations)
            ]
            lines.append(f"| {table} | {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _by_task(entries: Sequence[Race], evaluations: int) -> list[str]:
    lines = ["## By task", "", "Regret in the unit of the metric, and in brackets better, %.", ""]
    lines.append(
        heading("task | unit | method", [f"{count} evaluations" for count in checkpoints(evaluations)])
    )
    for entry in entries:
        digits = 2 if entry.deviation > 0.5 else 4
        for name in _names([entry]):
            cells = [
                f"{entry.regret(name, count):.{digits}f} ({entry.place(name, count):.2f})"
                for count in checkpoints(evaluations)
            ]
            lines.append(f"| {entry.task} | {entry.unit} | {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _seconds(entries: Sequence[Race]) -> list[str]:
    lines = ["## Time", "", "Seconds of one search, mean over tasks and seeds, one thread.", ""]
    lines.append(heading("method", ["seconds"]))
    for name in _names(entries):
        seconds = average(entry.seconds.get(name, math.nan) for entry in entries)
        lines.append(f"| {name} | {seconds:.1f} |")
    return [*lines, ""]


def _spread(group: Sequence[Race], name: str, count: int) -> float:
    """Return the mean over tasks of the median regret, in deviations."""
    return average(entry.regret(name, count) / entry.deviation for entry in group)


def _names(entries: Sequence[Race]) -> list[str]:
    """Contenders that any entry has, the project's own first."""
    names = dict.fromkeys(name for entry in entries for name in entry.regrets)
    return sorted(names, key=lambda name: (name != OWN, "+" not in name, name))


def _grouped(entries: Sequence[Race]) -> list[tuple[str, list[Race]]]:
    tables = dict.fromkeys(entry.table for entry in entries)
    return [(table, [entry for entry in entries if entry.table == table]) for table in tables]


def _is_baseline(name: str) -> bool:
    return name.removesuffix("+predictor") in _BASELINES


def _yes(held: bool) -> str:
    return "yes" if held else "no"
