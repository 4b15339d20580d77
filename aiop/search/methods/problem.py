"""What a search looks for: a space, a task, a budget of MACs, and which codes these leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aiop.errors import AiopError
from aiop.search.methods.choices import Choices, Value
from aiop.tasks import get_space, get_task, list_tasks
from aiop.tasks.declare import COSTS
from aiop.tasks.spaces import SearchSpace
from aiop.tasks.task import suggest_tasks

if TYPE_CHECKING:
    from aiop.graph_ir import ComputeGraph

__all__ = ["Budget", "Exhausted", "Problem", "count_macs", "find_tasks", "graph_of"]

Budget = tuple[float, float]
"""Fewest and most MACs that an architecture may have."""

_TRIES = 64  # uniform draws before a walk towards the budget
_WALKS, _STEPS, _LOOKED = 2, 40, 12
_MIXES = 12
_REFERENCE = 256


class Exhausted(AiopError):
    """Every architecture that a problem leaves was asked for."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A space, what is optimised on it, and within what.

    space: name of a search space.
    tasks: names of the tasks, the main one first; values that are told are of it alone.
    macs_of: code -> MACs of its network in the space's default form, as tables count them; asked once per code.
    budget: fewest and most MACs, None for any.
    candidates: the codes to choose from, as in a benchmark table; None for the whole space.
    stands_for: code -> the candidate that is its network too (isomorphic cells).
    weights: of tasks, 1 where nothing is said, for searchers that follow several at once.

    Raises:
        AiopError: an unknown space or task, a task that the space lacks, or a budget that nothing meets.
    """

    space: str
    tasks: tuple[str, ...]
    macs_of: Callable[[str], float]
    budget: Budget | None = None
    candidates: tuple[str, ...] | None = None
    stands_for: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    _macs: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        get_space(self.space)
        if not self.tasks:
            raise AiopError(f"a search on {self.space} needs a task: {_known(self.space)}")
        for task in self.tasks:
            if get_task(task).space != self.space:
                raise AiopError(f'space "{self.space}" lacks the task "{task}": {_known(self.space)}')
        if self.budget is not None and not 0 <= self.budget[0] <= self.budget[1]:
            raise AiopError(f"the budget {_giga(self.budget)} is empty: give the fewer MACs first")
        if self.candidates is not None and not self.codes:
            found = [self.macs(code) for code in self.candidates]
            raise self._unmet(min(found, default=math.nan), max(found, default=math.nan))

    @classmethod
    def of(
        cls,
        space: str,
        tasks: str | Sequence[str],
        budget: Budget | None = None,
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Problem:
        """Return the problem of a whole space; ``tasks`` are names, or one glob of them (`find_tasks`)."""
        names = find_tasks(space, tasks) if isinstance(tasks, str) else tuple(tasks)
        return cls(space, names, lambda code: count_macs(space, code), budget, weights=weights or {})

    @property
    def task(self) -> str:
        """Name of the main task."""
        return self.tasks[0]

    @property
    def direction(self) -> Literal["max", "min"]:
        """Of the main task's values."""
        return get_task(self.task).direction

    @property
    def form(self) -> str:
        """The form of the space that the main task was measured in, empty for its default one."""
        return get_task(self.task).form

    @property
    def grammar(self) -> SearchSpace[object]:
        """The search space itself."""
        return get_space(self.space)

    @cached_property
    def codes(self) -> tuple[str, ...] | None:
        """Candidates within the budget, None where there is no list of them."""
        if self.candidates is None:
            return None
        return tuple(code for code in dict.fromkeys(self.candidates) if self.within(code))

    @cached_property
    def _choices(self) -> Choices:
        return Choices(self.grammar)

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(self.codes or ())

    def network(self, code: str) -> str:
        """Return the name of a code's network in the form that tables, corpora and predictors know it in."""
        return f"{self.space}:{code}"

    def written(self, code: str) -> str:
        """Return the name of a code's network in the form that the main task asks for, to be built and trained."""
        return f"{self.space}@{self.form}:{code}" if self.form else f"{self.space}:{code}"

    def goodness(self, value: float) -> float:
        """Return a value of the main task turned so that larger is better."""
        return value if self.direction == "max" else -value

    def macs(self, code: str) -> float:
        """Return the MACs of a code's network."""
        if code not in self._macs:
            self._macs[code] = float(self.macs_of(code))
        return self._macs[code]

    def within(self, code: str) -> bool:
        """Whether a valid code meets the budget."""
        return self.budget is None or self.budget[0] <= self.macs(code) <= self.budget[1]

    def inside(self, code: str) -> bool:
        """Whether a valid code may be asked for: within the budget, and a candidate where there is a list."""
        return self.within(code) if self.candidates is None else code in self._listed

    def canonical(self, code: str) -> str:
        """Return the code as the space spells it, or as the candidate that it is a twin of."""
        spelt = self.grammar.validate(code)
        return self.stands_for.get(spelt, spelt)

    def neighbours(self, code: str) -> list[str]:
        """Return the codes one mutation away that may be asked for, once each and in a fixed order."""
        return [other for other in self._around(code) if self.inside(other)]

    def mutant(self, code: str, random: np.random.Generator, known: Iterable[str] = ()) -> str | None:
        """Draw one of the `neighbours` that is not ``known``; None where there is none."""
        around, taken = self._around(code), set(known)
        for place in random.permutation(len(around)):
            other: str = around[int(place)]
            if other not in taken and self.inside(other):
                return other
        return None

    def sample(self, random: np.random.Generator) -> str:
        """Draw a code that may be asked for: uniformly, or where hardly any meets the budget by a walk to it."""
        if self.codes is not None:
            return self.codes[int(random.integers(len(self.codes)))]
        drawn = []
        for _ in range(_TRIES):
            drawn.append(self.canonical(self.grammar.sample(random)))
            if self.inside(drawn[-1]):
                return drawn[-1]
        for _ in range(_WALKS):
            found = self._between(drawn, random) or self._walk(min(drawn, key=self._excess), random)
            if found is not None:
                return found
        known = list(self._macs.values())
        raise self._unmet(min(known), max(known))

    def reference(self, seed: int = 0) -> tuple[str, ...]:
        """Return codes to rank and to compare others with: all candidates, or a sample of a space without a list."""
        if self.codes is not None:
            return self.codes
        random = np.random.default_rng((seed, _REFERENCE))
        return tuple(dict.fromkeys(self.sample(random) for _ in range(_REFERENCE)))

    def _between(self, drawn: Sequence[str], random: np.random.Generator) -> str | None:
        """Mix the choices of a code below the budget with those of one above it, half as many as needed each time."""
        low, high = self.budget or (0.0, math.inf)
        below = [code for code in drawn if self.macs(code) < low]
        above = [code for code in drawn if self.macs(code) > high]
        for pick in (_first, _last):  # of numbers the smallest and the largest
            code = self._choices.decode(pick)
            if code is not None and self.macs(code) <= high:
                below.append(code)
            elif code is not None:
                above.append(code)
        if not below or not above:
            return None
        start, end = (codes[int(random.integers(len(codes)))] for codes in (below, above))
        return self._mixed(start, end, random) or (start if self.inside(start) else None)

    def _mixed(self, start: str, end: str, random: np.random.Generator) -> str | None:
        """Bisect the number of choices, in a random order, that are taken from ``end``."""
        one, other = self._choices.encode(start), self._choices.encode(end)
        names = [name for name in one if name in other and one[name] != other[name]]
        order = [names[place] for place in random.permutation(len(names))]
        few, many, found = 0, len(order), None
        for _ in range(_MIXES):
            if many - few < 2:
                break
            middle = (few + many) // 2
            mixed = one | {name: other[name] for name in order[:middle]}
            code = self._choices.decode(lambda name, values, taken=mixed: taken.get(name, values[0]))
            if code is None:
                break
            if self.inside(code):
                found = code
            if self.budget is not None and self.macs(code) > self.budget[1]:
                many = middle
            else:
                few = middle
        return found

    def _walk(self, code: str, random: np.random.Generator) -> str | None:
        """Take mutations that come nearer to the budget until it is met."""
        for _ in range(_STEPS):
            around = self._around(code)
            looked = [around[place] for place in random.permutation(len(around))[:_LOOKED]]
            best = min(looked, key=self._excess, default=code)
            if self._excess(best) < self._excess(code):
                code = best
            elif len(looked) == len(around):
                return None
            if self.inside(code):
                return code
        return None

    def _around(self, code: str) -> list[str]:
        turned = dict.fromkeys(self.stands_for.get(other, other) for other in self.grammar.neighbours(code))
        turned.pop(code, None)
        return [str(other) for other in turned]

    def _excess(self, code: str) -> float:
        """Return by how much a code misses the budget, in powers of e."""
        if self.budget is None:
            return 0.0
        macs = math.log(max(self.macs(code), 1.0))
        low, high = (math.log(max(bound, 1.0)) for bound in self.budget)
        return max(low - macs, macs - high, 0.0)

    def _unmet(self, low: float, high: float) -> AiopError:
        return AiopError(
            f"no architecture of {self.space} that was found has {_giga(self.budget)}: they have from "
            f"{low / 1e9:.3g} to {high / 1e9:.3g} G, give a budget between these"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON that tell problems apart; of candidates their number."""
        return {
            "space": self.space,
            "tasks": list(self.tasks),
            "weights": {task: float(weight) for task, weight in self.weights.items()},
            "budget": None if self.budget is None else [float(bound) for bound in self.budget],
            "candidates": None if self.candidates is None else len(self.candidates),
        }


def find_tasks(space: str, glob: str) -> tuple[str, ...]:
    """Return the tasks of a space that say how good a network is and match a glob, or the cost that is named.

    Raises:
        AiopError: an unknown space, or no such task; the message names those there are.
    """
    get_space(space)
    found = [task for task in list_tasks(glob) if get_task(task).space == space]
    good = [task for task in found if get_task(task).domain not in COSTS]
    if not found:
        near = suggest_tasks(glob, list_tasks(f"*/{space}/*"))
        raise AiopError(f'space "{space}" lacks a task "{glob}"{near}: {_known(space)}')
    return tuple(good or found)


def _first(_: str, values: tuple[Value, ...]) -> Value:
    return values[0]


def _last(_: str, values: tuple[Value, ...]) -> Value:
    return values[-1]


def count_macs(space: str, code: str) -> float:
    """Return the MACs of a code's network in the space's default form, as benchmark tables and corpora count them."""
    return float(graph_of(f"{space}:{code}").macs)


@lru_cache(maxsize=1024)
def graph_of(network: str) -> ComputeGraph:
    """Return the graph of a named network, for a while the same."""
    from aiop.tasks.networks import read

    return read(network)


def _known(space: str) -> str:
    names = list_tasks(f"*/{space}/*")
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more, see `aiop tasks`" if len(names) > 8 else "")
    return f"its tasks are {shown}" if names else "no task is measured on it; choose another space"


def _giga(budget: Budget | None) -> str:
    low, high = budget or (0.0, math.inf)
    return f"{low / 1e9:.4g} to {high / 1e9:.4g} G MACs"
