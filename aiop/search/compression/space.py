"""What a compression chooses from: every place of a network where a mutation fits, with what it saves and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, Edit, Mutation, Refusal, Site

__all__ = [
    "UNCHANGED",
    "Levels",
    "Place",
    "SearchSpace",
    "find_places",
    "place_from_dict",
    "place_to_dict",
]

Array = npt.NDArray[Any]
Levels = tuple[int, ...]
"""Per place 0 where it is unchanged, else which of its amounts it has, from 1, the mildest."""

UNCHANGED = "unchanged"

_LOSS_POWER = 1.5  # what channels cost that go one after the other, the least important first
_LEAST = 1e-9  # a factor: of convolutions that are gone
_LEAST_SAVED = 1e-4  # of all MACs: what saves less is no choice


@dataclass(frozen=True, slots=True)
class Place:
    """A site of a mutation with what each of its n amounts does when it is the only change.

    amounts: n shares, from the mildest to the strongest.
    factors: n shares of the MACs of ``site.convolutions`` that are left.
    losses: n numbers from 0: minus the logarithm of the similarity of the outputs to the original's.
    """

    site: Site
    amounts: tuple[float, ...]
    factors: tuple[float, ...]
    losses: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The name of its parameter in a study."""
        return f"{self.site.mutation}:{self.site.where}"

    @property
    def middle(self) -> int:
        """Which amount, from 0, stands for the others when outputs are compared."""
        return (len(self.amounts) - 1) // 2

    def with_loss(self, loss: float) -> Place:
        """Return it with the losses that follow from that of its middle amount."""
        reference = max(1.0 - self.amounts[self.middle], _LEAST)
        losses = tuple(loss * ((1.0 - amount) / reference) ** _LOSS_POWER for amount in self.amounts)
        return replace(self, losses=losses)


def find_places(
    network: EditableNetwork,
    mutations: Mapping[str, Mutation],
    mutate: Callable[
        [EditableNetwork, Sequence[Decision]], tuple[EditableNetwork, list[Edit], list[Refusal]]
    ],
    *,
    free: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Place], list[Refusal]]:
    """Return the places where mutations save MACs, in the order of the mutations, and why others are left alone.

    ``free``: places that save none, such as those of activations, are choices too.
    Every place is tried alone with its mildest and its strongest amount; those between follow from the two.
    """
    sites = [site for mutation in mutations.values() for site in mutation.sites(network)]
    refusals = [refusal for mutation in mutations.values() for refusal in mutation.refusals(network)]
    cost = {operation.name: operation.macs for operation in network.compute_graph().operations}
    places = []
    for done, site in enumerate(sites):
        progress(done, len(sites))
        whole = sum(cost.get(name, 0) for name in site.convolutions)
        saved: dict[float, float] = {}
        for amount in dict.fromkeys((site.amounts[0], site.amounts[-1])):
            try:
                changed, edits, _ = mutate(network, [Decision(site.mutation, site.where, amount)])
            except AiopError:
                continue  # left out: the reason is below
            if edits:
                saved[amount] = float(network.macs - changed.macs)
        if free and whole == 0 and saved:
            places.append(Place(site, site.amounts, (1.0,) * len(site.amounts)))
            continue
        if whole == 0 or max(saved.values(), default=0.0) < _LEAST_SAVED * network.macs:
            refusals.append(Refusal(site.mutation, site.where, "no multiply-accumulates are saved here"))
            continue
        left = {amount: float(np.clip(1.0 - value / whole, 0.0, 1.0)) for amount, value in saved.items()}
        factors = {amount: _between(amount, left) for amount in site.amounts}
        amounts = tuple(
            amount
            for amount in site.amounts
            if (1.0 - factors[amount]) * whole >= _LEAST_SAVED * network.macs
        )
        if amounts:
            places.append(Place(site, amounts, tuple(factors[amount] for amount in amounts)))
    progress(len(sites), len(sites))
    return places, refusals


def place_to_dict(place: Place) -> dict[str, Any]:
    """Return plain values ready for JSON."""
    return asdict(place)


