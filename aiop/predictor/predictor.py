"""The predictor: networks in, values with intervals out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from torch import Tensor

from aiop.errors import AiopError, suggest
from aiop.finetune.baselines import CostTrend
from aiop.finetune.calibration import Interval
from aiop.finetune.views import Views
from aiop.graph_ir import ComputeGraph
from aiop.graph_ir.batch import Engine, collate
from aiop.graph_ir.corpus import Corpus
from aiop.graph_ir.features import COSTS, GRAPH_FEATURES, GraphArrays, encode
from aiop.graph_ir.structure import structure_counts
from aiop.predictor.blend import read_blends, read_neighbourhoods, read_truth
from aiop.predictor.blind import blind, worst_known
from aiop.predictor.prediction import NetworkPrediction, Prediction
from aiop.predictor.zero_shot import described_outputs
from aiop.pretrain.card import SHIPPED, WEIGHTS
from aiop.pretrain.evaluation import embed_batch, embed_rows
from aiop.pretrain.module import Ensemble
from aiop.pretrain.weights_io import Card, TaskCard, load_predictor, save_predictor
from aiop.tasks import Task, get_task
from aiop.tasks.networks import read

__all__ = [
    "ADAPTED",
    "COVERAGE",
    "SHIPPED",
    "Predictor",
    "load",
]

COVERAGE = 0.8
"""Share of networks like those of training that an interval is meant to cover."""

ADAPTED = "@adapter"
"""What the name of a source ends in that is an adapter's output for the task before it."""

_SPREAD = 1.2816  # holds 80% of a standard Gaussian, which scaled targets are like
_BATCH = 128
# Rows that the kernel experts see at once: bounds the kernel matrix to some tens of megabytes
_CHUNK = 2048

Network = str | Path | ComputeGraph
Array = npt.NDArray[Any]


