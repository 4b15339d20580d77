"""A head of one's own: fitted on a few labels, on top of a pretrained predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from aiop.errors import AiopError
from aiop.finetune.baselines import CostTrend
from aiop.finetune.head import DEFAULT_MEMBERS, FewShotHead
from aiop.finetune.metrics import coverage
from aiop.finetune.tuned_member import with_tuned
from aiop.finetune.views import Views
from aiop.finetune.zero_labels import COST_DOMAINS
from aiop.graph_ir import ComputeGraph
from aiop.graph_ir.features import GraphArrays, encode
from aiop.predictor.judging import judge, judge_costs, number_or_none, trend_held_out
from aiop.predictor.labels import HeadTask, LabelledViews, Labels, LabelSource, read_labels, see
from aiop.predictor.prediction import NetworkPrediction, Prediction
from aiop.predictor.predictor import COVERAGE, Network, Predictor, load
from aiop.predictor.tuned_network import TunedNetworks, check_mode
from aiop.tasks.networks import read

__all__ = ["Evaluation", "FitRecord", "TaskHead", "fit_head", "fit_labelled", "new_head"]

Array = npt.NDArray[Any]

_SMALL = 500
LEAST = 2
"""Labels that a head needs."""


@dataclass(frozen=True, eq=False)
class FitRecord:
    """What a head was fitted on, without the names and the values themselves.

    labels: their number; low, high: their range, in the unit; seed: of the draw and the fit.
    scores: row (``head``, ``macs``, ``cost-rank``) -> scores of leave-one-out predictions, as `judge` returns them.
    trend: the task's value over MACs, on the head's scale.
    marks: content hashes of the networks.
    held_out: float64 ``(labels,)``, what the head says of each network without its label.
    """

    labels: int
    low: float
    high: float
    seed: int
    scores: dict[str, dict[str, Any]]
    trend: CostTrend
    marks: tuple[str, ...]
    held_out: Array


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A head's predictions for n labelled networks, and how good they are.

    seen: bool ``(n,)``, networks that the head was fitted on: of them ``predicted`` is the leave-one-out prediction,
        and ``low`` and ``high`` are nan.
    inside: bool ``(n,)``, networks like those the predictor and the head know.
    scores: row -> scores, as of `FitRecord`; the row of the head has also ``coverage``.
    """

    task: HeadTask
    networks: tuple[str, ...]
    measured: Array
    predicted: Array
    low: Array
    high: Array
    macs: Array
    seen: Array
    inside: Array
    scores: dict[str, dict[str, Any]]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON, without those of single networks."""
        return {
            "task": self.task.to_dict(),
            "networks": len(self.networks),
            "fitted_on": int(self.seen.sum()),
            "in_distribution": int(self.inside.sum()),
            "scores": self.scores,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class TaskHead:
    """Predicts one task of one's own. Made by `fit_head`, or loaded by `aiop.load_head`.

    Attributes:
        task: what it predicts.
        head: the fitted head, which sees networks as ``predictor`` does.
        record: what it was fitted on, and its leave-one-out scores.
        notes: what was left out of the labels and why; of a loaded head none.
        tuned: networks tuned to the labels, which ``head`` sees the predictions of; None without tuning.
    """

    task: HeadTask
    head: FewShotHead
    predictor: Predictor
    record: FitRecord
    notes: tuple[str, ...] = field(default=())
    tuned: TunedNetworks | None = None

    # A text is a sequence too, of its letters: the first overload that fits decides.
    @overload
    def predict(self, networks: Network) -> NetworkPrediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, networks: Sequence[Network]) -> list[NetworkPrediction]: ...

    def predict(self, networks: Network | Sequence[Network]) -> NetworkPrediction | list[NetworkPrediction]:
        """Predict the task for one network, or for each of a list; networks as of `Predictor.predict`."""
        if isinstance(networks, str | Path | ComputeGraph):
            return self.predict([networks])[0]
        if not networks:
            return []
        graphs = [item if isinstance(item, ComputeGraph) else read(item) for item in networks]
        views = self._see(self.predictor.views(graphs), lambda: [encode(graph) for graph in graphs])
        value, low, high, macs_only, inside = self.predict_views(views)
        return [
            NetworkPrediction(
                graph.name, graph.macs, graph.params,
                (Prediction(self.task.name, float(value[row]), self.task.unit, float(low[row]), float(high[row]),
                            float(macs_only[row]), bool(inside[row])),),
            )
            for row, graph in enumerate(graphs)
        ]  # fmt: skip

    def predict_views(self, views: Views) -> tuple[Array, Array, Array, Array, Array]:
        """Return value, low, high, what MACs alone say (all in the unit) and whether inside, each ``(n,)``.

        The views are what ``head`` was fitted to: with tuned networks, what these say is among them.
        """
        value = self._clip(self.head.predict(views))
        low, high = (self._clip(end) for end in self.head.interval(views))
        macs_only = self._clip(self.task.unscale(self.record.trend.predict(views.macs)))
        return (
            value,
            np.minimum(low, value),
            np.maximum(high, value),
            macs_only,
            self.head.remoteness(views) <= 1,
        )

    def save(self, path: str | Path) -> None:
        """Write the head as one file, whole or not at all; `aiop.load_head` reads it."""
        from aiop.predictor.head_file import save_head  # which imports this file

        save_head(self, path)

    def evaluate(
        self, labels: LabelSource, metric: str | None = None, *, progress: bool = False
    ) -> Evaluation:
        """Compare with labels: a table as for `fit_head` (of a benchmark table its test rows), or network -> value.

        Networks that the head was fitted on are judged by their leave-one-out predictions.

        Raises:
            AiopError: as `fit_head`, and for labels in another unit than the head's.
        """
        return self.evaluate_labelled(see(self.predictor, self.read(labels, metric), progress=progress))

    def read(self, labels: LabelSource, metric: str | None = None) -> Labels:
        """Read labels of the head's task, by default from the column that is called like it."""
        found = read_labels(labels, metric, part="test", like=self.task)
        unit = found.task.unit
        if unit and self.task.unit and unit != self.task.unit:
            raise AiopError(
                f"the head predicts {self.task.name} in {self.task.unit}, labels {found.task.name} of {found.source} "
                f"are in {unit}: choose another column with --metric"
            )
        if not len(found):
            raise AiopError(
                f"{found.source} has no label of {found.task.name} to evaluate on: give measured networks"
            )
        return found

    def evaluate_labelled(self, labelled: LabelledViews) -> Evaluation:
        """As `evaluate`, of networks that the predictor has seen already."""
        views, measured = self._see(labelled.views, labelled.graphs), labelled.values
        predicted, low, high, macs_only, inside = self.predict_views(views)
        seen = self._put_held_out(labelled.marks, predicted)
        low, high = np.where(seen, np.nan, low), np.where(seen, np.nan, high)
        direction = self.task.direction
        own = judge(predicted, measured, direction) | {
            "coverage": number_or_none(coverage(low, high, measured))
        }
        notes = list(labelled.labels.notes)
        if seen.any():
            notes.append(
                f"{seen.sum():,} of the {len(seen):,} networks are, or compute the same as, those that the head was "
                "fitted on: they are judged by leave-one-out predictions and not counted in the coverage"
            )
        return Evaluation(
            task=self.task,
            networks=labelled.labels.networks,
            measured=measured,
            predicted=predicted,
            low=low,
            high=high,
            macs=views.macs,
            seen=seen,
            inside=inside,
            scores={"head": own} | judge_costs(views.macs, views.params, measured, macs_only, direction),
            notes=tuple(notes),
        )

    def _see(self, views: Views, graphs: Callable[[], list[GraphArrays]]) -> Views:
        """Add what tuned networks say, where there are any."""
        return views if self.tuned is None else with_tuned(views, self.tuned.predict(graphs()))

    def _put_held_out(self, marks: Sequence[str], predicted: Array) -> Array:
        """Put leave-one-out predictions, in place, where a network is one of the fit; return where, bool ``(n,)``."""
        known: dict[str, list[float]] = {}
        for mark, value in zip(self.record.marks, self._clip(self.record.held_out), strict=True):
            known.setdefault(mark, []).append(float(value))
        seen = np.array([bool(mark) and mark in known for mark in marks], bool)
        for row in np.flatnonzero(seen):
            predicted[row] = np.mean(known[marks[int(row)]])
        return seen

    def _clip(self, values: Array) -> Array:
        """Shares do not leave 0 to 100%."""
        return np.clip(values, 0.0, 100.0) if self.task.unit == "%" else np.asarray(values)


