"""The settings of a pretraining run, read strictly from YAML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from aiop.errors import AiopError, suggest

__all__ = ["BackboneConfig", "PretrainConfig", "strict_dataclass"]

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
    """

    width: int = 64
    layers: int = 6
    embedding: int = 128
    head: int = 64
    dropout: float = 0.1
    aggregation: Aggregation = "mean"
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        _at_least(self, 1, "width", "layers", "embedding", "head")
        _between(self, 0, 1, "dropout")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """One pretraining run.

    Attributes:
        corpora: names of benchmark tables, or paths of tables of one's own (.csv, .parquet), to train on.
        out: folder for checkpoint, log and weights.
        tasks: globs of the tasks to train; all tasks of the corpora by default.
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
            and within it every task, however many labels it has.
        ema: decay of the averaged weights that are evaluated and saved; 0 takes the last ones.
        select: save the averaged weights of the ``last`` step or of the ``best`` evaluation.
        scaling: of the targets, where a task does not say.
        node_noise: deviation of Gaussian noise on standardised node features during training.
        graph_dropout: probability of hiding all graph features of a network from the embedding in training.
        eval_every: steps between evaluations; 0 evaluates at the end only.
        checkpoint_every: steps between checkpoints; 0 leaves it to ``checkpoint_seconds``.
        checkpoint_seconds: seconds between checkpoints; 0 leaves it to ``checkpoint_every``.
        seed: of everything that is drawn.
        members: networks trained one after another, with seeds from ``seed`` on, and read as one.
        threads: of torch; 0 leaves torch's own choice.
        device: ``auto`` takes a GPU where there is one.
        engine: of message passing; see ``aiop.graph_ir.batch``.
    """

    corpora: tuple[str, ...] = ()
    out: str = "pretrained"
    tasks: tuple[str, ...] = ("*",)
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
    balance: Literal["labels", "corpora"] = "labels"
    ema: float = 0.995
    select: Literal["last", "best"] = "last"
    scaling: Literal["rank-gaussian", "standard"] = "rank-gaussian"
    node_noise: float = 0.0
    graph_dropout: float = 0.0
    eval_every: int = 500
    checkpoint_every: int = 0
    checkpoint_seconds: float = 60.0
    seed: int = 0
    members: int = 1
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "dgl", "torch"] = "auto"

    def __post_init__(self) -> None:
        _at_least(self, 1, "batch_size", "members", *(["steps"] if self.steps is not None else []))
        _at_least(
            self, 0, "weight_decay", "ranking_weight", "node_noise", "eval_every", "checkpoint_every",
            "checkpoint_seconds", "threads", "sampling_power", "seed",
        )  # fmt: skip
        _between(self, 0, 1, "ema", "graph_dropout", "warmup")
        for name in ("lr", "clip", "epochs"):
            if not getattr(self, name) > 0:
                raise AiopError(f"setting {name!r} is {getattr(self, name)}: give a number above 0")
        for name, weight in self.sampling_weights.items():
            if not weight > 0:
                raise AiopError(
                    f"sampling_weights of {name!r} is {weight}: give a number above 0, or drop the corpus"
                )

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
            "members",
        }
        # Through the reader once: a 3 given for 3.0 is the same setting.
        settings = PretrainConfig.from_mapping(self.to_dict()).to_dict()
        values = {name: value for name, value in settings.items() if name not in free}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


T = typing.TypeVar("T")


def strict_dataclass(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """Build dataclass ``kind`` from plain JSON or YAML types, refusing unknown keys and other types."""
    hints = typing.get_type_hints(kind)
    built = {}
    for name, value in values.items():
        if name not in hints:
            hint = suggest(str(name), hints)
            raise AiopError(f"{source}: setting {str(name)!r} is unknown{hint}: known are {', '.join(hints)}")
        built[name] = _convert(value, hints[name], f"{source}: setting {name!r}")
    return kind(**built)


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(item for item in arguments if item is not type(None)), where)
    if origin is Literal:
        if value in arguments:
            return value
        raise AiopError(
            f"{where} is {value!r}{suggest(str(value), arguments)}: choose one of {', '.join(arguments)}"
        )
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(item, arguments[0], where) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {_convert(key, str, where): _convert(item, arguments[1], where) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return strict_dataclass(hint, value, where)
    if hint is float:
        # YAML reads 3e-3 (without a point) as text.
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise _wrong_type(where, value, hint) from None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise _wrong_type(where, value, hint)


def _wrong_type(where: str, value: Any, hint: Any) -> AiopError:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    wanted = names.get(hint) or ("a list" if typing.get_origin(hint) is tuple else "a mapping of settings")
    return AiopError(f"{where} is {value!r} ({type(value).__name__}): give {wanted}")


def _at_least(config: object, least: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value >= least or value == float("inf"):
            raise AiopError(f"setting {name!r} is {value}: give a number of at least {least}")


def _between(config: object, low: float, high: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not low <= value < high:
            raise AiopError(f"setting {name!r} is {value}: give a number from {low} to below {high}")
