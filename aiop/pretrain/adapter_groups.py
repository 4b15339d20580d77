"""Which tasks share an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from aiop.errors import AiopError
from aiop.pretrain.adapters import AdapterGroup
from aiop.pretrain.config import AdapterConfig
from aiop.pretrain.sets import TrainingSet
from aiop.tasks.task import match_tasks

__all__ = ["adapter_groups"]


def adapter_groups(
    config: AdapterConfig, names: Sequence[str], sets: Sequence[TrainingSet]
) -> tuple[AdapterGroup, ...]:
    """Return the groups that settings ask for, in the order of their names; none where they ask for none.

    Args:
        config: the settings. Groups of which the run has no task are left out.
        names: of the T tasks.
        sets: the corpora, with values (n, T).

    Raises:
        AiopError: for a pattern that matches no task there is, and a task in two groups.
    """
    places: dict[str, list[int]] = {}
    if config.by == "domain":
        for column, name in enumerate(names):
            places.setdefault(name.partition("/")[0], []).append(column)
    elif config.by == "corpus":
        for item in sets:
            labelled = np.isfinite(item.values[item.train]).any(axis=0)
            places[item.name] = np.flatnonzero(labelled).tolist()
    for group, patterns in config.groups.items():
        for pattern in patterns:
            # A pattern for tasks that other runs have is fine, one with a typing error is not.
            if not any(fnmatchcase(name, pattern) for name in names):
                match_tasks(pattern)
        found = [c for c, name in enumerate(names) if any(fnmatchcase(name, glob) for glob in patterns)]
        places[group] = found
    first: dict[int, str] = {}
    for group, columns in places.items():
        for column in columns:
            if column in first:
                raise AiopError(
                    f"task {names[column]!r} is in the adapter groups {first[column]!r} and {group!r}: "
                    "give it to one of them in 'adapters'"
                )
            first[column] = group
    groups = tuple(AdapterGroup(name, tuple(places[name])) for name in sorted(places) if places[name])
    if not groups and (config.by != "none" or config.groups):
        raise AiopError("no task of the run is in a group of 'adapters': check their patterns")
    return groups
