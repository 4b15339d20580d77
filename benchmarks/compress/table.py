"""The table of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Measured", "lines"]


@dataclass(frozen=True)
class Measured:
    """One network cut by one method to one share of MACs, fine-tuned by one seed.

    level: the share that was asked for; 1 for the original. macs, latency: over the original's. before, after:
    accuracy without and with fine-tuning, %.
    """

    kind: str
    method: str
    level: float
    seed: int
    macs: float
    latency: float
    before: float
    after: float


def lines(measured: Sequence[Measured], originals: dict[str, float], methods: Sequence[str]) -> list[str]:
    """Return the tables: means over networks, then every network; networks that miss a cut are left out of both."""
    levels = sorted({item.level for item in measured if item.level < 1}, reverse=True)
    seeds = sorted({item.seed for item in measured})
    found = {(item.kind, item.method, item.level, item.seed): item for item in measured}
    whole = [
        kind for kind in originals
        if all((kind, method, level, seed) in found for method in methods for level in levels for seed in seeds)
    ]  # fmt: skip
    if not whole:
        return ["Nothing was measured to the end yet."]

    def mean(kind: str, method: str, level: float, name: str = "after") -> float:
        return float(np.mean([getattr(found[kind, method, level, seed], name) for seed in seeds]))

    text = [
        f"{len(whole)} networks, {len(seeds)} fine-tuning{'s' if len(seeds) > 1 else ''} of each cut.",
        "",
        "| | MACs | top-1 before fine-tuning, % | top-1 after, % | latency | best of its level |",
        "|---|---|---|---|---|---|",
        f"| original | 1 | {np.mean([originals[kind] for kind in whole]):.1f} | "
        + (
            f"{np.mean([mean(kind, 'original', 1.0) for kind in whole]):.1f}"
            if all((kind, "original", 1.0, seed) in found for kind in whole for seed in seeds)
            else "-"
        )
        + " | 1 | |",
    ]
    for level in levels:
        best = {kind: max(mean(kind, method, level) for method in methods) for kind in whole}
        for method in methods:
            cells = [
                f"{np.mean([mean(kind, method, level, name) for kind in whole]):.{digits}f}"
                for name, digits in (("macs", 3), ("before", 1), ("after", 1), ("latency", 2))
            ]
            wins = sum(mean(kind, method, level) >= best[kind] - 1e-9 for kind in whole)
            text.append(f"| {method}, at most {level:.0%} | {' | '.join(cells)} | {wins} of {len(whole)} |")
    text += ["", f"| top-1 after fine-tuning, % / latency | original | {_heads(methods, levels)} |"]
    text.append("|---" * (2 + len(methods) * len(levels)) + "|")
    for kind in whole:
        cells = [
            f"{mean(kind, method, level):.1f} / {mean(kind, method, level, 'latency'):.2f}"
            for level in levels
            for method in methods
        ]
        text.append(f"| {kind} | {originals[kind]:.1f} | {' | '.join(cells)} |")
    if len(seeds) > 1:
        spread = [
            np.std([found[kind, method, level, seed].after for seed in seeds], ddof=1)
            for kind in whole for level in levels for method in methods if method != "random"
        ]  # fmt: skip
        noise = float(np.sqrt(np.mean(np.square(spread))))
        known = noise / np.sqrt(len(whole) * len(seeds))
        text += [
            "",
            "Standard deviation between fine-tunings of one cut (those of `random` are of different cuts): "
            f"{noise:.2f} points; of a mean over {len(whole)} networks and {len(seeds)} fine-tunings {known:.2f}.",
        ]
    return text


def _heads(methods: Sequence[str], levels: Sequence[float]) -> str:
    return " | ".join(f"{method} {level:.0%}" for level in levels for method in methods)