def fit_head(
    labels: LabelSource,
    metric: str | None = None,
    *,
    budget: int | None = None,
    seed: int = 0,
    lower: bool = False,
    tune: str | None = None,
    predictor: Predictor | str | Path | None = None,
    progress: bool = False,
) -> TaskHead:
    """Fit a head to the labels of a task of one's own.

    Args:
        labels: path of a table with a column ``network`` and columns of numbers (.csv, .parquet), the name of a
            benchmark table (of which rows for training are taken), or a mapping of networks to values.
        metric: the column; it may be left out where there is only one.
        budget: use that many labels only, drawn by ``seed``.
        seed: of the draw and of the fit, which is the same for the same seed.
        lower: lower values are better, where the column's header does not say so.
        tune: fine-tune copies of the predictor's networks to the labels, which the head weighs beside the rest:
            ``heads``, ``all`` or ``adapter`` (`aiop.predictor.tuned_network.MODES`). It asks for 20 labels and
            takes minutes.
        predictor: the one to stand on, or its folder; by default the one that comes with the package.
        progress: show a bar on stderr while a table's networks are read and networks are tuned.

    Raises:
        AiopError: for labels that are missing, not finite, constant, contradictory or fewer than two, and networks of
            which none can be read.
    """
    if tune is not None:
        check_mode(tune)
    predictor = predictor if isinstance(predictor, Predictor) else load(predictor)
    found = read_labels(labels, metric, part="train", lower=lower)
    if budget is not None:
        if budget < LEAST:
            raise AiopError(f"a budget of {budget} labels is too small: give at least {LEAST}")
        if budget > len(found):
            note = f"the budget is {budget} labels, but there are {len(found)}: all are used"
            found = replace(found, notes=(*found.notes, note))
        else:
            drawn = np.random.default_rng(seed).choice(len(found), budget, replace=False)
            found = found.rows(np.sort(drawn))
    _check_values(found)
    seen = see(predictor, found, progress=progress)
    return fit_labelled(predictor, seen, seed=seed, tune=tune, progress=progress)


