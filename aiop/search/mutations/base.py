"""What a mutation is: places in a network where it fits, amounts to choose from, and the change itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from aiop.errors import AiopError, suggest
from aiop.search.editing.network import EditableNetwork

__all__ = [
    "Decision",
    "Edit",
    "Mutation",
    "NotApplicableError",
    "Refusal",
    "Site",
    "get_mutation",
    "mutations",
    "register",
]


class NotApplicableError(AiopError):
    """A mutation does not fit a place of a network; the message says why."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place where a mutation fits.

    ``where`` names it: in a network changed elsewhere the same name finds the same place, as long as that is there.
    ``amounts`` are what can be chosen, from the mildest to the strongest, as shares that are left of what was there
    (below 1), and for mutations that are done or not the single 0. ``convolutions`` names the Conv, Gemm and MatMul
    nodes that get cheaper.
    """

    mutation: str
    where: str
    amounts: tuple[float, ...]
    convolutions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A place that looks like one for a mutation and is left alone, and the reason in words."""

    mutation: str
    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One mutation at one place by one amount: what a candidate is a sequence of."""

    mutation: str
    where: str
    amount: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Edit:
    """What a decision did to a network, in words for a reader: ``"layer1.0.conv1: 64 -> 48 channels"``."""

    decision: Decision
    text: str


class Mutation(ABC):
    """One way to make a network cheaper.

    `apply` changes the network in place and leaves it valid (``network.check()`` passes) with inputs and outputs of the
    same names and ranks; where it raises, nothing was changed. It is a function of its arguments: the same decision in
    the same network gives the same result.
    """

    name: ClassVar[str]

    @abstractmethod
    def sites(self, network: EditableNetwork) -> list[Site]:
        """Places of a network where the mutation fits, in the order of the nodes."""

    @abstractmethod
    def refusals(self, network: EditableNetwork) -> list[Refusal]:
        """Places that are left alone, with the reasons."""

    @abstractmethod
    def apply(self, network: EditableNetwork, where: str, amount: float) -> Edit:
        """Change a network at one place, in place.

        Raises:
            NotApplicableError: The place is not there, or the mutation does not fit it.
        """

    def apply_all(self, network: EditableNetwork, decisions: list[Decision]) -> Iterator[Edit | Refusal]:
        """Apply decisions of this mutation one after the other; one that does not fit gives a `Refusal`.

        Mutations for which the joint change is cheaper than its parts override this.
        """
        for decision in decisions:
            try:
                yield self.apply(network, decision.where, decision.amount)
            except NotApplicableError as error:
                yield Refusal(self.name, decision.where, str(error))


_MUTATIONS: dict[str, Mutation] = {}


def register(mutation: type[Mutation]) -> type[Mutation]:
    """Class decorator: make one instance of a `Mutation` available under its ``name``."""
    if mutation.name in _MUTATIONS:
        raise ValueError(f"mutation {mutation.name!r} is registered twice")
    _MUTATIONS[mutation.name] = mutation()
    return mutation


def mutations() -> dict[str, Mutation]:
    """Every mutation by name, in the order in which they are applied to a network."""
    from aiop.search.mutations import catalogue

    return {name: _MUTATIONS[name] for name in catalogue.ORDER}


def get_mutation(name: str) -> Mutation:
    """Return a mutation by name; an unknown one is an `AiopError` with the nearest name."""
    known = mutations()
    if name not in known:
        raise AiopError(
            f'mutation "{name}" is unknown{suggest(name, known)}: the mutations are {", ".join(known)}'
        )
    return known[name]
