"""What path filters keep of true Pareto fronts: ``python -m benchmarks.path_filter --predictors FOLDER --write``.

On networks that were not labelled: how often a filter orders two of similar cost as measured, and how much of the
hypervolume of the measured front survives when half, 80% or 95% of the candidates are removed. Results are kept in the
cache, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aiop.errors import AiopError
from aiop.finetune.baselines.codes import code_matrix
from aiop.finetune.head import FewShotHead
from aiop.finetune.views import Views
from aiop.protocols.code import code_digest
from aiop.protocols.folds import Holder, holders_in
from aiop.protocols.plan import Plan, load_plan
from aiop.protocols.seen import bench, see
from aiop.protocols.store import Record, Store
from aiop.search.path_filter import NetworkFilter, hypervolume, kept, on_front, pairwise_accuracy
from aiop.tasks import get_task
from aiop.tasks.corpora import cache_dir
from benchmarks.document import write_page
from benchmarks.path_filter_tables import LABELS, LIMIT, METHODS, RANGES, SHARES, render

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "path_filter.md"
TASKS = (
    "classification/ofa-mbv3/imagenet-top1",
    "detection/gaia-det/coco-ap",
    "classification/nas-bench-mr/cls-50-1000-top1",
    "classification/nas-bench-mr/cls-50-100-top1",
    "classification/nas-bench-mr/cls-10-1000-top1",
    "classification/nas-bench-mr/cls-10c-top1",
    "segmentation/nas-bench-mr/cityscapes-miou",
    "video/nas-bench-mr/hmdb51-top1",
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ground:
    """The measured networks of a task: one half is labelled from, the other is judged on.

    values: turned so that larger is better; zero: what the predictor says of the judged half without labels.
    """

    task: str
    holder: Holder
    data: str
    views: Views
    codes: Array
    values: Array
    pool: Array
    tested: Array
    zero: Array


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge what is missing and print the page, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--predictors", required=True, help="folder with one predictor per fold of the plan")
    parser.add_argument("--seeds", type=int, default=5, help="draws of labels")
    parser.add_argument("--tasks", default="*", help="only tasks whose name holds this")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in docs/results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    plan = load_plan(None)
    holders = holders_in(options.predictors, plan)
    store = Store(cache_dir() / "bench" / "path-filter.jsonl")
    chosen = [task for task in TASKS if options.tasks.strip("*") in task]
    records: list[Record] = []
    notes = []
    for task in chosen:
        ground = _ground(task, holders, plan)
        notes.append(_note(ground))
        records += _records(ground, options.seeds, store)
    text = render(records, notes, options.seeds)
    if options.write:
        write_page(PAGE, text)
    print(text)


def _records(ground: Ground, seeds: int, store: Store) -> Iterator[Record]:
    for labels in dict.fromkeys(min(count, len(ground.pool)) for count in LABELS):
        for seed in range(seeds):
            identity = _identity(ground, labels, seed)
            if Store.key(identity) not in store:
                started = time.perf_counter()
                store.add(identity | judged(ground, labels, seed))
                seconds = time.perf_counter() - started
                print(
                    f"{ground.task}, {labels} labels, seed {seed}: {seconds:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
            yield store.records[Store.key(identity)]


def _ground(task: str, holders: Sequence[Holder], plan: Plan) -> Ground:
    space = get_task(task).space
    holder = next(
        (one for one in holders if one.fold and space in one.fold.spaces and not one.fold.only), None
    )
    if holder is None:
        raise AiopError(
            f"no predictor of --predictors was kept from {space}: pretrain the fold of the plan that is"
        )
    seen, found = see(holder, space, plan.folder, whole=True), bench(space, plan.folder)
    values = found.table.values[task]
    rows = np.array([row for row in seen.positions if np.isfinite(values[row])], np.int64)
    views = seen.views.rows(seen.at(rows))
    halves = np.array([hashlib.sha256(name.encode()).digest()[0] % 2 for name in views.names])
    tested = np.flatnonzero(halves == 0)
    turn = 1.0 if get_task(task).direction == "max" else -1.0
    empty = FewShotHead.for_task(get_task(task)).fit(views.rows([]), np.zeros(0))
    zero = turn * empty.predict(views.rows(tested))
    goodness = turn * values[rows]
    codes = code_matrix(views.names)
    return Ground(task, holder, found.data, views, codes, goodness, np.flatnonzero(halves == 1), tested, zero)


def _identity(ground: Ground, labels: int, seed: int) -> dict[str, Any]:
    modules = (
        ("aiop.search.path_filter.network_filter", "aiop.search.path_filter"),
        ("aiop.finetune.head", "aiop"),
    )
    made = [code_digest(*module) for module in modules] + [
        code_digest(__spec__.name if __spec__ else __name__)
    ]
    return {
        "kind": "path-filter",
        "sees": ground.holder.digest[:16],
        "data": ground.data,
        "task": ground.task,
        "method": "all",
        "code": hashlib.sha256("\n".join(made).encode()).hexdigest()[:16],
        "labels": labels,
        "draw": seed,
    }


def judged(ground: Ground, labels: int, seed: int) -> dict[str, Any]:
    """Return what every method is worth after so many labels.

    Returns:
        ``accuracy``: method -> pairwise accuracy within ranges of cost;
        ``lost``: method -> removal -> axis of cost -> share kept -> share of the front's hypervolume that is lost;
        ``weights`` of the filter, ``tested`` networks, those on their ``front`` and ``seconds`` per method.
    """
    random = np.random.default_rng(seed)
    drawn = np.sort(random.permutation(ground.pool)[:labels])
    views, values = ground.views.rows(drawn), ground.values[drawn]
    others, truth = ground.views.rows(ground.tested), ground.values[ground.tested]
    codes, other_codes = ground.codes[drawn], ground.codes[ground.tested]
    seconds = {}
    started = time.process_time()
    head = FewShotHead(seed=seed, quality=True).fit(views, values)
    scores = {"head": head.predict(others)}
    seconds["head"] = time.process_time() - started
    weights = {}
    for name, conditioned in (("filter", True), ("unconditioned", False)):
        started = time.process_time()
        fitted = NetworkFilter.fitted(
            views, values, codes=codes, seed=seed, conditioned=conditioned, head=head
        )
        scores[name] = fitted.score(others, other_codes)
        seconds[name], weights[name] = time.process_time() - started, fitted.weights_
    scores |= {
        "macs": others.macs,
        "zero-shot": ground.zero,
        "random": random.random(len(truth)),
        LIMIT: truth,
    }
    bins = max(2, len(truth) // RANGES)
    return {
        "accuracy": {name: pairwise_accuracy(scores[name], others.macs, truth, bins) for name in METHODS},
        "lost": {name: _lost(scores[name], others.macs, truth) for name in (*METHODS, LIMIT)},
        "weights": weights,
        "tested": len(truth),
        "front": int(on_front(others.macs, truth).sum()),
        "seconds": {name: round(spent, 2) for name, spent in seconds.items()},
    }


def _lost(scores: Array, macs: Array, values: Array) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for removal in ("ranges", "overall"):
        left = {
            share: kept(scores, macs, share) if removal == "ranges" else _top(scores, share)
            for share in SHARES
        }
        found[removal] = {
            axis: {
                str(share): 1.0
                - hypervolume(cost[keep], values[keep], worst) / hypervolume(cost, values, worst)
                for share, keep in left.items()
            }
            for axis, cost in (("macs", macs), ("log", np.log2(macs)))
            for worst in [(float(cost.max()), float(values.min()))]
        }
    return found


def _top(scores: Array, share: float) -> Array:
    """Return the best of one ranking of all, bool ``(n,)``, as many as `kept` keeps."""
    count = int(np.ceil(share * len(scores) - 1e-9))
    keep = np.zeros(len(scores), bool)
    keep[np.argsort(-scores, kind="stable")[:count]] = True
    return keep


def _note(ground: Ground) -> str:
    macs, front = (
        ground.views.macs[ground.tested],
        on_front(ground.views.macs[ground.tested], ground.values[ground.tested]),
    )
    return (
        f"- {ground.task}: {len(ground.views):,} different networks, {len(ground.tested):,} of them judged on "
        f"({macs.min() / 1e9:.3g} to {macs.max() / 1e9:.3g} G MACs, {int(front.sum())} on the front); predictor "
        f"`{ground.holder.name}` ({ground.holder.digest[:12]}), which has seen nothing of this space."
    )


if __name__ == "__main__":
    main()
