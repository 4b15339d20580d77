"""Score a predictor on the architectures kept out of its training, beside what it has to beat.

Prints, and with `--write` puts into docs/results.md, SRCC, Kendall tau and MAE of every task for: the predictor; the
mean rank of MACs and parameters (no labels, so no MAE; turned round where more cost went with lower values in
training); a random forest on counts of operators, log MACs and log parameters, fitted on the same training networks.

    python -m benchmarks.held_out [--weights FOLDER] [--seeds 3] [--write]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import aiop
from aiop.finetune.baselines import forest_features, forest_predict, mean_cost_rank
from aiop.finetune.baselines.code_mlp import CodeMLP
from aiop.finetune.metrics import scores, srcc
from aiop.predictor import Predictor
from aiop.pretrain.data import LabelledCorpus, labelled_corpora
from aiop.tasks.corpora import plain
from benchmarks.document import write_section

HEADER = (
    "| task | kept out | predictor SRCC / tau / MAE | forest SRCC / tau / MAE | cost rank SRCC / tau "
    "| coverage of 80% |",
    "|---|---|---|---|---|---|",
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="folder of a predictor; the shipped one by default")
    parser.add_argument(
        "--seeds", type=int, default=3, help="random forests per task; the mean of their scores is shown"
    )
    parser.add_argument("--tasks", default="*", help="glob of the tasks to score")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/results.md")
    options = parser.parse_args()
    predictor = aiop.load(options.weights)
    corpora, _ = labelled_corpora(list(predictor.card["tables"]), predictor.names)
    lines = list(HEADER)
    for item in corpora:
        lines += score_corpus(predictor, item, options.tasks, options.seeds)
    for item in corpora:
        if item.name == "nas-bench-mr":
            lines += ["", *code_baseline(predictor, item, options.tasks, options.seeds)]
    lines += ["", *separation(predictor, corpora)]
    print("\n".join(lines))
    if options.write:
        write_section("held_out", lines)


def score_corpus(predictor: Predictor, item: LabelledCorpus, pattern: str, seeds: int) -> list[str]:
    """Return the rows of the tasks of one table."""
    test, train = item.rows["test"], item.own_rows("train")
    _, scaled = predictor.scaled_corpus(item.corpus, test)
    features = forest_features(item.corpus.graph_features())
    lines = []
    for index in predictor.match(pattern):
        measured = item.values[test, index]
        if np.isfinite(measured).sum() < 2:
            continue
        ours = scores(predictor.values(index, scaled[:, index]), measured)
        forests = [
            scores(
                forest_predict(features[train], item.values[train, index], features[test], seed=seed),
                measured,
            )
            for seed in range(seeds)
        ]
        forest = {key: float(np.mean([run[key] for run in forests])) for key in ("srcc", "tau", "mae")}
        cost = scores(signed_cost_rank(item, test, train, index), measured)
        low, high = predictor.bounds(index, scaled[:, index])
        known = np.isfinite(measured)
        inside = np.mean((measured >= low - 1e-9)[known] & (measured <= high + 1e-9)[known])
        lines.append(
            f"| {predictor.names[index]} | {ours['n']} "
            f"| **{ours['srcc']:.3f}** / {ours['tau']:.3f} / {digits(ours['mae'])} "
            f"| {forest['srcc']:.3f} / {forest['tau']:.3f} / {digits(forest['mae'])} "
            f"| {cost['srcc']:.3f} / {cost['tau']:.3f} | {100 * inside:.0f}% |"
        )
        print(lines[-1], flush=True)
    return lines


def signed_cost_rank(item: LabelledCorpus, test: Any, train: Any, index: int) -> Any:
    """Return the mean rank of MACs and parameters, turned round where more cost goes with lower values."""
    known = mean_cost_rank(item.macs[train], item.params[train])
    sign = np.sign(srcc(known, item.values[train, index])) or 1.0
    return sign * mean_cost_rank(item.macs[test], item.params[test])


def code_baseline(predictor: Predictor, item: LabelledCorpus, pattern: str, seeds: int) -> list[str]:
    """Return the table of NCP's perceptron on the codes of the same split, fitted on training and validation rows."""
    codes = np.array(
        [[float(digit) for digit in plain(name).split(":")[1].split(",")] for name in item.corpus.names]
    )
    wanted = [
        index
        for index in predictor.match(pattern)
        if np.isfinite(item.values[item.rows["test"], index]).any()
    ]
    fitted, test = np.concatenate([item.own_rows("train"), item.rows["val"]]), item.rows["test"]
    runs = [
        CodeMLP(seed).fit(codes[fitted], item.values[fitted][:, wanted]).predict(codes[test])
        for seed in range(seeds)
    ]
    values = predictor.predict_corpus(item.corpus, test)
    lines = [
        f"NCP's perceptron on the {codes.shape[1]} integers of the code, {len(fitted)} rows, {seeds} seeds, "
        "same kept-out rows:",
        "",
        "| task | predictor SRCC / tau / MAE | NCP on codes SRCC / tau / MAE |",
        "|---|---|---|",
    ]
    for column, index in enumerate(wanted):
        measured = item.values[test, index]
        ours = scores(values[:, index], measured)
        found = [scores(run[:, column], measured) for run in runs]
        theirs = {key: float(np.mean([run[key] for run in found])) for key in ("srcc", "tau", "mae")}
        cells = (f"{each['srcc']:.3f} / {each['tau']:.3f} / {digits(each['mae'])}" for each in (ours, theirs))
        lines.append(f"| {predictor.names[index]} | " + " | ".join(cells) + " |")
    return lines


def separation(predictor: Predictor, corpora: list[LabelledCorpus]) -> list[str]:
    """Return how the out-of-distribution flag separates tables: shares of kept-out rows inside each of them."""
    lines = [
        "Share of kept-out networks (rows) that count as in distribution for the tasks of a table (columns):",
        "",
        "| networks of | " + " | ".join(item.name for item in corpora) + " |",
        "|---|" + "---|" * len(corpora),
    ]
    for item in corpora:
        test = item.rows["test"]
        embeddings, _ = predictor.scaled_corpus(item.corpus, test)
        far = predictor.remoteness(embeddings, item.corpus.graph_features()[test])
        shares = [f"{100 * np.mean(far[other.name] <= 1):.1f}%" for other in corpora]
        lines.append(f"| {item.name} | " + " | ".join(shares) + " |")
    return lines


def digits(number: float) -> str:
    """Return a number with three significant digits."""
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


if __name__ == "__main__":
    main()
