"""How cells are searched by training: the published numbers, and a smaller search that two cores finish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiop.errors import AiopError, suggest
from aiop.strict import at_least, between

__all__ = ["PRESETS", "DuelSettings", "preset"]


@dataclass(frozen=True)
class DuelSettings:
    """A search by duels.

    population: learners. generations: in each of which every learner is in one duel.
    cells, channels: of the networks that are trained.
    images: for training, of which one half trains and the other judges; held_out: not seen by the search.
    steps: of each network in a duel, 0 for one pass through the half that trains. batch: images of a step.
    judged: images of the other half that a loss is taken on, drawn anew for each duel; 0 for all.
    rate, last_rate: of SGD in the first and the last generation, on a cosine between them.
    momentum, decay, clip: of SGD; weight decay; largest norm of the gradient.
    shift: pixels by which a batch is moved at random, either way.
    rounds: of the final comparison.
    """

    population: int = 20
    generations: int = 20
    cells: int = 5
    channels: int = 8
    images: int = 6000
    held_out: int = 2000
    steps: int = 36
    batch: int = 32
    judged: int = 1000
    rate: float = 0.05
    last_rate: float = 0.001
    momentum: float = 0.9
    decay: float = 3e-4
    clip: float = 5.0
    shift: int = 1
    rounds: int = 2

    def __post_init__(self) -> None:
        at_least(self, 1, "generations", "rounds", "held_out")
        at_least(self, 2, "population", "batch", "channels")
        at_least(self, 3, "cells")  # with fewer the reductions are not apart
        at_least(self, 4, "images")
        at_least(self, 0, "steps", "judged", "decay", "shift", "last_rate")
        at_least(self, 1e-9, "rate", "clip")
        between(self, 0, 1, "momentum")
        if self.channels % 2:
            raise AiopError(f"setting 'channels' is {self.channels}: give an even number")

    def rate_of(self, generation: int) -> float:
        """Return the learning rate of a generation, counted from 0."""
        turn = math.pi * generation / self.generations
        return self.last_rate + (self.rate - self.last_rate) * (1 + math.cos(turn)) / 2


PRESETS: Mapping[str, DuelSettings] = {
    "reduced": DuelSettings(),
    "paper": DuelSettings(
        generations=50,
        cells=8,
        channels=16,
        images=50_000,
        held_out=10_000,
        steps=0,
        batch=256,
        judged=0,
        rate=0.1,
        shift=2,
    ),
}
"""`reduced` takes less than half an hour of one core; `paper` has the published numbers and takes days of one."""


def preset(name: str) -> DuelSettings:
    """Return the settings of a name; an unknown one is an `AiopError` with the nearest."""
    if name not in PRESETS:
        raise AiopError(
            f'there is no search by training called "{name}"{suggest(name, PRESETS)}: '
            f"choose one of {', '.join(PRESETS)}"
        )
    return PRESETS[name]
