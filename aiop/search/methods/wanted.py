"""Which tasks of a space a user means: names, globs, or parts of them, as the space is known already."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from aiop.errors import AiopError
from aiop.search.methods.problem import find_tasks
from aiop.tasks import get_space, list_tasks

__all__ = ["parse_weights", "wanted_tasks"]


def wanted_tasks(space: str, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks of a space that any of some patterns matches, in the order of the patterns.

    A pattern is a glob of names (``domain/space/metric``), or says less: the space may be left out or stand first,
    and a domain may be cut short. ``seg/*``, ``nas-bench-mr/seg/*`` and ``segmentation/nas-bench-mr/*`` are the same.

    Raises:
        AiopError: an unknown space, or a pattern without a task on it; the message names those there are.
    """
    get_space(space)
    found: dict[str, None] = {}
    for pattern in patterns:
        exact = [name for name in list_tasks(pattern) if name.split("/")[1] == space]
        for name in [pattern] if exact else _short(space, pattern) or [pattern]:
            found.update(dict.fromkeys(find_tasks(space, name)))
    return tuple(found)


def _short(space: str, pattern: str) -> list[str]:
    """Return the tasks that a shortened pattern means, none where it is none."""
    parts = [part for part in pattern.split("/") if part != space]
    found = []
    for name in list_tasks(f"*/{space}/*"):
        domain, _, metric = name.split("/", 2)
        match parts:
            case [one] if fnmatchcase(domain, f"{one}*") or fnmatchcase(metric, one):
                found.append(name)
            case [one, other] if fnmatchcase(domain, f"{one}*") and fnmatchcase(metric, other):
                found.append(name)
            case [] if pattern:
                found.append(name)
    return found


def parse_weights(texts: Sequence[str], space: str, tasks: Sequence[str]) -> Mapping[str, float]:
    """Return the weights of tasks from texts such as ``seg/*=2``; a pattern weighs each task that it matches.

    Raises:
        AiopError: a text that is no weight, a pattern without a task, or one whose task is not searched for.
    """
    weights: dict[str, float] = {}
    for text in texts:
        pattern, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not pattern or not (math.isfinite(weight) and weight > 0):
            raise AiopError(f'--weight "{text}" is no weight: write TASK=NUMBER with a number above 0')
        for name in wanted_tasks(space, [pattern]):
            if name not in tasks:
                raise AiopError(
                    f'--weight "{text}" weighs {name}, which is not searched for: add --task {name}'
                )
            weights[name] = weight
    return weights
