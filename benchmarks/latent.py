"""What infusion is worth: unseen, individually trained bodies predicted without it, with it, and with true labels.

    python -m benchmarks.latent [LABELS.parquet] [--weights FOLDER] [--work FOLDER] [--draws N] [--write]

LABELS is what `aiop latent build` wrote. Pseudo-labels of bodies that nobody trained individually are infused into the
predictor; it is judged on those that were. `--write` puts the tables into docs/results/latent.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from aiop.errors import AiopError
from aiop.finetune.baselines import BASELINES
from aiop.finetune.correction import Correction, link_of
from aiop.finetune.head import FewShotHead
from aiop.finetune.metrics import coverage, kendall_tau, mae, srcc
from aiop.finetune.rescaling import Line, Method
from aiop.finetune.views import Views
from aiop.predictor import Predictor, load
from aiop.predictor.blend import TruthStep
from aiop.predictor.infusion import InfusionSettings, infuse
from aiop.predictor.predictor import SHIPPED
from aiop.predictor.truth_scale import rescaled
from aiop.tasks.corpora import cache_dir
from benchmarks.document import DOCUMENT, write_section
from benchmarks.latent_labels import LatentLabels, cost_lines, quality_lines, read_labels

__all__ = ["FEW", "ROWS", "Judged", "judge_infusion"]

Array = npt.NDArray[Any]

LABELS = Path(__file__).resolve().parents[1] / "aiop" / "tasks" / "latent" / "digits.parquet"
RESULTS = DOCUMENT.parent / "results" / "latent.md"
FEW = 20
"""True labels that put predictions right, or that a head is fitted to."""

_FOLDS = 10
_LEAST_JUDGED = 20  # bodies beside the labels, for as many true labels as there are pseudo-labels

ROWS = {
    "macs": "MACs, scaled by 20 labels",
    "macs-corrected": "MACs, corrected by 20 labels (without infusion)",
    "forest": "forest on graph features, 20 labels",
    "gp": "Gaussian process on graph features, 20 labels",
    "zero": "without infusion, no label (ranks)",
    "head": "without infusion, head with 20 labels",
    "forest-pseudo": "forest on graph features, pseudo-labels, scaled by 20",
    "gp-pseudo": "Gaussian process on graph features, pseudo-labels, scaled by 20",
    "gp-corrected": "Gaussian process on graph features, pseudo-labels, corrected by 20",
    "infused-raw": "infused, no true label",
    "infused-line": "infused, scaled by 20 labels",
    "infused": "**infused, corrected by 20 labels**",
    "infused-moments": "infused, mean and deviation of 20 labels (as published)",
    "infused-head": "infused, head with 20 labels",
    "pseudo": "a body's own pseudo-label, scaled by 20 labels",
    "truth": "head with as many true labels as there are pseudo-labels",
    "truth-cv": "head with all true labels but a tenth (cross-validation)",
    "infused-cv": "infused, corrected by all true labels but a tenth (cross-validation)",
}


@dataclass(frozen=True, eq=False)
class Judged:
    """What `judge_infusion` found.

    tasks: K names. scores: row of `ROWS` -> ``(K, 3)``: SRCC, tau, MAE, means over draws; nan where there is none.
    covered: ``(K,)``, share of bodies in the 80% intervals of the infused predictor corrected by 20 labels.
    """

    tasks: tuple[str, ...]
    scores: dict[str, Array]
    covered: Array


def judge_infusion(
    base: Predictor,
    infused: Predictor,
    names: Sequence[str],
    pseudo: tuple[Views, Array],
    networks: Sequence[str],
    truth: Array,
    *,
    own: Array | None = None,
    draws: int = 8,
    few: int = FEW,
    progress: Callable[[str], None] = lambda line: None,
) -> Judged:
    """Judge predictors on n networks of known truth, labelling ``few`` of them at a time and scoring on the others.

    Args:
        base: the predictor before infusion.
        infused: the one after.
        names: K infused tasks.
        pseudo: m networks as the base sees them, with the pseudo-labels ``(m, K)`` that were infused.
        networks: n others.
        truth: ``(n, K)``, finite.
        own: pseudo-labels of the n themselves, ``(n, K)``, which the predictors did not see.
        draws: of the labelled networks, by seeds 0, 1, ...
        few: labels of a draw.
        progress: told of every task that is done.
    """
    seen, told = base.views(networks), infused.views(networks)
    scores: dict[str, list[Array]] = {}
    covered = np.full((len(names), draws), np.nan)
    taught = {row: _from_pseudo(row, pseudo, seen) for row in ("forest", "gp")}
    costs = np.log2(1.0 + seen.macs)
    for column, name in enumerate(names):
        values = truth[:, column]
        place = infused.names.index(name)
        outputs = infused.values(place, told.outputs[:, place])
        fixed = {f"{row}-pseudo": predicted[:, column] for row, predicted in taught.items()}
        fixed |= {"macs": costs, "infused-raw": outputs}
        if own is not None:
            fixed["pseudo"] = own[:, column]
        found: dict[str, list[list[float]]] = {}

        def keep(row: str, predicted: Array, rows: Array, value: Array = values, into: Any = found) -> None:
            error = mae(predicted, value[rows]) if row != "zero" else np.nan
            into.setdefault(row, []).append(
                [srcc(predicted, value[rows]), kendall_tau(predicted, value[rows]), error]
            )

        for draw in range(draws):
            order = np.random.default_rng([draw, 8]).permutation(len(values))
            labelled, tested = np.sort(order[:few]), np.sort(order[few:])
            for row, predicted in fixed.items():
                keep(row, _scaled(row, predicted, values, labelled)[tested], tested)
            keep("infused-line", _scaled("", outputs, values, labelled)[tested], tested)
            keep("infused-moments", _scaled("", outputs, values, labelled, "moments")[tested], tested)
            others = np.delete(taught["gp"], column, axis=1)
            for row, first, rest in (
                ("macs-corrected", costs, others[:, :0]),
                ("gp-corrected", taught["gp"][:, column], others),
            ):
                keep(row, _corrected(first, rest, seen, values, labelled)[tested], tested)
            for row in ("forest", "gp"):
                few_shot = BASELINES[row]().fit(seen.rows(labelled), values[labelled])
                keep(row, few_shot.predict(seen.rows(tested)), tested)
            none = FewShotHead().fit(seen.rows([]), np.zeros(0))
            keep("zero", none.predict(seen.rows(tested)), tested)
            for row, views in (("head", seen), ("infused-head", told)):
                keep(row, _head(views, values, labelled, draw).predict(views.rows(tested)), tested)
            right = rescaled(infused, name, told.rows(labelled), values[labelled])
            scaled = right.corrected(told.rows(tested))[:, place]
            keep("infused", right.values(place, scaled), tested)
            covered[column, draw] = coverage(*right.bounds(place, scaled), values[tested])
        for row, predicted, rows in _many_labels(
            seen, values, int(np.isfinite(pseudo[1][:, column]).sum()), draws
        ):
            keep(row, predicted, rows)
        keep("infused-cv", _cross_corrected(infused, name, told, values), np.arange(len(values)))
        for row, entries in found.items():
            scores.setdefault(row, []).append(np.mean(entries, axis=0))
        progress(name)
    return Judged(
        tuple(names), {row: np.stack(scores[row]) for row in ROWS if row in scores}, covered.mean(axis=1)
    )


def _from_pseudo(row: str, pseudo: tuple[Views, Array], seen: Views) -> Array:
    """Return what a baseline that learnt the pseudo-labels ``(m, K)`` says of other networks, ``(n, K)``."""
    views, labels = pseudo
    predicted = []
    for values in labels.T:
        known = np.isfinite(values)
        predicted.append(BASELINES[row]().fit(views.rows(np.flatnonzero(known)), values[known]).predict(seen))
    return np.stack(predicted, axis=1)


def _corrected(own: Array, others: Array, seen: Views, values: Array, labelled: Array) -> Array:
    """Return a prediction ``(n,)`` of anything corrected as those of infused tasks are, from what the base sees."""
    blocks = TruthStep.blocks(seen.outputs, seen.embedding, seen.graph, (), range(len(seen.sources)))
    blocks["others"] = others
    part = {name: block[labelled] for name, block in blocks.items()}
    link = link_of(values[labelled], "%", "identity")
    return Correction.fit(own[labelled], part, values[labelled], link).predict({"own": own[:, None]} | blocks)


def _cross_corrected(infused: Predictor, name: str, told: Views, values: Array) -> Array:
    """Return the infused predictions ``(n,)``, each corrected by the labels of the other nine folds."""
    place, parts = infused.names.index(name), _parts(len(values))
    predicted = np.empty(len(values))
    for part in np.unique(parts):
        inside = np.flatnonzero(parts != part)
        right = rescaled(infused, name, told.rows(inside), values[inside])
        scaled = right.corrected(told.rows(np.flatnonzero(parts == part)))
        predicted[parts == part] = right.values(place, scaled[:, place])
    return predicted


def _parts(count: int) -> Array:
    return np.random.default_rng(9).permutation(count) % min(_FOLDS, count)


def _scaled(row: str, predicted: Array, values: Array, labelled: Array, method: Method = "shrunk") -> Array:
    """Put predictions ``(n,)`` on the scale of some true values; those that are to stay as they are stay."""
    if row == "infused-raw" or np.ptp(predicted[labelled]) == 0:
        return predicted
    return Line.fit(predicted[labelled], values[labelled], method=method)(predicted)


def _head(views: Views, values: Array, rows: Array, seed: int) -> FewShotHead:
    with threadpool_limits(1):
        return FewShotHead(seed=seed).fit(views.rows(rows), values[rows])


def _many_labels(views: Views, values: Array, wanted: int, draws: int) -> list[tuple[str, Array, Array]]:
    """Row, predictions and networks of heads with ``wanted`` true labels; with fewer networks, of cross-validation."""
    count, found = len(values), []
    if count >= wanted + _LEAST_JUDGED:
        for draw in range(draws):
            order = np.random.default_rng([draw, 8]).permutation(count)
            tested = np.sort(order[wanted:])
            head = _head(views, values, np.sort(order[:wanted]), draw)
            found.append(("truth", head.predict(views.rows(tested)), tested))
        return found
    parts = _parts(count)
    predicted = np.empty(count)
    for part in np.unique(parts):
        head = _head(views, values, np.flatnonzero(parts != part), int(part))
        predicted[parts == part] = head.predict(views.rows(np.flatnonzero(parts == part)))
    return [("truth-cv", predicted, np.arange(count))]


def judged_lines(judged: Judged) -> list[str]:
    """Return the tables of scores: the means over tasks, then the tasks of the rows that matter most."""
    lines = ["| mean over tasks | SRCC | tau | MAE, points |", "|---|---|---|---|"]
    lines += [
        f"| {ROWS[row]} | {' | '.join(_cell(score) for score in found.mean(axis=0))} |"
        for row, found in judged.scores.items()
    ]
    shown = [
        row
        for row in ("macs", "head", "gp-corrected", "infused", "truth", "truth-cv", "infused-cv")
        if row in judged.scores
    ]
    lines += ["", f"| SRCC / tau / MAE | {' | '.join(ROWS[row] for row in shown)} | inside 80% interval |"]
    lines.append("|---" * (len(shown) + 2) + "|")
    for place, task in enumerate(judged.tasks):
        cells = [" / ".join(map(_cell, judged.scores[row][place])) for row in shown]
        lines.append(f"| {task.rpartition('/')[2]} | {' | '.join(cells)} | {judged.covered[place]:.0%} |")
    return lines


def _cell(score: float) -> str:
    return f"{score:.3f}" if np.isfinite(score) else "-"


def run(
    path: Path, labels: LatentLabels, weights: Path, work: Path, draws: int, settings: InfusionSettings
) -> tuple[Judged, list[str]]:
    """Infuse the pseudo-labels of a build's table in folder ``work`` and judge; also return lines on what was done."""
    cheap = ~labels.judged & np.isfinite(labels.values["latent"]).all(axis=1)
    true = labels.judged & np.isfinite(labels.values["truth"]).all(axis=1)
    if true.sum() < FEW + _LEAST_JUDGED:
        raise AiopError(
            f"{true.sum()} bodies were trained individually: it takes {FEW + _LEAST_JUDGED} to judge"
        )
    rows = np.flatnonzero(cheap)
    base, started = load(weights), time.process_time()
    infused = infuse(
        path,
        labels.tasks,
        out=work / "infused",
        predictor=weights,
        settings=settings,
        fresh=True,
        progress=True,
    )
    seconds = time.process_time() - started
    networks = [labels.networks[row] for row in np.flatnonzero(true)]
    judged = judge_infusion(
        base, infused, infused.card["infusions"][-1]["tasks"],
        (base.views([labels.networks[row] for row in rows]), labels.values["latent"][rows]),
        networks, labels.values["truth"][true], own=labels.values["latent"][true], draws=draws,
        progress=lambda name: print(f"judged {name}", flush=True),
    )  # fmt: skip
    return judged, [
        f"{len(rows):,} pseudo-labelled bodies infused into predictor {base.card['weights_sha256'][:12]} in "
        f"{seconds:.0f} s of processor time (seed {settings.seed}); {len(networks)} individually trained bodies, of "
        f"which each of {draws} draws labels {FEW} and judges on the rest.",
        "",
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", nargs="?", type=Path, default=LABELS, help="Parquet file of labels")
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="folder of the predictor")
    parser.add_argument("--work", type=Path, help="folder for the infused predictor; in the cache by default")
    parser.add_argument("--draws", type=int, default=8, help="draws of 20 true labels")
    parser.add_argument("--seed", type=int, default=0, help="of the infusion")
    parser.add_argument("--write", action="store_true", help="write docs/results/latent.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    labels = read_labels(options.labels)
    work = options.work or cache_dir() / "latent-benchmark"
    work.mkdir(parents=True, exist_ok=True)
    judged, done = run(
        options.labels,
        labels,
        options.weights,
        work,
        options.draws,
        InfusionSettings(seed=options.seed, threads=1),
    )
    sections = {
        "pseudo-labels": quality_lines(labels),
        "costs": cost_lines(labels),
        "infusion": [*done, *judged_lines(judged)],
    }
    for section, lines in sections.items():
        print("\n".join(["", *lines]))
        if options.write:
            write_section(section, lines, RESULTS)


if __name__ == "__main__":
    try:
        main()
    except AiopError as error:
        raise SystemExit(f"error: {error}") from None
