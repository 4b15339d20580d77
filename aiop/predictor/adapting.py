"""Adapters for a predictor that is finished: trained, judged on test rows, and saved with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from aiop.errors import AiopError
from aiop.pretrain.adapter_training import train_adapters
from aiop.pretrain.card import read_card
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.data import LabelledCorpus
from aiop.pretrain.evaluation import embed_rows, score
from aiop.pretrain.module import Ensemble, PredictorModule
from aiop.pretrain.targets import Target
from aiop.pretrain.weights_io import Card, load_predictor, save_predictor

__all__ = ["adapt_finished", "check_finished", "judged", "of_member"]


def of_member(config: PretrainConfig, out: Path, member: int) -> PretrainConfig:
    """Return the settings of one member's run: a folder and a seed of its own."""
    own = {"out": str(out / "run" / str(member)), "seed": config.seed + member}
    return PretrainConfig.from_mapping(config.to_dict() | own)


def check_finished(config: PretrainConfig, out: Path) -> None:
    """Refuse settings without adapters, and a folder without a predictor, before anything is read for them."""
    if not config.adapters.wanted:
        raise AiopError("the settings ask for no adapters: give 'adapters', e.g. {by: domain}")
    read_card(out)


def adapt_finished(
    config: PretrainConfig,
    out: Path,
    corpora: Sequence[LabelledCorpus],
    targets: Sequence[Target],
    progress: bool = True,
) -> None:
    """Train adapters on the predictor in ``out``, which learnt the tasks of these settings, and save it again.

    Raises:
        AiopError: for settings of another predictor.
    """
    module, card, arrays = load_predictor(out)
    names, learnt = [target.name for target in targets], [task.name for task in card.tasks]
    for name in (*names, *learnt):
        if name not in learnt or name not in names:
            where = "settings" if name in learnt else "predictor"
            raise AiopError(
                f'task "{name}" is not one of the {where}: give the settings that predictor {out} was trained with'
            )
    if names != learnt:
        raise AiopError(
            f"the settings have the tasks of predictor {out} in another order: name corpora as it was trained with"
        )
    sets = [item.training_set() for item in corpora]
    scalers = [task.scaler for task in card.tasks]
    for number, member in enumerate(module.members):
        settings = of_member(config, out, number)
        train_adapters(settings, cast(PredictorModule, member), scalers, sets, names, progress=progress)
    card = replace(card, config=card.config | {"adapters": config.to_dict()["adapters"]})
    save_predictor(out, module, judged(card, module, corpora), arrays)


def judged(card: Card, module: Ensemble, corpora: Sequence[LabelledCorpus]) -> Card:
    """Return the card with, for every task that has an adapter, its group and its scores on test rows."""
    groups = {column: adapter.group.name for adapter in module.adapters for column in adapter.group.columns}
    columns = module.adapted_columns
    names, scalers = [card.tasks[c].name for c in columns], [card.tasks[c].scaler for c in columns]
    found: dict[str, Any] = {}
    for item in corpora if columns else ():
        rows = item.rows["test"]
        outputs = embed_rows(module, item.corpus, rows, adapted=True)[1][:, len(card.tasks) :]
        found |= score(outputs, item.values[rows][:, columns], scalers, names)
    tasks = list(card.tasks)
    for column, task in enumerate(tasks):
        extra = {key: value for key, value in task.extra.items() if key != "adapter"}
        if column in groups:
            extra["adapter"] = {"group": groups[column], "held_out": found.get(task.name, {})}
        tasks[column] = replace(task, extra=extra)
    return replace(card, tasks=tuple(tasks))
