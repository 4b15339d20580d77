"""Bodies for truth, for pseudo-labels and for the training of heads: drawn so that no two roles share a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from aiop.errors import AiopError

__all__ = ["ROLES", "Roles", "depth_bins", "draw_codes", "seed_of"]

#: Role -> its share of all networks of a space.
ROLES: Mapping[str, float] = {"truth": 0.25, "pseudo": 0.5, "heads": 0.25}

_TRIES = 20_000  # draws in a row that bring nothing new, after which a space counts as exhausted


def seed_of(*parts: object) -> int:
    """Return a seed (31 bits) that depends on every part, and on nothing else.

    >>> seed_of(0, "truth", "a") == seed_of(0, "truth", "a"), seed_of(0, "truth", "a") == seed_of(0, "truth", "b")
    (True, False)
    """
    text = "\n".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1


class Roles:
    """The role of every network of a space: a hash of the network decides, whatever is drawn, and however much.

    So roles never share a network, and the first n codes of a role stay the same when more are asked for.

    sample: draws a code with the generator given.
    identity: content hash of a code's network; codes of one hash are one network.
    """

    def __init__(
        self, sample: Callable[[np.random.Generator], str], identity: Callable[[str], str], seed: int
    ) -> None:
        self._sample, self._identity, self._seed = sample, identity, seed

    def role(self, code: str) -> str:
        """The role of a code's network."""
        at = seed_of(self._seed, "role", self._identity(code)) / 2**31
        for role, share in ROLES.items():
            if at < share:
                return role
            at -= share
        return role

    def codes(self, role: str, wanted: Callable[[str], bool] = lambda code: True) -> Iterator[str]:
        """Yield codes of a role of which ``wanted`` holds, no network twice, until the space has no more.

        ``wanted`` is asked before the network is built.
        """
        rng = np.random.default_rng(seed_of(self._seed, "codes", role))
        codes: set[str] = set()
        networks: set[str] = set()
        fruitless = 0
        while fruitless < _TRIES:
            code = self._sample(rng)
            fruitless += 1
            if code in codes or not wanted(code):
                continue
            codes.add(code)
            if self.role(code) != role or (network := self._identity(code)) in networks:
                continue
            networks.add(network)
            fruitless = 0
            yield code


def draw_codes(roles: Roles, counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Draw so many codes of each role.

    Raises:
        AiopError: the space has fewer.
    """
    drawn = {}
    for role, count in counts.items():
        found = [code for code, _ in zip(roles.codes(role), range(count), strict=False)]
        if len(found) < count:
            raise AiopError(
                f"bodies for {role}: {count} are asked for, the space gives {len(found)}: ask for fewer"
            )
        drawn[role] = found
    return drawn


def depth_bins(
    roles: Roles, depth: Callable[[str], int], depths: Sequence[int], bins: int, count: int
) -> list[list[str]]:
    """Draw ``count`` codes for training heads from every one of ``bins`` equal ranges of total depth.

    depth: blocks of a code's network in all. depths: the least and the largest there is.

    Raises:
        AiopError: there are fewer depths than bins, or a range has fewer networks.
    """
    least, most = min(depths), max(depths)
    if most - least + 1 < bins:
        raise AiopError(
            f"{bins} bins of total depth: the space has {most - least + 1} depths; ask for fewer bins"
        )
    found = []
    for which in range(bins):

        def inside(code: str, which: int = which) -> bool:
            return (depth(code) - least) * bins // (most - least + 1) == which

        codes = [code for code, _ in zip(roles.codes("heads", inside), range(count), strict=False)]
        if len(codes) < count:
            raise AiopError(
                f"bin {which + 1} of {bins} of total depth: {count} bodies are asked for, the space gives "
                f"{len(codes)}: set 'per_bin' to at most that"
            )
        found.append(codes)
    return found
