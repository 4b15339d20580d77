"""Labels that a user might have: networks of a small space, with values that follow from their choices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiop.tasks import get_space

UNIT = "%"


def codes(count: int, seed: int = 0) -> list[str]:
    """Distinct networks of NAS-Bench-Macro, which are read in a millisecond each."""
    space, rng = get_space("nas-bench-macro"), np.random.default_rng(seed)
    found = dict.fromkeys(f"nas-bench-macro:{space.sample(rng)}" for _ in range(3 * count))
    return list(found)[:count]


def value(network: str) -> float:
    """Later layers count more: costs alone do not tell the order."""
    digits = [int(digit) for digit in network.partition(":")[2]]
    return 60 + float(np.dot(digits, np.linspace(0.5, 2.0, len(digits))))


def write_table(path: Path, networks: list[str], header: str = "top1 [%]") -> Path:
    """Write a table of networks and their values."""
    lines = [f"{network},{value(network):.4f}" for network in networks]
    path.write_text("\n".join([f"network,{header}", *lines]) + "\n")
    return path
