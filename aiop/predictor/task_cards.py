"""What a predictor's card and arrays hold of a task and of the networks it was learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aiop.finetune.baselines import CostTrend
from aiop.finetune.calibration import Interval, Neighbourhood, rescaling
from aiop.finetune.metrics import scores
from aiop.predictor.predictor import COVERAGE
from aiop.pretrain.data import LabelledCorpus
from aiop.pretrain.targets import LabelScaler
from aiop.pretrain.weights_io import TaskCard
from aiop.tasks import get_task

__all__ = ["neighbourhood_arrays", "neighbourhoods", "task_card"]

Array = npt.NDArray[Any]

_PRECISION = {"mean": np.float32, "axes": np.float32, "references": np.float16}


def neighbourhoods(
    embeddings: tuple[Array, Array],
    costs: tuple[Array, Array],
    groups: tuple[Sequence[str], Sequence[str]],
    seed: int,
) -> dict[str, Neighbourhood]:
    """Fit what tells networks like those of training from others, by embedding and by costs.

    Args:
        embeddings: (n, D) of training networks, (m, D) of held-out ones.
        costs: likewise, as graph features.
        groups: of both, which are never on two sides.
        seed: of what is kept of large corpora.
    """
    return {
        "embedding": Neighbourhood.fit(*embeddings, groups, seed=seed),
        # Costs are logarithms: a floor of 0.3 counts a change by a fifth even where training never varied.
        "costs": Neighbourhood.fit(*costs, groups, floor=0.3, seed=seed),
    }


def neighbourhood_arrays(corpus: str, near: Mapping[str, Neighbourhood]) -> dict[str, torch.Tensor]:
    """Return what is saved of the neighbourhoods of a corpus, besides their limits."""
    return {
        f"{corpus}/{kind}/{part}": torch.from_numpy(np.ascontiguousarray(getattr(found, part), precision))
        for kind, found in near.items()
        for part, precision in _PRECISION.items()
    }


def task_card(
    name: str,
    scaler: LabelScaler,
    item: LabelledCorpus,
    column: int,
    pool: Array,
    guess: Array,
    test: Array,
    *,
    stretched: bool,
) -> TaskCard:
    """Calibrate one task on rows ``pool`` and score it on test rows, given scaled predictions of both."""
    task = get_task(name)
    labels = item.values[:, column]
    train = item.own_rows("train")
    held_out = scaler.transform(labels[pool])
    groups = [item.group(row) for row in pool]
    # Only ranking losses stretch; where the kernel expert alone predicts there is nothing to take back.
    offset, slope = rescaling(guess, held_out, groups) if stretched else (0.0, 1.0)
    interval = Interval.fit(offset + slope * guess, held_out, COVERAGE, groups)
    trend = CostTrend.fit(item.macs[train], scaler.transform(labels[train]))
    measured = labels[item.rows["test"]]
    values = scaler.inverse(offset + slope * test)
    found = scores(np.clip(values, 0.0, 100.0) if task.unit == "%" else values, measured)
    extra = {
        "corpus": item.name,
        "labels": int(np.isfinite(labels[train]).sum()),
        "offset": offset,
        "slope": slope,
        "interval": {"centres": interval.centres, "widths": interval.widths},
        "macs_only": trend.to_dict(),
    }
    known = {key: value for key, value in found.items() if np.isfinite(value)}
    return TaskCard(name, scaler, task.unit, task.direction, known, extra)
