"""What the project set out to reach, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aiop.protocols.methods import HEAD, Method
from aiop.protocols.summary import (
    BEST_ON_MEAN,
    BEST_PER_TASK,
    Entry,
    best,
    efficiency,
    losses,
    pooled,
    usual_budgets,
)

__all__ = ["Row", "target_rows"]

_MR = (
    ("classification/nas-bench-mr/cls-50-1000-top1", 0.82, 0.86),
    ("classification/nas-bench-mr/cls-50-100-top1", 0.84, 0.88),
    ("classification/nas-bench-mr/cls-10-1000-top1", 0.54, 0.58),
    ("classification/nas-bench-mr/cls-10c-top1", 0.88, 0.92),
    ("segmentation/nas-bench-mr/cityscapes-miou", 0.82, 0.88),
    ("video/nas-bench-mr/hmdb51-top1", 0.83, 0.88),
)
_TRANSNAS = ((0, 0.60), (10, 0.62), (20, 0.66), (50, 0.70), (100, 0.74))
_C10_201 = "classification/nas-bench-201/cifar10-test-top1"
_C10_101 = "classification/nas-bench-101/cifar10-val-top1"
_TAU_201 = ((39, 0.70, 0.677), (78, 0.74, 0.677), (156, 0.82, 0.804), (469, 0.86, 0.836))
_TAU_201_PUBLISHED = {39: "HyperNAS .667", 78: "HyperNAS .677", 156: "NN-Former .804", 469: "HyperNAS .836"}
_TAU_101 = ((100, 0.75, "PINAT .717"), (424, 0.84, "PINAT .812"))


@dataclass(frozen=True)
class Row:
    """One target: what is measured, the bound it has to pass, the value (nan: not measured), whether it passes.

    beside: what else the reader should see: the MACs row, a published number, how many tasks count.
    """

    what: str
    bound: str
    value: float
    reached: bool | None
    beside: str = ""


def _above(what: str, bound: float, value: float, beside: str = "") -> Row:
    return Row(what, f"> {bound:g}", value, None if math.isnan(value) else value > bound, beside)


def target_rows(
    protocol: str,
    entries: Sequence[Entry],
    methods: Mapping[str, Method],
    separations: Mapping[tuple[str, str], float],
    pairs: Iterable[str] = (),
) -> list[Row]:
    """Return the targets of a protocol that anything was measured of."""
    new = [entry for entry in entries if entry.kind == "few-shot"]
    rows: list[Row] = []
    if protocol == "unseen-task":
        rows += _of_tasks(new)
    if protocol == "unseen-space":
        rows += _of_spaces(new, set(pairs))
    rows += _of_all(new, methods)
    rows += [
        _above(f"AUROC of the out-of-distribution flag, {table} ({fold})", 0.9, value)
        for (fold, table), value in separations.items()
    ]
    return [row for row in rows if row.reached is not None]


def _of_tasks(entries: Sequence[Entry]) -> list[Row]:
    rows = []
    for task, at_20, at_100 in _MR:
        for entry in _matching(entries, task):
            for labels, bound in ((20, at_20), (100, at_100)):
                beside = f"MACs {entry.score('macs', 0):.2f}"
                rows.append(
                    _above(f"{task}: SRCC at {labels} labels", bound, entry.score(HEAD, labels), beside)
                )
    micro = _matching(entries, "*/transnas-micro/*")
    for labels, bound in _TRANSNAS:
        value, count = pooled(micro, HEAD, labels, "tau")
        macs, _ = pooled(micro, "macs", 0, "tau")
        what = f"TransNAS micro: tau at {labels} labels, mean of tasks"
        rows.append(_above(what, bound, value, f"{count} tasks, each function once; MACs {macs:.2f}"))
        value, count = pooled(micro, HEAD, labels, "tau_rows")
        macs, _ = pooled(micro, "macs", 0, "tau_rows")
        what += ", every cell of the table counted"
        rows.append(_above(what, bound, value, f"{count} tasks; MACs {macs:.2f}"))
    return rows


def _of_spaces(entries: Sequence[Entry], pairs: set[str]) -> list[Row]:
    rows = []
    for fold, space in dict.fromkeys((entry.fold, entry.space) for entry in entries):
        tasks = [entry for entry in entries if (entry.fold, entry.space) == (fold, space)]
        ours, count = pooled(tasks, HEAD, 0, "srcc")
        macs, _ = pooled(tasks, "macs", 0, "srcc")
        reached = None if math.isnan(ours - macs) else ours > macs
        beside = f"{count} tasks ({fold})"
        rows.append(Row(f"{space}: SRCC without labels", f"> {macs:.3f} (MACs)", ours, reached, beside))
    for entry in _matching(entries, _C10_201):
        source, bound = ("NAS-Bench-101", 0.90) if entry.fold in pairs else ("all other spaces", 0.93)
        beside = f"MACs {entry.score('macs', 0):.2f}; GENNAPE .815, ONNX-Net .747, RLM .681 ({entry.fold})"
        what = f"{source} -> NAS-Bench-201, CIFAR-10: SRCC without labels"
        rows.append(_above(what, bound, entry.score(HEAD, 0), beside))
        for labels, bound, _ in _TAU_201:
            what = f"NAS-Bench-201, CIFAR-10: tau at {labels} labels ({entry.fold})"
            rows.append(_above(what, bound, entry.score(HEAD, labels, "tau"), _TAU_201_PUBLISHED[labels]))
    for entry in _matching(entries, _C10_101):
        for labels, bound, published in _TAU_101:
            what = f"NAS-Bench-101: tau at {labels} labels"
            rows.append(_above(what, bound, entry.score(HEAD, labels, "tau"), published))
    return rows


def _of_all(entries: Sequence[Entry], methods: Mapping[str, Method]) -> list[Row]:
    if not any(HEAD in entry.cells for entry in entries):
        return []
    rows = []
    for baseline in (BEST_ON_MEAN, BEST_PER_TASK):
        factor, count, beyond = efficiency(entries, methods, baseline=baseline)
        what = f"label efficiency at 20 labels, geometric mean; from-scratch baseline {baseline}"
        reached = None if math.isnan(factor) else factor >= 5
        rows.append(Row(what, ">= 5", factor, reached, f"{count} tasks; of {beyond} it is at least this"))
    budgets = usual_budgets(entries)
    for labels in budgets:
        asked = [entry for entry in entries if math.isfinite(entry.score(HEAD, labels))]
        found = losses(entries, labels, methods)
        worst = f"; worst by {found[0][2]:.3f} to {found[0][1]}, {found[0][0].task}" if found else ""
        compared = sum(math.isfinite(best(entry, labels, "srcc", methods)[1]) for entry in asked)
        if compared:
            what = f"tasks worse than the best baseline per task by more than .02 SRCC, {labels} labels"
            rows.append(Row(what, "0", len(found), not found, f"of {compared}{worst}"))
    rows += [
        _share(
            entries, "tasks with SRCC above .5 at 20 labels", lambda entry: entry.score(HEAD, 20) > 0.5, 20
        ),
        _share(
            entries,
            "tasks with the lowest MAE of all at 20 labels",
            lambda entry: not entry.score(HEAD, 20, "mae") > best(entry, 20, "mae", methods)[1],
            20,
        ),
    ]
    return rows + _coverages(entries, budgets)


def _share(entries: Sequence[Entry], what: str, holds: Callable[[Entry], bool], labels: int) -> Row:
    asked = [entry for entry in entries if math.isfinite(entry.score(HEAD, labels))]
    held = sum(map(holds, asked))
    return Row(what, "all", held, held == len(asked) if asked else None, f"of {len(asked)}")


def _coverages(entries: Sequence[Entry], budgets: Sequence[int]) -> list[Row]:
    """The mean over tasks, each of which counts alike, at every number of labels and over all of them."""
    found = {labels: pooled(entries, HEAD, labels, "coverage") for labels in budgets}
    known = {labels: value for labels, (value, count) in found.items() if count}
    rows = []
    for labels, value in known.items():
        what = f"coverage of 80% intervals, {labels} labels"
        rows.append(Row(what, ".77 to .83", value, 0.77 <= value <= 0.83, f"{found[labels][1]} tasks"))
    if len(known) > 1:
        value = sum(known.values()) / len(known)
        what = "coverage of 80% intervals, all numbers of labels"
        rows.insert(0, Row(what, ".77 to .83", value, 0.77 <= value <= 0.83, "pooled"))
    return rows


def _matching(entries: Sequence[Entry], glob: str) -> list[Entry]:
    return [entry for entry in entries if fnmatchcase(entry.task, glob)]
