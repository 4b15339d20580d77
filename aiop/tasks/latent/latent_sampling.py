"""Features that a shared head is trained on: samples between a supernet's bodies, or one body after the other.

Latent samples are those of AIO-P (Mills et al., AAAI 2023, arXiv 2211.17228): five bodies, one from each bin of total
depth, read the same images; per element of their features at the boundaries of the stages, mean mu and unbiased
deviation sigma over the bodies give `z = mu + zeta * sigma` with zeta ~ N(0, 1), drawn anew each time. After every
batch the oldest body leaves and one from the next bin enters. Body swapping is what they compare with: the features of
one body, which leaves after every batch.

Who is present at a step is a function of the seed and the step alone, so that a training goes on where it stopped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aiop.tasks.latent.draws import seed_of

__all__ = ["BodyBank", "BodySwapper", "Features", "LatentSampler", "Source"]

Features = tuple[Tensor, ...]


class _Callable(Protocol):
    def __call__(self, images: Tensor) -> Sequence[Tensor]: ...


class Source(Protocol):
    """Gives the features that a head is trained on."""

    def features(self, images: Tensor, step: int) -> Features:
        """Return feature maps of a batch, one tensor ``(n, C_i, H_i, W_i)`` per boundary, without gradients."""


class BodyBank:
    """Bodies by code, ready to run; of many the last used ones are kept.

    make: extracts the body of a code, with statistics of its own, in evaluation mode.
    most: bodies that are kept.
    """

    def __init__(self, make: Callable[[str], _Callable], most: int = 64) -> None:
        self._make, self._most = make, most
        self._bodies: OrderedDict[str, _Callable] = OrderedDict()

    def __getitem__(self, code: str) -> _Callable:
        if code not in self._bodies:
            self._bodies[code] = self._make(code)
            if len(self._bodies) > self._most:
                self._bodies.popitem(last=False)
        self._bodies.move_to_end(code)
        return self._bodies[code]


class _Entering:
    """The bodies in the order in which they enter: bin after bin, and in a bin each in turn in an order drawn anew."""

    def __init__(self, bins: Sequence[Sequence[str]], seed: int) -> None:
        if not bins or not all(bins):
            raise ValueError("every bin of depth needs a body")
        self._bins, self._seed = bins, seed

    def __getitem__(self, entry: int) -> str:
        turn, which = divmod(entry, len(self._bins))
        codes = self._bins[which]
        lap, place = divmod(turn, len(codes))
        order = np.random.default_rng(seed_of(self._seed, "order", which, lap)).permutation(len(codes))
        return codes[int(order[place])]


class LatentSampler:
    """Latent samples from bodies of all bins of depth at once; see the module.

    bins: codes of the bodies of each bin, shallow to deep; as many bodies are present as there are bins, at least two.
    """

    def __init__(self, bank: BodyBank, bins: Sequence[Sequence[str]], seed: int) -> None:
        if len(bins) < 2:
            raise ValueError("a deviation needs at least two bodies")
        self._bank, self._seed, self._count = bank, seed, len(bins)
        self._entering = _Entering(bins, seed)

    def present(self, step: int) -> list[str]:
        """Codes of the bodies that are present at a step, the oldest first."""
        return [self._entering[step + age] for age in range(self._count)]

    @torch.no_grad()
    def features(self, images: Tensor, step: int) -> Features:
        """See `Source.features`."""
        seen = [self._bank[code](images) for code in self.present(step)]
        random = torch.Generator().manual_seed(seed_of(self._seed, "zeta", step))
        return tuple(_sample(torch.stack(maps), random) for maps in zip(*seen, strict=True))


def _sample(maps: Tensor, random: torch.Generator) -> Tensor:
    """``z = mu + zeta * sigma`` over the first axis (bodies)."""
    sigma, mu = torch.std_mean(maps, dim=0, correction=1)
    # Drawn on the processor, so that every device sees the same numbers.
    zeta = torch.randn(mu.shape, generator=random).to(mu.device)
    return torch.addcmul(mu, zeta, sigma).contiguous(memory_format=torch.channels_last)


class BodySwapper:
    """The features of one body at a time, which leaves after every batch for one of the next bin."""

    def __init__(self, bank: BodyBank, bins: Sequence[Sequence[str]], seed: int) -> None:
        self._bank, self._entering = bank, _Entering(bins, seed)

    def present(self, step: int) -> list[str]:
        """Code of the body that is present at a step."""
        return [self._entering[step]]

    @torch.no_grad()
    def features(self, images: Tensor, step: int) -> Features:
        """See `Source.features`."""
        return tuple(self._bank[self._entering[step]](images))
