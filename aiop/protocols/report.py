"""The tables of a protocol as Markdown, for docs/results and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from aiop.protocols.comparison import average, comparison, heading
from aiop.protocols.judge import ALL, PREDICTOR
from aiop.protocols.methods import HEAD, Method
from aiop.protocols.summary import Entry, best, chosen, pooled, usual_budgets
from aiop.protocols.targets import Row

__all__ = ["render"]

_TITLES = {"srcc": "Spearman's rank correlation", "tau": "Kendall's tau", "mae": "Mean absolute error"}
_ABOUT = {
    "unseen-networks": "Networks kept out of training, of tasks that were trained on.",
    "unseen-task": "Tasks kept out of training with all their near-copies, then a few labels.",
    "unseen-space": "Whole spaces kept out of training, then a few labels.",
    "unseen-family": "Families of timm and devices kept out of training.",
}


def render(
    protocol: str,
    entries: Sequence[Entry],
    methods: Mapping[str, Method],
    targets: Sequence[Row],
    notes: Sequence[str],
    failures: Mapping[str, str],
) -> str:
    """Return the document: targets, what holds over all tasks, then task by task."""
    new = [entry for entry in entries if entry.kind == "few-shot"]
    old = [entry for entry in entries if entry.kind == "known"]
    lines = [f"# {protocol}", "", _ABOUT[protocol], "", *notes, ""]
    lines += _targets(targets)
    if new:
        lines += [*comparison(new, methods), *_by_method(new, methods), *_by_space(new, methods)]
        for metric in _TITLES:
            lines += _by_task(new, methods, metric)
    if old:
        lines += _known(old, methods)
    if failures:
        lines += ["## Without a result", ""]
        lines += [f"- {method}: {reason}" for method, reason in sorted(failures.items())]
    return "\n".join(lines).rstrip() + "\n"


def _targets(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    lines = ["## Targets", "", "| what | target | measured | reached | beside |", "|---|---|---|---|---|"]
    for row in rows:
        value = f"{row.value:.0f}" if row.bound in ("0", "all") else f"{row.value:.3f}"
        lines.append(
            f"| {row.what} | {row.bound} | {value} | {'yes' if row.reached else 'no'} | {row.beside} |"
        )
    return [*lines, ""]


def _by_method(entries: Sequence[Entry], methods: Mapping[str, Method]) -> list[str]:
    budgets = usual_budgets(entries)
    lines = []
    for metric, title in (("srcc", "SRCC"), ("tau", "Kendall's tau")):
        lines += [
            f"## Methods: mean {title} over tasks",
            "",
            heading("method", [*map(str, budgets), "seconds"]),
        ]
        for name in methods:
            cells = [_mean(pooled(entries, name, labels, metric)) for labels in budgets]
            times = [
                cell.seconds
                for entry in entries
                for labels, cell in entry.cells.get(name, {}).items()
                if labels in budgets and labels
            ]
            seconds = f"{sum(times) / len(times):.2f}" if times else ""
            lines.append(f"| {name} | {' | '.join(cells)} | {seconds} |")
        lines += ["", "In brackets the number of tasks where it is not all; seconds per fit with labels.", ""]
    return [line.replace(f" ({len(entries)})", "") for line in lines]


def _by_space(entries: Sequence[Entry], methods: Mapping[str, Method]) -> list[str]:
    budgets = usual_budgets(entries)
    lines = ["## Spaces: mean over tasks of SRCC (tau)", ""]
    lines.append(heading("space | tasks | method", list(map(str, budgets))))
    for (fold, space), group in _grouped(entries):
        for name in (HEAD, "macs"):
            if any(name in entry.cells for entry in group):
                cells = [
                    _pair(pooled(group, name, labels, "srcc")[0], pooled(group, name, labels, "tau")[0])
                    for labels in budgets
                ]
                lines.append(f"| {space} ({fold}) | {len(group)} | {name} | {' | '.join(cells)} |")
        tops = [
            _pair(
                *(
                    average(best(entry, labels, metric, methods)[1] for entry in group)
                    for metric in ("srcc", "tau")
                )
            )
            for labels in budgets
        ]
        lines.append(f"| {space} ({fold}) | {len(group)} | best baseline | {' | '.join(tops)} |")
    return [*lines, ""]


def _by_task(entries: Sequence[Entry], methods: Mapping[str, Method], metric: str) -> list[str]:
    """Table by table: the head, the two references from scratch with their names, what transfers, AIO-P, and costs."""
    lines = [f"## {_TITLES[metric]}, task by task", "", "Mean and deviation over draws of labels.", ""]
    labelled = sorted({labels for entry in entries for labels in entry.budgets() if labels})
    choices = {labels: chosen(entries, labels, methods, metric) for labels in labelled}
    named = [HEAD, *(name for name, m in methods.items() if not m.ours and (not m.scratch or m.ranks_only))]
    for (fold, space), group in _grouped(entries):
        budgets = [labels for labels in _budgets(group) if labels or metric != "mae"]
        if not budgets:
            continue
        seen = "" if group[0].space_seen else ", space not seen"
        lines += [f"### {space} ({fold}{seen})", "", heading("task | method", list(map(str, budgets)))]
        for entry in group:
            rows = [
                (name, [_spread(entry, name, labels, metric) for labels in budgets])
                for name in named
                if metric != "mae" or name not in methods or not methods[name].ranks_only
            ]
            means, tops = [], []
            for labels in budgets:
                name = choices[labels].of(entry, labels, metric)[0] if labels else ""
                means.append(f"{_spread(entry, name, labels, metric)} {name}" if name else "")
                name = best(entry, labels, metric, methods, scratch=True)[0] if labels else ""
                tops.append(f"{_spread(entry, name, labels, metric)} {name}" if name else "")
            rows[1:1] = [("from scratch, best on the mean", means), ("from scratch, best per task", tops)]
            lines += [
                f"| {entry.task} | {name} | {' | '.join(cells)} |" for name, cells in rows if any(cells)
            ]
        lines.append("")
    return lines


def _known(entries: Sequence[Entry], methods: Mapping[str, Method]) -> list[str]:
    names = [name for name in (PREDICTOR, *methods) if any(name in entry.cells for entry in entries)]
    lines = ["## Networks kept out: SRCC / tau / MAE", ""]
    lines += ["Baselines are fitted to all training networks of the task.", ""]
    lines.append(heading("task | kept out", [*names, "coverage of 80%"]))
    for entry in entries:
        cells = [
            " / ".join(_three(entry.score(name, ALL, metric), metric) for metric in ("srcc", "tau", "mae"))
            for name in names
        ]
        covered = entry.score(PREDICTOR, ALL, "coverage")
        lines.append(
            f"| {entry.task} | {entry.tested} | {' | '.join(cells)} | "
            f"{f'{100 * covered:.0f}%' if math.isfinite(covered) else ''} |"
        )
    return [*lines, ""]


def _grouped(entries: Sequence[Entry]) -> Iterator[tuple[tuple[str, str], list[Entry]]]:
    for place in dict.fromkeys((entry.fold, entry.space) for entry in entries):
        yield place, [entry for entry in entries if (entry.fold, entry.space) == place]


def _budgets(entries: Sequence[Entry]) -> list[int]:
    return sorted({labels for entry in entries for labels in entry.budgets()})


def _mean(found: tuple[float, int]) -> str:
    return f"{found[0]:.3f} ({found[1]})" if found[1] else ""


def _pair(one: float, other: float) -> str:
    return f"{one:.3f} ({other:.3f})" if math.isfinite(one) else ""


def _spread(entry: Entry, method: str, labels: int, metric: str) -> str:
    cell = entry.cells.get(method, {}).get(labels)
    if cell is None or metric not in cell.mean:
        return ""
    if metric == "mae":
        return f"{cell.mean[metric]:.3g} ± {cell.deviation[metric]:.2g}"
    return f"{cell.mean[metric]:.3f} ± {cell.deviation[metric]:.3f}"


def _three(value: float, metric: str) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.3g}" if metric == "mae" else f"{value:.3f}"
