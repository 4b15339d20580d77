"""What a run is given, and what it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus
from aiop.pretrain.evaluation import Scores
from aiop.pretrain.module import PredictorModule
from aiop.pretrain.targets import LabelScaler

__all__ = ["TrainingResult", "TrainingSet"]


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None:
        """Go on with more bytes."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The labelled graphs of one corpus.

    Attributes:
        name: of the corpus in the log, in ``sampling_weights`` and in scores.
        corpus: n graphs.
        values: float (n, T), the label of every graph for every task of the run in the task's unit; NaN without.
        train: rows to learn from.
        validation: rows held out.
    """

    name: str
    corpus: Corpus
    values: NDArray[np.float64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    def check(self, tasks: int) -> None:
        """Refuse values of another shape, rows outside the corpus and rows in both parts."""
        n = len(self.corpus)
        if self.values.shape != (n, tasks):
            raise AiopError(
                f"training set {self.name!r}: expected values ({n}, {tasks}), found {self.values.shape}: give one "
                "row per graph and one column per task"
            )
        for part in ("train", "validation"):
            rows = getattr(self, part)
            if len(rows) and not 0 <= rows.min() <= rows.max() < n:
                raise AiopError(
                    f"training set {self.name!r}: {part} rows leave its {n} graphs: split it again"
                )
        if not len(self.train):
            raise AiopError(
                f"training set {self.name!r} has no training rows: split it again or leave it out"
            )
        if np.isinf(self.values).any():
            raise AiopError(f"training set {self.name!r} has infinite labels: remove them from its table")
        both = np.intersect1d(self.train, self.validation)
        if len(both):
            raise AiopError(
                f"training set {self.name!r}: {len(both)} rows, e.g. {self.corpus.names[both[0]]!r}, are in training "
                "and validation: split it again"
            )

    def enter(self, digest: Digest) -> None:
        """Enter everything that training reads into a digest; graphs by their features."""
        digest.update(json.dumps([self.name, self.corpus.fingerprint, self.corpus.names]).encode())
        for array in (self.values, self.train, self.validation, self.corpus.graph_features()):
            digest.update(np.ascontiguousarray(array).tobytes())


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a run leaves.

    Attributes:
        module: with the averaged weights, in evaluation mode.
        scalers: one per task.
        scores: corpus -> task -> held-out scores of these weights.
        step: the step the weights are of.
        history: the held-out mean SRCC per corpus of every evaluation.
    """

    module: PredictorModule
    scalers: tuple[LabelScaler, ...]
    scores: dict[str, Scores]
    step: int
    history: list[dict[str, Any]]
