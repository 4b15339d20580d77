"""RelativeNAS with real training: ``python -m benchmarks.relative --write``.

A reduced search by duels on digits cut out of scenes; then its cells, published cells and random cells are trained
alone, all alike, and compared. What is done is kept in the cache, and the same command goes on with it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import aiop
from aiop.journal import append, read_lines
from aiop.search.methods.problem import count_macs, graph_of
from aiop.search.weight_sharing.images import Images, image_set
from aiop.search.weight_sharing.running import DUELS, run_duels
from aiop.search.weight_sharing.scratch import train_alone
from aiop.search.weight_sharing.settings import DuelSettings, preset
from aiop.tasks import get_space
from aiop.tasks.corpora import cache_dir
from aiop.tasks.spaces.darts import PUBLISHED
from benchmarks.document import write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "relative.md"
IMAGES = "digits"
STEPS, RATE = 600, 0.05
RANDOM, SEEDS = 8, 2
SPACE = "darts"
PARTS = 5
BEST = "found: the best"
JUDGE = "classification/nas-bench-201/cifar10-test-top1"


@dataclass(frozen=True)
class Row:
    """A cell, and what its networks came to, one entry per seed."""

    name: str
    code: str
    top1: list[float]
    loss: list[float]
    params: int
    macs: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and print the page, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in docs/results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings, folder = preset("reduced"), cache_dir() / "relative"
    found = _searched(folder / f"search-{options.seed}", settings, options.seed)
    images = image_set(IMAGES, train=settings.images, test=settings.held_out, cache=folder)
    rows = _trained(folder / "alone.jsonl", _cells(found), images, settings)
    text = _page(found, rows, settings, list(read_lines(folder / f"search-{options.seed}" / DUELS)))
    if options.write:
        write_page(PAGE, text)
    print(text)


def _note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _searched(folder: Path, settings: DuelSettings, seed: int) -> dict[str, Any]:
    def show(done: int, total: int) -> None:
        if done % 10 == 0:
            _note(f"search: {done} of {total}")

    return run_duels(folder, IMAGES, settings, seed=seed, cache=folder.parent, progress=show)


def _cells(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Return name, code and number of seeds of every cell, in the order of their training."""
    space, random = get_space(SPACE), np.random.default_rng(0)
    cells = [(BEST, found["best"]["code"], SEEDS)]
    cells += [(f"published: {name}", code, SEEDS) for name, code in PUBLISHED.items()]
    cells += [(f"random {number + 1}", space.sample(random), 1) for number in range(RANDOM)]
    return [*cells, *(("found: the second", entry["code"], SEEDS) for entry in found["next"][:1])]


def _trained(
    path: Path, cells: list[tuple[str, str, int]], images: Images, settings: DuelSettings
) -> list[Row]:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {
        (record["code"], record["seed"], record["steps"], record["rate"]): record
        for record in read_lines(path)
    }
    rows = []
    for name, code, seeds in cells:
        records = []
        for seed in range(seeds):
            key = (code, seed, STEPS, RATE)
            if key not in known:
                start = time.process_time()
                one = train_alone(code, images, settings, steps=STEPS, rate=RATE, seed=seed)
                record = {"code": code, "seed": seed, "steps": STEPS, "rate": RATE, **one._asdict()}
                known[key] = record | {"seconds": time.process_time() - start}
                append(path, known[key])
                _note(f"{name}, seed {seed}: {one.top1:.2f}%, {one.macs / 1e6:.2f} M MACs")
            records.append(known[key])
        rows.append(
            Row(
                name, code, [one["top1"] for one in records], [one["loss"] for one in records],
                records[0]["params"], records[0]["macs"],
            )
        )  # fmt: skip
    return rows