def fit_labelled(
    predictor: Predictor,
    labelled: LabelledViews,
    *,
    seed: int = 0,
    tune: str | None = None,
    progress: bool = False,
) -> TaskHead:
    """As `fit_head`, to labelled networks that the predictor has seen already."""
    labels, views, values = labelled.labels, labelled.views, labelled.values
    _check_values(labels)
    task = labels.task
    scaled = task.scale(values)
    tuned = None
    if tune is not None:
        from aiop.predictor.tuning import tune_to  # which most heads do without

        tuned, held = tune_to(predictor, labelled, tune, seed=seed, progress=progress)
        views = with_tuned(views, held)
    # Matrices this small are slower on several threads, and their last digits would depend on the number of these.
    with threadpool_limits(1 if len(labels) <= _SMALL else None):
        head = new_head(task, seed, tuned=tuned is not None).fit(views, values)
    held_out = np.asarray(head.held_out_, np.float64)
    trend = task.unscale(trend_held_out(views.macs, scaled))
    scores = {"head": judge(held_out, values, task.direction, seed=seed)}
    scores |= judge_costs(views.macs, views.params, values, trend, task.direction, seed=seed)
    notes = list(labels.notes)
    twins = len(labelled.marks) - len(set(labelled.marks))
    if twins:
        notes.append(
            f"{twins:,} of the {len(labels):,} networks compute the same as another one of them: leave-one-out scores "
            "are better than those of new networks will be"
        )
    record = FitRecord(
        labels=len(labels),
        low=float(values.min()),
        high=float(values.max()),
        seed=seed,
        scores=scores,
        trend=CostTrend.fit(views.macs, scaled),
        marks=labelled.marks,
        held_out=held_out,
    )
    return TaskHead(task, head, predictor, record, tuple(notes), tuned)


def new_head(task: HeadTask, seed: int = 0, *, tuned: bool = False) -> FewShotHead:
    """Return an unfitted head for a task; a metric that grows with costs or falls with them is expected to.

    With ``tuned`` it has a member for what tuned networks say.
    """
    cost = task.name.partition("/")[0] in COST_DOMAINS
    return FewShotHead(
        coverage=COVERAGE,
        direction=task.direction,
        transform=task.transform,
        seed=seed,
        members=(*DEFAULT_MEMBERS, "tuned") if tuned else None,
        cost_sign=-1 if cost and task.direction == "max" else 1,
        quality=not cost,
    )


def _check_values(labels: Labels) -> None:
    """Refuse labels that nothing can be learnt from."""
    if len(labels) < LEAST:
        why = f"; left out: {labels.notes[0]}" if labels.notes else ""
        raise AiopError(
            f"{labels.source} has {len(labels)} usable {'label' if len(labels) == 1 else 'labels'} of "
            f"{labels.task.name}: measure at least {LEAST} networks, better 20{why}"
        )
    if np.ptp(labels.values) == 0:
        raise AiopError(
            f"all {len(labels)} labels of {labels.task.name} in {labels.source} are {labels.values[0]:g}: there is "
            "nothing to learn; measure networks that differ"
        )
