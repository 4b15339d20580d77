"""Knowledge infusion: new tasks for a finished predictor, from many cheap labels.

Adapters on the frozen backbone learn the labels (AIO-P, Mills et al., AAAI 2023); nothing else of the predictor
changes. Several are trained at once, each without a share of the networks: what it says of these is what the scores and
intervals of a new task are from, and the mean of all is what is predicted. A kernel expert on graph features
(`aiop.finetune.kernel`) learns the same labels, and has the share in the predictions that suits networks held out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.finetune.kernel import LARGEST, KernelExpert
from aiop.graph_ir.features import COSTS, GRAPH_FEATURES
from aiop.predictor.build_table import cheap_labels
from aiop.predictor.labels import LabelSource, check_cells, find_task
from aiop.predictor.predictor import Predictor, load
from aiop.predictor.task_cards import neighbourhood_arrays, neighbourhoods, task_card
from aiop.predictor.truth_scale import MARK, check_truth, scaled_to_truth
from aiop.pretrain.adapter_training import CHECKPOINT, train_adapters
from aiop.pretrain.adapters import AdapterGroup
from aiop.pretrain.card import SHIPPED, WEIGHTS, read_card
from aiop.pretrain.config import PretrainConfig
from aiop.pretrain.data import LabelledCorpus, labelled_corpora
from aiop.pretrain.evaluation import embed_rows
from aiop.pretrain.module import Ensemble, PredictorModule
from aiop.pretrain.sets import TrainingSet
from aiop.pretrain.targets import LabelScaler
from aiop.pretrain.weights_io import Card, load_predictor, save_predictor
from aiop.strict import at_least
from aiop.tasks import get_task
from aiop.tasks.tables import load_table
from aiop.tasks.tables.table import is_own

__all__ = ["LEAST", "InfusionSettings", "infuse", "infuse_corpus"]

Array = npt.NDArray[Any]

LEAST = 20
"""Networks that are needed at least, for each task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfusionSettings:
    """How adapters are trained.

    Attributes:
        steps: of optimisation. Cheap labels are noisy: more steps learn the noise.
        adapters: trained side by side, each without its share of the networks; at least 2.
        width: of an adapter's states.
        lr: peak learning rate of the one-cycle schedule.
        batch_size: graphs per step.
        ranking_weight: of the pairwise ranking term beside the regression.
        expert: whether a kernel expert on graph features has a share in the predictions.
        seed: of everything that is drawn.
        threads: of torch; 0 leaves torch's own choice.
        device: ``auto`` takes a GPU where there is one.
    """

    steps: int = 150
    adapters: int = 5
    width: int = 16
    lr: float = 3e-3
    batch_size: int = 64
    ranking_weight: float = 0.0
    expert: bool = True
    seed: int = 0
    threads: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "width", "batch_size")
        at_least(self, 2, "adapters")
        at_least(self, 0, "seed", "threads", "ranking_weight")
        if not self.lr > 0:
            raise AiopError(f"setting 'lr' is {self.lr}: give a number above 0")

    def run(self, out: Path, member: int) -> PretrainConfig:
        """Return the settings of the run that trains one member's adapters."""
        shared = ("lr", "batch_size", "ranking_weight", "threads", "device")
        adapters = {"by": "corpus", "steps": self.steps, "width": self.width, "lr": self.lr}
        return PretrainConfig.from_mapping(
            {name: getattr(self, name) for name in shared}
            | {
                "out": str(out / "infusion" / str(member)),
                "seed": self.seed + member,
                "adapters": adapters,
                "eval_every": 0,
            }
        )


def infuse(
    labels: str | Path,
    metrics: Sequence[str] = (),
    *,
    out: str | Path,
    predictor: str | Path | None = None,
    truth: LabelSource | None = None,
    settings: InfusionSettings | None = None,
    fresh: bool = False,
    progress: bool = False,
) -> Predictor:
    """Add the tasks that a table of networks has columns of to a predictor, and save it in folder ``out``.

    A run that was interrupted goes on from its checkpoint in ``out``.

    Args:
        labels: path of a table (.csv, .parquet) as for `aiop.fit_head`; of the table of `aiop latent build`, what it
            has of bodies for pseudo-labels.
        metrics: its columns; all columns of numbers by default.
        out: another folder than the predictor's.
        predictor: the folder of the predictor to add to; by default the one that comes with the package.
        truth: a few true labels, by which predictions are put right (`aiop.predictor.truth_scale`); of the table of
            `aiop latent build`, what it has of bodies of truth.
        settings: of the training.
        fresh: begin anew, whatever an earlier run in ``out`` left.
        progress: show bars on standard error.

    Returns:
        The predictor in ``out``.

    Raises:
        AiopError: for labels that are missing, not finite, constant or contradictory, a table or task that the
            predictor has learnt already, fewer than 20 networks, and folders that do not fit.
    """
    base, out = Path(predictor) if predictor is not None else SHIPPED, Path(out)
    if not is_own(str(labels)):
        raise AiopError(f'"{labels}" is no table of your own: give the path of a .csv or .parquet file')
    _check_folders(base, out)
    labels = cheap_labels(Path(labels))
    table = load_table(str(labels))
    names = [find_task(table, metric, str(labels)) for metric in metrics] or list(table.values)
    for name in names:
        check_cells(table, name, str(labels))
    if truth is not None:
        check_truth(truth, names)
    for checkpoint in out.glob(f"infusion/*/{CHECKPOINT}") if fresh else ():
        checkpoint.unlink()
    (item,), _ = labelled_corpora([str(labels)], names, progress=progress)
    found = infuse_corpus(item, names, out=out, predictor=base, settings=settings, progress=progress)
    if truth is None:
        return found
    scaled_to_truth(found, truth, names, progress=progress).save(out)
    return load(out)