def _page(found: dict[str, Any], rows: list[Row], settings: DuelSettings, duels: list[dict[str, Any]]) -> str:
    predictor = aiop.load()
    said = {row.code: predictor.predict(graph_of(f"{SPACE}:{row.code}"), JUDGE)[JUDGE].value for row in rows}
    random = [row for row in rows if row.name.startswith("random")]
    means = [float(np.mean(row.top1)) for row in random]
    best = next(row for row in rows if row.name == BEST)
    beaten = sum(mean < np.mean(best.top1) for mean in means)
    order = sorted(rows, key=lambda row: row.macs)
    lines = [
        "# RelativeNAS: cells found by training, published cells, random cells",
        "",
        "Written by `python -m benchmarks.relative --write`.",
        "",
        f"The search: the preset `reduced` of `aiop search relative --space darts --train {IMAGES}` at seed "
        f"{found['seed']}: {settings.population} learners,",
        f"{settings.generations} generations, {found['duels']} duels, {found['trainings']} trainings of "
        f"{settings.steps} steps with shared weights, and the final comparison:",
        f"{found['seconds'] / 60:.1f} minutes of one core. Networks of {settings.cells} cells and {settings.channels} "
        f"channels; {settings.images:,} images of 16 x 16 (digits cut out of",
        "drawn scenes), half to train on and half to judge on.",
        "",
        f"Then every cell alone, all alike: fresh weights, {STEPS} steps of {settings.batch} images of both halves, "
        f"SGD, highest rate {RATE}; top-1 and",
        f"loss on {settings.held_out:,} held-out images of other scans. Found and published cells with {SEEDS} seeds, "
        "random ones with one (the",
        "same weights and images as seed 0 of the others). Parameters and MACs are of these small networks.",
        f"*Predicted* is what the package's predictor says of the 20-cell network for `{JUDGE}`:",
        "no task is measured on `darts`.",
        "",
        "| Cell | Top-1, % | Seeds | Loss, nats | Parameters, k | MACs, M | Rank by MACs | Predicted, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -float(np.mean(row.top1))):
        spread = f" ± {(max(row.top1) - min(row.top1)) / 2:.2f}" if len(row.top1) > 1 else ""
        lines.append(
            f"| {row.name} | {np.mean(row.top1):.2f}{spread} | {len(row.top1)} | {np.mean(row.loss):.3f} | "
            f"{row.params / 1e3:.1f} | {row.macs / 1e6:.2f} | {order.index(row) + 1} of {len(rows)} | "
            f"{said[row.code]:.2f} |"
        )
    lines += [
        "",
        "After `±` half of the difference between the two seeds. Rank 1 has the fewest MACs.",
        "",
        f"- {BEST}: {np.mean(best.top1):.2f}%; above {beaten} of {len(random)} random cells, whose mean is "
        f"{np.mean(means):.2f}% and whose best has {max(means):.2f}%.",
        *(f"- SRCC of top-1 and {what}: {_srcc(rows, key)} over all {len(rows)} cells, {_srcc(random, key)} over the "
          "random ones." for what, key in (
              ("MACs", lambda row: row.macs),
              ("parameters", lambda row: row.params),
              ("the predictor's word", lambda row: said[row.code]),
          )),
        "",
        "## The search",
        "",
        "Of each part of the generations: what both of a duel came to on the judging half, MACs (of the network of 20",
        "cells) of those that fought, and how often the one with more MACs won.",
        "",
        "| Generations | Mean loss | Mean top-1, % | MACs, M | More MACs won | Different cells |",
        "|---|---|---|---|---|---|",
        *_course(duels, settings),
        "",
        "## Cells",
        "",
        *(f"- {row.name}: `{row.code}`" for row in rows if row.name.startswith("found")),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _srcc(rows: list[Row], key: Callable[[Row], float]) -> str:
    return f"{spearmanr([np.mean(row.top1) for row in rows], [key(row) for row in rows]).statistic:.2f}"


def _course(duels: list[dict[str, Any]], settings: DuelSettings) -> list[str]:
    macs = {code: count_macs(SPACE, code) for duel in duels for code in duel["codes"]}
    lines = []
    part = -(-settings.generations // PARTS)
    for start in range(0, settings.generations, part):
        own = [duel for duel in duels if start <= duel["generation"] < start + part]
        last = max(duel["generation"] for duel in own)
        apart = [duel for duel in own if macs[duel["codes"][0]] != macs[duel["codes"][1]]]
        larger = [
            macs[duel["codes"][duel["learners"].index(duel["fast"])]]
            == max(macs[code] for code in duel["codes"])
            for duel in apart
        ]
        different = {code for duel in own if duel["generation"] == last for code in duel["codes"]}
        lines.append(
            f"| {start + 1} to {last + 1} | {np.mean([duel['losses'] for duel in own]):.3f} | "
            f"{np.mean([duel['top1'] for duel in own]):.1f} | "
            f"{np.mean([macs[code] for duel in own for code in duel['codes']]) / 1e6:.0f} | "
            f"{sum(larger)} of {len(larger)} | {len(different)} of {settings.population} |"
        )
    return lines


if __name__ == "__main__":
    main()
