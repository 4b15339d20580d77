"""Network coding propagation on NAS-Bench-MR: ``python -m benchmarks.ncp --write``.

The published search with the published predictor, then the search of this package with the published predictor and with
students of this package's predictor, for one task and for two. Nothing that is found can be trained here: it is judged
by the measured architectures of similar MACs nearest to it and by a forest fitted to all that are measured, and the
start in the same way.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import aiop
from aiop.graph_ir.corpus import Corpus
from aiop.search.methods.code_predictor import CodePredictor
from aiop.search.methods.code_vectors import code_vectors
from aiop.search.methods.distilling import Judgement, settle, sharpened, taught_by
from aiop.search.methods.judging import Judge
from aiop.search.methods.propagation import START, objective_weights, propagate, published
from aiop.tasks.corpora import cache_dir
from aiop.tasks.tables import Table, load_table
from benchmarks.document import write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "ncp.md"
SPACE = "nas-bench-mr"
SEG, VIDEO = "segmentation/nas-bench-mr/cityscapes-miou", "video/nas-bench-mr/hmdb51-top1"
SECOND = ("segmentation/nas-bench-mr/cityscapes-macc", "segmentation/nas-bench-mr/cityscapes-aacc")
BUDGET = 1.2e9
NEAREST, LIKE = 10, 0.25  # measured architectures, with MACs within a quarter
TREES = 500

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """A search: what the predictor of codes said at start and end, and what the graph predictor says of the end."""

    name: str
    seed: int
    code: str
    seg: tuple[float, float] | None
    video: tuple[float, float] | None
    macs: tuple[float, float]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and print the page, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="of every predictor of codes")
    parser.add_argument("--epochs", type=int, default=200, help="of the published predictor")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in docs/results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table = load_table(SPACE)
    codes = [name.partition(":")[2] for name in table.networks]
    judge = Judge(aiop.load(), SPACE, (SEG, VIDEO), cache=cache_dir() / "students")
    started = time.perf_counter()
    taught = sharpened(codes, _teacher(judge, codes), taught_by(judge), SPACE, (SEG, VIDEO))
    _note(f"{len(taught[0])} codes judged by the graph predictor in {time.perf_counter() - started:.0f} s")
    rows: list[Row] = []
    for seed in range(options.seeds):
        rows += _published_predictor(table, codes, seed, options.epochs)
        rows += _students(codes, taught, judge, seed)
    text = _page(rows, table, codes, judge, options.seeds)
    if options.write:
        write_page(PAGE, text)
    print(text)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _published_predictor(table: Table, codes: list[str], seed: int, epochs: int) -> list[Row]:
    assert table.macs is not None
    assert table.params is not None
    values = np.stack([table.values[task] for task in (SEG, *SECOND)], axis=1)
    started = time.perf_counter()
    predictor = CodePredictor.published(
        SPACE, codes, values, table.macs, table.params, task=SEG, seed=seed, epochs=epochs
    )
    _note(f"seed {seed}: published predictor trained in {time.perf_counter() - started:.0f} s")
    started = time.process_time()
    trace = published(predictor)
    seconds = time.process_time() - started
    start, end = trace[0].predicted, trace[-1].predicted
    rows = [
        Row(
            "published search, published predictor", seed, trace[-1].code, (start[0], end[0]), None,
            (start[-2], end[-2]), seconds,
        )
    ]  # fmt: skip
    weights = np.array([1.0, 0.0, 0.0])
    started = time.process_time()
    found = propagate(predictor, _starts(codes, seed), weights, budget=(0.0, BUDGET))
    seconds = time.process_time() - started
    best = found.predicted[0]
    rows.append(
        Row(
            "this search, published predictor", seed, found.codes[0], (start[0], best[0]), None,
            (start[-2], best[-2]), seconds,
        )
    )  # fmt: skip
    return rows


def _students(codes: list[str], taught: tuple[list[str], Judgement], judge: Judge, seed: int) -> list[Row]:
    started = time.perf_counter()
    student = CodePredictor.student(SPACE, taught[0], *taught[1], tasks=(SEG, VIDEO), seed=seed)
    _note(f"seed {seed}: student trained in {time.perf_counter() - started:.0f} s")
    rows = []
    for name, weights in (
        ("this search, this predictor, segmentation", np.array([1.0, 0.0])),
        ("this search, this predictor, video", np.array([0.0, 1.0])),
        ("this search, this predictor, both", objective_weights((SEG, VIDEO), ("max", "max"))),
    ):
        started = time.process_time()
        found = propagate(student, _starts(codes, seed), weights, budget=(0.0, BUDGET))
        settled, _ = settle(found.codes, judge, student, weights, (0.0, BUDGET))
        seconds = time.process_time() - started
        code = settled[0] if settled else found.codes[0]
        start, best = student.predict([START, code])
        rows.append(
            Row(
                name, seed, code, (start[0], best[0]), (start[1], best[1]), (start[-2], best[-2]),
                seconds,
            )
        )  # fmt: skip
    return rows


def _starts(codes: list[str], seed: int) -> list[str]:
    """Return the published start and 31 measured architectures drawn at random."""
    random = np.random.default_rng(seed)
    return [START, *(codes[place] for place in random.permutation(len(codes))[:31])]


def _teacher(judge: Judge, codes: list[str]) -> Judgement:
    """Return the cautious ends of what the predictor says of the table's architectures, and their costs."""
    path, predictor = cache_dir() / f"{SPACE}.corpus", judge.predictor
    if not path.exists():
        _note(f"no corpus {path}: networks are built one by one, which takes minutes")
        return taught_by(judge)(codes)
    corpus = Corpus(path)
    places = {name: row for row, name in enumerate(corpus.names)}
    rows = np.array([places[f"{SPACE}:{code}"] for code in codes])
    embeddings, scaled = predictor.scaled_corpus(corpus, rows)
    far = predictor.remoteness(embeddings, corpus.graph_features()[rows])[SPACE]
    numbers = [predictor.names.index(task) for task in (SEG, VIDEO)]
    low = np.stack([predictor.bounds(number, scaled[:, number], far)[0] for number in numbers], axis=1)
    return low, np.asarray(corpus.macs[rows], np.float64), np.asarray(corpus.params[rows], np.float64)


