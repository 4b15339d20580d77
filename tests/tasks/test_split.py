"""Splits that know of twins: networks that are the same function although the table's own groups differ."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.tasks.tables import Table, split
from aiop.tasks.tables.split import joined_groups

NONE = np.zeros(0)


def table(groups: list[str], name: str = "mine") -> Table:
    networks = [f"{name}:{row}" for row in range(len(groups))]
    return Table(name, networks, {}, groups, NONE, NONE, {}, "own")


def random_table(rows: int, groups: int, hashes: int, seed: int) -> tuple[Table, list[str]]:
    rng = np.random.default_rng(seed)
    found = table([str(group) for group in rng.integers(groups, size=rows)])
    return found, [f"{digest:x}" if digest else "" for digest in rng.integers(hashes, size=rows)]


@pytest.mark.parametrize("seed", range(5))
def test_joined_groups_are_the_components_of_groups_and_twins(seed: int) -> None:
    found, twins = random_table(200, 150, 400, seed)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(found)))
    for labels in (found.groups, twins):
        for one in range(len(found)):
            graph.add_edges_from(
                (one, other) for other in range(one) if labels[one] and labels[one] == labels[other]
            )
    components = {row: number for number, rows in enumerate(nx.connected_components(graph)) for row in rows}
    joined = joined_groups(found, twins)
    for one in range(len(found)):
        for other in range(one):
            assert (joined[one] == joined[other]) == (components[one] == components[other])


@pytest.mark.parametrize("seed", range(3))
def test_no_group_and_no_twins_are_on_two_sides_and_training_rows_stay(seed: int) -> None:
    found, twins = random_table(600, 400, 500, seed)
    before, after = split(found, seed=seed), split(found, twins, seed)
    assert sorted(np.concatenate(list(after.values()))) == list(range(600))
    for labels in (found.groups, twins):
        sides = [{labels[row] for row in rows} - {""} for rows in after.values()]
        assert sum(map(len, sides)) == len(set().union(*sides))
    assert set(before["train"]) <= set(after["train"])
    assert set(after["test"]) <= set(before["test"])
    joined = np.array(joined_groups(found, twins))
    for row in after["test"]:  # nothing leaves the test set but for a twin elsewhere
        assert set(np.flatnonzero(joined == joined[row])) <= set(before["test"])
    assert set(before["test"]) - set(after["test"]) == {
        row for row in before["test"] if not set(np.flatnonzero(joined == joined[row])) <= set(before["test"])
    }


def test_a_label_that_is_empty_joins_nothing() -> None:
    found = table(["a", "b", "c", "d"])
    assert len(set(joined_groups(found, ["", "", "", ""]))) == 4
    assert len(set(joined_groups(found, ["x", "", "", "x"]))) == 3
    assert len(set(joined_groups(found, ["2", "", "", ""]))) == 4  # a label is not the number of a row


def test_twin_labels_of_another_number_are_refused() -> None:
    with pytest.raises(AiopError, match="has 3 networks, but 2 twin labels"):
        split(table(["a", "b", "c"]), ["x", "y"])


@pytest.mark.parametrize("groups", [1000, 120])
def test_a_table_of_ones_own_is_split_by_group_to_fixed_shares(groups: int) -> None:
    found, _ = random_table(1000, groups, 1, 0)
    sizes = [len(rows) for rows in split(found).values()]
    assert sizes == pytest.approx([720, 80, 200], abs=10)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_few_networks_are_split_too(count: int) -> None:
    found = split(table([str(row) for row in range(count)]))
    assert sorted(np.concatenate(list(found.values()))) == list(range(count))
    assert len(found["train"]) >= 1


def test_a_group_larger_than_a_side_trains() -> None:
    found = split(table(["large"] * 50 + [str(row) for row in range(50)]))
    assert set(range(50)) <= set(found["train"])
