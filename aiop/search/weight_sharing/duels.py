"""Slow-fast learning by training (RelativeNAS; Tan et al., IEEE TNNLS 2021): cells compared in duels.

Both networks of a pair start from the shared weights, train on the same images of one half and are judged on the same
ones of the other; the winner writes its weights, and the loser's cells move towards the winner's. What the paper lacks
is here: a budget of MACs, which a move is shortened to, a rule for the result, and searches that can be interrupted.

The result: all cells of the last population train from the shared weights, on the same images, in each of some rounds;
the one with the smallest mean loss on the whole other half is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aiop.errors import AiopError
from aiop.search.methods.slow_fast import DartsPoints, moved, pairs, points_of
from aiop.search.weight_sharing.images import Images
from aiop.search.weight_sharing.network import CellNetwork
from aiop.search.weight_sharing.settings import DuelSettings
from aiop.search.weight_sharing.shared import SharedWeights
from aiop.search.weight_sharing.training import Judged, batches, judge, train

__all__ = ["Cells", "DuelSearch", "State"]

Array = npt.NDArray[Any]
Budget = tuple[float, float]

_SHARES = (1.0, 0.5, 0.25, 0.125)  # of a move, until it ends inside the budget
_DRAWS = 200
_FINAL = 1_000_003  # of seeds, apart from any generation


@dataclass
class State:
    """Where a search is: all that it needs to go on.

    places, velocities: float64 ``(population, 32)``.
    duels: records of those fought, in order: generation, learners, losses, top1, the winner, and both cells.
    finals: losses of the final comparison, in order: rounds of all learners.
    seconds: of the processor so far.
    """

    places: Array
    velocities: Array
    shared: SharedWeights
    duels: list[dict[str, Any]] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Cells:
    """Points of `darts` within a budget of MACs.

    Args:
        budget: fewest and most MACs, None for any.
        macs_of: code -> MACs.
    """

    def __init__(self, budget: Budget | None, macs_of: Callable[[str], float]) -> None:
        points = points_of("darts")
        assert isinstance(points, DartsPoints)
        self.points, self.budget, self._macs_of = points, budget, macs_of
        self._macs: dict[str, float] = {}

    def macs(self, code: str) -> float:
        """Return the MACs of a code's network, counted once."""
        if code not in self._macs:
            self._macs[code] = float(self._macs_of(code))
        return self._macs[code]

    def inside(self, place: Array) -> bool:
        """Whether a point meets the budget."""
        low, high = self.budget or (0.0, math.inf)
        return self.budget is None or low <= self.macs(self.points.decode(place)) <= high

    def draw(self, random: np.random.Generator) -> Array:
        """Draw a point inside the budget uniformly.

        Raises:
            AiopError: a budget that none of many draws meets.
        """
        for _ in range(_DRAWS):
            place = self.points.draw(random)
            if self.inside(place):
                return place
        found = sorted(self._macs.values())
        low, high = self.budget or (0.0, math.inf)
        raise AiopError(
            f"of {_DRAWS} pairs of cells none has {low / 1e9:.4g} to {high / 1e9:.4g} G MACs: they have from "
            f"{found[0] / 1e9:.3g} to {found[-1] / 1e9:.3g} G, give a budget between these"
        )

    def move(
        self, slow: Array, fast: Array, velocity: Array, random: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return where a slow learner goes and its velocity; a move out of the budget is shortened, at last to none."""
        aim, velocity = moved(slow, fast, velocity, self.points.upper, random)
        for share in _SHARES:
            place = slow + share * (aim - slow)
            if self.inside(place):
                return place, velocity
        return slow, velocity


class DuelSearch:
    """A search that fights one duel at a time, so that its caller can keep every state.

    Args:
        images: to train and judge on.
        settings: of the search.
        cells: within which budget.
        seed: of all that is left to chance.
    """

    def __init__(self, images: Images, settings: DuelSettings, cells: Cells, seed: int = 0) -> None:
        self.images, self.settings, self.cells, self.seed = images, settings, cells, seed
        self._training = torch.arange(images.half)
        self._judging = torch.arange(images.half, len(images.train))
        self.per_generation = settings.population // 2
        self.duels = settings.generations * self.per_generation
        self.steps = self.duels + settings.rounds * settings.population
        """Duels, and trainings of the final comparison."""

    def begin(self) -> State:
        """Return the first state: a population drawn uniformly, at rest, and no weights."""
        random = self._chance(0)
        places = np.stack([self.cells.draw(random) for _ in range(self.settings.population)])
        return State(places, np.zeros_like(places), SharedWeights(self.seed))

    def done(self, state: State) -> int:
        """Return how many of `steps` are done."""
        return len(state.duels) + len(state.finals)

    def step(self, state: State) -> None:
        """Fight the next duel, or train the next cell of the final comparison; the state changes when it is over."""
        if len(state.duels) < self.duels:
            self._duel(state)
        else:
            state.finals.append(self._final(state))

    def ranking(self, state: State) -> list[tuple[str, float]]:
        """Return the codes of the last population with their mean final losses, smallest first, each code once."""
        losses = np.array(state.finals).reshape(self.settings.rounds, -1).mean(axis=0)
        found: dict[str, float] = {}
        for row in np.argsort(losses, kind="stable"):
            found.setdefault(self.cells.points.decode(state.places[row]), float(losses[row]))
        return list(found.items())

    def _duel(self, state: State) -> None:
        generation, number = divmod(len(state.duels), self.per_generation)
        one, other = pairs(self.settings.population, self._chance(1, generation))[number].tolist()
        seed = int(self._chance(2, generation, number).integers(2**31))
        plan = batches(self._training, self.settings, seed)
        rows = self._judged(seed)
        rate = self.settings.rate_of(generation)
        codes = [self.cells.points.decode(state.places[learner]) for learner in (one, other)]
        networks, judged = [], []
        for code in codes:
            network = self._network(code)
            state.shared.lend(network)
            train(
                network, self.images.train, self.images.train_labels, plan, lambda step: rate, self.settings
            )
            networks.append(network)
            judged.append(judge(network, self.images.train, self.images.train_labels, rows))
        won = 0 if judged[0].loss <= judged[1].loss else 1
        fast, slow = (one, other) if won == 0 else (other, one)
        state.shared.write(networks[won], networks[1 - won])
        state.places[slow], state.velocities[slow] = self.cells.move(
            state.places[slow],
            state.places[fast],
            state.velocities[slow],
            self._chance(3, generation, number),
        )
        state.duels.append(_record(generation, (one, other), codes, judged, fast))

    def _final(self, state: State) -> float:
        """Train one cell of the last population from the shared weights and return its loss on the other half."""
        number, learner = divmod(len(state.finals), self.settings.population)
        seed = int(self._chance(2, _FINAL, number).integers(2**31))
        plan = batches(self._training, self.settings, seed)
        network = self._network(self.cells.points.decode(state.places[learner]))
        state.shared.lend(network)
        high, low = self.settings.rate, self.settings.last_rate

        def rate(step: int) -> float:
            return low + (high - low) * (1 + math.cos(math.pi * step / len(plan))) / 2

        train(network, self.images.train, self.images.train_labels, plan, rate, self.settings)
        return judge(network, self.images.train, self.images.train_labels, self._judging).loss

    def _network(self, code: str) -> CellNetwork:
        genotype = self.cells.points.space.parse(code)
        return CellNetwork(
            genotype,  # type: ignore[arg-type]
            cells=self.settings.cells,
            channels=self.settings.channels,
            classes=self.images.classes,
        )

    def _judged(self, seed: int) -> torch.Tensor:
        """Return the rows of the other half that a duel is judged on."""
        count = self.settings.judged
        if not count or count >= len(self._judging):
            return self._judging
        order = torch.randperm(len(self._judging), generator=torch.Generator().manual_seed(seed))
        return self._judging[order[:count].sort().values]

    def _chance(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, 6193, *purpose))


def _record(
    generation: int, learners: tuple[int, int], codes: list[str], judged: list[Judged], fast: int
) -> dict[str, Any]:
    return {
        "generation": generation,
        "learners": list(learners),
        "losses": [one.loss for one in judged],
        "top1": [one.top1 for one in judged],
        "fast": fast,
        "codes": codes,
    }
