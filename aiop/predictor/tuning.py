"""Gradient fine-tuning to the labels of a task of one's own: slower than a head alone, which weighs it.

After AIO-P (Mills et al., AAAI 2023), which fine-tunes heads, heads and backbone, or heads and adapters. Here the
labels are split in folds, and a network is tuned to all but one of them, once for every fold: what it says of the fold
left out is honest, so that a head can weigh it against everything else it knows; of other networks the mean of all is
taken.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aiop.errors import AiopError
from aiop.finetune.head import FewShotHead
from aiop.finetune.label_scale import LabelScale, check_labels
from aiop.finetune.tuned_member import with_tuned
from aiop.finetune.views import Views
from aiop.graph_ir.batch import collate
from aiop.graph_ir.features import GraphArrays
from aiop.predictor.labels import LabelledViews
from aiop.predictor.predictor import Predictor
from aiop.predictor.tuned_network import Mode, TunedNetwork, TunedNetworks, check_mode
from aiop.pretrain.losses import ranking_loss, regression_loss
from aiop.pretrain.module import Ensemble, PredictorModule

__all__ = ["FOLDS", "LEAST_TUNED", "SETTINGS", "TunedHead", "TuningSettings", "tune", "tune_to"]

Array = npt.NDArray[Any]

FOLDS = 5
LEAST_TUNED = 20
"""Labels that tuning asks for."""


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """How long and how fast a network is tuned.

    epochs: passes over the labels, but not fewer steps than ``least_steps`` nor more than ``most_steps``.
    batch_size: graphs per step.
    rate, output_rate: the largest learning rates, of everything and of the output.
    ranking: weight of the ranking loss beside that of the regression loss.
    node_noise, graph_dropout: as in pretraining.
    average: decay of the moving average of the weights.
    """

    epochs: int = 60
    least_steps: int = 200
    most_steps: int = 1200
    batch_size: int = 16
    rate: float = 1e-2
    output_rate: float = 1e-3
    ranking: float = 1.0
    node_noise: float = 0.1
    graph_dropout: float = 0.5
    average: float = 0.98

    def steps(self, labels: int) -> int:
        """Steps for that many labels."""
        wanted = math.ceil(labels * self.epochs / self.batch_size)
        return min(max(wanted, self.least_steps), self.most_steps)


SETTINGS: dict[Mode, TuningSettings] = {
    "heads": TuningSettings(rate=1e-3),
    "all": TuningSettings(),
    "adapter": TuningSettings(),
}
_WARM, _CLIP = 0.1, 1.0
_PENALTIES = 10.0 ** np.arange(-1, 6)


def tune_to(
    predictor: Predictor, labelled: LabelledViews, mode: str, *, seed: int = 0, progress: bool = False
) -> tuple[TunedNetworks, Array]:
    """Tune a predictor's networks to labelled ones; as `tune`, with a bar on stderr where ``progress``."""
    from rich.console import Console
    from rich.progress import Progress

    chosen, transform = check_mode(mode), labelled.labels.task.transform
    _check_enough(len(labelled.values))  # before there is a bar
    targets = LabelScale.fit(labelled.values, transform).forward(labelled.values)
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("tuning", total=1.0)
        return tune(
            predictor.module, labelled.graphs(), targets, chosen,
            marks=labelled.marks, seed=seed, advance=lambda share: bar.advance(task, share),
        )  # fmt: skip


