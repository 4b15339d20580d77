"""What each part of a predictor contributes: SRCC on kept-out networks of one member, the ensemble, the expert, all.

    python -m benchmarks.ablation [--weights FOLDER] [--tasks GLOB]

Rank correlations only: parts alone are not calibrated.
"""

from __future__ import annotations

import argparse

import numpy as np

import aiop
from aiop.finetune.metrics import srcc
from aiop.predictor import Predictor
from aiop.pretrain.data import LabelledCorpus, labelled_corpora
from aiop.pretrain.evaluation import embed_rows
from aiop.pretrain.module import PredictorModule


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="folder of a predictor; the shipped one by default")
    parser.add_argument("--tasks", default="classification/*top1", help="glob of the tasks to score")
    options = parser.parse_args()
    predictor = aiop.load(options.weights)
    corpora, _ = labelled_corpora(list(predictor.card["tables"]), predictor.names)
    print("| task | MACs | one network | ensemble | kernel expert | all, share of the expert |")
    print("|---|---|---|---|---|---|")
    for item in corpora:
        for line in score_parts(predictor, item, options.tasks):
            print(line, flush=True)


def score_parts(predictor: Predictor, item: LabelledCorpus, pattern: str) -> list[str]:
    """Return the rows of the tasks of one table."""
    test = item.rows["test"]
    features = item.corpus.graph_features()[test]
    members = [member for member in predictor.module.members if isinstance(member, PredictorModule)]
    alone = [embed_rows(member, item.corpus, test)[1] for member in members]
    together = np.mean(alone, axis=0)
    _, everything = predictor.scaled_corpus(item.corpus, test)
    lines = []
    for index in predictor.match(pattern):
        measured = item.values[test, index]
        if np.isfinite(measured).sum() < 2:
            continue
        one = float(np.mean([srcc(scaled[:, index], measured) for scaled in alone]))
        blend = next((blend for blend in predictor.blends if index in blend.columns), None)
        expert, share = "", "0"
        if blend is not None:
            found = blend.expert.predict(features, [blend.columns.index(index)])
            expert, share = f"{srcc(found[:, 0], measured):.3f}", f"{blend.share:.1f}"
        lines.append(
            f"| {predictor.names[index]} | {srcc(item.macs[test], measured):.3f} | {one:.3f} "
            f"| {srcc(together[:, index], measured):.3f} | {expert} "
            f"| {srcc(everything[:, index], measured):.3f}, {share} |"
        )
    return lines


if __name__ == "__main__":
    main()
