"""What the predictor, or a head, says of candidates, and what measured values teach it about them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph
from aiop.predictor import Prediction, Predictor, check_predictable, load
from aiop.predictor.few_shot import TaskHead
from aiop.tasks.declare import COSTS

__all__ = ["Correction", "Judge", "find_predicted_task"]

Array = npt.NDArray[Any]
Direction = Literal["max", "min"]


def find_predicted_task(predictor: Predictor, wanted: str, graph: ComputeGraph, *, cost: bool = False) -> str:
    """Return the task of a predictor that a name means for a network.

    A full name is that task. Otherwise its words (``imagenet/top1``) must all be in the task's name, with as few others
    after the last slash as possible; among several, a quality (with ``cost`` a cost, as latencies are), then one that
    the network is in distribution of, then the one whose interval is the smallest share of its value.

    Raises:
        AiopError: No task fits.
    """
    names = predictor.names
    if wanted in names:
        return wanted
    words = _words(wanted)
    fitting = [name for name in names if words and words <= _words(name)]
    if not fitting:
        predictor.task_card(wanted)  # raises, with a suggestion
    fitting = [name for name in fitting if (name.partition("/")[0] in COSTS) == cost] or fitting
    extra = {name: len(_words(name.rpartition("/")[2]) - words) for name in fitting}
    fewest = min(extra.values())
    nearest = [name for name in fitting if extra[name] == fewest]
    found = {item.task: item for item in predictor.predict(graph, tasks="*").predictions}

    def key(name: str) -> tuple[bool, float, str]:
        entry = found[name]
        return not entry.in_distribution, (entry.high - entry.low) / max(abs(entry.value), 1e-9), name

    return min(nearest, key=key)


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[/\-\s]+", name.lower()) if word}


class Judge:
    """Predicts one task, and perhaps one cost, of graphs.

    Args:
        source: A predictor, a head, or the folder of a predictor; None for the predictor of the package.
        task: What to predict where ``source`` is a predictor, as of `find_predicted_task`.
        latency: A cost to predict as well, likewise.
        original: The network that is compressed.

    Raises:
        AiopError: No such task, or a task given beside a head of another one.
    """

    def __init__(
        self,
        source: Predictor | TaskHead | str | Path | None,
        task: str | None,
        latency: str | None,
        original: ComputeGraph,
    ) -> None:
        check_predictable(original)
        self.head = source if isinstance(source, TaskHead) else None
        if isinstance(source, TaskHead):
            self.predictor = source.predictor
            self.task, self.unit = source.task.name, source.task.unit
            self.direction: Direction = source.task.direction
            if task is not None and not _words(task) <= _words(self.task):
                raise AiopError(f"the head predicts {self.task}, not {task}: leave the task out")
        else:
            self.predictor = load(source) if source is None or isinstance(source, str | Path) else source
            if task is None:
                raise AiopError("say what to keep: a task of the predictor, or a head of your own")
            self.task = find_predicted_task(self.predictor, task, original)
            card = self.predictor.task_card(self.task)
            self.unit, self.direction = card.unit, "min" if card.direction == "min" else "max"
        self.latency = (
            None if latency is None else find_predicted_task(self.predictor, latency, original, cost=True)
        )
        self.latency_direction: Direction = "min"
        if self.latency is not None and self.predictor.task_card(self.latency).direction == "max":
            self.latency_direction = "max"

    @property
    def mark(self) -> str:
        """What tells predictors and heads apart."""
        mark = str(self.predictor.card["weights_sha256"])[:16]
        if self.head is not None:
            record = self.head.record
            mark += (
                f"+head of {record.labels} labels from {record.low:g} to {record.high:g}, seed {record.seed}"
            )
        return mark

    def predict(self, graphs: Sequence[ComputeGraph]) -> list[tuple[Prediction, Prediction | None]]:
        """Return what is predicted of the task and of the cost, for each of some graphs."""
        if not graphs:
            return []
        listed = list(graphs)
        found = (
            self.head.predict(listed)
            if self.head is not None
            else self.predictor.predict(listed, tasks=self.task)
        )
        costs = self.predictor.predict(listed, tasks=self.latency) if self.latency is not None else None
        return [
            (item[self.task], costs[row][self.latency] if costs is not None and self.latency else None)
            for row, item in enumerate(found)
        ]

    def better(self, value: float) -> float:
        """Return a value of the task so that more is better."""
        return value if self.direction == "max" else -value

    def pessimistic(self, prediction: Prediction) -> float:
        """Return the worse end of the interval so that more is better; the value where the end is open."""
        end = prediction.low if self.direction == "max" else prediction.high
        return self.better(end if math.isfinite(end) else prediction.value)


@dataclass(frozen=True, eq=False)
class Correction:
    """Measured minus predicted, as a function of what was done to a network.

    A straight line over predicted values, pulled towards slope 1, and a Gaussian process over n features of the edits
    for the rest: where nothing near was measured it says nothing, and its deviation is that of what was measured.
    """

    slope: float
    shift: float
    centre: float
    process: Any
    scale: Array
    mean: Array
    spread: float

    @classmethod
    def fit(cls, features: Array, predicted: Array, measured: Array) -> Correction:
        """Fit to features ``(n, F)``, predicted and measured values ``(n,)``."""
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        centre = float(predicted.mean())
        spread = float(np.std(predicted)) or 1.0
        x = predicted - centre
        y = measured - measured.mean()
        # as if two more pairs, one deviation to either side, had been measured as predicted
        slope = float((x @ y + 2 * spread**2) / (x @ x + 2 * spread**2))
        shift = float(measured.mean())
        rest = measured - (shift + slope * x)
        deviation = float(np.std(rest))
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        process = None
        if len(measured) >= 3 and deviation > 1e-9:
            reach = math.sqrt(features.shape[1])
            kernel = ConstantKernel(1.0, (0.05, 20.0)) * RBF(reach, (0.3 * reach, 10 * reach)) + WhiteKernel(
                0.1, (1e-3, 1.0)
            )
            process = GaussianProcessRegressor(kernel, alpha=1e-6, random_state=0)
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a bound that is met is no concern of the user's
                process.fit((features - mean) / scale, rest / deviation)
        return cls(slope, shift, centre, process, scale, mean, deviation)

    def moved(self, features: Array, predicted: Array) -> tuple[Array, Array]:
        """Return corrected values and their deviations, each ``(m,)``."""
        values = self.shift + self.slope * (predicted - self.centre)
        if self.process is None:
            return values, np.full(len(values), self.spread)
        rest, deviation = self.process.predict((features - self.mean) / self.scale, return_std=True)
        return values + self.spread * rest, self.spread * deviation

    def apply(self, prediction: Prediction, value: float) -> Prediction:
        """Return a prediction moved to a value; its interval moves along."""
        by = value - prediction.value
        low, high = prediction.low + by, prediction.high + by
        if prediction.unit == "%":
            value, low, high = (min(max(end, 0.0), 100.0) for end in (value, low, high))
        return replace(prediction, value=value, low=low, high=high)
