"""What a predictor says of many architectures of a space, kept on disk: a search that was interrupted goes on there.

Building and reading a network takes longer than predicting it, and all tasks of a space are predicted at once. What was
said is therefore kept per predictor and space, for any later search on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.journal import append, read_lines
from aiop.tasks import get_task

if TYPE_CHECKING:
    from aiop.predictor import Predictor

__all__ = ["Judge", "Progress", "Said"]

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is."""

_CHUNK = 32  # networks between two writes: what an interruption costs
_PARTS = 4  # numbers per task: value, low, high, whether inside


@dataclass(frozen=True, eq=False)
class Said:
    """What is said of n architectures.

    values, low, high: ``(n, T)`` in the tasks' units; the ends are those of the predictor's intervals.
    inside: ``(n, T)``, whether an architecture is like those the predictor was trained on.
    macs, params: ``(n,)``, counted.
    """

    values: Array
    low: Array
    high: Array
    inside: Array
    macs: Array
    params: Array

    def cautious(self, directions: Sequence[str]) -> Array:
        """Return the end of each interval that is the worse one, ``(n, T)``."""
        return np.where(np.asarray(directions) == "min", self.high, self.low)

    def rows(self, places: Array) -> Said:
        """Return what is said of some of them."""
        return Said(
            self.values[places], self.low[places], self.high[places], self.inside[places], self.macs[places],
            self.params[places],
        )  # fmt: skip


class Judge:
    """Asks a predictor about architectures, each once.

    Args:
        predictor: of `aiop.load`.
        space: of the codes.
        tasks: T names.
        form: of the networks; the space's default one where empty.
        cache: a folder where answers are kept if it can be written.

    Attributes:
        digest: of the predictor, the space, the form and the tasks that are predicted there.

    Raises:
        AiopError: a task that the predictor does not know, or one of another space.
    """

    def __init__(
        self,
        predictor: Predictor,
        space: str,
        tasks: Sequence[str],
        *,
        form: str = "",
        cache: Path | None = None,
    ) -> None:
        for task in tasks:
            predictor.task_card(task)
            if get_task(task).space != space:
                raise AiopError(f'task "{task}" is not one of {space}: name tasks of that space')
        self.predictor, self.space, self.tasks, self.form = predictor, space, tuple(tasks), form
        self._every = sorted(name for name in predictor.names if get_task(name).space == space)
        self._columns = [self._every.index(task) for task in tasks]
        named = json.dumps([predictor.card["weights_sha256"], space, form, self._every, 1])
        self.digest = hashlib.sha256(named.encode()).hexdigest()
        self._path = None if cache is None else cache / f"said-{space}-{self.digest[:16]}.jsonl"

    @property
    def directions(self) -> tuple[str, ...]:
        """Of the tasks, ``max`` or ``min``."""
        return tuple(get_task(task).direction for task in self.tasks)

    def known(self, codes: Sequence[str]) -> int:
        """Return how many of the codes were asked about before."""
        return sum(code in self._kept for code in codes)

    def __call__(self, codes: Sequence[str], progress: Progress | None = None) -> Said:
        """Return what is said of n codes; ``progress`` is called with how many are known, and n.

        Raises:
            AiopError: a code outside the space.
        """
        new = [code for code in dict.fromkeys(codes) if code not in self._kept]
        done = len(dict.fromkeys(codes)) - len(new)
        total = done + len(new)
        if progress is not None:
            progress(done, total)
        for start in range(0, len(new), _CHUNK):
            some = new[start : start + _CHUNK]
            self._keep(some, self._asked(some))
            if progress is not None:
                progress(done + start + len(some), total)
        rows = np.array([self._kept[code] for code in codes], np.float64)
        rows = rows.reshape(len(codes), 2 + _PARTS * len(self._every))
        parts = rows[:, 2:].reshape(len(codes), len(self._every), _PARTS)[:, self._columns]
        return Said(parts[..., 0], parts[..., 1], parts[..., 2], parts[..., 3] > 0, rows[:, 0], rows[:, 1])

    def _asked(self, codes: Sequence[str]) -> list[list[float]]:
        prefix = f"{self.space}@{self.form}" if self.form else self.space
        names = [f"{prefix}:{code}" for code in codes]
        rows = []
        for found in self.predictor.predict(names, tasks=f"*/{self.space}/*"):
            row = [float(found.macs), float(found.params)]
            for task in self._every:
                said = found[task]
                row += [said.value, said.low, said.high, float(said.in_distribution)]
            rows.append(row)
        return rows

    @cached_property
    def _kept(self) -> dict[str, list[float]]:
        """Code -> MACs, parameters and four numbers per task of the space."""
        kept: dict[str, list[float]] = {}
        with suppress(OSError):
            for record in read_lines(self._path) if self._path is not None else ():
                with suppress(KeyError, TypeError, ValueError):
                    for code, row in zip(record["codes"], record["said"], strict=True):
                        if len(row) == 2 + _PARTS * len(self._every):
                            kept[str(code)] = [float(number) for number in row]
        return kept

    def _keep(self, codes: Sequence[str], rows: Sequence[list[float]]) -> None:
        self._kept.update(zip(codes, rows, strict=True))
        if self._path is None:
            return
        with suppress(OSError, ValueError):  # a cache that cannot be written costs time only
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append(self._path, {"codes": list(codes), "said": list(rows)})
