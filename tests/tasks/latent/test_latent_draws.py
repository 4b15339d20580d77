from __future__ import annotations

import itertools

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.tasks.latent.draws import ROLES, Roles, depth_bins, draw_codes, seed_of


def sample(rng: np.random.Generator) -> str:
    """5 to 14 blocks of two kinds; the last sign is no part of the network."""
    blocks = "".join(rng.choice(list("xy"), size=int(rng.integers(5, 15))))
    return blocks + str(rng.choice(list("12")))


def network(code: str) -> str:
    return code[:-1]


def depth(code: str) -> int:
    return len(code) - 1


def test_no_network_has_two_roles_or_stands_twice() -> None:
    drawn = draw_codes(Roles(sample, network, 0), {"truth": 60, "pseudo": 150, "heads": 60})
    networks = [network(code) for codes in drawn.values() for code in codes]
    assert len(networks) == len(set(networks)) == 270


def test_more_codes_begin_with_those_of_fewer() -> None:
    roles = Roles(sample, network, 5)
    fewer, more = (draw_codes(roles, {"truth": count})["truth"] for count in (10, 40))
    assert more[:10] == fewer
    assert draw_codes(Roles(sample, network, 6), {"truth": 10})["truth"] != fewer


def test_roles_share_the_space_as_they_should() -> None:
    roles = Roles(sample, network, 0)
    drawn = [roles.role(f"network{index}1") for index in range(4000)]
    for role, share in ROLES.items():
        assert abs(drawn.count(role) / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_a_space_that_is_too_small_is_refused() -> None:
    with pytest.raises(AiopError, match=r"bodies for truth: 30 are asked for, the space gives \d+"):
        draw_codes(Roles(lambda rng: str(rng.integers(10, 30)), network, 0), {"truth": 30})


def test_bins_are_equal_ranges_of_depth() -> None:
    roles = Roles(sample, network, 0)
    bins = depth_bins(roles, depth, (5, 14), 5, count=4)
    assert [{(depth(code) - 3) // 2 for code in codes} for codes in bins] == [{1}, {2}, {3}, {4}, {5}]
    halves = depth_bins(roles, depth, (5, 14), 2, count=12)
    assert {depth(code) for code in halves[0]} <= {5, 6, 7, 8, 9}
    assert {depth(code) for code in halves[1]} <= {10, 11, 12, 13, 14}
    assert all(roles.role(code) == "heads" for code in itertools.chain(*halves))


def test_bins_without_bodies_are_refused() -> None:
    roles = Roles(sample, network, 0)
    with pytest.raises(AiopError, match=r"bin 1 of 5 .* 90 bodies are asked for, the space gives"):
        depth_bins(roles, depth, (5, 14), 5, count=90)
    with pytest.raises(AiopError, match="the space has 3 depths"):
        depth_bins(roles, depth, (1, 3), 5, count=1)


def test_seeds_depend_on_every_part() -> None:
    seeds = {seed_of(*parts) for parts in itertools.product((0, 1), ("a", "b"), ("c", 0))}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