def _nearest(table: Table, codes: list[str], code: str, macs: float) -> tuple[float, float, float, float]:
    """Return the mean mIoU, video top-1 and MACs of the measured architectures nearest to a code, and how far they are.

    Of those with MACs within a quarter of ``macs``. Distances are root mean squares over the 27 numbers, each in its
    deviations over the table.
    """
    assert table.macs is not None
    vectors = code_vectors(SPACE)
    matrix = vectors.encode(codes)
    scaled = (matrix - vectors.encode([code])[0]) / matrix.std(axis=0)
    distance = np.sqrt((scaled**2).mean(axis=1))
    distance[np.abs(table.macs / macs - 1.0) > LIKE] = np.inf
    near = np.argsort(distance, kind="stable")[:NEAREST]
    means = [
        float(np.nanmean(column[near])) for column in (table.values[SEG], table.values[VIDEO], table.macs)
    ]
    return means[0], means[1], means[2], float(distance[near].mean())


class _Forest:
    """Extremely randomised trees on code and log MACs, fitted to every measured architecture: who saw no predictor.

    errors: mean absolute errors on what each tree was not fitted to, of mIoU and of video top-1.
    """

    def __init__(self, table: Table, codes: list[str]) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        assert table.macs is not None
        self._vectors, self._trees, errors = code_vectors(SPACE), [], []
        seen = self._seen(codes, table.macs)
        for task in (SEG, VIDEO):
            values = table.values[task]
            known = np.isfinite(values)
            trees = ExtraTreesRegressor(
                TREES, max_features=1 / 3, bootstrap=True, oob_score=True, random_state=0
            )
            self._trees.append(trees.fit(seen[known], values[known]))
            errors.append(float(np.abs(trees.oob_prediction_ - values[known]).mean()))
        self.errors = tuple(errors)

    def __call__(self, codes: list[str], macs: Array) -> Array:
        """Return mIoU and video top-1, ``(n, 2)``."""
        seen = self._seen(codes, macs)
        return np.stack([trees.predict(seen) for trees in self._trees], axis=1)

    def _seen(self, codes: list[str], macs: Array) -> Array:
        return np.concatenate([self._vectors.encode(codes), np.log(macs)[:, None]], axis=1)


