"""A candidate: a network with some of its places changed, and all that is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiop.search.compression.space import Levels
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, Edit, Refusal

if TYPE_CHECKING:
    from aiop.predictor import Prediction

__all__ = ["Candidate"]


@dataclass(eq=False)
class Candidate:
    """A cheaper variant of a network.

    Attributes:
        number: Of its trial; -1 for the original.
        decisions: The mutations it is a sequence of, in the order in which they are applied.
        macs, params: Of the changed network.
        predicted: The task, after what was learnt from measured values; ``in_distribution`` is False
            where the predictor knows no networks like this one.
        latency: The cost, None where none was asked for.
        loss: Estimate of minus the logarithm of its outputs' similarity to the original's.
        similarity: Of its outputs to the original's on calibration inputs; None where they were not compared.
        measured: What `Compression.tell` was told; None before.
        score: What candidates are ranked by, more is better: see `aiop.search.compression.scoring`.
    """

    number: int
    levels: Levels
    decisions: tuple[Decision, ...]
    macs: int
    params: int
    predicted: Prediction
    latency: Prediction | None
    loss: float
    make: Callable[[], tuple[EditableNetwork, list[Edit], list[Refusal]]] = field(repr=False)
    raw: Prediction = field(repr=False)
    similarity: float | None = None
    measured: float | None = None
    score: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    _made: tuple[EditableNetwork, list[Edit], list[Refusal]] | None = field(default=None, repr=False)

    def _all(self) -> tuple[EditableNetwork, list[Edit], list[Refusal]]:
        if self._made is None:
            self._made = self.make()
        return self._made

    @property
    def network(self) -> EditableNetwork:
        """The changed network; made when it is first asked for."""
        return self._all()[0]

    @property
    def edits(self) -> list[Edit]:
        """What was done, in words."""
        return self._all()[1]

    @property
    def refusals(self) -> list[Refusal]:
        """Decisions that did not fit once the others were applied."""
        return self._all()[2]

    @property
    def in_distribution(self) -> bool:
        """Whether the predictor knows networks like this one."""
        return self.predicted.in_distribution

    def forget(self) -> None:
        """Let go of the changed network; it is made again when it is asked for."""
        self._made = None

    def save(self, path: str | Path) -> None:
        """Check the network and write it with its weights; the file appears complete or not at all.

        Raises:
            AiopError: A path that cannot be written, or a network that `onnx.checker` refuses.
        """
        self.network.check()
        self.network.save(path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON, without the edits."""
        return {
            "number": self.number,
            "decisions": [decision.to_dict() for decision in self.decisions],
            "macs": self.macs,
            "params": self.params,
            "predicted": self.predicted.to_dict(),
            "latency": None if self.latency is None else self.latency.to_dict(),
            "similarity": self.similarity,
            "measured": self.measured,
            "score": self.score,
            "terms": self.terms,
        }
