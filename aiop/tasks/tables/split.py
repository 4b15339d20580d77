"""Train, validation and test indices of a table that keep every group, and twins of other groups, on one side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.tasks.tables.table import Table

__all__ = ["joined_groups", "split"]

Split = dict[str, NDArray[np.int64]]

#: Architectures of (validation, test); the rest is for training. Published protocols use these test sizes.
_SIZES = {"nas-bench-201": (266, 1200), "nas-bench-mr": (100, 502)}

_TEST_SHARE, _VAL_SHARE = 0.20, 0.08

# timm is split by family. Each class of family sizes gives its own share, so that neither side holds all
# large families. A family above the cap always trains: it alone would be most of the test set.
_LARGE_FAMILY, _SMALL_FAMILY = 12, 5
_FAMILY_CAP = 0.06


def split(table: Table, twins: Sequence[str] | None = None, seed: int = 0) -> Split:
    """Indices ``{"train", "val", "test"}`` into ``table``, int64 and sorted, that never separate a group or twins.

    The groups of the table are drawn first: NAS-Bench-201 5,000 / 266 / 1,200 isomorphism classes, NAS-Bench-MR
    1,905 / 100 / 502 architectures; timm by family, about 72% / 8% / 20% of the networks, where a family's place
    depends on its name, its size and ``seed`` only; every other table by groups at random, to the same shares.

    Groups that twins join (see `joined_groups`) are then put on one side: in training if any of them was, else in
    validation if any was. What was for training stays there; the other sides give up what has a twin in it: with the
    content hashes of the networks as twins NAS-Bench-201's sides are 5,390 / 201 / 875, the others stay as they are.

    Args:
        table: n networks.
        twins: one label per network, such as the content hash of its canonical form; networks of one label are the
            same function. An empty label says nothing.
        seed: of the draw.

    Raises:
        AiopError: for labels of another number than the networks, or a part of NAS-Bench-201 or NAS-Bench-MR that is
            too small for its test set.
    """
    if table.name == "timm":
        side = _by_family(table.groups, seed)
    elif table.name in _SIZES:
        side = _by_count(table, seed)
    else:
        side = _by_share(table.groups, seed)
    sides = [side.get(label, "train") for label in table.groups]
    if twins is not None:
        found: dict[int, set[str]] = {}
        joined = joined_groups(table, twins)
        for group, name in zip(joined, sides, strict=True):
            found.setdefault(group, set()).add(name)
        first = {
            group: next(name for name in ("train", "val", "test") if name in names)
            for group, names in found.items()
        }
        sides = [first[group] for group in joined]
    return {name: np.flatnonzero(np.array(sides) == name) for name in ("train", "val", "test")}


def joined_groups(table: Table, twins: Sequence[str]) -> list[int]:
    """Return one number per network of a table: equal where a chain of common groups and twins joins two.

    A table's own groups need not be all: on NAS-Bench-201, nested sums and swapped nodes make networks of several
    isomorphism classes one, and a class may hold networks that differ in a convolution of zeros. Arguments and errors
    are those of `split`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(twins) != len(table):
        raise AiopError(
            f'table "{table.name}" has {len(table)} networks, but {len(twins)} twin labels were given: '
            "give one label per network, in the table's order"
        )
    # A network joins its group and its label: two more nodes of a graph whose components are wanted.
    size = len(table)
    groups = _numbered(table.groups, size)
    labels = _numbered((twin or row for row, twin in enumerate(twins)), size + len(set(table.groups)))
    ends = np.array([*range(size), *range(size)]), np.array([*groups, *labels])
    nodes = 1 + int(max(ends[1], default=0))
    matrix = coo_array((np.ones(2 * size, np.int8), ends), shape=(nodes, nodes))
    return [int(component) for component in connected_components(matrix, directed=False)[1][:size]]


def _numbered(labels: Iterable[str | int], start: int) -> list[int]:
    numbers: dict[str | int, int] = {}
    return [start + numbers.setdefault(label, len(numbers)) for label in labels]


def _by_count(table: Table, seed: int) -> dict[str, str]:
    """Side of the groups that are not for training, in the numbers of `_SIZES`."""
    labels = sorted(set(table.groups))
    val, test = _SIZES[table.name]
    if len(labels) <= val + test:
        raise AiopError(
            f'table "{table.name}" has {len(labels)} groups, too few to keep {val + test} from training: '
            "use the complete table"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    side = {labels[i]: "test" for i in order[:test]}
    return side | {labels[i]: "val" for i in order[test : test + val]}


def _by_share(groups: list[str], seed: int) -> dict[str, str]:
    """Groups in random order, each on the first side that it does not overfill; what is left trains."""
    sizes = Counter(groups)
    labels = sorted(sizes)
    room = {"test": round(_TEST_SHARE * len(groups)), "val": round(_VAL_SHARE * len(groups))}
    side: dict[str, str] = {}
    for place in np.random.default_rng(seed).permutation(len(labels)):
        label = labels[place]
        for name in room:
            if sizes[label] <= room[name]:
                side[label] = name
                room[name] -= sizes[label]
                break
    return side


def _by_family(groups: list[str], seed: int) -> dict[str, str]:
    sizes = Counter(groups)
    cap = _FAMILY_CAP * len(groups)
    strata: tuple[list[str], list[str], list[str]] = ([], [], [])
    for label, size in sizes.items():
        strata[0 if size >= _LARGE_FAMILY else 1 if size > _SMALL_FAMILY else 2].append(label)
    side: dict[str, str] = {}
    for stratum in strata:
        total = sum(sizes[label] for label in stratum)
        taken = {"test": 0, "val": 0}
        for label in sorted(stratum, key=lambda label: _hash(label, seed)):
            if sizes[label] > cap:
                continue
            for name, share in (("test", _TEST_SHARE), ("val", _VAL_SHARE)):
                if taken[name] < share * total:
                    side[label] = name
                    taken[name] += sizes[label]
                    break
    return side


def _hash(label: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{label}".encode()).hexdigest()
