"""The weights that all networks of a search share, and who may write them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from aiop.search.weight_sharing.network import load, weights_of

__all__ = ["SharedWeights", "written"]


def written(
    shared: Mapping[str, Tensor], winner: Mapping[str, Tensor], loser: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the shared weights after a duel, each by its name.

    What the winner has is the winner's. What only the loser has is the loser's. The rest stays as it was.
    """
    return {**shared, **loser, **winner}


class SharedWeights:
    """Weights by their names; one that no network had yet is drawn when the first one asks for it.

    Args:
        seed: of those that are drawn.
        tensors: those there are.
    """

    def __init__(self, seed: int, tensors: Mapping[str, Tensor] | None = None) -> None:
        self.seed = seed
        self.tensors: dict[str, Tensor] = dict(tensors or {})

    def lend(self, network: nn.Module) -> None:
        """Give a network its part, as copies."""
        load(network, self.tensors, self.seed)

    def write(self, winner: nn.Module, loser: nn.Module) -> None:
        """Take in what two networks became in a duel, see `written`."""
        self.tensors = written(self.tensors, weights_of(winner), weights_of(loser))
