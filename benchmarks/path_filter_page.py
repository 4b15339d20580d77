"""The page of `benchmarks.path_filter_detection`: what its seeds found, as tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.flop_counter import FlopCounterMode

from aiop.search.path_filter import hypervolume
from aiop.search.path_filter.detection.fronts import cost_to_reach, front, mean_saving
from aiop.search.path_filter.detection.study import Candidates, Scenery, Study
from aiop.tasks.latent.body import Body
from aiop.tasks.latent.heads import head_for

__all__ = ["BLIND", "RANDOM", "SCORED", "SEARCHES", "Search", "Seed", "page"]

Array = npt.NDArray[Any]

MILLION = 1e6
BLIND = 4
"""Bodies of each range of cost that the choice at random is estimated from."""


@dataclass(frozen=True)
class Search:
    """A row of the tables: weights of which arm, candidates of what, how many times as many as the others."""

    name: str
    arm: str
    of: str
    multiple: int = 1


SEARCHES = (
    Search("no filter", "whole", "whole"),
    Search("no filter, twice the evaluations", "whole", "whole", 2),
    Search("filter in the search only", "whole", "survivors"),
    Search("**filter in training and search**", "survivors", "survivors"),
)
RANDOM, SCORED = "at random, nothing evaluated", "the filter's first, nothing evaluated"


@dataclass(frozen=True, eq=False)
class Seed:
    """What one seed found.

    found: by the names of `SEARCHES`. budgets: AP at each budget by the name of the row. random: AP of bodies at random
    of the cheapest range. training: what training on survivors does to survivors, with standard error and their number.
    selection: by how much survivors are better with the same weights. accuracy: share of pairs in the right order, by
    what orders them. seconds: of CPU by what they were spent on.
    """

    found: dict[str, Candidates]
    budgets: dict[str, Array]
    random: float
    training: tuple[float, float, int]
    selection: float
    accuracy: dict[str, float]
    seconds: dict[str, float]


def page(seeds: Sequence[Seed], study: Study, count: int) -> str:
    """Return the page, in Markdown; study: of any of the seeds, count: candidates of each range of cost."""
    edges, head = study.edges, _head_macs(study.scenery)
    lines = [*_settings(seeds, study, count, head), "", "## AP on test scenes at a budget of MACs", ""]
    lines += _table(["", *(f"{edge / MILLION:.2f} M" for edge in edges[1:]), "mean"], _at_budgets(seeds))
    lines += [
        "",
        "## Fronts",
        "",
        *_wrapped(
            "*Hypervolume*: AP x M MACs, beyond the costliest body of the pool and the AP of bodies at random of the "
            "cheapest range. *Cost of the best*: MACs at which a front reaches the best AP of `no filter`, and by how "
            "much that is less than `no filter` spends on it (in brackets: with the MACs of the head). *At equal AP*: "
            "by how much less a front costs than that of `no filter`, on the mean over the APs that both reach."
        ),
        "",
    ]
    titles = ["", "seed", "bodies", "hypervolume", "best AP", "at, M", "cost of the best, M", "less"]
    rows = [
        _front_row(row.name, place, seed, float(edges[-1]), head)
        for row in SEARCHES
        for place, seed in enumerate(seeds)
    ]
    lines += _table([*titles, "at equal AP"], rows)
    lines += [
        "",
        "## What the filter does",
        "",
        *_wrapped(
            "Pairs of bodies of one range of MACs that are put in the right order, judged by box AP with the weights "
            "at the end of the training without a filter; labelled bodies are left out. *Selection*: by how much "
            "survivors are better than bodies at random of the same range, with these weights. *Training*: by how much "
            "survivors are better with the weights trained on survivors than with these; after ± the standard error "
            "over bodies; two trainings move all bodies together, which only seeds show. All on the scenes to "
            "choose by, in points of AP."
        ),
        "",
    ]
    rows = [
        [
            f"{place}",
            *(f"{value:.3f}" for value in seed.accuracy.values()),
            f"{seed.selection:+.2f}",
            f"{seed.training[0]:+.2f} ± {seed.training[1]:.2f} ({seed.training[2]} bodies)",
        ]
        for place, seed in enumerate(seeds)
    ]
    lines += _table(["seed", *seeds[0].accuracy, "selection", "training"], rows)
    lines += ["", "## Costs, CPU seconds of one core", ""]
    spent = {
        f"warm-up, {study.settings.warm_up.steps} steps": "warm-up",
        f"{study.settings.labels} labels": "labels",
        "training without a filter": "whole",
        "training on survivors": "survivors",
        f"a search, {count * study.settings.bins} evaluations": "search",
    }
    rows = [
        [f"{place}", *(f"{seed.seconds[name]:.0f}" for name in spent.values())]
        for place, seed in enumerate(seeds)
    ]
    return "\n".join([*lines, *_table(["seed", *spent], rows), ""])


def _settings(seeds: Sequence[Seed], study: Study, count: int, head: float) -> list[str]:
    settings, edges, scenery, arm = study.settings, study.edges, study.scenery, study.settings.arm
    evaluations = count * settings.bins
    return [
        "# A detection supernet with the path filter and without it",
        "",
        *_wrapped(
            "Written by `python -m benchmarks.path_filter_detection --write`. Box AP 50:95 in %, means over "
            f"{len(seeds)} seeds (of the head's first weights, of what is drawn, of the labelled bodies), after ± half "
            "the range of the seeds. MACs are of the body; the detection head, the same for all bodies, has another "
            f"{head / MILLION:.2f} M."
        ),
        "",
        *_item(
            f"Scenes of digits, 64 x 64: {len(scenery.train):,} to train on, {len(scenery.validation):,} to choose by, "
            f"{len(scenery.test):,} to judge by; these are of scans that no other scene uses."
        ),
        *_item(
            f"Bodies: a pool of {len(study.pool):,} of the space `digits-ofa`, {edges[0] / MILLION:.2f} to "
            f"{edges[-1] / MILLION:.2f} M MACs, in {settings.bins} ranges of as many bodies each."
        ),
        *_item(
            f"Both arms: weights from classification, {settings.warm_up.steps} steps on bodies of the whole space "
            f"together, then {arm.steps} steps each on the same images, of bodies of the whole space (`no filter`) or "
            f"that survive. A step trains {arm.bodies} bodies on {arm.batch} images: the largest and the smallest of "
            f"the space and a drawn one in turn, beside a drawn one. AdamW, rate {arm.rate:g} for the head and "
            f"{arm.rate * arm.body_rate:g} for the bodies, up in a line and down a cosine."
        ),
        *_item(
            f"The filter: fitted to {settings.labels} bodies of all costs, labelled with the weights after the common "
            f"steps on the scenes to choose by; it keeps {settings.share:.0%} of the pool at every cost. Labels are "
            "evaluations, counted below, and no steps."
        ),
        *_item("Batch statistics of body and head are estimated anew for every body that is evaluated."),
        *_item(
            f"A search evaluates {count} bodies of each range on the scenes to choose by; within a budget it takes the "
            f"best of all cheaper ones, and that is judged. `Twice the evaluations` makes {2 * evaluations}; with the "
            f"filter it takes {settings.labels} labels and {evaluations}."
        ),
        *_item(
            f"`At random`: the mean of {BLIND} bodies of the range below the budget with the weights of `no filter`, "
            "as one chooses by MACs alone. `The filter's first`: the survivor of that range with the highest score, "
            "with the weights trained on survivors."
        ),
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_on_hyphens=False)


def _item(text: str) -> list[str]:
    return textwrap.wrap(text, 120, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _at_budgets(seeds: Sequence[Seed]) -> list[list[str]]:
    rows = []
    for name in (RANDOM, SCORED, *(row.name for row in SEARCHES)):
        values = np.array([seed.budgets[name] for seed in seeds])
        means = values.mean(axis=1)
        extra = f" ± {np.ptp(means) / 2:.2f}" if len(seeds) > 1 else ""
        rows.append([name, *(f"{value:.2f}" for value in values.mean(axis=0)), f"{means.mean():.2f}{extra}"])
    return rows


def _front_row(name: str, place: int, seed: Seed, most: float, head: float) -> list[str]:
    def points(row: str) -> tuple[Array, Array]:
        one = seed.found[row]
        rows = front(one.macs, one.validation)
        return one.macs[rows], one.test[rows]

    macs, values = points(name)
    base_macs, base = points(SEARCHES[0].name)
    top = int(np.argmax(values))
    own, reached = float(base_macs[int(np.argmax(base))]), cost_to_reach(macs, values, float(base.max()))
    less = f"{1 - reached / own:.0%} ({1 - (reached + head) / (own + head):.0%})"
    saving = mean_saving(macs, values, base_macs, base)
    return [
        name,
        f"{place}",
        f"{len(macs)}",
        f"{hypervolume(macs / MILLION, values, (most / MILLION, seed.random)):.2f}",
        f"{values[top]:.2f}",
        f"{macs[top] / MILLION:.2f}",
        "not reached" if np.isnan(reached) else f"{reached / MILLION:.2f}",
        "-" if np.isnan(reached) else less,
        "-" if np.isnan(saving) else f"{saving:.0%}",
    ]


def _head_macs(scenery: Scenery) -> float:
    """MACs of the detection head on one image, half of the operations that torch counts."""
    head = head_for("dense", scenery.spec, Body.channels, Body.strides).eval()
    maps = [
        torch.zeros(1, channels, scenery.spec.size // stride, scenery.spec.size // stride)
        for channels, stride in zip(Body.channels, Body.strides, strict=True)
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        head(maps)
    return counter.get_total_flops() / 2