class Predictor:
    """Predicts metrics of networks from their graphs. Made by `load`.

    ``card`` says what the predictor was trained on and how well it does on networks kept out: ``card["tasks"]`` maps a
    task's name to its unit, direction, number of labelled networks and held-out scores.
    """

    def __init__(self, module: Ensemble, card: Card, arrays: dict[str, Tensor]) -> None:
        self.module = module
        self.names = tuple(task.name for task in card.tasks)
        self.sources = self.names + tuple(
            f"{self.names[column]}{ADAPTED}" for column in module.adapted_columns
        )
        self._card, self._arrays = card, arrays
        self._described = len(self.names) - sum(len(item.group.columns) for item in module.infused)
        self._order = sorted(range(len(self.names)), key=lambda index: self.names[index])
        self._intervals = [Interval(**_pair(task.extra["interval"])) for task in card.tasks]
        self._trends = [CostTrend.from_dict(task.extra["macs_only"]) for task in card.tasks]
        self._spaces = [str(task.extra["corpus"]) for task in card.tasks]
        self._offsets, self._slopes = (
            np.array([task.extra[key] for task in card.tasks], np.float32) for key in ("offset", "slope")
        )
        self._worst = worst_known(card.tasks)
        self.blends = read_blends(card, arrays)
        self._truth = read_truth(card, arrays)
        self._near = read_neighbourhoods(card, arrays)

    @property
    def card(self) -> dict[str, Any]:
        """What is known of the predictor: tables, settings, and per task labels and held-out scores."""
        tasks = {
            task.name: {
                "unit": task.unit,
                "direction": task.direction,
                "labels": task.extra["labels"],
                "corpus": task.extra["corpus"],
                "held_out": task.scores,
            }
            for task in self._card.tasks
        }
        infusions = self._card.extra.get("infusions")
        return {
            "weights_sha256": self._card.weights_sha256,
            "tables": self._card.tables,
            "config": self._card.config,
            "tasks": tasks,
        } | ({"infusions": infusions} if infusions else {})

    @property
    def infused(self) -> tuple[str, ...]:
        """Names of the tasks that were infused (`aiop.predictor.infusion`), the last of ``names``."""
        return self.names[self._described :]

    def task_card(self, task: str) -> TaskCard:
        """Return what the card says of a task; an unknown one is an `AiopError`."""
        if task not in self.names:
            raise AiopError(
                f"the predictor knows no task {task!r}{suggest(task, self.names)}; list all with `aiop tasks`"
            )
        return self._card.tasks[self.names.index(task)]

    def with_task_card(self, card: TaskCard, arrays: Mapping[str, Tensor] | None = None) -> Predictor:
        """Return this predictor with another card of the task that has its name; networks and views stay.

        ``arrays`` are what the card tells of, by their names in the predictor's file.
        """
        tasks = tuple(card if task.name == card.name else task for task in self._card.tasks)
        return Predictor(self.module, replace(self._card, tasks=tasks), self._arrays | dict(arrays or {}))

    def marks(self, corpus: str) -> frozenset[str]:
        """Return marks of the networks of an infusion, by the name of its table (`aiop.predictor.infusion.mark`)."""
        stored = self._arrays.get(f"{corpus}/marks")
        return frozenset() if stored is None else frozenset(bytes(row).hex() for row in stored.numpy())

    def save(self, folder: str | Path) -> None:
        """Write the predictor into a folder, from which `load` reads it, in the place of one that is there."""
        save_predictor(folder, self.module, self._card, self._arrays)

    def match(self, tasks: str = "*") -> list[int]:
        """Return the positions of the tasks that a glob matches, in the order of their names."""
        found = [index for index in self._order if fnmatchcase(self.names[index], tasks)]
        if not found:
            raise AiopError(
                f"the predictor knows no task {tasks!r}{suggest(tasks, self.names)}; list all with `aiop tasks`"
            )
        return found

    # A text is a sequence too, of its letters: the first overload that fits decides.
    @overload
    def predict(self, networks: Network, tasks: str = "*") -> NetworkPrediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, networks: Sequence[Network], tasks: str = "*") -> list[NetworkPrediction]: ...

    def predict(
        self, networks: Network | Sequence[Network], tasks: str = "*"
    ) -> NetworkPrediction | list[NetworkPrediction]:
        """Predict the tasks that a glob matches for one network, or for each of a list.

        A network is the path of an ONNX file, ``space:code``, or a graph read before.

        Raises:
            AiopError: no such task, or a network that cannot be read or has no inputs.
        """
        wanted = self.match(tasks)
        if isinstance(networks, str | Path | ComputeGraph):
            return self._predict([_graph(networks)], wanted)[0]
        graphs = [_graph(network) for network in networks]
        return [
            result
            for start in range(0, len(graphs), _BATCH)
            for result in self._predict(graphs[start : start + _BATCH], wanted)
        ]

    def embed(self, networks: Network | Sequence[Network]) -> Array:
        """Return the embeddings of networks, float32 ``(n, D)``; ``(D,)`` for a single one."""
        if isinstance(networks, str | Path | ComputeGraph):
            return np.asarray(self.embed([networks])[0])
        return self._forward([encode(_graph(network)) for network in networks])[0]

    def views(self, networks: Sequence[Network]) -> Views:
        """Return what heads see of networks."""
        graphs = [_graph(network) for network in networks]
        encoded = [encode(graph) for graph in graphs]
        embedding, scaled, features = self._forward(encoded, adapted=bool(self.module.adapters))
        self._adjust(scaled[:, : len(self.names)], features)
        return Views(
            names=tuple(graph.name for graph in graphs),
            embedding=embedding,
            outputs=scaled,
            graph=features,
            macs=np.array([graph.macs for graph in graphs], np.float64),
            params=np.array([graph.params for graph in graphs], np.float64),
            sources=self.sources,
            remoteness=self._far_from_sources(embedding, features),
            structure=structure_counts(encoded),
            blind=blind(encoded),
        )

    def views_corpus(self, corpus: Corpus, rows: Array | None = None, *, engine: Engine = "auto") -> Views:
        """Return what heads see of a corpus's rows (all by default)."""
        places = np.arange(len(corpus)) if rows is None else np.asarray(rows, np.int64)
        embedding, scaled = self._rows(corpus, places, engine, adapted=bool(self.module.adapters))
        features = np.asarray(corpus.graph_features()[places])
        encoded = [corpus[int(place)] for place in places]
        return Views(
            names=tuple(corpus.names[place] for place in places),
            embedding=embedding,
            outputs=scaled,
            graph=features,
            macs=np.asarray(corpus.macs[places], np.float64),
            params=np.asarray(corpus.params[places], np.float64),
            sources=self.sources,
            remoteness=self._far_from_sources(embedding, features),
            structure=structure_counts(encoded),
            blind=blind(encoded),
        )

    def corrected(self, views: Views) -> Array:
        """Return scaled predictions ``(n, T)`` of networks seen as `views`, with what true labels correct."""
        scaled = views.outputs[:, : len(self.names)].copy()
        self._correct(scaled, views.embedding, views.graph)
        return scaled

    def zero_shot(self, views: Views, tasks: Sequence[str | Task]) -> Array:
        """Return scaled predictions ``(n, K)`` of tasks known by their descriptions alone, trained on or not.

        A task is named, or given as a `Task` that need not be registered. They rank networks, larger for larger values.

        Raises:
            AiopError: an unknown name, views of another predictor, or one that was trained with ``heads: index``.
        """
        given = [get_task(task) if isinstance(task, str) else task for task in tasks]
        return described_outputs(
            self.module, self.names[: self._described], views.embedding, views.graph, given
        )

    def predict_corpus(self, corpus: Corpus, rows: Array | None = None, *, engine: Engine = "auto") -> Array:
        """Return values ``(len(rows), T)`` in each task's unit, tasks in the order of ``names``; no intervals."""
        scaled = self.scaled_corpus(corpus, rows, engine=engine)[1]
        return np.stack([self.values(task, scaled[:, task]) for task in range(len(self.names))], axis=1)

    def scaled_corpus(
        self, corpus: Corpus, rows: Array | None = None, *, engine: Engine = "auto"
    ) -> tuple[Array, Array]:
        """Return embeddings ``(n, D)`` and scaled targets ``(n, T)`` of a corpus's rows (all by default)."""
        embeddings, scaled = self._rows(corpus, rows, engine, adapted=False)
        places = range(len(corpus)) if rows is None else rows
        features = corpus.graph_features()
        self._correct(scaled, embeddings, features if rows is None else features[rows])
        self._to_worst(scaled, blind(corpus[int(place)] for place in places))
        return embeddings, scaled

    def bounds(self, task: int, scaled: Array, far: Array | None = None) -> tuple[Array, Array]:
        """Return the ends of the interval, in the task's unit, at ``(n,)`` scaled predictions.

        ``far`` is the `remoteness` from the task's corpus: beyond 1 the interval grows, and from 2 on it is as wide
        around the value as the task's own spread.
        """
        reach = self._intervals[task].half_width(scaled)
        if far is not None:
            reach = reach + _SPREAD * np.clip(far - 1.0, 0.0, 1.0)
        return self.values(task, scaled - reach), self.values(task, scaled + reach)

    def remoteness(self, embeddings: Array, features: Array) -> dict[str, Array]:
        """Return, per corpus of training, how far networks are from it: 1 is the limit of the inside.

        The larger of two distances, each to the nearest training networks: of embeddings ``(n, D)``, and of the costs
        among graph features ``(n, G)``, which know sizes that no task of training depended on.
        """
        points = {"embedding": embeddings, "costs": features[:, COSTS]}
        far: dict[str, Array] = {}
        for (space, kind), near in self._near.items():
            distance = near.distance(points[kind]) / near.limit
            far[space] = np.maximum(far[space], distance) if space in far else distance
        return far

    def _far_from_sources(self, embeddings: Array, features: Array) -> Array:
        """Return, per source, the `remoteness` from the corpus that it was learnt on, float32 ``(n, S)``."""
        far = self.remoteness(embeddings, features)
        spaces = self._spaces + [self._spaces[column] for column in self.module.adapted_columns]
        return np.stack([far[space] for space in spaces], axis=1).astype(np.float32)

    def _rows(
        self, corpus: Corpus, rows: Array | None, engine: Engine, *, adapted: bool
    ) -> tuple[Array, Array]:
        """Return embeddings and adjusted outputs of a corpus's rows, as `_forward` those of graphs."""
        embeddings, scaled = embed_rows(self.module, corpus, rows, engine=engine, adapted=adapted)
        features = corpus.graph_features()
        features = features if rows is None else features[rows]
        for start in range(0, len(scaled), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._adjust(scaled[part, : len(self.names)], features[part])
        return embeddings, scaled

    def _forward(
        self, encoded: Sequence[GraphArrays], *, adapted: bool = False
    ) -> tuple[Array, Array, Array]:
        """Return embeddings ``(n, D)``, outputs of the heads and graph features ``(n, G)``.

        The outputs are those of ``names``, ``(n, T)``, and with ``adapted`` those of ``sources``, ``(n, S)``.
        """
        if not encoded:
            sources = self.sources if adapted else self.names
            widths = self.module.embedding, len(sources), len(GRAPH_FEATURES)
            embedding, outputs, features = (np.zeros((0, width), np.float32) for width in widths)
            return embedding, outputs, features
        seen = [
            embed_batch(self.module, collate(encoded[start : start + _BATCH]), adapted=adapted)
            for start in range(0, len(encoded), _BATCH)
        ]
        embeddings, outputs = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        return embeddings, outputs, np.stack([item.graph for item in encoded])

    def _adjust(self, scaled: Array, features: Array, wanted: frozenset[int] | None = None) -> None:
        """Mix in the experts and take back the stretch of each task, in place."""
        for blend in self.blends:
            blend.apply(scaled, features, wanted)
        scaled *= self._slopes
        scaled += self._offsets

    def _correct(self, scaled: Array, embeddings: Array, features: Array) -> None:
        """Put what true labels correct in the place of adjusted predictions ``(n, T)``."""
        found = [step.scaled(scaled, embeddings, features) for step in self._truth]
        for step, column in zip(self._truth, found, strict=True):
            scaled[:, step.column] = column

    def _to_worst(self, scaled: Array, unseeing: Array) -> None:
        """Put networks that do not see their input, bool ``(n,)``, where each task's worst label is, in place."""
        scaled[unseeing] = np.where(np.isnan(self._worst), scaled[unseeing], self._worst)

    def stretch(self, task: int) -> tuple[float, float]:
        """Return the offset and the slope that a task's mixed predictions are stretched by."""
        return float(self._offsets[task]), float(self._slopes[task])

    def values(self, task: int, scaled: Array) -> Array:
        """Return scaled predictions in the task's unit; shares do not leave 0 to 100%."""
        card = self._card.tasks[task]
        values = card.scaler.inverse(scaled)
        return np.clip(values, 0.0, 100.0) if card.unit == "%" else values

    def _predict(self, graphs: list[ComputeGraph], wanted: list[int]) -> list[NetworkPrediction]:
        encoded = [encode(graph) for graph in graphs]
        embeddings, scaled, features = self._forward(encoded)
        corrected = any(step.column in wanted for step in self._truth)
        self._adjust(scaled, features, None if corrected else frozenset(wanted))
        self._correct(scaled, embeddings, features)
        self._to_worst(scaled, blind(encoded))
        remoteness = self.remoteness(embeddings, features)
        macs = np.array([graph.macs for graph in graphs], np.float64)
        rows: list[list[Prediction]] = [[] for _ in graphs]
        for index in wanted:
            task = self._card.tasks[index]
            far = remoteness[self._spaces[index]]
            values = self.values(index, scaled[:, index])
            lows, highs = self.bounds(index, scaled[:, index], far)
            trends = self.values(index, self._trends[index].predict(macs))
            for row, value, low, high, trend, distance in zip(
                rows, values, lows, highs, trends, far, strict=True
            ):
                row.append(
                    Prediction(
                        task.name,
                        float(value),
                        task.unit,
                        float(low),
                        float(high),
                        float(trend),
                        bool(distance <= 1),
                    )
                )
        return [
            NetworkPrediction(graph.name, graph.macs, graph.params, tuple(row))
            for graph, row in zip(graphs, rows, strict=True)
        ]


def check_predictable(graph: ComputeGraph) -> None:
    """Refuse a graph that nothing flows through."""
    if not graph.inputs:
        raise AiopError(
            f"{graph.name}: the network has no inputs, so nothing flows through it; export it with its inputs"
        )


def _graph(network: Network) -> ComputeGraph:
    graph = network if isinstance(network, ComputeGraph) else read(network)
    check_predictable(graph)
    return graph


def _pair(interval: dict[str, list[float]]) -> dict[str, Any]:
    return {key: tuple(float(number) for number in interval[key]) for key in ("centres", "widths")}


def load(path: str | Path | None = None) -> Predictor:
    """Return the predictor that comes with the package, or the one in folder ``path``.

    Raises:
        AiopError: the folder holds no predictor, or one of another version.
    """
    folder = Path(path) if path is not None else SHIPPED
    folder = folder.resolve()
    try:
        state = (folder / WEIGHTS).stat()
    except OSError:
        return _load(folder, 0, 0)  # which says what is missing
    return _load(folder, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _load(path: Path, changed: int, size: int) -> Predictor:
    """Load once; weights that were trained anew in the same folder have another time of change."""
    module, card, arrays = load_predictor(path)
    try:
        return Predictor(module, card, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise AiopError(
            f"the card of predictor {path} lacks {error}: train it again with `aiop pretrain`"
        ) from None
