"""Train, validation and test indices of a table that keep every group on one side."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.tasks.tables.table import Table

__all__ = ["split"]

Split = dict[str, NDArray[np.int64]]

#: Architectures of (validation, test); the rest is for training. Published protocols use these test sizes.
_SIZES = {"nas-bench-201": (266, 1200), "nas-bench-mr": (100, 502)}

# timm is split by family. Each class of family sizes gives its own share, so that neither side holds all
# large families. A family above the cap always trains: it alone would be most of the test set.
_TEST_SHARE, _VAL_SHARE = 0.20, 0.08
_LARGE_FAMILY, _SMALL_FAMILY = 12, 5
_FAMILY_CAP = 0.06


def split(table: Table, seed: int = 0) -> Split:
    """Indices ``{"train", "val", "test"}`` into ``table``, int64 and sorted, that never separate a group.

    NAS-Bench-201: 5,000 / 266 / 1,200 isomorphism classes. NAS-Bench-MR: 1,905 / 100 / 502 architectures.
    Every other table (timm): by family, about 72% / 8% / 20% of the networks, where a family's place depends
    on its name, its size and ``seed`` only.
    """
    if table.name not in _SIZES:
        return _by_family(table.groups, seed)
    labels = sorted(set(table.groups))
    val, test = _SIZES[table.name]
    if len(labels) <= val + test:
        raise AiopError(
            f'table "{table.name}" has {len(labels)} groups, too few to keep {val + test} from training: '
            "use the complete table"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    side = {labels[i]: "test" for i in order[:test]}
    side |= {labels[i]: "val" for i in order[test : test + val]}
    return _indices(table.groups, side)


def _by_family(groups: list[str], seed: int) -> Split:
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
    return _indices(groups, side)


def _hash(label: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{label}".encode()).hexdigest()


def _indices(groups: list[str], side: dict[str, str]) -> Split:
    where: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for i, label in enumerate(groups):
        where[side.get(label, "train")].append(i)
    return {name: np.asarray(indices, dtype=np.int64) for name, indices in where.items()}
