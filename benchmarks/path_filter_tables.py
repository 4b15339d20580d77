"""The page of `benchmarks.path_filter`: accuracy within ranges of cost, and what is lost of fronts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.protocols.comparison import heading
from aiop.protocols.store import Record

__all__ = ["LABELS", "LIMIT", "METHODS", "RANGES", "SHARES", "render"]

Array = npt.NDArray[Any]

LABELS = (100, 500)
RANGES = 50
"""Networks of one range of cost that pairs are taken from."""

SHARES = (0.5, 0.2, 0.05)
"""Shares of the candidates that are kept."""

METHODS = ("filter", "unconditioned", "head", "macs", "zero-shot", "random")
LIMIT = "measured"
"""The measured values themselves as scores: what the rule of removal loses of its own."""

_AIM = 0.01

_ABOUT = """\
# Path filter

Written by `python -m benchmarks.path_filter --predictors FOLDER --seeds {seeds} --write`; means over {seeds} draws of
labels, after `±` their deviation.

The different measured networks of a table are halved by the SHA-256 of their names. Labels are drawn from one half;
all that follows is said of the other. Larger values are better throughout.

- *filter*: the path filter (`NetworkFilter`): a ranker learnt from pairs of networks of similar cost, on what a
  pretrained predictor sees and on the code, combined with the few-shot head by pairs of similar cost.
- *unconditioned*: the same ranker and combination, learnt from all pairs alike.
- *head*: the few-shot head alone, fitted to the same labels: an unconditioned predictor of values.
- *macs*: more is better. *zero-shot*: the pretrained predictor's ranking without labels. *random*: chance.
- *measured*: the measured values as scores: what the rule of removal loses by itself.
"""

_ACCURACY = """\
## Pairs of similar cost

Share of pairs that are ordered as measured, in percent. Pairs are taken within ranges of cost of {ranges} networks each
(those judged on, sorted by MACs and cut); equal values make no pair, equal scores count half.
"""

_FRONT = """\
## What is lost of the true front

Hypervolume of the measured front that is lost with the networks that are removed, in percent; the reference point is
the worst value and the most MACs of those judged on. *By ranges* removes about the same share of every range of cost,
comparing candidates with what is a little cheaper (`aiop.search.path_filter.kept`); the same rule for every method.
*Overall* keeps the top of one ranking of all.
"""


def render(records: Sequence[Record], notes: Sequence[str], seeds: int) -> str:
    """Return the page."""
    lines = [_ABOUT.format(seeds=seeds), *notes, "", _ACCURACY.format(ranges=RANGES), *_accuracy(records), ""]
    lines += [_FRONT, *_aims(records), ""]
    for removal in ("ranges", "overall"):
        lines += [
            f"### {'By ranges' if removal == 'ranges' else 'Overall'}, mean over tasks (worst task)",
            "",
        ]
        lines += [*_summary(records, removal), ""]
    lines += ["### By ranges, hypervolume over MACs, task by task", "", *_by_task(records), ""]
    lines += [*_costs(records), ""]
    return "\n".join(lines).rstrip() + "\n"


def _accuracy(records: Sequence[Record]) -> list[str]:
    lines = [heading("task | labels", METHODS)]
    for task, labels in _cases(records):
        cells = [_spread(_accuracies(records, task, labels, name)) for name in METHODS]
        lines.append(f"| {task} | {labels} | {' | '.join(cells)} |")
    for few in (True, False):
        cases = [case for case in _cases(records) if (case[1] == LABELS[0]) == few]
        if cases:
            means = [
                np.mean([_accuracies(records, *case, name).mean() for case in cases]) for name in METHODS
            ]
            cells = [f"**{100 * mean:.2f}**" for mean in means]
            lines.append(f"| **mean** | {_named(few)} | {' | '.join(cells)} |")
    return lines


def _aims(records: Sequence[Record]) -> list[str]:
    lines = []
    for axis, name in (("macs", "MACs"), ("log", "the logarithm of MACs")):
        cases = _cases(records)
        held = [
            case for case in cases if _losses(records, *case, "filter", "ranges", axis, 0.2).mean() <= _AIM
        ]
        lines.append(
            f"Aim, at most {100 * _AIM:.0f}% lost with 80% removed, over {name}: the filter keeps it in {len(held)} of "
            f"{len(cases)} rows (task and number of labels)."
        )
    return ["\n".join(lines)]


def _summary(records: Sequence[Record], removal: str) -> list[str]:
    titles = [
        f"{100 * (1 - share):.0f}% removed, {name}" for name in ("MACs", "log MACs") for share in SHARES
    ]
    lines = [heading("method | labels", titles)]
    for name in (*METHODS, LIMIT):
        for few in (True, False):
            cases = [case for case in _cases(records) if (case[1] == LABELS[0]) == few]
            if not cases or (not few and name in (*METHODS[3:], LIMIT)):
                continue  # what knows no labels
            cells = []
            for axis in ("macs", "log"):
                for share in SHARES:
                    lost = [_losses(records, *case, name, removal, axis, share).mean() for case in cases]
                    cells.append(f"{100 * np.mean(lost):.2f} ({100 * max(lost):.2f})")
            shown = _named(few) if name in METHODS[:3] else "none"
            lines.append(f"| {name} | {shown} | {' | '.join(cells)} |")
    return lines


def _by_task(records: Sequence[Record]) -> list[str]:
    shown = ("filter", "head", "macs", "zero-shot", "random")
    lines = [heading("task | labels | removed", shown)]
    for task, labels in _cases(records):
        for share in SHARES:
            cells = [_spread(_losses(records, task, labels, name, "ranges", "macs", share)) for name in shown]
            lines.append(f"| {task} | {labels} | {100 * (1 - share):.0f}% | {' | '.join(cells)} |")
    return lines


def _costs(records: Sequence[Record]) -> list[str]:
    lines = ["## Time", "", "Seconds on one core to fit and to score, mean over tasks and draws.", ""]
    lines.append(heading("labels", ["head", "what the filter adds to it"]))
    for few in (True, False):
        some = [record for record in records if (record["labels"] == LABELS[0]) == few]
        if some:
            cells = [
                f"{np.mean([record['seconds'][name] for record in some]):.1f}" for name in ("head", "filter")
            ]
            lines.append(f"| {_named(few)} | {' | '.join(cells)} |")
    return lines


def _cases(records: Sequence[Record]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((record["task"], record["labels"]) for record in records))


def _of(records: Sequence[Record], task: str, labels: int) -> list[Record]:
    return [record for record in records if (record["task"], record["labels"]) == (task, labels)]


def _accuracies(records: Sequence[Record], task: str, labels: int, name: str) -> Array:
    return np.array([record["accuracy"][name] for record in _of(records, task, labels)])


def _losses(
    records: Sequence[Record], task: str, labels: int, name: str, removal: str, axis: str, share: float
) -> Array:
    return np.array(
        [record["lost"][name][removal][axis][str(share)] for record in _of(records, task, labels)]
    )


def _spread(values: Array) -> str:
    return f"{100 * values.mean():.2f} ± {100 * values.std():.2f}"


def _named(few: bool) -> str:
    return str(LABELS[0]) if few else f"{LABELS[1]} (or all there are)"