def tune(
    module: Ensemble,
    graphs: Sequence[GraphArrays],
    targets: Array,
    mode: Mode,
    *,
    marks: Sequence[str] | None = None,
    seed: int = 0,
    settings: TuningSettings | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> tuple[TunedNetworks, Array]:
    """Tune the predictor's networks to n labelled graphs.

    Args:
        module: the predictor's networks; they stay as they are. The folds begin as one after the other of them.
        graphs: n labelled networks, encoded.
        targets: ``(n,)``, standardised.
        mode: what is trained.
        marks: n marks, equal for networks that compute the same: these are left out together.
        seed: of folds, batches and noise; the same gives the same networks.
        settings: by default those of the mode.
        advance: called after every step with its share of the work.

    Returns:
        The tuned networks, and what each says of the labelled ones that it has not seen, ``(n,)``.

    Raises:
        AiopError: for fewer than 20 labels.
    """
    count = len(graphs)
    _check_enough(count)
    folds = _folds(marks or [str(row) for row in range(count)], seed)
    held_out = np.empty(count)
    changes, starts = [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # so few graphs gain nothing from more, and the last digits depend on their number
    try:
        with torch.random.fork_rng(devices=[]):
            for fold in range(FOLDS):
                inside = np.flatnonzero(folds != fold).tolist()
                start = fold % len(module.members)
                torch.manual_seed(int(np.random.SeedSequence([seed, fold]).generate_state(1, np.uint64)[0]))
                run = _Run(
                    TunedNetwork(cast(PredictorModule, module.members[start]), mode),
                    [graphs[row] for row in inside],
                    np.asarray(targets)[inside],
                    settings or SETTINGS[mode],
                    np.random.default_rng([seed, fold]),
                )
                changes.append(run.train(advance).changes())
                starts.append(start)
        # At the precision of a file from the start: what is restored predicts the same.
        tuned = TunedNetworks(changes, starts, mode, module)
        for fold, network in enumerate(tuned.networks):
            outside = np.flatnonzero(folds == fold)
            held_out[outside] = network.outputs([graphs[row] for row in outside.tolist()])
    finally:
        torch.set_num_threads(threads)
    return tuned, held_out


def _check_enough(labels: int) -> None:
    if labels < LEAST_TUNED:
        raise AiopError(
            f"{labels} labels are too few to tune a network to: give at least {LEAST_TUNED}, or fit without tuning"
        )


def _folds(marks: Sequence[str], seed: int) -> Array:
    """Return the fold of every label, equal for equal marks; no mark is like no other."""
    distinct = {mark or f"row {row}": 0 for row, mark in enumerate(marks)}
    order = np.random.default_rng(seed).permutation(len(distinct))
    numbers = dict(zip(distinct, order % FOLDS, strict=True))
    return np.array([numbers[mark or f"row {row}"] for row, mark in enumerate(marks)], np.int64)


class _Run:
    """One network and the labels that it is tuned to."""

    def __init__(
        self,
        network: TunedNetwork,
        graphs: list[GraphArrays],
        targets: Array,
        settings: TuningSettings,
        random: np.random.Generator,
    ) -> None:
        self.network, self.graphs, self.settings, self.random = network, graphs, settings, random
        self.targets = torch.from_numpy(targets.astype(np.float32))[:, None]
        self.embeddings = self._start(targets)
        network.backbone.node_noise = settings.node_noise
        network.backbone.graph_dropout = settings.graph_dropout
        outputs = [parameter for name, parameter in network.named_parameters() if name.startswith("output")]
        others = [
            parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and not name.startswith("output")
        ]
        self.trained = [*others, *outputs]
        groups = [{"params": others, "lr": settings.rate}, {"params": outputs, "lr": settings.output_rate}]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], weight_decay=0.0, fused=True
        )
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.averaged = copy.deepcopy(network).eval().requires_grad_(False)

    def train(self, advance: Callable[[float], None]) -> TunedNetwork:
        """Return the averaged network after the last step."""
        steps = self.settings.steps(len(self.graphs))
        waiting: list[int] = []
        self.network.train()
        for step in range(steps):
            size = min(self.settings.batch_size, len(self.graphs))
            if len(waiting) < size:
                waiting += self.random.permutation(len(self.graphs)).tolist()
            rows, waiting = waiting[:size], waiting[size:]
            warm = min(1.0, (step + 1) / max(1.0, _WARM * steps))
            share = warm * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * share
            self._step(rows)
            decay = min(self.settings.average, (1 + step) / (10 + step))
            with torch.no_grad():
                for average, parameter in zip(
                    self.averaged.parameters(), self.network.parameters(), strict=True
                ):
                    average.lerp_(parameter, 1 - decay)
            advance(1.0 / (FOLDS * steps))
        return self.averaged

    def _step(self, rows: list[int]) -> None:
        targets = self.targets[rows]
        said = self._said(rows)[:, None]
        loss = regression_loss(said, targets) + self.settings.ranking * ranking_loss(said, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained, _CLIP)
        self.optimizer.step()

    def _said(self, rows: list[int]) -> Tensor:
        if self.network.mode == "heads":
            return self.network.read(self.embeddings[rows])
        said: Tensor = self.network(collate([self.graphs[row] for row in rows]))
        return said

    @torch.no_grad()
    def _start(self, targets: Array) -> Tensor:
        """Let the output begin as ridge regression on the embeddings, which are returned, (n, D)."""
        from sklearn.linear_model import RidgeCV

        network = self.network.eval()
        parts = [self.graphs[start : start + 128] for start in range(0, len(self.graphs), 128)]
        embeddings = torch.cat([network.embed(collate(part)) for part in parts])
        deviation = embeddings.std(dim=0)
        network.centre.copy_(embeddings.mean(dim=0))
        network.inverse.copy_(torch.where(deviation > 1e-4, 1 / deviation.clamp(min=1e-4), 0.0))
        seen = ((embeddings - network.centre) * network.inverse).double().numpy()
        ridge = RidgeCV(_PENALTIES).fit(seen, targets)  # the penalty of the least leave-one-out error
        weights = torch.from_numpy(ridge.coef_.astype(np.float32))
        network.output.weight[0, : len(weights)] = weights
        network.output.bias.fill_(float(targets.mean()))
        return embeddings


