"""The table of a build as labels: which rows and columns of it are cheap, and which true."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiop.errors import AiopError
from aiop.predictor.build_table import cheap_labels, is_build, true_labels

COLUMNS = {
    "network": ["digits-ofa:a", "digits-ofa:b", "digits-ofa:a", "digits-ofa:c", "digits-ofa:d"],
    "role": ["truth", "truth", "truth", "pseudo", "pseudo"],
    "repeat": [0, 0, 1, 0, 0],
    "macs": [1.0, 2.0, 1.0, 3.0, 4.0],
    "truth/keypoints": [50.0, 52.0, 99.0, None, None],
    "latent/keypoints": [40.0, 41.0, None, 43.5, None],
    "swapping/keypoints": [9.0, 8.0, None, 7.0, 7.0],
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    return path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_pseudo_labels_are_those_of_bodies_for_them(table):
    found = cheap_labels(table)
    assert is_build(table)
    assert found.name == "labels.csv"  # tasks are called by it
    assert rows(found) == [["network", "keypoints [%]"], ["digits-ofa:c", "43.5"], ["digits-ofa:d", ""]]


def test_truth_is_the_first_training_of_bodies_for_it(table):
    found = true_labels(table)
    assert rows(found) == [
        ["network", "keypoints [%]"],
        ["digits-ofa:a", "50.0"],
        ["digits-ofa:b", "52.0"],
    ]
    assert found != cheap_labels(table)


def test_other_files_stay_as_they_are(table, tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("network,top1\n")
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"network": ["a"], "top1": [1.0]}), plain)
    broken = tmp_path / "broken.parquet"
    broken.write_text("no")
    for path in (own, plain, broken, tmp_path / "none.parquet"):
        assert not is_build(path)
        assert cheap_labels(path) == true_labels(path) == path


def test_a_build_without_such_bodies_is_refused(table):
    pq.write_table(pq.read_table(table).slice(0, 3), table)
    with pytest.raises(AiopError, match="no bodies with latent labels") as found:
        cheap_labels(table)
    assert "\n" not in str(found.value)
