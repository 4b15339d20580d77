"""A detection supernet trained with the path filter and without it, at the same number of steps.

    python -m benchmarks.path_filter_detection [--supernet FILE] [--seeds 2] [--write]

FILE is `supernet.safetensors` of a folder that `aiop latent build` made; without it the supernet of
benchmarks/latent.yaml is trained first, in the cache. Everything is kept in the cache, and an interrupted run goes on
where it was. `--write` writes docs/results/path_filter_detection.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import aiop
from aiop.search.path_filter import PathFilter, pairwise_accuracy
from aiop.search.path_filter.detection.detector import DetectionSettings
from aiop.search.path_filter.detection.fronts import at_budgets
from aiop.search.path_filter.detection.pool import draw_pool
from aiop.search.path_filter.detection.study import (
    WARM_UP,
    Candidates,
    Study,
    StudySettings,
    digit_scenery,
)
from aiop.tasks.corpora import cache_dir
from aiop.tasks.latent.config import LatentConfig, digest
from aiop.tasks.latent.studio import Studio
from aiop.tasks.latent.supernet import Supernet
from benchmarks.document import write_page
from benchmarks.path_filter_page import BLIND, RANDOM, SCORED, SEARCHES, Seed, page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "path_filter_detection.md"
SETTINGS = Path(__file__).with_name("latent.yaml")

Array = npt.NDArray[Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and print the page, or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--supernet", type=Path, help="classification weights to start from")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=400, help="steps before the labels")
    parser.add_argument("--steps", type=int, default=1300, help="of each arm")
    parser.add_argument("--pool", type=int, default=4000, help="bodies that are filtered")
    parser.add_argument("--labels", type=int, default=80, help="bodies that the filter is fitted to")
    parser.add_argument("--share", type=float, default=0.2, help="of the pool that survives")
    parser.add_argument("--candidates", type=int, default=10, help="evaluated bodies of each range of cost")
    parser.add_argument(
        "--scenes",
        type=int,
        nargs=3,
        default=(4000, 300, 1000),
        help="to train on, to choose by, to judge by",
    )
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in docs/results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = cache_dir() / "path-filter-detection"
    supernet = Supernet.load(options.supernet or _classification(folder / "classification"))
    settings = StudySettings(
        warm_up=DetectionSettings(steps=options.warm_up),
        arm=DetectionSettings(steps=options.steps),
        labels=options.labels,
        share=options.share,
    )
    predictor = aiop.load()
    pool = draw_pool(
        predictor,
        options.pool,
        path=folder / f"pool-{options.pool}-{predictor.card['weights_sha256'][:12]}.safetensors",
        progress=lambda done, total: _note(f"pool: {done} of {total} bodies"),
    )
    scenery = digit_scenery(*options.scenes)
    name = digest(asdict(settings), options.candidates, list(options.scenes), pool.identity)
    seeds: list[Seed] = []
    text = ""
    for seed in range(options.seeds):
        place = folder / name / f"seed-{seed}"
        study = Study(supernet, scenery, pool, _filter, settings, place, seed=seed, watch=_watch)
        seeds.append(_run(study, options.candidates))
        text = page(seeds, study, options.candidates)
        print(text, flush=True)
    if options.write and text:
        write_page(PAGE, text)


def _filter(features: Array, macs: Array, values: Array, seed: int) -> PathFilter:
    return PathFilter.fitted(features, macs, values, seed=seed)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _watch(stage: str, done: int, total: int, note: str) -> None:
    if done % 50 == 0 or done == total:
        _note(f"{stage}: {done} of {total}, {note}")


def _classification(folder: Path) -> Path:
    """Train the supernet of the settings file, or go on with it, and return where it is."""
    studio = Studio(replace(LatentConfig.load(SETTINGS), out=str(folder)))
    folder.mkdir(parents=True, exist_ok=True)
    studio.train_supernet(lambda done, total, loss: _watch("supernet", done, total, f"loss {loss:.3f}"))
    return studio.supernet_path


def _run(study: Study, count: int) -> Seed:
    """Do all of one seed that is not done yet."""
    edges, ranges = study.edges, range(study.settings.bins)
    seconds = {WARM_UP: study.trained(WARM_UP)[1].seconds}
    _note(f"labels of {len(study.labels)} bodies: {study.labels.mean():.2f} +- {study.labels.std():.2f}")
    seconds["labels"] = study.seconds(WARM_UP, "validation", study.labelled)
    for arm in ("survivors", "whole"):
        seconds[arm] = study.trained(arm)[1].seconds
    found = {row.name: study.search(row.arm, row.of, row.multiple * count) for row in SEARCHES}
    seconds["search"] = study.seconds("whole", "validation", study.candidates("whole", count))
    budgets = {name: at_budgets(one.macs, one.validation, one.test, edges[1:]) for name, one in found.items()}
    random = study.candidates("whole", BLIND)
    tested, bins = study.measure("whole", "test", random), study.bins[random]
    budgets[RANDOM] = np.array([tested[bins == place].mean() for place in ranges])
    first = study.best_scored()
    scored = dict(zip(study.bins[first].tolist(), study.measure("survivors", "test", first), strict=True))
    budgets[SCORED] = np.array([scored.get(place, np.nan) for place in ranges])
    any_body, same, trained = (found[SEARCHES[place].name] for place in (1, 2, 3))
    gain = trained.validation - same.validation  # the same bodies, with the weights of both arms
    selection = [
        same.validation[study.bins[same.rows] == place].mean()
        - any_body.validation[study.bins[any_body.rows] == place].mean()
        for place in ranges
        if (study.bins[same.rows] == place).any()
    ]
    return Seed(
        found=found,
        budgets=budgets,
        random=float(tested[bins == 0].mean()),
        training=(float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain))), len(gain)),
        selection=float(np.mean(selection)),
        accuracy=_accuracy(study, any_body),
        seconds=seconds,
    )


def _accuracy(study: Study, judged: Candidates) -> dict[str, float]:
    """Return the share of pairs of bodies within a range of cost that scores put in the right order."""
    pool, labelled = study.pool, study.labelled
    unseen = ~np.isin(judged.rows, labelled)
    rows, values = judged.rows[unseen], judged.validation[unseen]
    features, macs = pool.features[rows], pool.macs[rows]
    blunt = PathFilter.fitted(
        pool.features[labelled], pool.macs[labelled], study.labels, seed=study.seed, conditioned=False
    )
    scores = {
        "the filter": study.filter.score(features, macs),
        "the same without the condition": blunt.score(features, macs),
        "MACs": macs,
    }
    return {
        name: pairwise_accuracy(score, macs, values, study.settings.bins) for name, score in scores.items()
    }


if __name__ == "__main__":
    main()