class TunedHead:
    """A few-shot head with tuned networks as `fit` and `predict` on views, whose graphs are found by their names.

    With fewer labels than tuning asks for it is the head alone.

    Args:
        head: unfitted.
        module: the predictor's networks.
        graphs: names of networks -> their encoded graphs.
        mode: what is trained.
    """

    def __init__(
        self,
        head: FewShotHead,
        module: Ensemble,
        graphs: Callable[[Sequence[str]], list[GraphArrays]],
        mode: Mode = "all",
    ) -> None:
        self.head, self.module, self.graphs, self.mode = head, module, graphs, mode
        self._tuned: TunedNetworks | None = None
        self._seen: tuple[tuple[str, ...], Array] = ((), np.zeros(0))

    def fit(self, views: Views, values: Array) -> TunedHead:
        """See `FewShotHead.fit`."""
        self._tuned = None
        if len(views) >= LEAST_TUNED:
            labels = check_labels(values, len(views), self.head.transform)
            targets = LabelScale.fit(labels, self.head.transform).forward(labels)
            graphs = self.graphs(views.names)
            self._tuned, held_out = tune(self.module, graphs, targets, self.mode, seed=self.head.seed)
            views = with_tuned(views, held_out)
            if "tuned" not in self.head.members:
                self.head.members = (*self.head.members, "tuned")
        self.head.fit(views, values)
        return self

    def predict(self, views: Views) -> Array:
        """See `FewShotHead.predict`."""
        return self.head.predict(self._see(views))

    def interval(self, views: Views) -> tuple[Array, Array]:
        """See `FewShotHead.interval`."""
        return self.head.interval(self._see(views))

    def _see(self, views: Views) -> Views:
        if self._tuned is None:
            return views
        if self._seen[0] != views.names:  # an interval follows a prediction of the same networks
            self._seen = views.names, self._tuned.predict(self.graphs(views.names))
        return with_tuned(views, self._seen[1])