def _page(rows: list[Row], table: Table, codes: list[str], judge: Judge, seeds: int) -> str:
    names = list(dict.fromkeys(row.name for row in rows))
    lines = [
        "# Network coding propagation on NAS-Bench-MR",
        "",
        f"Written by `python -m benchmarks.ncp --write`; means over {seeds} seeds (of the predictor of codes and of",
        "the starts), after `±` the deviation over seeds. MACs are those of the network at 128 x 128.",
        "",
        "*Published* (Ding et al., ICLR 2022): NCP's perceptron on the measured values of 2,507 architectures; from",
        "all channels 64 and all counts 2, 70 steps of SGD, rate 3, along `-mIoU + 0.5 MACs`; the last step is shown.",
        f"*This search*: 32 starts at once, a budget of {BUDGET / 1e9:g} G MACs, gradients at valid codes, the best",
        "predicted code within the budget. *This predictor*: a student of the graph predictor of the package (which",
        "was trained on four fifths of the table), sharpened where gradients lead. What it learns are the worse ends",
        "of the predictor's intervals, which are far away where networks are unlike those it was trained on; of the",
        "16 best codes the graph predictor takes the one whose worse end is best, among those whose counted MACs meet",
        "the budget. Seconds are of one core, the most over the seeds, without training the predictors of codes.",
        "",
        "## Predicted by the predictor of codes: at the start -> at the end",
        "",
        "| Search | mIoU, % | Video top-1, % | MACs, G | Seconds per search |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        own = [row for row in rows if row.name == name]
        seg = _arrow([row.seg for row in own if row.seg is not None])
        video = _arrow([row.video for row in own if row.video is not None])
        macs = _arrow([(row.macs[0] / 1e9, row.macs[1] / 1e9) for row in own])
        lines.append(f"| {name} | {seg} | {video} | {macs} | {max(row.seconds for row in own):.1f} |")
    _note("asking the graph predictor about what was found")
    every = [START, *dict.fromkeys(row.code for row in rows)]
    answers = judge(every)
    said = dict(zip(every, zip(answers.values, answers.macs, strict=True), strict=True))
    near = {code: _nearest(table, codes, code, float(said[code][1])) for code in every}
    forest = _Forest(table, codes)
    trees = dict(zip(every, forest(every, answers.macs), strict=True))
    assert table.macs is not None
    allowed = table.macs <= BUDGET
    best = [float(np.nanmax(table.values[task][allowed])) for task in (SEG, VIDEO)]
    lines += [
        "",
        "## The same codes, judged otherwise",
        "",
        "*Graph predictor*: on the network itself, its MACs counted. *Forest*: extremely randomised trees on code",
        f"and log MACs, fitted to all measured architectures; its mean absolute error on what it was not fitted to is "
        f"{forest.errors[0]:.2f}",
        f"points of mIoU and {forest.errors[1]:.2f} of video top-1. *Nearest measured*: means of the {NEAREST} nearest "
        f"architectures with MACs within {LIKE:.0%}, and",
        f"their distance in deviations per number. The best measured ones within {BUDGET / 1e9:g} G MACs have "
        f"{best[0]:.2f}% mIoU and {best[1]:.2f}% top-1.",
        "",
        "| Code | MACs, G | Graph predictor: mIoU | video | Forest: mIoU | video | Nearest measured: mIoU | video | "
        "MACs, G | Distance |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, chosen in (
        ("the start", [START]),
        *((n, [r.code for r in rows if r.name == n]) for n in names),
    ):
        values = np.mean([said[code][0] for code in chosen], axis=0)
        counted = float(np.mean([said[code][1] for code in chosen])) / 1e9
        grown = np.mean([trees[code] for code in chosen], axis=0)
        around = np.mean([near[code] for code in chosen], axis=0)
        lines.append(
            f"| {name} | {counted:.2f} | {values[0]:.2f} | {values[1]:.2f} | {grown[0]:.2f} | {grown[1]:.2f} | "
            f"{around[0]:.2f} | {around[1]:.2f} | {around[2] / 1e9:.2f} | {around[3]:.2f} |"
        )
    lines += ["", "## Codes found, seed 0", ""]
    lines += [f"- {row.name}: `{row.code}`" for row in rows if row.seed == 0]
    return "\n".join([*lines, ""])


def _arrow(pairs: list[tuple[float, float]]) -> str:
    if not pairs:
        return ""
    start, end = np.mean(pairs, axis=0)
    spread = f" ± {np.std([pair[1] for pair in pairs]):.2f}" if len(pairs) > 1 else ""
    return f"{start:.2f} -> {end:.2f}{spread}"


if __name__ == "__main__":
    main()
