"""A whole pretraining run: tables to weights, with calibration and held-out scores on the card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aiop.errors import AiopError
from aiop.finetune.kernel import LARGEST, KernelExpert
from aiop.graph_ir.features import COSTS, GRAPH_FEATURES
from aiop.predictor.adapting import adapt_finished, check_finished, judged, of_member
from aiop.predictor.blend import Blend
from aiop.predictor.predictor import load
from aiop.predictor.task_cards import neighbourhood_arrays, neighbourhoods, task_card
from aiop.pretrain.adapter_training import CHECKPOINT, train_adapters
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.data import LabelledCorpus, labelled_corpora
from aiop.pretrain.evaluation import embed_rows
from aiop.pretrain.module import Ensemble
from aiop.pretrain.targets import LabelScaler, Target
from aiop.pretrain.training import TrainingResult, train
from aiop.pretrain.watching import WatchedSet
from aiop.pretrain.weights_io import Card, TaskCard, save_predictor
from aiop.tasks.tables.table import is_own, load_table

__all__ = ["finish", "pretrain_from_config", "search_from_config"]

Array = npt.NDArray[Any]


def pretrain_from_config(
    path: str | Path, *, fresh: bool = False, progress: bool = True, adapters_only: bool = False
) -> dict[str, Any]:
    """Train a predictor as a YAML file says, and save weights and card in its folder ``out``.

    An interrupted run goes on from its last checkpoint; ``fresh`` begins anew. ``out`` and tables of the user's own
    are taken relative to the file. ``adapters_only`` trains what the setting ``adapters`` asks for on the predictor
    that is in ``out`` already, and changes nothing else of it.

    Returns:
        The card of the saved predictor.

    Raises:
        AiopError: for settings, tables or labels that do not fit.
    """
    config = PretrainConfig.load(path)
    folder = Path(path).resolve().parent
    out = folder / config.out
    if adapters_only:
        check_finished(config, out)
        for checkpoint in out.glob(f"run/*/{CHECKPOINT}") if fresh else ():
            checkpoint.unlink()
    elif fresh:
        shutil.rmtree(out / "run", ignore_errors=True)
    corpora, targets, watched = _read(config, folder, progress)
    if adapters_only:
        adapt_finished(config, out, corpora, targets, progress)
        return load(out).card
    _check_labels(corpora, targets)
    sets = [item.training_set() for item in corpora]
    results = []
    for member in range(config.members):
        settings = of_member(config, out, member)
        result = train(settings, sets, targets, watched=watched, progress=progress)
        if config.adapters.wanted:
            names = [target.name for target in targets]
            train_adapters(settings, result.module, result.scalers, sets, names, progress=progress)
        results.append(result)
    finish(results, corpora, targets, config, out)
    return load(out).card


def search_from_config(
    path: str | Path, trials: int, *, fresh: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Search the settings of a YAML file in short runs, in the folder ``out/search``; see `aiop.pretrain.search`.

    An interrupted search goes on; ``fresh`` begins anew.

    Raises:
        AiopError: for settings, tables or labels that do not fit, and fewer than one trial.
    """
    from aiop.pretrain.search import search

    if trials < 1:
        raise AiopError(f"a search of {trials} trials finds nothing: give at least 1")
    config = PretrainConfig.load(path)
    folder = Path(path).resolve().parent
    out = folder / config.out / "search"
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    corpora, targets, watched = _read(config, folder, progress)
    # The best settings lie in another folder than the file: names of files are written in full.
    absolute = {
        "out": str(folder / config.out),
        "corpora": _sources(config.corpora, folder),
        "watch": _sources(config.watch, folder),
    }
    config = PretrainConfig.from_mapping(config.to_dict() | absolute)
    sets = [item.training_set() for item in corpora]
    return search(config, sets, targets, out, trials, watched=watched, progress=progress)


def _sources(names: Sequence[str], folder: Path) -> list[str]:
    return [str(folder / name) if is_own(name) else name for name in names]


def _read(
    config: PretrainConfig, folder: Path, progress: bool
) -> tuple[list[LabelledCorpus], list[Target], list[WatchedSet]]:
    """Read the corpora of a run, and those that it only looks at, where excluded tasks are as closed."""
    tables, others = _sources(config.corpora, folder), _sources(config.watch, folder)
    for name in (*tables, *others):
        if is_own(name):
            load_table(name)  # registers its tasks, which a pattern may name
    corpora, targets = labelled_corpora(
        tables,
        config.tasks,
        exclude=config.exclude,
        most_graphs=config.most_graphs,
        seed=config.seed,
        progress=progress,
    )
    if not others:
        return corpora, targets, []
    looked_at, asked = labelled_corpora(others, exclude=config.exclude, progress=progress)
    return corpora, targets, [item.watched_set(asked, config.seed) for item in looked_at]


