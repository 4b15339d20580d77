"""A whole pretraining run: tables to weights, with calibration and held-out scores on the card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiop.finetune.baselines import CostTrend
from aiop.finetune.calibration import Interval, Neighbourhood
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.data import LabelledCorpus, labelled_corpora
from aiop.pretrain.evaluation import score
from aiop.pretrain.targets import Target
from aiop.pretrain.training import TrainingResult, train
from aiop.pretrain.weights_io import Card, TaskCard, save_predictor
from aiop.predictor.predictor import COVERAGE, load, scaled_corpus
from aiop.tasks import get_task

__all__ = ["finish", "pretrain_from_config"]


def pretrain_from_config(path: str | Path, *, fresh: bool = False, progress: bool = True) -> dict[str, Any]:
    """Train a predictor as a YAML file says, and save weights and card in its folder ``out``.

    An interrupted run goes on from its last checkpoint; ``fresh`` begins anew. ``out`` is taken relative to the file.

    Returns:
        The card of the saved predictor.

    Raises:
        AiopError: for settings, tables or labels that do not fit.
    """
    config = PretrainConfig.load(path)
    out = Path(path).resolve().parent / config.out
    if fresh:
        shutil.rmtree(out / "run", ignore_errors=True)
    corpora, targets = labelled_corpora(config.corpora, config.tasks, progress=progress)
    settings = PretrainConfig.from_mapping(config.to_dict() | {"out": str(out / "run")})
    result = train(settings, [item.training_set() for item in corpora], targets, progress=progress)
    finish(result, corpora, targets, config, out)
    return load(out).card


def finish(
    result: TrainingResult,
    corpora: Sequence[LabelledCorpus],
    targets: Sequence[Target],
    config: PretrainConfig,
    out: Path,
) -> None:
    """Calibrate a trained network on validation rows, score it on test rows, and save it in ``out``."""
    arrays: dict[str, torch.Tensor] = {}
    limits: dict[str, float] = {}
    tasks: dict[str, TaskCard] = {}
    for item in corpora:
        rows = item.rows
        train_embeddings, _ = scaled_corpus(result.module, item.corpus, rows["train"])
        val_embeddings, val_scaled = scaled_corpus(result.module, item.corpus, rows["val"])
        _, test_scaled = scaled_corpus(result.module, item.corpus, rows["test"])
        near = Neighbourhood.fit(train_embeddings, val_embeddings, config.seed)
        limits[item.name] = near.limit
        for part in ("mean", "axes", "references"):
            arrays[f"{item.name}/{part}"] = torch.from_numpy(np.ascontiguousarray(getattr(near, part), np.float32))
        names = [target.name for target in targets]
        scores = score(test_scaled, item.values[rows["test"]], result.scalers, names)
        for column, (name, scaler) in enumerate(zip(names, result.scalers, strict=True)):
            labels = item.values[rows["train"], column]
            if not np.isfinite(labels).any():
                continue
            task = get_task(name)
            held_out = scaler.transform(item.values[rows["val"], column])
            interval = Interval.fit(val_scaled[:, column], held_out, COVERAGE)
            trend = CostTrend.fit(item.macs[rows["train"]], scaler.transform(labels))
            extra = {
                "corpus": item.name,
                "labels": int(np.isfinite(labels).sum()),
                "interval": {"centres": interval.centres, "widths": interval.widths},
                "macs_only": trend.to_dict(),
            }
            tasks[name] = TaskCard(name, scaler, task.unit, task.direction, scores.get(name, {}), extra)
    tables = {
        item.name: {
            "files": item.table.files,
            "licence": item.table.licence,
            "rows": {part: len(indices) for part, indices in item.rows.items()},
        }
        for item in corpora
    }
    card = Card(
        tuple(tasks[target.name] for target in targets), config.to_dict(), tables, {"neighbourhoods": limits}
    )
    save_predictor(out, result.module, card, arrays)
