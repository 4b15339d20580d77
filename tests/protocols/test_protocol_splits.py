"""Split files: who is labelled, who is tested, and what is refused."""

import json

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.protocols import splits
from aiop.protocols.splits import load_split, make_split
from aiop.tasks.corpora import open_corpus
from aiop.tasks.tables import load_table, split
from aiop.tasks.tables.split import joined_groups

NEW = "nas-bench-macro"


@pytest.fixture
def made(world):
    table = load_table(NEW)
    return table, open_corpus(table)


def test_no_network_nor_twin_is_on_two_sides(made, world):
    table, corpus = made
    found = load_split(world.plans, table, corpus)
    groups = np.array(joined_groups(table, corpus.hashes[: len(table)]))
    assert set(found.test) <= set(split(table, corpus.hashes[: len(table)])["test"])
    for draw in found.draws:
        assert not set(groups[draw]) & set(groups[found.test])
        hashes = [corpus.hashes[row] for row in draw]
        assert len(set(hashes)) == len(hashes)
    assert len(found.draws) == 8
    assert len({tuple(draw) for draw in found.draws}) == 8


def test_labels_are_the_first_measured_ones(made, world):
    table, corpus = made
    found = load_split(world.plans, table, corpus)
    values = np.ones(len(table))
    values[found.draws[0][:5]] = np.nan
    assert found.labelled(0, values).tolist() == found.draws[0][5:].tolist()


def test_a_draw_is_as_long_as_its_rarest_task_asks_for(made, monkeypatch):
    table, corpus = made
    monkeypatch.setattr(splits, "LABELS", 10)
    (task,) = table.values
    values = table.values[task].copy()
    rare = values.copy()
    rare[::2] = np.nan
    monkeypatch.setattr(table, "values", {task: values, "classification/nas-bench-macro/rare-top1": rare})
    for draw in make_split(table, corpus)["draws"]:
        assert np.isfinite(rare[draw]).sum() == 10
        assert np.isfinite(rare[draw[-1]])  # nothing is drawn after the last one that is needed


def test_a_small_table_is_judged_on_what_is_not_labelled(made, monkeypatch):
    table, corpus = made
    monkeypatch.setattr(splits, "_SMALL", 1000)
    monkeypatch.setattr(splits, "_SMALL_LABELS", 40)
    found = make_split(table, corpus)
    groups = np.array(joined_groups(table, corpus.hashes[: len(table)]))
    for draw, tested in zip(found["draws"], found["tests"], strict=True):
        assert len(draw) == 40
        assert not set(groups[draw]) & set(groups[tested])
        assert set(groups[draw]) | set(groups[tested]) == set(groups)


def test_a_function_is_judged_and_labelled_once(made, monkeypatch):
    table, corpus = made
    # networks that the table itself calls one, two by two
    monkeypatch.setattr(table, "groups", [str(row // 2) for row in range(len(table))])
    twins = corpus.hashes_of(table.networks)
    found = make_split(table, corpus)
    joined = np.array(joined_groups(table, twins))
    for rows in (found["test"], *found["draws"]):
        assert len(set(joined[rows])) == len(rows)
    assert set(joined[found["copies"]]) <= set(joined[found["test"]])
    assert sorted([*found["test"], *found["copies"]]) == sorted(split(table, twins)["test"])
    assert len(found["copies"]) >= len(found["test"])


def test_networks_of_a_family_are_different_functions(made, monkeypatch):
    table, corpus = made
    monkeypatch.setattr(splits, "_OF_FAMILIES", (NEW,))
    monkeypatch.setattr(table, "groups", [str(row // 10) for row in range(len(table))])
    twins = corpus.hashes_of(table.networks)
    found = make_split(table, corpus)
    assert sorted([*found["test"], *found["copies"]]) == sorted(split(table, twins)["test"])
    assert len({twins[row] for row in found["test"]}) == len(found["test"])
    assert len({table.groups[row] for row in found["test"]}) < len(found["test"])


def test_the_same_table_gives_the_same_file(made):
    assert make_split(*made) == make_split(*made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.files.update({f"{NEW}.parquet": "1" * 64}), "files changed"),
        (lambda table: table.networks.reverse(), "networks, twins changed|networks changed"),
    ],
)
def test_another_table_is_refused(made, world, change, message):
    table, corpus = made
    files, networks = dict(table.files), list(table.networks)
    try:
        change(table)
        with pytest.raises(AiopError, match=message):
            load_split(world.plans, table, corpus)
    finally:
        table.files, table.networks = files, networks


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda values: values["draws"][0].append(10**6), "no networks of the table"),
        (lambda values: values["test"].append(values["test"][0]), "twice there"),
        (lambda values: values.pop("draws"), "draws"),
        (lambda values: values.update(schema=99), "kind, schema or table"),
    ],
)
def test_a_damaged_file_is_refused(made, world, tmp_path, edit, message):
    table, corpus = made
    values = json.loads((world.plans / "tables" / f"{NEW}.json").read_text())
    edit(values)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / f"{NEW}.json").write_text(json.dumps(values))
    with pytest.raises(AiopError, match=message):
        load_split(tmp_path, table, corpus)
    with pytest.raises(AiopError, match="does not exist"):
        load_split(tmp_path / "nowhere", table, corpus)
