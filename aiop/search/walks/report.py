"""The tables of walks as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aiop.protocols.comparison import average, heading
from aiop.protocols.methods import HEAD
from aiop.search.walks.judge import TRUTH
from aiop.search.walks.plan import LABELS, SEED, SETUPS, TARGETS, UNGUIDED, Setup
from aiop.search.walks.summary import Walks
from aiop.search.walks.walk import MOST, WIDTH

__all__ = ["render", "targets"]

_ABOUT = """\
Networks of benchmark tables made cheaper by mutations, where what every mutation does to the metric was measured.

From every start a walk looks for the best network with at most 85%, 70% and 50% of its MACs (as counted on the network
itself, not a column of the table). One move is one mutation of the space: another operation on one edge, another width
of one stage, another block in one layer. A network that the table keeps under the code of an isomorphic one (of
NAS-Bench-201) counts as that one. A guided walk expands {width} networks at a time (of those within the target
the best by the score, of those above it the best and the cheapest) and scores at most {most} candidates; it takes the
best score within the target. The walk is the same for every score:

- `head`: the head fitted to {labels} labels, on a predictor that was trained without this table;
- `forest`: a random forest on graph features, fitted to the same {labels} labels;
- `aio-p`: AIO-P as published, brought to the mean and deviation of the same {labels} labels;
- `macs`: the MACs themselves, which keeps as much as the target allows;
- `oracle`: the measured values, the ceiling of such a walk. *Best in the table* is the best network within the target,
  wherever it is.

Without a score: `random` takes random moves that lower the MACs until the target is met, `largest-cut` the move that
cuts the most MACs, `smallest-cut` the one that cuts the fewest.

