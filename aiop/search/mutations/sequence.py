"""Candidates: a network with a sequence of decisions applied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, Edit, Refusal, get_mutation, mutations
from aiop.search.mutations.local import LocalMutation

__all__ = ["mutate"]


def mutate(
    network: EditableNetwork, decisions: Sequence[Decision]
) -> tuple[EditableNetwork, list[Edit], list[Refusal]]:
    """Return a changed copy of a network, what was done to it, and the decisions that did not fit any more.

    Decisions are applied mutation by mutation in the order of the catalogue, those of one mutation in the order
    given; shapes are inferred as seldom as can be. The same decisions give the same network.

    Raises:
        AiopError: A decision names an unknown mutation, or the shapes of the result do not fit together.
    """
    groups: defaultdict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        groups[get_mutation(decision.mutation).name].append(decision)
    changed = network.clone()
    edits: list[Edit] = []
    refused: list[Refusal] = []
    owed = False
    for name, mutation in mutations().items():
        if name not in groups:
            continue
        if isinstance(mutation, LocalMutation):
            found = list(mutation.change_all(changed, groups[name]))
            owed = owed or any(isinstance(item, Edit) for item in found)
        else:
            if owed:
                changed.infer()
                owed = False
            found = list(mutation.apply_all(changed, groups[name]))
        edits += [item for item in found if isinstance(item, Edit)]
        refused += [item for item in found if isinstance(item, Refusal)]
    if owed:
        changed.infer()
    return changed, edits, refused
