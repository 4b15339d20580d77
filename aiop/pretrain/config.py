"""The settings of a pretraining run, read strictly from YAML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from aiop.errors import AiopError, suggest
from aiop.strict import at_least, between, strict_dataclass

__all__ = ["AdapterConfig", "BackboneConfig", "PretrainConfig", "strict_dataclass"]

PRETEXTS = ("costs", "paths", "masked_operators")
Aggregation = Literal["sum", "sqrt", "mean"]
Activation = Literal["silu", "gelu", "relu", "tanh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """The shape of the graph network; stored beside its weights.

    Attributes:
        width: size of a node state.
        layers: message-passing layers.
        embedding: size of the graph embedding z.
        head: hidden size of the task heads.
        dropout: probability, on node updates (in steps of 1/256) and in the MLPs.
        aggregation: ``sum`` over neighbours, or divided by the degree (``mean``) or its root (``sqrt``).
        activation: of every hidden layer.
        reach: deviations at which standardised features are cut where a network is looked at; training cuts at 6.
    """

    width: int = 64
    layers: int = 6
    embedding: int = 128
    head: int = 64
    dropout: float = 0.1
    aggregation: Aggregation = "mean"
    activation: Activation = "silu"
    reach: float = 6.0

    def __post_init__(self) -> None:
        at_least(self, 1, "width", "layers", "embedding", "head")
        between(self, 0, 1, "dropout")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """Adapters on the finished backbone, one per group of tasks; none by default.

    Attributes:
        by: one group per ``domain`` of tasks (what stands before the first slash of their names), or per ``corpus``.
        groups: or groups of one's own: name -> globs of tasks. A task in none of them has no adapter.
        width: size of an adapter's node states.
        steps: optimisation steps; all adapters are trained on the same batches.
        lr: peak learning rate, on the schedule of the run.
    """

    by: Literal["none", "domain", "corpus"] = "none"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    width: int = 32
    steps: int = 1500
    lr: float = 3e-3

    def __post_init__(self) -> None:
        at_least(self, 1, "width", "steps")
        if not self.lr > 0:
            raise AiopError(f"setting 'lr' of 'adapters' is {self.lr}: give a number above 0")
        if self.by != "none" and self.groups:
            raise AiopError(f"setting 'adapters' has `by: {self.by}` and 'groups': give one of them")
        for name, patterns in self.groups.items():
            if not patterns:
                raise AiopError(f"adapter group {name!r} has no patterns: give globs of tasks, or drop it")

    @property
    def wanted(self) -> bool:
        """Whether there are to be any."""
        return self.by != "none" or bool(self.groups)


# Settings that came later, with the values that mean what was done before: they leave old checkpoints as they are.
_ADDED: dict[str, Any] = {
    "balance_power": 0.0,
    "heads": "index",
    "residual_dropout": 0.25,
    "pretext": {},
    "precision": "float32",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """One pretraining run.

    Attributes:
        corpora: names of benchmark tables, or paths of tables of one's own (.csv, .parquet), to train on.
        out: folder for checkpoint, log and weights.
        tasks: globs of the tasks to train; all tasks of the corpora by default.
        exclude: globs of tasks kept out: their labels are not read, for nothing. A corpus without a task left is not
            in the run.
        most_graphs: training graphs per corpus; from larger ones as many are drawn under ``seed``, in whole groups of
            twins. Validation and test rows stay as they are.
        backbone: the shape of the graph network.
        epochs: passes over all training rows; ignored where ``steps`` is given.
        steps: optimisation steps.
        batch_size: graphs per step.
        mixing: ``mixed`` draws every batch from all corpora, ``single`` from one at a time.
        sampling_power: a corpus of n rows is drawn in proportion to n ** power (0 equal shares, 1 all rows alike).
        sampling_weights: corpus name -> factor on its share.
        lr: peak learning rate. weight_decay: of AdamW, on matrices only. clip: of the gradient's norm.
        schedule: ``one-cycle`` (rise over ``warmup``, cosine down to 1/1000) or ``constant`` (after the rise).
        warmup: fraction of the steps over which the rate rises.
        loss: of the regression term, on scaled targets. ranking_weight: of the pairwise ranking term.
        balance: ``labels`` counts every label (pair) of a batch alike; ``corpora`` gives every corpus the same weight,
            and within it every task, however many labels it has; ``domains`` gives every domain of a corpus the same
            weight, and within it every task, so that many devices or metrics do not outweigh one.
        balance_power: with ``corpora`` and ``domains``, corpora weigh as their training graphs ** power and tasks as
            their training labels ** power: 0 equally, 1 as they come.
        ema: decay of the averaged weights that are evaluated and saved; 0 takes the last ones.
        select: save the averaged weights of the ``last`` step, of the ``best`` evaluation on held-out networks, or of
            the best on the ``watched`` corpora.
        scaling: of the targets, where a task does not say: ``rank-gaussian`` (normal quantiles of the ranks),
            ``standard``, ``flops`` (standardised values divided by log10(GFLOPs + 1) + 1), or ``residual``
            (rank-Gaussian, less a line in log MACs); see `aiop.pretrain.cost_link`.
        node_noise: deviation of Gaussian noise on standardised node features during training.
        graph_dropout: probability of hiding all graph features of a network from the embedding in training.
        eval_every: steps between evaluations; 0 evaluates at the end only.
        checkpoint_every: steps between checkpoints; 0 leaves it to ``checkpoint_seconds``.
        checkpoint_seconds: seconds between checkpoints; 0 leaves it to ``checkpoint_every``.
        seed: of everything that is drawn.
        heads: ``index`` gives every task parameters of its own; ``description`` makes them from what the task is
            (domain, metric, data, device, ...) and a residual of its own, so that an unseen task has outputs too.
        residual_dropout: with ``description``, probability of leaving a task's residual out of a step.
        pretext: label-free targets -> weight of their loss: ``costs`` (of the whole graph and per resolution),
            ``paths`` (number and length of ways, receptive field), ``masked_operators``; see `aiop.pretrain.pretext`.
        watch: names or paths of tables that the run is not trained on; every evaluation ranks some of their networks
            without labels. Tasks that ``exclude`` names are not looked at there either.
        precision: ``mixed`` computes in bfloat16 what bears it (on GPUs), ``float32`` nothing.
        tensorboard: also write event files for TensorBoard into the folder of the run.
        adapters: small networks on the finished backbone, one per group of tasks; see `AdapterConfig`.
        search: setting -> [least, largest] value for ``aiop pretrain --search``, with ``backbone.`` before those of the
            graph network; see `aiop.pretrain.search` for what is searched by default.
        search_steps: of every run of a search; as many as ``steps`` by default.
        members: networks trained one after another, with seeds from ``seed`` on, and read as one.
        threads: of torch; 0 leaves torch's own choice.
        device: ``auto`` takes a GPU where there is one.
        engine: of message passing; see ``aiop.graph_ir.batch``.
    """

    corpora: tuple[str, ...] = ()
    out: str = "pretrained"
    tasks: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    most_graphs: int | None = None
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    epochs: float = 12
    steps: int | None = None
    batch_size: int = 64
    mixing: Literal["mixed", "single"] = "mixed"
    sampling_power: float = 0.5
    sampling_weights: Mapping[str, float] = field(default_factory=dict)
    lr: float = 3e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    warmup: float = 0.1
    loss: Literal["smooth-l1", "mse"] = "smooth-l1"
    ranking_weight: float = 0.5
    balance: Literal["labels", "corpora", "domains"] = "labels"
    balance_power: float = 0.0
    ema: float = 0.995
    select: Literal["last", "best", "watched"] = "last"
    scaling: Literal["rank-gaussian", "standard", "flops", "residual"] = "rank-gaussian"
    node_noise: float = 0.0
    graph_dropout: float = 0.0
    eval_every: int = 500
    checkpoint_every: int = 0
    checkpoint_seconds: float = 60.0
    heads: Literal["index", "description"] = "index"
    residual_dropout: float = 0.25
    pretext: Mapping[str, float] = field(default_factory=dict)
    watch: tuple[str, ...] = ()
    precision: Literal["float32", "mixed"] = "float32"
    tensorboard: bool = False
    adapters: AdapterConfig = field(default_factory=AdapterConfig)
    search: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    search_steps: int | None = None
    seed: int = 0
    members: int = 1
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "dgl", "torch"] = "auto"

    def __post_init__(self) -> None:
        given = [name for name in ("steps", "most_graphs", "search_steps") if getattr(self, name) is not None]
        at_least(self, 1, "batch_size", "members", *given)
        at_least(
            self, 0, "weight_decay", "ranking_weight", "node_noise", "eval_every", "checkpoint_every",
            "checkpoint_seconds", "threads", "sampling_power", "balance_power", "seed",
        )  # fmt: skip
        between(self, 0, 1, "ema", "graph_dropout", "warmup", "residual_dropout")
        for name in ("lr", "clip", "epochs"):
            if not getattr(self, name) > 0:
                raise AiopError(f"setting {name!r} is {getattr(self, name)}: give a number above 0")
        for name, weight in self.sampling_weights.items():
            if not weight > 0:
                raise AiopError(
                    f"sampling_weights of {name!r} is {weight}: give a number above 0, or drop the corpus"
                )
        if self.select == "watched" and not self.watch:
            raise AiopError("setting 'select' is 'watched', but nothing is: name corpora in 'watch'")
        for name, weight in self.pretext.items():
            if name not in PRETEXTS:
                raise AiopError(
                    f"pretext target {name!r} is unknown{suggest(name, PRETEXTS)}: choose among {', '.join(PRETEXTS)}"
                )
            if not 0 < weight < float("inf"):
                raise AiopError(f"pretext weight of {name!r} is {weight}: give a number above 0, or drop it")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "config") -> PretrainConfig:
        """Build from a mapping; an unknown key or a value of another type is an AiopError naming ``source``."""
        return strict_dataclass(cls, values, source)

    @classmethod
    def load(cls, path: str | Path) -> PretrainConfig:
        """Read a YAML file.

        Raises:
            AiopError: for a missing file, invalid YAML, an unknown key (with the nearest known one), a value of
                another type or outside its range.
        """
        path = Path(path)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AiopError(f"config {path} does not exist: check the path") from None
        except OSError as error:
            raise AiopError(f"config {path} cannot be read ({error.strerror}): check the path") from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise AiopError(f"config {path} is not YAML ({error}): see the example configs") from None
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise AiopError(
                f"config {path} is a {type(values).__name__}, not settings: write `name: value` lines"
            )
        return cls.from_mapping(values, f"config {path}")

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON types; ``from_mapping`` reads them back."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    def training_hash(self) -> str:
        """SHA-256 of every setting that decides the weights: a checkpoint continues only under the same."""
        free = {
            "out",
            "checkpoint_every",
            "checkpoint_seconds",
            "threads",
            "device",
            "engine",
            "corpora",
            "tasks",
            "exclude",
            "most_graphs",
            "members",
            "watch",
            "tensorboard",
            "adapters",
            "search",
            "search_steps",
        }
        # Through the reader once: a 3 given for 3.0 is the same setting.
        settings = PretrainConfig.from_mapping(self.to_dict()).to_dict()
        del settings["backbone"]["reach"]
        values = {
            name: value
            for name, value in settings.items()
            if name not in free and not (name in _ADDED and value == _ADDED[name])
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
