"""The ground that a walk goes over: the networks of a table, their MACs, and which are one mutation apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.protocols.seen import bench
from aiop.tasks import get_space
from aiop.tasks.tables import nas_bench_201, table_dir

__all__ = ["Ground", "cheapest", "ground_of", "neighbour_rows"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ground:
    """n networks.

    macs: float64 ``(n,)``.
    neighbours: int64 ``(n, K)``, numbers of the networks one mutation away, once each; -1 fills the rows up.
    """

    macs: Array
    neighbours: Array

    def __post_init__(self) -> None:
        count = len(self.macs)
        if (
            self.neighbours.ndim != 2
            or len(self.neighbours) != count
            or self.neighbours.max(initial=-1) >= count
        ):
            raise AiopError(
                f"neighbours of shape {self.neighbours.shape} do not fit {count} networks: give numbers below "
                f"{count}, one row for each"
            )

    @cached_property
    def cutting(self) -> Ground:
        """The same networks with those moves only that lower the MACs."""
        lower = self.macs[self.neighbours] < self.macs[:, None]
        return Ground(self.macs, np.where(lower & (self.neighbours >= 0), self.neighbours, -1))

    def around(self, rows: Array) -> Array:
        """Return the neighbours of some networks, sorted, once each."""
        found = np.unique(self.neighbours[rows])
        return found[found >= 0]

    def reachable(self, start: int) -> Array:
        """Return bool ``(n,)``: what any number of moves leads to, the start among them."""
        seen = np.zeros(len(self.macs), bool)
        seen[start] = True
        edge = np.array([start])
        while len(edge):
            edge = self.around(edge)
            edge = edge[~seen[edge]]
            seen[edge] = True
        return seen


@lru_cache(maxsize=8)
def ground_of(table: str, folder: Path) -> Ground:
    """Return the ground of a benchmark table, with MACs as the corpus counts them.

    A neighbour that is not measured itself, but a twin of which is (NAS-Bench-201 keeps one of every set of isomorphic
    cells), counts as this twin; others that are not measured are no neighbours.

    Raises:
        AiopError: for a table whose corpus is not built, or whose space knows no neighbours of a network.
    """
    found = bench(table, folder)
    names = found.table.networks
    codes = [name.partition(":")[2] for name in names]
    space = get_space(table)
    stands_for = nas_bench_201.representatives(table_dir(table)) if table == "nas-bench-201" else {}
    rows = neighbour_rows(codes, [space.neighbours(code) for code in codes], stands_for)
    missing = [name for row, name in enumerate(names) if row not in found.places]
    if missing:
        raise AiopError(
            f"the corpus of {table} lacks {len(missing)} networks, such as {missing[0]}: build it again with "
            f"`aiop corpus build {table}`"
        )
    places = np.array([found.places[row] for row in range(len(names))])
    return Ground(np.asarray(found.corpus.macs[places], np.float64), rows)


def neighbour_rows(
    codes: Sequence[str], neighbours: Sequence[Sequence[str]], stands_for: Mapping[str, str]
) -> Array:
    """Return numbers of neighbours ``(n, K)`` among n codes, filled up with -1.

    ``stands_for`` maps a code to the one that is measured in its place.
    """
    number = {code: row for row, code in enumerate(codes)}
    lists = []
    for row, found in enumerate(neighbours):
        around = dict.fromkeys(number.get(stands_for.get(code, code), -1) for code in found)
        lists.append([other for other in around if other not in (-1, row)])
    filled = np.full((len(codes), max(map(len, lists), default=0)), -1, np.int64)
    for row, rows in enumerate(lists):
        filled[row, : len(rows)] = rows
    return filled


def cheapest(ground: Ground) -> Array:
    """Return the fewest MACs ``(n,)`` that moves which lower them lead to from each network."""
    down = ground.cutting.neighbours
    lowest = np.array(ground.macs, np.float64)
    for row in np.argsort(ground.macs, kind="stable"):  # what is cheaper is known before what leads there
        around = down[row]
        lowest[row] = min(lowest[row], lowest[around[around >= 0]].min(initial=np.inf))
    return lowest