def place_from_dict(data: Mapping[str, Any]) -> Place:
    """Restore what `place_to_dict` returned."""
    site = data["site"]
    parts = (site["mutation"], site["where"], tuple(site["amounts"]), tuple(site["convolutions"]))
    return Place(Site(*parts), *(tuple(data[key]) for key in ("amounts", "factors", "losses")))


def _between(amount: float, left: Mapping[float, float]) -> float:
    """The MACs left at an amount, linear in the amount between the two that were tried."""
    known = sorted(left)
    return float(np.interp(amount, known, [left[value] for value in known]))


class SearchSpace:
    """All choices of P places, and quick estimates of what they come to.

    Estimates take effects of places as independent: MACs of a convolution shrink by the product of the factors of all
    places that touch it, similarities multiply. The true MACs are of the mutated network.
    """

    def __init__(self, network: EditableNetwork, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        operations = [op for op in network.compute_graph().operations if op.macs]
        row = {operation.name: index for index, operation in enumerate(operations)}
        self._cost = np.array([operation.macs for operation in operations], np.float64)
        self._touches = np.zeros((len(self.places), len(operations)))
        most = 1 + max((len(place.amounts) for place in self.places), default=0)
        self._factors = np.zeros((len(self.places), most))  # logarithms; column 0 is unchanged
        self._losses = np.zeros((len(self.places), most))
        for index, place in enumerate(self.places):
            self._touches[index, [row[name] for name in place.site.convolutions if name in row]] = 1.0
            count = len(place.amounts)
            self._factors[index, 1 : count + 1] = np.log(np.maximum(place.factors, _LEAST))
            self._losses[index, 1 : count + 1] = place.losses or 0.0
        self.most = np.array([len(place.amounts) for place in self.places], np.int64)
        total = max(self._cost.sum(), 1.0)
        order = np.arange(len(operations)) / max(len(operations) - 1, 1)
        weight = self._touches * self._cost
        with np.errstate(invalid="ignore"):
            depth = (weight * order).sum(axis=1) / weight.sum(axis=1)
        self.depth = np.nan_to_num(depth, nan=0.5)
        """``(P,)``, where in the network a place is: 0 at the input, 1 at the output."""
        self.share = weight.sum(axis=1) / total
        """``(P,)``, share of all MACs that is in a place's convolutions."""

    def __len__(self) -> int:
        return len(self.places)

    def of(self, names: Iterable[str]) -> Array:
        """Return the numbers of the places of some mutations."""
        wanted = set(names)
        return np.array([i for i, place in enumerate(self.places) if place.site.mutation in wanted], np.int64)

    @property
    def mutations(self) -> tuple[str, ...]:
        """Mutations that have places here."""
        return tuple(dict.fromkeys(place.site.mutation for place in self.places))

    def features(self, levels: Array) -> Array:
        """Return what levels ``(P,)`` are like in few numbers ``(F,)``, for what is learnt from measured values.

        Logarithm of the MACs left, the loss, and per mutation how much it saves in each third of the network.
        """
        saved = -self.share * np.maximum(self._factors[np.arange(len(self.places)), levels], -3.0)
        third = np.minimum((self.depth * 3).astype(np.int64), 2)
        cells = np.zeros((len(self.mutations), 3))
        names = {name: row for row, name in enumerate(self.mutations)}
        np.add.at(cells, ([names[place.site.mutation] for place in self.places], third), saved)
        whole = self.macs(np.zeros(len(self.places), np.int64))
        return np.array([np.log(max(self.macs(levels), 1.0) / whole), self.loss(levels), *cells.ravel()])

    def decisions(self, levels: Sequence[int] | Array) -> list[Decision]:
        """Return what levels ``(P,)`` mean."""
        return [
            Decision(place.site.mutation, place.site.where, place.amounts[int(level) - 1])
            for place, level in zip(self.places, levels, strict=True)
            if level
        ]

    def levels(self, decisions: Iterable[Decision]) -> Levels | None:
        """Return levels of decisions, None where one of them is no choice here."""
        chosen = {(item.mutation, item.where): item.amount for item in decisions}
        found = []
        for place in self.places:
            amount = chosen.pop((place.site.mutation, place.site.where), None)
            if amount is not None and amount not in place.amounts:
                return None
            found.append(0 if amount is None else place.amounts.index(amount) + 1)
        return None if chosen else tuple(found)

    def choices(self, place: Place) -> list[str | float]:
        """Return the categories of a place's parameter."""
        return [UNCHANGED, *place.amounts]

    def macs(self, levels: Array) -> float:
        """Return an estimate of the MACs of levels ``(P,)``."""
        logs = self._factors[np.arange(len(self.places)), levels]
        return float((self._cost * np.exp(logs @ self._touches)).sum())

    def loss(self, levels: Array) -> float:
        """Return the sum of the losses of levels ``(P,)``: 0 for the original."""
        return float(self._losses[np.arange(len(self.places)), levels].sum())

    def steps(self, levels: Array, by: int) -> tuple[Array, Array, Array]:
        """Return all single steps from levels ``(P,)``: places ``(k,)``, MACs and losses ``(k,)`` after each."""
        index = np.arange(len(self.places))
        target = levels + by
        open_ = np.flatnonzero((target >= 0) & (target <= self.most))
        logs = self._factors[index, levels] @ self._touches
        change = self._factors[open_, target[open_]] - self._factors[open_, levels[open_]]
        macs = (self._cost * np.exp(logs + change[:, None] * self._touches[open_])).sum(axis=1)
        losses = self.loss(levels) + self._losses[open_, target[open_]] - self._losses[open_, levels[open_]]
        return open_, macs, losses

    def into_window(
        self,
        levels: Array,
        low: float,
        high: float,
        rng: np.random.Generator,
        movable: Array | None = None,
    ) -> Array | None:
        """Return levels near those given whose estimated MACs are from ``low`` to ``high``, None where none is found.

        Drawn places are cut by one step while MACs are above the window, and given back while they are below it.
        """
        levels = np.array(levels, np.int64)
        macs = self.macs(levels)
        for _ in range(8 * int(self.most.sum()) + 8):
            if low <= macs <= high:
                return levels
            by = 1 if macs > high else -1
            places, after, _ = self.steps(levels, by)
            if movable is not None:
                kept = np.isin(places, movable)
                places, after = places[kept], after[kept]
            inside = (after >= low) & (after <= high)
            nearer = inside if inside.any() else (after < macs if by > 0 else after <= high)
            if not nearer.any():
                if by < 0:  # every step back leads over the window: take one, the next steps are others
                    nearer = np.ones(len(places), bool)
                if not nearer.any():
                    return None
            places, after = places[nearer], after[nearer]
            pick = int(rng.integers(len(places)))
            levels[places[pick]] += by
            macs = float(after[pick])
        return None

    def by_strength(self, strengths: Array, high: float) -> Array:
        """Return the mildest levels ``(P,)`` at one multiple of strengths ``(P,)`` whose MACs are at most ``high``.

        A place of strength s at multiple m is left at a share of exp(-m s), or done at m s >= 1.
        """
        mild, strong = 0.0, 1.0
        while self.macs(self._at(strong * strengths)) > high and strong < 1e6:
            strong *= 2.0
        for _ in range(30):
            middle = (mild + strong) / 2
            if self.macs(self._at(middle * strengths)) > high:
                mild = middle
            else:
                strong = middle
        return self._at(strong * strengths)

    def _at(self, strengths: Array) -> Array:
        levels = np.zeros(len(self.places), np.int64)
        for index, place in enumerate(self.places):
            wished = np.exp(-strengths[index])
            if place.amounts == (0.0,):
                levels[index] = int(strengths[index] >= 1)
            else:
                shares = np.array([1.0, *place.amounts])
                levels[index] = int(np.abs(shares - wished).argmin()) if strengths[index] > 0 else 0
        return levels
