"""What a predictor holds besides its network, as its file has it: kernel experts, and where training networks lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from torch import Tensor

from aiop.finetune.calibration import Neighbourhood
from aiop.finetune.kernel import ARRAYS as EXPERT_ARRAYS
from aiop.finetune.kernel import KernelExpert
from aiop.pretrain.weights_io import Card

__all__ = ["Blend", "read_blends", "read_neighbourhoods"]

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