def _check_labels(corpora: Sequence[LabelledCorpus], targets: Sequence[Target]) -> None:
    """Refuse what would only fail after training: an interval is calibrated on validation labels."""
    for item in corpora:
        for column, target in enumerate(targets):
            train, val = (
                np.isfinite(item.values[item.rows[part], column]).sum() for part in ("train", "val")
            )
            if train and not val:
                raise AiopError(
                    f'task "{target.name}" has labels of {train} networks to train on, but none to validate on: '
                    'measure more networks, or leave it out with the setting "tasks"'
                )


def finish(
    results: Sequence[TrainingResult],
    corpora: Sequence[LabelledCorpus],
    targets: Sequence[Target],
    config: PretrainConfig,
    out: Path,
) -> None:
    """Calibrate trained networks, read as one, on validation rows, score it on test rows, and save it in ``out``.

    Corpora with few networks get a kernel expert beside the graph network, with the share that has the least squared
    error on their validation rows.
    """
    module = Ensemble([result.module for result in results]).eval()
    scalers = results[0].scalers  # fitted to the training labels, which are the same for all
    arrays: dict[str, torch.Tensor] = {}
    limits: dict[str, dict[str, float]] = {}
    experts: dict[str, dict[str, Any]] = {}
    tasks: dict[str, TaskCard] = {}
    for item in corpora:
        rows = item.rows
        train_embeddings, _ = embed_rows(module, item.corpus, rows["train"])
        val_embeddings, val_scaled = embed_rows(module, item.corpus, rows["val"])
        _, test_scaled = embed_rows(module, item.corpus, rows["test"])
        features = item.corpus.graph_features()
        blend = _expert(scalers, item, val_scaled, config.seed)
        if blend is not None:
            blend.apply(val_scaled, features[rows["val"]])
            blend.apply(test_scaled, features[rows["test"]])
            names_of = [targets[column].name for column in blend.columns]
            experts[item.name] = {"share": blend.share, "length": blend.expert.length, "tasks": names_of}
            for part, array in blend.expert.arrays().items():
                arrays[f"{item.name}/expert/{part}"] = torch.from_numpy(array)
        groups = ([item.group(row) for row in rows["train"]], [item.group(row) for row in rows["val"]])
        costs = features[:, COSTS]
        near = neighbourhoods(
            (train_embeddings, val_embeddings),
            (costs[rows["train"]], costs[rows["val"]]),
            groups,
            config.seed,
        )
        limits[item.name] = {kind: found.limit for kind, found in near.items()}
        arrays |= neighbourhood_arrays(item.name, near)
        own = item.own_rows("train")
        pool, pool_scaled = rows["val"], val_scaled
        stretched = blend is None or blend.share < 1.0
        if blend is not None and not stretched:
            # The expert alone predicts here, and cross-validation gave it many more groups to be judged on.
            guess = np.full((len(own), len(targets)), np.nan)
            guess[:, blend.columns] = blend.expert.held_out
            pool, pool_scaled = np.concatenate([own, pool]), np.concatenate([guess, pool_scaled])
        for column, target in enumerate(targets):
            if not np.isfinite(item.values[rows["train"], column]).any():
                continue
            tasks[target.name] = task_card(
                target.name,
                scalers[column],
                item,
                column,
                pool,
                pool_scaled[:, column],
                test_scaled[:, column],
                stretched=stretched,
            )
    tables = {
        item.name: {
            "files": item.table.files,
            "licence": item.table.licence,
            "rows": {part: len(indices) for part, indices in item.rows.items()},
        }
        for item in corpora
    }
    card = Card(
        tuple(tasks[target.name] for target in targets),
        config.to_dict(),
        tables,
        {"neighbourhoods": limits, "experts": experts},
    )
    save_predictor(out, module, judged(card, module, corpora), arrays)


def _expert(
    scalers: Sequence[LabelScaler], item: LabelledCorpus, val_scaled: Array, seed: int
) -> Blend | None:
    """Fit a kernel expert to a corpus's own training networks; None where there are too many, or it does not help."""
    rows = item.own_rows("train")
    # Whether labels are few is a matter of the table, not of how much of it a run was given.
    if item.available > LARGEST or not len(item.rows["val"]):
        return None
    columns = [
        column for column in range(item.values.shape[1]) if np.isfinite(item.values[rows, column]).any()
    ]

    def scaled(places: Array) -> Array:
        return np.stack([scalers[c].transform(item.values[places, c]) for c in columns], axis=1)

    groups = [item.group(row) for row in rows]
    features = item.corpus.graph_features()
    expert = KernelExpert.fit(features[rows], scaled(rows), groups, seed, GRAPH_FEATURES)
    guess, truth = expert.predict(features[item.rows["val"]]), scaled(item.rows["val"])
    losses = {
        share: float(np.nanmean((share * guess + (1 - share) * val_scaled[:, columns] - truth) ** 2))
        for share in np.linspace(0, 1, 11)
    }
    share = min(losses, key=lambda key: losses[key])
    return Blend(expert, float(share), tuple(columns)) if share else None
