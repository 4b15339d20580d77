"""Slow-fast learning (Tan et al., IEEE TNNLS 2021): architectures as points, and how a slow learner moves.

A point has one real per choice of a code, from 0 to the number of its values, both included; the floor says which
value is meant, and the upper end belongs to the last. On `darts` the choices are the published 32: for the two inputs
of each of the four nodes of the two cells the source and the operation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.search.methods.choices import Choices, Value
from aiop.tasks import get_space
from aiop.tasks.spaces.darts import OPERATIONS, Cell, Edge, Genotype
from aiop.tasks.spaces.darts_network import NODES

__all__ = ["ChoicePoints", "DartsPoints", "Points", "moved", "pairs", "points_of"]

Array = npt.NDArray[Any]


class Points(ABC):
    """The points of a space, D reals each.

    upper: float64 ``(D,)``, how many values each choice has; the lower bounds are 0.
    """

    upper: Array

    @abstractmethod
    def decode(self, point: Array) -> str | None:
        """Return the code of a point ``(D,)``; None where its values do not go together."""

    @abstractmethod
    def encode(self, code: str, random: np.random.Generator | None = None) -> Array:
        """Return a point ``(D,)`` of a code: the middle of those that decode to it, or any of them at random.

        What the code leaves open is in the middle or at random too.
        """

    def draw(self, random: np.random.Generator) -> Array:
        """Return a point ``(D,)`` drawn uniformly."""
        return random.uniform(0.0, self.upper)

    def floor(self, point: Array) -> npt.NDArray[np.int64]:
        """Return the values ``(D,)`` that a point means, numbered from 0."""
        return np.asarray(np.minimum(np.floor(point), self.upper - 1), np.int64)

    def _point(self, values: dict[int, int], random: np.random.Generator | None) -> Array:
        point = self.upper / 2 if random is None else self.draw(random)
        for place, value in values.items():
            point[place] = value + (0.5 if random is None else random.random())
        return point


class DartsPoints(Points):
    """The published code of `darts`: ``(source, operation)`` of both inputs of nodes 2 to 5, normal cell first."""

    def __init__(self) -> None:
        self.space = get_space("darts")
        one = [bound for node in NODES for _ in range(2) for bound in (node, len(OPERATIONS))]
        self.upper = np.array([*one, *one], np.float64)

    def decode(self, point: Array) -> str:
        """See `Points.decode`: every point is a code."""
        edges = [Edge(OPERATIONS[kind], int(source)) for source, kind in self.floor(point).reshape(-1, 2)]
        half = len(edges) // 2
        return self.space.format(Genotype(Cell(tuple(edges[:half])), Cell(tuple(edges[half:]))))

    def encode(self, code: str, random: np.random.Generator | None = None) -> Array:
        """See `Points.encode`.

        Raises:
            AiopError: a cell that does not concatenate all of its nodes.
        """
        genotype = self.space.parse(code)
        assert isinstance(genotype, Genotype)
        cells = (genotype.normal, genotype.reduction)
        if any(cell.concat != NODES for cell in cells):
            raise AiopError(
                f"{code} concatenates some nodes of a cell only, which the 32 reals of slow-fast learning cannot say"
            )
        values = [
            value
            for cell in cells
            for operation, source in cell.edges
            for value in (source, OPERATIONS.index(operation))
        ]
        return self._point(dict(enumerate(values)), random)


class ChoicePoints(Points):
    """Points of any space: one real per open choice of `aiop.search.methods.choices`, in the order of their names."""

    def __init__(self, space: str) -> None:
        self.choices = Choices(get_space(space))
        self.values = {name: values for name, values in self.choices.values().items() if len(values) > 1}
        self.places = {name: place for place, name in enumerate(self.values)}
        self.upper = np.array([len(values) for values in self.values.values()], np.float64)

    def decode(self, point: Array) -> str | None:
        """See `Points.decode`."""
        meant = self.floor(point)

        def pick(name: str, values: tuple[Value, ...]) -> Value:
            chosen: Value = values[int(meant[self.places[name]])]
            return chosen

        return self.choices.decode(pick)

    def encode(self, code: str, random: np.random.Generator | None = None) -> Array:
        """See `Points.encode`; a value rarer than the samples that choices are learnt from counts as left open."""
        known = {
            self.places[name]: self.values[name].index(value)
            for name, value in self.choices.encode(code).items()
            if name in self.places and value in self.values[name]
        }
        return self._point(known, random)


@lru_cache(maxsize=64)
def points_of(space: str) -> Points:
    """Return the points of a search space; an unknown one is an `AiopError`."""
    return DartsPoints() if space == "darts" else ChoicePoints(space)


def pairs(count: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return pairs of ``count`` learners, int64 ``(count // 2, 2)``, each in one; of an odd number one rests."""
    order = random.permutation(count)[: count - count % 2]
    return np.asarray(order.reshape(-1, 2), np.int64)


def moved(
    slow: Array, fast: Array, velocity: Array, upper: Array, random: np.random.Generator
) -> tuple[Array, Array]:
    """Return where a slow learner goes, ``(D,)``, and its new velocity ``(D,)``; the fast one stays.

    ``v <- r1 v + r2 (fast - slow)`` and ``slow <- slow + v`` with r1, r2 ~ U(0, 1) per dimension; the point is clipped
    to the bounds, the velocity is not.
    """
    first, second = random.random((2, len(upper)))
    velocity = first * velocity + second * (fast - slow)
    return np.clip(slow + velocity, 0.0, upper), velocity
