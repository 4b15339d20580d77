"""What each thing that a few-shot head sees is worth, on tasks and spaces that pretraining kept out.

Prints tables, means of Spearman's correlation over the plan's representative tasks. Without labels: size and each of
the rankings that the rule in use (`aiop.finetune.zero_labels`) is made of, or could be. With labels: the head, and the
head with one thing hidden from it.

    python -m benchmarks.head_parts --predictors runs/folds [--labels 20,100] [--draws 2] [--tasks GLOB]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import aiop
from aiop.finetune.head import FewShotHead
from aiop.finetune.metrics import srcc
from aiop.finetune.views import Views
from aiop.finetune.zero_labels import (
    COST_DOMAINS,
    consensus,
    size_ranks,
    source_ranks,
    zero_label_ranks,
)
from aiop.protocols import protocols_dir
from aiop.protocols.folds import Case, find_cases, holders_in
from aiop.protocols.plan import load_plan
from aiop.protocols.seen import bench, see
from aiop.tasks import get_task

Array = npt.NDArray[Any]

HIDDEN: dict[str, Callable[[Views], Views]] = {
    "the whole head": lambda views: views,
    "without embedding": lambda views: replace(views, embedding=np.zeros_like(views.embedding)),
    "without sources": lambda views: views.only([False] * len(views.sources)),
    "without knowing its own space": lambda views: replace(views, remoteness=None),
    "without structure": lambda views: replace(views, structure=None),
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictors", required=True, help="folder with one predictor per fold")
    parser.add_argument("--labels", default="20,100", help="numbers of labels, joined by commas")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--tasks", help="glob of tasks; the plan's representative ones by default")
    options = parser.parse_args()
    plan = load_plan(protocols_dir())
    cases = [
        case
        for case in find_cases("unseen-task", holders_in(options.predictors, plan, None), plan, options.tasks)
        if case.kind == "few-shot"
    ]
    without = {case: without_labels(case) for case in cases}
    print_table("without labels", without)
    for count in map(int, options.labels.split(",")):
        print_table(f"{count} labels", {case: with_labels(case, count, options.draws) for case in cases})


def without_labels(case: Case) -> dict[str, float]:
    """Return the correlation of every ranking with what was measured."""
    views, measured = _views(case, 0)[2:]
    task = get_task(case.task)
    quality = task.domain not in COST_DOMAINS
    sign = -1 if not quality and task.direction == "max" else 1
    ranks = list(source_ranks(views, sign, quality=quality).values())
    described = aiop.load(case.holder.folder).zero_shot(views, [task])[:, 0]
    found = {
        "MACs": sign * views.macs,
        "size": sign * size_ranks(views),
        "mean of sources": np.mean([rank.mean(axis=0) for rank in ranks], axis=0),
        "size and sources that agree": consensus(sign * size_ranks(views), ranks),
        "the task's description": described,
        "the rule in use": zero_label_ranks(views, sign, quality=quality),
    }
    return {name: srcc(ranking, measured) for name, ranking in found.items()}


def with_labels(case: Case, count: int, draws: int) -> dict[str, float]:
    """Return the mean correlation over draws of the head, whole and with each thing hidden."""
    found: dict[str, list[float]] = {name: [] for name in HIDDEN}
    for draw in range(draws):
        labelled, values, tested, measured = _views(case, draw)
        for name, hide in HIDDEN.items():
            head = FewShotHead.for_task(get_task(case.task), seed=draw)
            head.fit(hide(labelled.rows(range(count))), values[:count])
            found[name].append(srcc(head.predict(hide(tested)), measured))
    return {name: float(np.mean(scores)) for name, scores in found.items()}


def _views(case: Case, draw: int) -> tuple[Views, Array, Views, Array]:
    """Return networks to label with their values, and networks to judge on with theirs."""
    folder = protocols_dir()
    seen, found = see(case.holder, case.table, folder), bench(case.table, folder)
    values = found.table.values[case.task]
    labelled, tested, _ = found.few_shot(draw, values, case.space_seen)
    return (
        seen.views.rows(seen.at(labelled)),
        values[labelled],
        seen.views.rows(seen.at(tested)),
        values[tested],
    )


def print_table(title: str, scores: dict[Case, dict[str, float]]) -> None:
    """Print means by what was kept out, qualities and costs apart, and the number of tasks above MACs or the head."""
    parts: dict[str, Callable[[Case], bool]] = {
        "unseen tasks, quality": lambda case: case.space_seen and _quality(case),
        "unseen spaces, quality": lambda case: not case.space_seen and _quality(case),
        "costs": lambda case: not _quality(case),
    }
    shown = {name: [case for case in scores if belongs(case)] for name, belongs in parts.items()}
    shown = {name: cases for name, cases in shown.items() if cases}
    print(f"\n| {title} | " + " | ".join(f"{name} ({len(cases)})" for name, cases in shown.items()) + " |")
    print("|---|" + "---|" * len(shown))
    for name in next(iter(scores.values())):
        means = [np.mean([scores[case][name] for case in cases]) for cases in shown.values()]
        print(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |", flush=True)


def _quality(case: Case) -> bool:
    return get_task(case.task).domain not in COST_DOMAINS


if __name__ == "__main__":
    main()
