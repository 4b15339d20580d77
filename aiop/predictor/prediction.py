"""What a prediction is: a value with its interval, and all of them for one network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from aiop.errors import AiopError, suggest

__all__ = ["NetworkPrediction", "Prediction"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One task's prediction for one network.

    ``value``, ``low``, ``high`` and ``macs_only`` are in ``unit``; ``low`` to ``high`` is the 80% interval,
    ``macs_only`` what the network's MACs alone say. ``in_distribution`` is False where the network is unlike those
    the task was learnt from: its interval is widened, and the value is an extrapolation.
    """

    task: str
    value: float
    unit: str
    low: float
    high: float
    macs_only: float
    in_distribution: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class NetworkPrediction:
    """Predictions for one network, one per task in the order of their names."""

    network: str
    macs: int
    params: int
    predictions: tuple[Prediction, ...]

    def __getitem__(self, task: str) -> Prediction:
        """Return the prediction of a task."""
        for prediction in self.predictions:
            if prediction.task == task:
                return prediction
        names = [prediction.task for prediction in self.predictions]
        raise AiopError(f"nothing was predicted for task {task!r}{suggest(task, names)}; name it in `tasks`")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON."""
        return {
            "network": self.network,
            "macs": self.macs,
            "params": self.params,
            "predictions": [prediction.to_dict() for prediction in self.predictions],
        }
