"""What single changes do to a network's outputs, and how far all of them together can cut it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.search.compression.outputs import LEAST_SIMILARITY, Reference, noise_inputs
from aiop.search.compression.space import Place, SearchSpace
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Refusal
from aiop.search.mutations.sequence import mutate

__all__ = ["Comparison", "check_window"]

Feed = dict[str, npt.NDArray[Any]]

_PROBES = 160  # places that are compared by their outputs, the most expensive first
_NOISE = 32


class Comparison:
    """Compares the outputs of variants with those of a network, on real inputs or on noise.

    Args:
        network: The network.
        feeds: Real inputs, None where there are none.
        seed: Of the noise.
    """

    def __init__(self, network: EditableNetwork, feeds: list[Feed] | None, seed: int) -> None:
        self._network, self._feeds, self._seed = network, feeds, seed
        self._reference: Reference | None = None

    @property
    def real(self) -> bool:
        """Whether there are real inputs."""
        return self._feeds is not None

    def similarity(self, network: EditableNetwork) -> float | None:
        """Return the similarity of a variant's outputs, None where they cannot be compared.

        Times the share of the inputs' elements that it reads: fine-tuning brings back what weights knew, not what is no
        longer in a smaller picture, and noise looks the same in any size.
        """
        if self._reference is None:
            feeds = self._feeds or noise_inputs(self._network, _NOISE, self._seed)
            self._reference = Reference(self._network, feeds)
        found = self._reference.similarity(network)
        return None if found is None else found * min(1.0, _elements(network) / _elements(self._network))

    def with_losses(self, places: Sequence[Place], progress: Callable[[int, int], None]) -> list[Place]:
        """Return places with what each costs the outputs alone; the cheapest beyond 160 cost what is usual."""
        cost = {op.name: op.macs for op in self._network.compute_graph().operations}
        weight = [sum(cost.get(name, 0) for name in place.site.convolutions) for place in places]
        probed = set(sorted(range(len(places)), key=lambda index: (-weight[index], index))[:_PROBES])
        found: dict[int, float] = {}
        for done, index in enumerate(sorted(probed)):
            progress(done, len(probed))
            place = places[index]
            decision = SearchSpace(self._network, [place]).decisions([place.middle + 1])
            similarity = self.similarity(mutate(self._network, decision)[0])
            if similarity is not None:
                loss = abs(math.log(min(max(similarity, LEAST_SIMILARITY), 1.0)))
                found[index] = loss
        progress(len(probed), len(probed))
        usual = {
            name: float(np.median(own)) if own else 0.3
            for name in dict.fromkeys(place.site.mutation for place in places)
            for own in [[loss for index, loss in found.items() if places[index].site.mutation == name]]
        }
        return [
            place.with_loss(found.get(index, usual[place.site.mutation]))
            for index, place in enumerate(places)
        ]


def _elements(network: EditableNetwork) -> int:
    return sum(
        math.prod(extent or 1 for extent in network.shape(value) or ()) for value in network.graph.inputs
    )


def check_window(
    network: EditableNetwork, space: SearchSpace, refusals: Sequence[Refusal], most: float
) -> None:
    """Refuse a share of the MACs that no choice comes down to.

    Raises:
        AiopError: For that, and where there is nothing to choose.
    """
    name = network.name
    if not len(space):
        why = f" ({refusals[0].reason})" if refusals else ""
        raise AiopError(f"{name}: no mutation fits anywhere{why}; allow more with --mutations")
    lowest = network.macs
    for levels in (
        space.most,
        np.where(np.isin(np.arange(len(space)), space.of(("block",))), 0, space.most),
    ):
        try:
            lowest = min(lowest, mutate(network, space.decisions(levels))[0].macs)
        except AiopError:
            continue
    share = lowest / network.macs
    if share > most:
        raise AiopError(
            f"{name}: its MACs cannot go below {share:.2f} of what they are with these mutations, and "
            f"{most:g} is asked for: ask for more, or allow more mutations"
        )