def infuse_corpus(
    item: LabelledCorpus,
    tasks: Sequence[str],
    *,
    out: str | Path,
    predictor: str | Path | None = None,
    settings: InfusionSettings | None = None,
    progress: bool = False,
) -> Predictor:
    """As `infuse`, from networks that are encoded: all rows ``item.rows`` that are the table's own.

    ``tasks`` are registered names, one per column of ``item.values``.
    """
    base, out = Path(predictor) if predictor is not None else SHIPPED, Path(out)
    settings = settings or InfusionSettings()
    _check_folders(base, out)
    module, card, arrays = load_predictor(base)
    rows = np.sort(np.concatenate([item.own_rows(part) for part in ("train", "val", "test")]))
    rows = np.unique(rows[np.isfinite(item.values[rows]).any(axis=1)])
    _check_labels(card, item, tasks, rows)
    parts = _parts(item, rows, settings)
    scalers = [
        LabelScaler.fit(item.values[rows, column], "standard", get_task(name).transform, name)
        for column, name in enumerate(tasks)
    ]
    learnt = [
        _train(settings.run(out, number), cast(PredictorModule, member), item, rows, parts, tasks, scalers, progress)
        for number, member in enumerate(module.members)
    ]  # fmt: skip
    held_out = np.mean([found.held_out for found in learnt], axis=0)
    expert = _expert(item, rows, scalers, held_out, settings.seed) if settings.expert else None
    if expert is not None:
        held_out = (1.0 - expert.share) * held_out + expert.share * expert.held_out
    group = AdapterGroup(item.name, tuple(range(len(card.tasks), len(card.tasks) + len(tasks))))
    for member, found in zip(module.members, learnt, strict=True):
        added = cast(PredictorModule, member).add_infused(group, settings.width, settings.adapters)
        added.load_state_dict(
            {f"adapters.{key}": value for key, value in found.adapters.state_dict().items()}
        )
    module = module.cpu().eval().requires_grad_(False)
    card, more = _described(card, module, item, tasks, rows, scalers, held_out, settings, expert)
    save_predictor(out, module, card, arrays | more)
    return load(out)


@dataclass(frozen=True, eq=False)
class _Expert:
    """The kernel expert, its share in scaled predictions, and what it says of n networks held out, (n, K)."""

    kernel: KernelExpert
    share: float
    held_out: Array


def _expert(
    item: LabelledCorpus, rows: Array, scalers: Sequence[LabelScaler], held_out: Array, seed: int
) -> _Expert | None:
    """Fit the expert, with the share of the least squared error beside the adapters; None where that is none."""
    if len(rows) > LARGEST:
        return None
    targets = np.stack(
        [scaler.transform(item.values[rows, column]) for column, scaler in enumerate(scalers)], axis=1
    )
    features = item.corpus.graph_features()[rows]
    groups = [item.group(row) for row in rows]
    kernel = KernelExpert.fit(features, targets, groups, seed, GRAPH_FEATURES)
    assert kernel.held_out is not None  # of one that was just fitted
    losses = {
        share: float(np.nanmean(((1 - share) * held_out + share * kernel.held_out - targets) ** 2))
        for share in np.linspace(0, 1, 11)
    }
    share = min(losses, key=lambda key: losses[key])
    return _Expert(kernel, float(share), kernel.held_out) if share else None


@dataclass(frozen=True, eq=False)
class _Learnt:
    """Adapters of one member, and what they say of n networks that they were not trained on, scaled, (n, K)."""

    adapters: nn.ModuleList
    held_out: Array


def _train(
    config: PretrainConfig,
    member: PredictorModule,
    item: LabelledCorpus,
    rows: Array,
    parts: Array,
    tasks: Sequence[str],
    scalers: Sequence[LabelScaler],
    progress: bool,
) -> _Learnt:
    """Train a member's adapters: adapter j on all rows but those of part j."""
    count, width = int(parts.max()) + 1, len(tasks)
    # To the training, every adapter has tasks of its own: copies, whose labels of the part left out are not there.
    values = np.full((len(item.values), count * width), np.nan)
    for number in range(count):
        kept = rows[parts != number]
        values[kept, number * width : (number + 1) * width] = item.values[kept]
    names = [f"{name}#{number}" for number in range(count) for name in tasks]
    groups = [
        AdapterGroup(f"{item.name}#{number}", tuple(range(number * width, (number + 1) * width)))
        for number in range(count)
    ]
    beside = member.with_new_heads(len(names))
    given = TrainingSet(item.name, item.corpus, values, rows, np.empty(0, np.int64))
    train_adapters(config, beside, [*scalers] * count, [given], names, groups=groups, progress=progress)
    outputs = embed_rows(beside, item.corpus, rows, adapted=True)[1][:, len(names) :]
    by_adapter = outputs.reshape(len(rows), count, width)
    return _Learnt(beside.adapters, by_adapter[np.arange(len(rows)), parts].astype(np.float64))


