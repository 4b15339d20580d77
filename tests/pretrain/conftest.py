"""Small synthetic corpora whose labels only a network that passes messages by direction can read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiop.graph_ir.corpus import Corpus, CorpusWriter
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, GraphArrays, fingerprint
from aiop.pretrain.training import TrainingSet


def directed_graph(rng: np.random.Generator, nodes: int = 12, edges: int = 18) -> tuple[GraphArrays, float]:
    """A random acyclic graph of four operators in equal numbers, and (edges 0 -> 1) - (edges 1 -> 0).

    Counts of nodes, edges and operators are the same in every graph: they tell nothing of the label.
    """
    op = rng.permutation(np.arange(nodes) % 4).astype(np.uint8)
    ends = np.sort(np.stack([rng.permutation(nodes)[:2] for _ in range(edges)], axis=1), axis=0)
    label = np.sum((op[ends[0]] == 0) & (op[ends[1]] == 1)) - np.sum((op[ends[0]] == 1) & (op[ends[1]] == 0))
    arrays = GraphArrays(
        op=op,
        node=np.zeros((nodes, len(NODE_FEATURES)), np.float16),
        edge_index=ends.astype(np.int32),
        graph=rng.normal(size=len(GRAPH_FEATURES)).astype(np.float32),
    )
    return arrays, float(label)


@pytest.fixture(scope="session")
def make_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainingSet]:
    """Build a training set: column ``column`` of ``tasks`` is labelled, the last quarter held out."""

    def make(name: str, graphs: int, seed: int = 0, tasks: int = 1, column: int = 0) -> TrainingSet:
        rng = np.random.default_rng(seed)
        path: Path = tmp_path_factory.mktemp("corpora") / f"{name}.corpus"
        values = np.full((graphs, tasks), np.nan)
        with CorpusWriter(path, fingerprint()) as writer:
            for index in range(graphs):
                arrays, values[index, column] = directed_graph(rng)
                writer.add(f"{name}-{index}", arrays)
        split = graphs * 3 // 4
        return TrainingSet(name, Corpus(path), values, np.arange(split), np.arange(split, graphs))

    return make
