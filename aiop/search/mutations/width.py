"""Fewer channels: units of coupled groups are taken out, through everything that carries them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from aiop.errors import AiopError, suggest
from aiop.search.editing.coupling import Coupling, Group, check_importance, coupling, shrink
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import (
    Decision,
    Edit,
    Mutation,
    NotApplicableError,
    Refusal,
    Site,
    register,
)

__all__ = ["AMOUNTS", "Width", "prune"]

AMOUNTS = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
"""Shares of units that are left."""

_STEP = 8  # what many units are rounded to: kernels of processors work on so many channels at once
_MANY = 32


def left(units: int, share: float) -> int:
    """Return how many of some units a share of them is: multiples of 8 from 32 on, one at the least."""
    if units >= _MANY and units % _STEP == 0:
        return min(units, max(_STEP, _STEP * math.floor(units * share / _STEP + 0.5)))
    return min(units, max(1, math.floor(units * share + 0.5)))


def prune(
    network: EditableNetwork, shares: Mapping[str, float], *, importance: str = "magnitude", seed: int = 0
) -> list[Edit | Refusal]:
    """Make groups thinner in place, all from one analysis.

    Args:
        network: What is changed.
        shares: Where -> share of the units that is left, above 0 and at most 1.
        importance: Which units stay: ``"magnitude"`` (those of the largest weights), ``"random"``, ``"first"`` or
            ``"smallest"``.
        seed: For ``"random"``.

    Raises:
        AiopError: No such importance.
    """
    decisions = [Decision(Width.name, where, share) for where, share in shares.items()]
    return list(Width(importance=importance, seed=seed).apply_all(network, decisions))


@register
class Width(Mutation):
    """Fewer channels in groups that go together.

    Args:
        importance: Which units stay, as in `prune`.
        seed: For ``"random"``.

    Raises:
        AiopError: No such importance.
    """

    name = "width"

    def __init__(self, importance: str = "magnitude", seed: int = 0) -> None:
        check_importance(importance)
        self._importance, self._seed = importance, seed

    def sites(self, network: EditableNetwork) -> list[Site]:
        """One per group, in the order of its first producer."""
        return [
            Site(self.name, group.where, amounts, group.workers)
            for group in coupling(network).groups.values()
            if (amounts := _amounts(group))
        ]

    def refusals(self, network: EditableNetwork) -> list[Refusal]:
        """Layers none of whose outputs can go."""
        return [
            Refusal(self.name, where, f"{where}: {reason}")
            for where, reason in coupling(network).refused.items()
        ]

    def apply(self, network: EditableNetwork, where: str, amount: float) -> Edit:
        """Keep a share of the units of one group."""
        (result,) = self._apply(network, [Decision(self.name, where, amount)])
        if isinstance(result, Refusal):
            raise NotApplicableError(result.reason)
        return result

    def apply_all(self, network: EditableNetwork, decisions: list[Decision]) -> Iterator[Edit | Refusal]:
        """Change all groups at once, from one analysis."""
        try:
            results = self._apply(network, decisions)
        except NotApplicableError:
            results = list(super().apply_all(network, decisions))
        yield from results

    def _apply(self, network: EditableNetwork, decisions: list[Decision]) -> list[Edit | Refusal]:
        known = coupling(network)
        kept: dict[str, tuple[int, ...]] = {}
        results: list[Edit | Refusal] = []
        for decision in decisions:
            reason = _obstacle(known, decision, kept)
            if reason is not None:
                results.append(Refusal(self.name, decision.where, reason))
                continue
            group = known.groups[decision.where]
            counts = kept[decision.where] = _counts(group, decision.amount)
            results.append(Edit(decision, _described(group, counts)))
        if kept:
            try:
                shrink(network, known, kept, importance=self._importance, seed=self._seed)
            except AiopError as error:
                raise NotApplicableError(str(error)) from error
        return results


def _counts(group: Group, share: float) -> tuple[int, ...]:
    return tuple(left(len(part), share) for part in group.parts)


def _amounts(group: Group) -> tuple[float, ...]:
    amounts: list[float] = []
    smallest = group.units
    for share in AMOUNTS:
        units = sum(_counts(group, share))
        if units < smallest:
            smallest = units
            amounts.append(share)
    return tuple(amounts)


def _obstacle(known: Coupling, decision: Decision, kept: Mapping[str, object]) -> str | None:
    where = decision.where
    group = known.groups.get(where)
    if group is None:
        reason = known.refused.get(where)
        missing = f"no group of channels is called so{suggest(where, known.groups)}"
        return f"{where}: {missing if reason is None else reason}"
    if where in kept:
        return f"{where}: is made thinner already"
    if not 0 < decision.amount < 1:
        return f"{where}: a share of {decision.amount:g} takes nothing out; it lies between 0 and 1"
    if sum(_counts(group, decision.amount)) == group.units:
        return f"{where}: a share of {decision.amount:g} of {group.units} units takes none out"
    return None


def _described(group: Group, counts: tuple[int, ...]) -> str:
    units = sum(counts)
    channels = group.channels * units // group.units
    what = f"{group.where}: {group.channels} -> {channels} channels"
    if group.channels != group.units:
        what += f" ({group.units} -> {units} that go together)"
    others = len(group.producers) - 1
    return what if not others else f"{what}, with {others} coupled layer{'s' if others > 1 else ''}"
