"""Counts of chains of operations, against the same labels written out as whole numbers of Python."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.graph_ir import structure
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, GraphArrays
from aiop.graph_ir.operators import INDEX
from aiop.graph_ir.structure import STRUCTURE_PARTS, STRUCTURE_WIDTH, structure_counts

WRAP = (1 << 64) - 1


def network(operators: list[tuple[str, int]], edges: list[tuple[int, int]]) -> GraphArrays:
    """Operators with their kernels, and edges between their positions."""
    node = np.zeros((len(operators), len(NODE_FEATURES)), np.float16)
    for column in ("log_kernel_0", "log_kernel_1"):
        node[:, NODE_FEATURES.index(column)] = [np.log2(1 + kernel) for _, kernel in operators]
    return GraphArrays(
        op=np.array([INDEX[name] for name, _ in operators], np.uint8),
        node=node,
        edge_index=np.array(edges, np.int32).reshape(-1, 2).T,
        graph=np.zeros(len(GRAPH_FEATURES), np.float32),
    )


def random_network(seed: int, count: int) -> GraphArrays:
    rng = np.random.default_rng(seed)
    operators = [(("Conv", "Relu", "Add")[rng.integers(3)], int(rng.integers(1, 8))) for _ in range(count)]
    edges = [(int(rng.integers(target)), target) for target in range(1, count) for _ in range(2)]
    return network(operators, edges)


def mix(number: int) -> int:
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & WRAP
    number = (number ^ number >> 27) * 0x94D049BB133111EB & WRAP
    return number ^ number >> 31


def written_out(graph: GraphArrays) -> list[int]:
    """The counts of one graph, operation by operation and edge by edge."""
    nodes, edges = range(len(graph.op)), graph.edge_index.T.tolist()
    own = []
    for place in nodes:
        label = mix(int(graph.op[place]) + 1)
        for name in ("kernel_0", "kernel_1", "stride", "dilation"):
            label = mix(
                31 * label + round(2 ** float(graph.node[place, NODE_FEATURES.index(f"log_{name}")])) & WRAP
            )
        own.append(mix(31 * label + int(graph.node[place, NODE_FEATURES.index("log_groups")] > 0) & WRAP))
    labels = {"own": own}
    for direction in ("before", "after"):
        found = own
        for number in (1, 2, 3, 4):
            near = [
                [edge[0] for edge in edges if edge[1] == place]
                if direction == "before"
                else [edge[1] for edge in edges if edge[0] == place]
                for place in nodes
            ]
            found = [
                mix(mix(found[place] + 1) + 3 * sum(mix(found[end]) for end in near[place]) & WRAP)
                for place in nodes
            ]
            labels[f"{direction} {number}"] = found
    counts = []
    for part, width in STRUCTURE_PARTS.items():
        row = [0] * width
        for label in labels[part]:
            row[label % width] += 1
        counts += row
    return counts


@pytest.mark.filterwarnings("error")  # of numpy: hashes wrap around silently or not at all
def test_counts_are_those_written_out(monkeypatch) -> None:
    monkeypatch.setattr(structure, "_CHUNK", 3)
    graphs = [random_network(seed, 3 + 4 * seed) for seed in range(7)]
    found = structure_counts(iter(graphs))
    assert found.dtype == np.uint8
    assert found.tolist() == [written_out(graph) for graph in graphs]


def test_the_order_of_operations_has_no_part() -> None:
    graph = random_network(1, 30)
    order = np.random.default_rng(0).permutation(30)
    place = np.argsort(order)
    other = GraphArrays(graph.op[order], graph.node[order], place[graph.edge_index], graph.graph)
    assert (structure_counts([graph]) == structure_counts([other])).all()


def test_cells_of_the_same_operators_differ_by_their_edges() -> None:
    operators = [("Input", 0), ("Conv", 3), ("Conv", 1), ("Relu", 0)]
    one = network(operators, [(0, 1), (1, 2), (2, 3)])
    two = network(operators, [(0, 2), (2, 1), (1, 3)])
    turned = network(operators, [(1, 0), (2, 1), (3, 2)])
    counts = structure_counts([one, two, turned]).astype(int)
    ends = np.cumsum(list(STRUCTURE_PARTS.values()))
    assert (counts[:, : ends[0]] == counts[0, : ends[0]]).all()
    for first, second in ((0, 1), (0, 2), (1, 2)):
        different = np.split(counts[first] != counts[second], ends[:-1])
        assert [part.any() for part in different] == [False, *[True] * (len(ends) - 1)]


def test_an_edge_that_occurs_twice_counts_twice() -> None:
    operators = [("Conv", 3), ("Add", 0)]
    once, twice = network(operators, [(0, 1)]), network(operators, [(0, 1), (0, 1)])
    counts = structure_counts([once, twice])
    assert (counts[0] != counts[1]).any()


def test_every_part_counts_every_operation_up_to_255() -> None:
    graphs = [random_network(3, 40), network([("Relu", 0)] * 300, []), network([], [])]
    counts = structure_counts(graphs)
    starts = np.cumsum(list(STRUCTURE_PARTS.values())) - list(STRUCTURE_PARTS.values())
    sums = np.add.reduceat(counts.astype(int), starts, axis=1)
    assert sums.tolist() == [[40] * 9, [255] * 9, [0] * 9]


def test_no_graph_at_all() -> None:
    assert structure_counts([]).shape == (0, STRUCTURE_WIDTH)
    assert sum(STRUCTURE_PARTS.values()) == STRUCTURE_WIDTH