Labels are the first {labels} of the split file's random draws, as in all protocols; nothing is known of a start but
what the score says. Changes are those of the measured metric, above 0 where the network got better; mean and standard
error over {starts} starts, each the mean over {draws} draws of labels. "Deviations" are of the metric over all
networks of the table. A start that no network within the target can be reached from is left out and counted."""


def render(
    entries: Sequence[Walks], notes: Sequence[str], failures: Mapping[str, str], *, starts: int, draws: int
) -> str:
    """Return the document: targets, then every kind of walk, by space and by task."""
    about = _ABOUT.format(labels=LABELS, width=WIDTH, most=MOST, starts=starts, draws=draws)
    lines = ["# compress, on tables", "", about, "", *notes]
    minutes = sum(entry.seconds for entry in entries) / 60
    lines += [
        f"- Tasks: {len(entries)}; fitting, predicting and walking took {minutes:.1f} minutes in all.",
        "",
    ]
    command = f"aiop bench compress --predictors FOLDER --aio-p FILE --seeds {draws} --starts {starts}"
    lines += [
        f"    {command}",
        "",
        f"Starts are drawn under seed {SEED}, methods fitted under the number of the draw.",
        "",
    ]
    lines += targets(entries)
    for setup in SETUPS:
        lines += [f"## {setup.title}", "", *_impossible(entries, setup), *_by_space(entries, setup)]
        lines += _by_task(entries, setup)
    lines += _effort(entries)
    if failures:
        lines += [
            "## Without a result",
            "",
            *(f"- {name}: {why}" for name, why in sorted(failures.items())),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def targets(entries: Sequence[Walks]) -> list[str]:
    """Return what was aimed at beside what was reached; nothing without a head."""
    entries = [entry for entry in entries if HEAD in entry.changes]
    if not entries:
        return []
    lines = ["## Targets", ""]
    lines.append(heading("walks | space | tasks", [
        "head at -15%, deviations", "ceiling", "does not fall", "-15%: tasks that do not fall",
        "-30%: head less the best baseline", "above every baseline", "-30%: tasks above every baseline",
        "worst task at -30%",
    ]))  # fmt: skip
    for setup in SETUPS:
        for table, group in _grouped(entries):
            first, second = (setup.name, TARGETS[0]), (setup.name, TARGETS[1])
            kept = average(entry.change(HEAD, first)[0] for entry in group)
            ceiling = average(entry.change(TRUTH, first)[0] for entry in group)
            held = sum(entry.change(HEAD, first)[0] >= 0 for entry in group)
            names = [name for name in group[0].baselines() if all(name in entry.changes for entry in group)]
            margins = {name: average(entry.ahead(name, second)[0] for entry in group) for name in names}
            nearest = min(margins, key=lambda name: margins[name], default="")
            worst = (
                [
                    (*min((entry.ahead(name, second), name) for name in entry.baselines()), entry.task)
                    for entry in group
                ]
                if names
                else []
            )
            above = sum(margin[0] > 0 for margin, _, _ in worst)
            (least, error), name, task = min(worst, default=((math.nan, math.nan), "", ""))
            cells = [
                f"{kept:+.3f}", _signed(ceiling), _yes(kept >= 0), f"{held} of {len(group)}",
                f"{margins[nearest]:+.3f} ({nearest})" if nearest else "", _yes(bool(names) and margins[nearest] > 0),
                f"{above} of {len(group)}", f"{least:+.3f} ± {error:.3f} ({name}, {task})" if name else "",
            ]  # fmt: skip
            lines.append(f"| {setup.title} | {table} | {len(group)} | {' | '.join(cells)} |")
    return [*lines, ""]


def _by_space(entries: Sequence[Walks], setup: Setup) -> list[str]:
    lines = ["Mean over tasks, in deviations:", ""]
    lines.append(heading("space | method", [f"{-100 * target:.0f}% MACs" for target in TARGETS]))
    for table, group in _grouped(entries):
        for name in _methods(group):
            cells = [
                average(entry.change(name, (setup.name, target))[0] for entry in group) for target in TARGETS
            ]
            lines.append(f"| {table} | {name} | {' | '.join(map(_signed, cells))} |")
        if not setup.cutting:
            cells = [_best(group, (setup.name, target)) for target in TARGETS]
            lines.append(f"| {table} | best in the table | {' | '.join(map(_signed, cells))} |")
    return [*lines, ""]


def _by_task(entries: Sequence[Walks], setup: Setup) -> list[str]:
    lines = [
        "Task by task, in the unit of the metric, and in brackets in deviations; missed are starts for which the"
    ]
    lines += ["walk found no network within the target although there is one:", ""]
    lines.append(heading("task | unit | method", [f"{-100 * target:.0f}% MACs" for target in TARGETS]))
    for entry in entries:
        for name in _methods([entry]):
            cells = [_cell(entry, name, (setup.name, target)) for target in TARGETS]
            lines.append(f"| {entry.task} | {entry.unit} | {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(entry: Walks, name: str, place: tuple[str, float]) -> str:
    mean, error = entry.change(name, place)
    if not math.isfinite(mean):
        return ""
    digits = 2 if entry.deviation > 0.5 else 4
    unit = f"{entry.deviation * mean:+.{digits}f} ± {entry.deviation * error:.{digits}f} ({mean:+.3f})"
    missed = entry.missed(name, place)
    return f"{unit}, missed {missed}" if missed else unit


def _impossible(entries: Sequence[Walks], setup: Setup) -> list[str]:
    """Say where a target cannot be met from a start, whatever the moves are."""
    parts = []
    for table, group in _grouped(entries):
        first = group[0].possible
        counts = [int((~first[setup.name, target]).sum()) for target in TARGETS]
        if any(counts):
            shown = ", ".join(
                f"{count} at {-100 * target:.0f}%" for count, target in zip(counts, TARGETS, strict=True)
            )
            parts.append(f"{table} {shown}")
    if not parts:
        return ["Every start has networks within every target.", ""]
    return [f"Starts without any network within the target: {'; '.join(parts)}.", ""]


def _effort(entries: Sequence[Walks]) -> list[str]:
    lines = [
        "## Candidates and MACs",
        "",
        "Candidates looked at per walk, and the share of MACs left (random starts):",
        "",
    ]
    lines.append(heading("method", ["candidates", *(f"left at {-100 * target:.0f}%" for target in TARGETS)]))
    for name in _methods(entries):
        group = [entry for entry in entries if name in entry.changes]
        left = [average(entry.macs[name][SETUPS[0].name, target] for entry in group) for target in TARGETS]
        scored = average(entry.scored[name] for entry in group)
        lines.append(f"| {name} | {scored:.0f} | {' | '.join(f'{100 * share:.1f}%' for share in left)} |")
    return [*lines, ""]


def _methods(entries: Sequence[Walks]) -> list[str]:
    """Methods that any entry has: those that are guided first, the ceiling last."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.changes))
    return sorted(names, key=lambda name: (name == TRUTH, name in UNGUIDED))


def _grouped(entries: Sequence[Walks]) -> list[tuple[str, list[Walks]]]:
    tables = dict.fromkeys(entry.table for entry in entries)
    return [(table, [entry for entry in entries if entry.table == table]) for table in tables]


def _best(group: Sequence[Walks], place: tuple[str, float]) -> float:
    return average(average(entry.best[place]) / entry.deviation for entry in group)


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else ""


def _yes(held: bool) -> str:
    return "yes" if held else "no"
