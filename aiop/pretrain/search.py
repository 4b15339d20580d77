"""Search of a run's settings: short runs, each judged on networks or spaces kept out, in a study kept as a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from aiop.errors import AiopError, suggest
from aiop.pretrain.config import BackboneConfig, PretrainConfig
from aiop.pretrain.sets import TrainingSet
from aiop.pretrain.targets import Target
from aiop.pretrain.training import train
from aiop.pretrain.watching import WatchedSet

__all__ = ["BEST", "RANGES", "STUDY", "search"]

STUDY = "study.journal"
BEST = "best.yaml"

RANGES: dict[str, tuple[float, ...]] = {
    "lr": (5e-4, 1e-2),
    "weight_decay": (1e-3, 0.3),
    "ranking_weight": (0.0, 2.0),
    "node_noise": (0.0, 0.3),
    "graph_dropout": (0.0, 0.6),
    "sampling_power": (0.0, 1.0),
    "backbone.dropout": (0.0, 0.3),
}
"""What is searched where the settings name nothing."""

# A range over a factor of this is searched by its logarithm.
_LOG_FROM = 10.0


def search(
    config: PretrainConfig,
    sets: Sequence[TrainingSet],
    targets: Sequence[Target],
    folder: Path,
    trials: int,
    *,
    watched: Sequence[WatchedSet] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Run trials until the study in ``folder`` has ``trials`` finished ones; an interrupted trial goes on first.

    A trial's value is the mean SRCC over the watched corpora, where there are any, else over the held-out networks of
    the corpora trained on. The best settings are written to ``best.yaml``, a config like any other.

    Args:
        config: the run whose settings are varied in ``config.search``, over ``config.search_steps`` steps.
        sets: labelled corpora, as `train` takes them.
        targets: their tasks.
        folder: for the study and the runs.
        trials: finished ones in all, those of earlier calls included.
        watched: corpora to judge by without labels.
        progress: show a bar for every run.

    Returns:
        ``value`` and ``settings`` of the best trial, ``trials`` (value and settings of each) and ``config``, the path
        of the best settings.

    Raises:
        AiopError: for a setting that cannot be searched, a study of another search, or where every trial failed.
    """
    space = _space(config)
    study = _open(config, sets, targets, watched, folder, space)
    while sum(trial.state.is_finished() for trial in study.trials) < trials:
        number, settings = _next(study, space, config.seed)
        try:
            value = _value(config, settings, sets, targets, watched, folder, progress)
        except AiopError as error:
            study.set_user_attr(f"failure of {number}", str(error))
            study.tell(number, state=TrialState.FAIL)
        else:
            study.tell(number, value)
        # The runs themselves are no longer needed: the seed and the settings say what they were.
        shutil.rmtree(folder / "runs", ignore_errors=True)
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if not done:
        reasons = [text for name, text in study.user_attrs.items() if name.startswith("failure")]
        raise AiopError(
            f"no trial of the search succeeded, e.g.: {reasons[-1] if reasons else 'none was run'}"
        )
    best = study.best_trial
    path = folder / BEST
    # The best settings are for a run of full length, whose own search is done.
    values = with_settings(config, best.params).to_dict() | {"search": {}, "search_steps": None}
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return {
        "value": best.value,
        "settings": best.params,
        "trials": [{"value": trial.value, "settings": trial.params} for trial in done],
        "config": str(path),
    }


def with_settings(config: PretrainConfig, settings: dict[str, Any]) -> PretrainConfig:
    """Return the config with other values; ``backbone.`` stands before those of the graph network."""
    values = config.to_dict()
    for name, value in settings.items():
        part, _, inner = name.rpartition(".")
        (values[part] if part else values)[inner] = value
    return PretrainConfig.from_mapping(values, "search")


def _space(config: PretrainConfig) -> dict[str, BaseDistribution]:
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(PretrainConfig)}
    kinds |= {f"backbone.{field.name}": field.type for field in dataclasses.fields(BackboneConfig)}
    numbers = [name for name, kind in kinds.items() if kind in ("int", "float") and name != "seed"]
    space: dict[str, BaseDistribution] = {}
    for name, ends in (config.search or RANGES).items():
        if name not in numbers:
            raise AiopError(
                f"setting {name!r} cannot be searched{suggest(name, numbers)}: give a setting that is a number"
            )
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise AiopError(f"search of {name!r} is {list(ends)}: give its least and its largest value")
        log = ends[0] > 0 and ends[1] / ends[0] >= _LOG_FROM
        if kinds[name] == "int":
            space[name] = IntDistribution(round(ends[0]), round(ends[1]), log=log)
        else:
            space[name] = FloatDistribution(*ends, log=log)
        with_settings(config, {name: space[name].to_external_repr(ends[0])})
        with_settings(config, {name: space[name].to_external_repr(ends[1])})
    return space


def _open(
    config: PretrainConfig,
    sets: Sequence[TrainingSet],
    targets: Sequence[Target],
    watched: Sequence[WatchedSet],
    folder: Path,
    space: dict[str, BaseDistribution],
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STUDY
    try:
        backend = JournalFileBackend(str(path))
        study = optuna.create_study(
            study_name="aiop", storage=optuna.storages.JournalStorage(backend), direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise AiopError(f"study {path} cannot be read ({error}): delete it to search anew") from None
    parts = {
        "settings": config.training_hash(),
        "steps": config.search_steps,
        "space": {name: repr(distribution) for name, distribution in space.items()},
        "tasks": [target.name for target in targets],
        "sets": [[item.name, len(item.train), len(item.validation)] for item in sets],
        "watched": [[item.name, len(item.rows)] for item in watched],
    }
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    if study.user_attrs.get("identity", identity) != identity:
        raise AiopError(
            f"study {path} is of a search with other settings or data: search with --fresh, or choose another `out`"
        )
    study.set_user_attr("identity", identity)
    return study


def _next(study: optuna.Study, space: dict[str, BaseDistribution], seed: int) -> tuple[int, dict[str, Any]]:
    """Number and settings of the trial that an interruption left, else of a new one."""
    for left in study.get_trials(states=(TrialState.RUNNING,)):
        if left.params.keys() == space.keys():
            return left.number, left.params
        study.tell(left.number, state=TrialState.FAIL)
    # What a trial draws depends on the trials before it and on no call of this function.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=8)
    trial = study.ask(space)
    return trial.number, trial.params


def _value(
    config: PretrainConfig,
    settings: dict[str, Any],
    sets: Sequence[TrainingSet],
    targets: Sequence[Target],
    watched: Sequence[WatchedSet],
    folder: Path,
    progress: bool,
) -> float:
    given = with_settings(config, settings).to_dict()
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    given |= {"out": str(folder / "runs" / name), "steps": config.search_steps or config.steps}
    result = train(PretrainConfig.from_mapping(given), sets, targets, watched=watched, progress=progress)
    record = next(item for item in result.history if item["step"] == result.step)
    found = [value for value in record["watched" if watched else "srcc"].values() if value is not None]
    if not found:
        raise AiopError("the run has no held-out labels to judge a trial by: watch a corpus, or add labels")
    return float(sum(found) / len(found))
