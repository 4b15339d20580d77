"""What the benchmark of infusion reads and writes: labels by role, correlations, costs, heads with many labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from aiop.errors import AiopError
from aiop.finetune.views import Views
from aiop.graph_ir.features import GRAPH_FEATURES
from benchmarks import latent
from benchmarks.document import write_section
from benchmarks.latent import Judged, judged_lines
from benchmarks.latent_labels import cost_lines, quality_lines, read_labels

TRUTH = [50.0, 52.0, 51.0, 55.0]
LATENT = [40.0, 41.0, 43.0, 44.0, 30.0, 31.0]
SWAPPING = [9.0, 8.0, 7.0, 6.0]


@pytest.fixture
def table(tmp_path):
    """Four bodies of truth, the first of them trained twice, and two with a pseudo-label only."""
    none: list[float | None] = [None]
    columns = {
        "network": ["s:a", "s:b", "s:c", "s:d", "s:a", "s:e", "s:f"],
        "role": ["truth"] * 5 + ["pseudo"] * 2,
        "repeat": [0, 0, 0, 0, 1, 0, 0],
        "macs": [1.0, 2.0, 3.0, 4.0, 1.0, 5.0, 6.0],
        "truth/semantic": [*TRUTH, 99.0, None, None],
        "latent/semantic": [*LATENT[:4], None, *LATENT[4:]],
        "swapping/semantic": [*SWAPPING, None, None, None],
        "truth_seconds/dense": [10.0, 20.0, 30.0, 40.0, 50.0, None, None],
        "latent_seconds/dense": [1.0] * 4 + none + [1.0, 2.0],
        "swapping_seconds/dense": [3.0] * 4 + none * 3,
    }
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_labels_are_read_by_role(table):
    labels = read_labels(table)
    assert labels.networks == ("s:a", "s:b", "s:c", "s:d", "s:e", "s:f")  # without the second training
    assert labels.judged.tolist() == [True] * 4 + [False] * 2
    assert labels.tasks == ("semantic",)
    assert labels.values["latent"][:, 0].tolist() == LATENT
    assert labels.values["truth"][:4, 0].tolist() == TRUTH
    assert np.isnan(labels.values["truth"][4:]).all()
    assert labels.seconds["truth"]["dense"].tolist() == [10, 20, 30, 40, 50]


def test_quality_is_that_of_scipy(table):
    line = quality_lines(read_labels(table))[2]
    for other in (LATENT[:4], SWAPPING, [1, 2, 3, 4]):
        scores = stats.spearmanr(other, TRUTH).statistic, stats.kendalltau(other, TRUTH).statistic
        assert " / ".join(f"{score:.3f}" for score in scores) in line


def test_costs_by_hand(table):
    lines = cost_lines(read_labels(table))
    assert lines[2:] == [
        "| truth | 5 | 30.0 | 30.0 | 100.0% |",
        "| latent | 6 | 1.2 | 1.2 | 3.9% |",  # 7 / 6 of 30
        "| swapping | 4 | 3.0 | 3.0 | 10.0% |",
    ]


def test_other_files_are_refused(table, tmp_path):
    with pytest.raises(AiopError, match="does not exist"):
        read_labels(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(AiopError, match="is no table of labels"):
        read_labels(tmp_path / "text.parquet")
    pq.write_table(pq.read_table(table).drop_columns(["role"]), table)
    with pytest.raises(AiopError, match="has no column 'role'"):
        read_labels(table)


class Memory:
    """A head that knows the values of the networks it was fitted on, and nothing else."""

    def __init__(self, views, values, rows):
        self.known = {views.names[row]: values[row] for row in rows}

    def predict(self, views):
        return np.array([self.known.get(name, np.nan) for name in views.names])


def test_many_true_labels_are_never_judged_on_themselves(monkeypatch):
    monkeypatch.setattr(latent, "_head", lambda views, values, rows, seed: Memory(views, values, rows))
    count = 60
    none = np.zeros((count, 0), np.float32)
    views = Views(tuple(map(str, range(count))), none, none, none, np.ones(count), np.ones(count), ())
    values = np.arange(count, dtype=np.float64)
    ((row, predicted, rows),) = latent._many_labels(views, values, wanted=400, draws=2)
    assert row == "truth-cv"
    assert rows.tolist() == list(range(count))
    assert np.isnan(predicted).all()
    found = latent._many_labels(views, values, wanted=40, draws=2)
    assert [(row, len(rows)) for row, _, rows in found] == [("truth", 20), ("truth", 20)]
    assert all(np.isnan(predicted).all() for _, predicted, _ in found)
    assert not np.array_equal(found[0][2], found[1][2])


def test_scores_are_written_between_the_markers(tmp_path):
    judged = Judged(
        ("own/x/one", "own/x/two"),
        {"macs": np.array([[0.5, 0.4, 1.0], [0.7, 0.6, 2.0]]), "zero": np.array([[0.1, 0.1, np.nan]] * 2)},
        np.array([0.75, 0.85]),
    )
    path = tmp_path / "latent.md"
    path.write_text("before\n<!-- infusion: start -->\nold\n<!-- infusion: end -->\nafter\n")
    write_section("infusion", judged_lines(judged), path)
    text = path.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| MACs, scaled by 20 labels | 0.600 | 0.500 | 1.500 |" in text
    assert "| without infusion, no label (ranks) | 0.100 | 0.100 | - |" in text
    assert "| two | 0.700 / 0.600 / 2.000 | 85% |" in text


def test_a_correction_sees_no_label_of_a_judged_body():
    rng = np.random.default_rng(0)
    count = 30
    views = Views(
        tuple(map(str, range(count))),
        rng.normal(size=(count, 4)),
        rng.normal(size=(count, 3)),
        rng.normal(size=(count, len(GRAPH_FEATURES))),
        np.ones(count),
        np.ones(count),
        ("one", "two", "three"),
    )
    own = rng.normal(size=count)
    values = 50 + 3 * own + rng.normal(size=count)
    labelled = np.arange(20)
    found = latent._corrected(own, rng.normal(size=(count, 0)), views, values, labelled)
    assert stats.pearsonr(found[20:], values[20:]).statistic > 0.8
    changed = np.where(np.arange(count) < 20, values, 0.0)
    assert np.array_equal(latent._corrected(own, np.zeros((count, 0)), views, changed, labelled), found)
