"""What a predictor holds besides its network, as its file has it.

Kernel experts, where training networks lie, and what a few true labels correct of infused tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from torch import Tensor

from aiop.finetune.calibration import Neighbourhood
from aiop.finetune.correction import Correction
from aiop.finetune.kernel import ARRAYS as EXPERT_ARRAYS
from aiop.finetune.kernel import KernelExpert
from aiop.graph_ir.features import GRAPH_FEATURES
from aiop.pretrain.targets import LabelScaler
from aiop.pretrain.weights_io import Card

__all__ = ["Blend", "TruthStep", "correction_array", "read_blends", "read_neighbourhoods", "read_truth"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Blend:
    """The kernel expert of one corpus: its share in the scaled predictions of ``columns`` (positions of tasks)."""

    expert: KernelExpert
    share: float
    columns: tuple[int, ...]

    def apply(self, scaled: Array, features: Array, wanted: frozenset[int] | None = None) -> None:
        """Mix into scaled predictions ``(n, T)``, in place, for graph features ``(n, G)``."""
        places = [i for i, column in enumerate(self.columns) if wanted is None or column in wanted]
        if places:
            columns = [self.columns[i] for i in places]
            scaled[:, columns] *= 1.0 - self.share
            scaled[:, columns] += self.share * self.expert.predict(features, places)


_MACS_AND_PARAMS = [GRAPH_FEATURES.index(name) for name in ("log_macs", "log_params")]


@dataclass(frozen=True, eq=False)
class TruthStep:
    """What a few true labels correct of one infused task (`aiop.predictor.truth_scale`).

    ``column``: of the task; ``others``: of those infused with it; ``sources``: of those known before.
    ``scaler``: between the task's values and its scaled predictions.
    """

    column: int
    others: tuple[int, ...]
    sources: tuple[int, ...]
    scaler: LabelScaler
    correction: Correction

    def scaled(self, scaled: Array, embedding: Array, features: Array) -> Array:
        """Return corrected scaled predictions ``(n,)`` of the task, from those of all tasks, ``(n, T)``."""
        found = self.blocks(scaled, embedding, features, self.others, self.sources)
        values = self.correction.predict({"own": scaled[:, [self.column]]} | found)
        return self.scaler.transform(values)

    @staticmethod
    def blocks(
        scaled: Array, embedding: Array, features: Array, others: Sequence[int], sources: Sequence[int]
    ) -> dict[str, Array]:
        """Return the blocks that a correction sees of n networks besides the own prediction."""
        return {
            "others": scaled[:, list(others)],
            "costs": features[:, _MACS_AND_PARAMS],
            "graph": features,
            "embedding": embedding,
            "outputs": scaled[:, list(sources)],
        }


def correction_array(task: str, part: str) -> str:
    """Return how the array of a task's correction is called in a predictor's file."""
    return f"truth/{task}/{part}"


def read_truth(card: Card, arrays: Mapping[str, Tensor]) -> list[TruthStep]:
    """Return what true labels correct; a missing part is a `KeyError`, one that does not fit a `ValueError`."""
    names = [task.name for task in card.tasks]
    found = []
    for column, task in enumerate(card.tasks):
        entry = task.extra.get("truth", {}).get("correction")
        if entry is None:
            continue
        start = correction_array(task.name, "")
        own = {name.removeprefix(start): a.numpy() for name, a in arrays.items() if name.startswith(start)}
        correction = Correction.from_arrays(own, entry["link"], entry["intercept"])
        others, sources = (tuple(names.index(name) for name in entry[key]) for key in ("others", "sources"))
        widths = {"others": len(others), "outputs": len(sources), "graph": len(GRAPH_FEATURES)}
        for name, width in widths.items():
            if len(correction.blocks[name][0] if name in correction.blocks else ()) != width:
                raise ValueError(f"block {name!r} of what corrects {task.name}")
        found.append(TruthStep(column, others, sources, task.scaler, correction))
    return found


def read_blends(card: Card, arrays: Mapping[str, Tensor]) -> list[Blend]:
    """Return the experts that a card names, from the arrays of its file; a missing part is a `KeyError`."""
    names = [task.name for task in card.tasks]
    return [
        Blend(
            KernelExpert.from_arrays(
                {part: arrays[f"{space}/expert/{part}"].numpy() for part in EXPERT_ARRAYS},
                float(entry["length"]),
            ),
            float(entry["share"]),
            tuple(names.index(name) for name in entry["tasks"]),
        )
        for space, entry in card.extra["experts"].items()
    ]


def read_neighbourhoods(card: Card, arrays: Mapping[str, Tensor]) -> dict[tuple[str, str], Neighbourhood]:
    """Return where the training networks of every corpus lie, by corpus and kind of distance; as `read_blends`."""
    return {
        (space, kind): Neighbourhood(
            mean=arrays[f"{space}/{kind}/mean"].numpy(),
            axes=arrays[f"{space}/{kind}/axes"].numpy(),
            references=arrays[f"{space}/{kind}/references"].float().numpy(),
            limit=float(limit),
        )
        for space, limits in card.extra["neighbourhoods"].items()
        for kind, limit in limits.items()
    }