def _parts(item: LabelledCorpus, rows: Array, settings: InfusionSettings) -> Array:
    """Which adapter does not see a row, int (n,): shares of about equal size that keep groups of networks whole."""
    groups = sorted({item.group(row) for row in rows})
    if len(groups) < settings.adapters:
        raise AiopError(
            f"the labels are of {len(groups)} different networks, too few for {settings.adapters} adapters: label more"
        )
    order = np.random.default_rng([settings.seed, 7]).permutation(len(groups))
    part = {groups[place]: number % settings.adapters for number, place in enumerate(order)}
    return np.array([part[item.group(row)] for row in rows], np.int64)


def _described(
    card: Card,
    module: Ensemble,
    item: LabelledCorpus,
    tasks: Sequence[str],
    rows: Array,
    scalers: Sequence[LabelScaler],
    held_out: Array,
    settings: InfusionSettings,
    expert: _Expert | None,
) -> tuple[Card, dict[str, torch.Tensor]]:
    """Return the card with what was infused, and the arrays that belong to it."""
    embeddings = embed_rows(module, item.corpus, rows)[0]
    costs = item.corpus.graph_features()[rows][:, COSTS]
    groups = [item.group(row) for row in rows]
    near = neighbourhoods((embeddings, embeddings[:0]), (costs, costs[:0]), (groups, []), settings.seed)
    # All rows are held out from some adapter: on all of them the tasks are calibrated and judged.
    judged = replace(item, rows={"train": rows, "val": rows, "test": rows})
    found = tuple(
        task_card(name, scalers[column], judged, column, rows, held_out[:, column], held_out[:, column], stretched=True)
        for column, name in enumerate(tasks)
    )  # fmt: skip
    record = {
        "name": item.name,
        "tasks": list(tasks),
        "networks": len(rows),
        "files": item.table.files,
        "predictor": card.weights_sha256,
        "settings": {
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name not in ("threads", "device")
        },
    }
    table = {"files": item.table.files, "licence": item.table.licence, "rows": {"train": len(rows)}}
    extra = card.extra | {
        "neighbourhoods": card.extra["neighbourhoods"]
        | {item.name: {kind: space.limit for kind, space in near.items()}},
        "infusions": [*card.extra.get("infusions", []), record],
    }
    arrays = neighbourhood_arrays(item.name, near)
    digits = "".join(item.corpus.hashes[row][:MARK] for row in rows.tolist())
    marks = np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(len(rows), MARK // 2)
    arrays[f"{item.name}/marks"] = torch.from_numpy(marks.copy())
    if expert is not None:
        entry = {"share": expert.share, "length": expert.kernel.length, "tasks": list(tasks)}
        extra["experts"] = card.extra["experts"] | {item.name: entry}
        for part, array in expert.kernel.arrays().items():
            arrays[f"{item.name}/expert/{part}"] = torch.from_numpy(array)
    card = replace(card, tasks=(*card.tasks, *found), tables=card.tables | {item.name: table}, extra=extra)
    return card, arrays


def _check_folders(base: Path, out: Path) -> None:
    """Refuse what would fail after the work, or write over another predictor."""
    held = read_card(base)
    if out.exists() and not out.is_dir():
        raise AiopError(f'cannot write "{out}": it is a file; give the name of a folder')
    if out.resolve() == base.resolve():
        raise AiopError(f'"{out}" holds the predictor to add to: give another folder')
    if not (out / WEIGHTS).exists():
        return
    infusions = read_card(out).get("extra", {}).get("infusions") or [{}]
    if infusions[-1].get("predictor") != held["weights_sha256"]:
        raise AiopError(
            f'"{out}" holds another predictor, not one that was infused into {base}: give another folder'
        )


def _check_labels(card: Card, item: LabelledCorpus, tasks: Sequence[str], rows: Array) -> None:
    """Refuse what nothing can be learnt from, and what the predictor has learnt already."""
    if item.name in card.tables:
        raise AiopError(
            f'the predictor has learnt from a table "{item.name}" already: rename the file of labels'
        )
    known = {task.name for task in card.tasks}
    for column, name in enumerate(tasks):
        if name in known:
            raise AiopError(f"the predictor has learnt task {name} already: rename the column")
        values = item.values[rows, column]
        values = values[np.isfinite(values)]
        if len(values) < LEAST:
            raise AiopError(
                f"{item.name} has {len(values)} labels of {name}: label at least {LEAST} networks, better 400"
            )
        if np.ptp(values) == 0:
            raise AiopError(
                f"all {len(values)} labels of {name} are {values[0]:g}: there is nothing to learn; check the column"
            )
