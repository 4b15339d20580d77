"""Learning curves: how good heads and baselines fitted on more and more of the same labels are on the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from aiop.errors import AiopError
from aiop.finetune.baselines import CostTrend, get_baseline
from aiop.finetune.metrics import coverage, mae, srcc
from aiop.predictor.few_shot import new_head
from aiop.predictor.labels import HeadTask, LabelledViews

__all__ = ["BASELINES_SHOWN", "DRAWS", "SIZES", "Point", "learning_curve", "progress_bar"]

Array = npt.NDArray[Any]

SIZES = (10, 20, 50, 100)
DRAWS = 4
"""Draws of the labels per number of them; the curve shows mean and deviation."""
BASELINES_SHOWN = ("macs", "cost-rank", "forest", "gp")

_LEAST_TEST = 10
_MOST_TEST = 500


@dataclass(frozen=True, slots=True)
class Point:
    """Mean and standard deviation over draws, at one number of labels; nan where a method does not tell."""

    labels: int
    srcc: tuple[float, float]
    mae: tuple[float, float]
    coverage: tuple[float, float]


def learning_curve(
    labelled: LabelledViews,
    task: HeadTask,
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, list[Point]]:
    """Fit on drawn labels and score on networks that were not drawn, nor compute the same as a drawn one.

    Args:
        labelled: n networks with labels.
        task: of the labels.
        sizes: numbers of labels; those that leave fewer than ten networks to score on are left out.
        draws: per number of labels, the same for every method.
        seed: of the draws and the fits.
        advance: called after every fit of a head.

    Returns:
        ``head`` and each of `BASELINES_SHOWN` -> points by number of labels; empty where labels are too few.
    """
    found: dict[str, dict[int, list[tuple[float, float, float]]]] = {}
    for size in (size for size in sizes if len(labelled) >= size + _LEAST_TEST):
        for draw in range(draws):
            train, test = _draw(labelled, size, np.random.default_rng([seed, size, draw]))
            if len(test) >= _LEAST_TEST and np.ptp(labelled.values[train]) > 0:
                with threadpool_limits(1):  # see `fit_labelled`
                    fitted = list(_fit_all(labelled, task, train, test, seed + draw))
                for method, scores in fitted:
                    found.setdefault(method, {}).setdefault(size, []).append(scores)
            advance()
    return {
        method: [Point(size, *_mean(rows)) for size, rows in by_size.items()]
        for method, by_size in found.items()
    }


def _draw(labelled: LabelledViews, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    order = rng.permutation(len(labelled))
    train = order[:size]
    drawn = {labelled.marks[row] or f"row {row}" for row in train}
    test = [row for row in order[size:] if labelled.marks[row] not in drawn]
    return train, np.array(test[:_MOST_TEST], np.int64)


def _fit_all(
    labelled: LabelledViews, task: HeadTask, train: Array, test: Array, seed: int
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    views, values = labelled.views.rows(train), labelled.values[train]
    new, measured = labelled.views.rows(test), labelled.values[test]
    head = new_head(task, seed).fit(views, values)
    predicted = head.predict(new)
    low, high = head.interval(new)
    yield "head", (srcc(predicted, measured), mae(predicted, measured), coverage(low, high, measured))
    for name in BASELINES_SHOWN:
        options = {} if name in ("macs", "cost-rank") else {"seed": seed, "transform": task.transform}
        baseline = get_baseline(name, **options)
        try:
            predicted = baseline.fit(views, values).predict(new)
        except AiopError:
            continue  # it needs more labels than there are
        error = np.nan if baseline.ranks_only else mae(predicted, measured)
        if name == "macs":
            trend = CostTrend.fit(views.macs, task.scale(values)).predict(new.macs)
            error = mae(task.unscale(trend), measured)
        yield name, (srcc(predicted, measured), error, np.nan)


def _mean(rows: list[tuple[float, float, float]]) -> list[tuple[float, float]]:
    columns = np.array(rows, np.float64).T
    known = [column[np.isfinite(column)] for column in columns]
    return [
        (float(column.mean()), float(column.std())) if len(column) else (float("nan"), float("nan"))
        for column in known
    ]


@contextmanager
def progress_bar(show: bool, label: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr while the block runs; yield what advances it."""
    with Progress(console=Console(stderr=True), transient=True, disable=not show) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)
