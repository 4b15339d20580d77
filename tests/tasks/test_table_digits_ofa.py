"""The embedded table: the project's own measurements, which need no other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import aiop
from aiop.tasks import list_tasks
from aiop.tasks.corpora import build_corpus
from aiop.tasks.tables import Table, list_tables, load_table, split
from aiop.tasks.tables.digits_ofa import TASKS

TRUTH = [task for column, task in TASKS.items() if column.startswith("truth/")]
PSEUDO = [task for column, task in TASKS.items() if column.startswith("latent/")]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Table:
    """As a user has it who fetched nothing."""
    monkeypatch.delenv("AIOP_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return load_table("digits-ofa")


def test_it_is_listed_as_one_that_comes_with_the_package() -> None:
    assert set(list_tables(embedded=True)) - set(list_tables()) == {"digits-ofa"}


def test_every_body_is_labelled_and_60_are_trained_individually(table: Table) -> None:
    assert set(table.values) == set(list_tasks("*/digits-ofa/*")) == {*TRUTH, *PSEUDO}
    assert len(set(table.networks)) == len(table) >= 460
    for task in TRUTH:
        known = table.values[task][np.isfinite(table.values[task])]
        assert len(known) >= 60
        assert ((known > 0) & (known < 100)).all()
        assert table.noise[task] < known.std()  # bodies differ by more than two trainings of one
    for task in PSEUDO:
        assert np.isfinite(table.values[task]).all()
        assert task not in table.noise


def test_macs_are_those_of_the_networks(table: Table) -> None:
    for row in (0, 100, 300):
        assert aiop.inspect(table.networks[row]).macs == table.macs[row]
        assert aiop.inspect(table.networks[row]).params == table.params[row]


def test_pseudo_labels_rank_bodies_as_truth_does(table: Table) -> None:
    for true, pseudo in zip(TRUTH, PSEUDO, strict=True):
        known = np.isfinite(table.values[true])
        assert spearmanr(table.values[true][known], table.values[pseudo][known]).statistic > 0.3


def test_a_corpus_and_sides_of_it(table: Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    few = Table(
        name=table.name,
        networks=table.networks[:40],
        values={task: values[:40] for task, values in table.values.items()},
        groups=table.groups[:40],
        macs=table.macs[:40],
        params=table.params[:40],
        files=table.files,
        licence=table.licence,
    )
    assert len(build_corpus(few, workers=1, progress=False)) == 40
    sides = split(few)
    assert sorted(np.concatenate(list(sides.values())).tolist()) == list(range(40))
