"""What a run is given: tasks kept out, and large corpora drawn down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus
from aiop.pretrain import data
from aiop.pretrain.data import LabelledCorpus, labelled_corpora, limited
from aiop.pretrain.training import TrainingSet
from aiop.tasks.tables import Table, table

TOP1 = "classification/nas-bench-201/cifar10-test-top1"
VAL = "classification/nas-bench-201/cifar10-val-top1"
LATENCY = "latency/nas-bench-201/raspi4"
SEG = "segmentation/nas-bench-mr/cityscapes-miou"


@pytest.fixture
def tables(
    make_set: Callable[..., TrainingSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Corpus]:
    """Two tables with ready corpora: ``large`` of 240 networks in 80 groups, ``other`` of 40."""
    corpora = {}
    for name, count, columns in (("large", 240, (TOP1, VAL, LATENCY)), ("other", 40, (SEG,))):
        corpora[name] = make_set(name, count).corpus
        values = {column: np.arange(count, dtype=float) + 1 for column in columns}
        if name == "large":
            values[LATENCY][::2] = np.nan
        groups = [str(i % (count // 3)) for i in range(count)]
        networks = list(corpora[name].names)

        def load(folder: Path, args: tuple[object, ...] = (name, networks, values, groups)) -> Table:
            n = len(args[1])  # type: ignore[arg-type]
            return Table(*args, np.ones(n), np.ones(n), {}, "")  # type: ignore[arg-type]

        monkeypatch.setitem(table._LOADERS, name, load)
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    monkeypatch.setattr(data, "corpus_path", lambda item: corpora[item.name].path)
    monkeypatch.setattr(data, "open_corpus", lambda item: corpora[item.name])
    return corpora


def read(*names: str, **settings: object) -> tuple[list[LabelledCorpus], list[str]]:
    corpora, targets = labelled_corpora(names, progress=False, **settings)  # type: ignore[arg-type]
    return corpora, [target.name for target in targets]


def test_excluded_tasks_are_nowhere(tables: dict[str, Corpus]) -> None:
    (large, other), names = read("large", "other", exclude=["*/cifar10-*"])
    assert names == [LATENCY, SEG]
    assert large.values.shape == (240, 2)
    # every remaining value is one of the table's own columns; the excluded ones have values at even places
    assert np.isnan(large.values[::2]).all()
    assert np.isnan(large.values[:, 1]).all()
    assert np.isnan(other.values[:, 0]).all()
    # networks that only the excluded tasks measured do not take places of others in training
    assert (large.rows["train"] % 2 == 1).all()
    whole = read("large")[0][0]
    for part in ("val", "test"):
        np.testing.assert_array_equal(large.rows[part], whole.rows[part])


def test_a_corpus_without_a_task_left_is_not_in_the_run(tables: dict[str, Corpus]) -> None:
    (only,), names = read("large", "other", exclude=["*/nas-bench-201/*"])
    assert (only.name, names) == ("other", [SEG])


def test_patterns_that_keep_nothing_out_or_everything(tables: dict[str, Corpus]) -> None:
    with pytest.raises(AiopError, match=r'"segmentaton/\*" matches no task .did you mean'):
        read("large", exclude=["segmentaton/*"])
    assert read("large", exclude=["segmentation/*"])[1] == [TOP1, VAL, LATENCY]  # tasks of other tables
    with pytest.raises(AiopError, match="'exclude' leaves no task of large, other"):
        read("large", "other", exclude=["*/nas-bench-201/*", "segmentation/*"])


def test_a_limit_draws_whole_groups_of_training_rows_only(tables: dict[str, Corpus]) -> None:
    (whole,), _ = read("large")
    (drawn,), _ = read("large", most_graphs=50)
    rows = drawn.rows["train"]
    assert 48 <= len(rows) <= 50  # groups of three
    assert set(rows) < set(whole.rows["train"])
    left_out = set(whole.rows["train"]) - set(rows)
    assert {drawn.group(row) for row in rows}.isdisjoint(drawn.group(row) for row in left_out)
    for part in ("val", "test"):
        np.testing.assert_array_equal(drawn.rows[part], whole.rows[part])
    assert drawn.available == whole.available == len(whole.rows["train"])


def test_the_draw_is_the_seeds_and_no_other_corpus_matters(tables: dict[str, Corpus]) -> None:
    (first,), _ = read("large", most_graphs=50)
    again = read("other", "large", most_graphs=50)[0][1]
    np.testing.assert_array_equal(first.rows["train"], again.rows["train"])
    (other,), _ = read("large", most_graphs=50, seed=1)
    assert not np.array_equal(first.rows["train"], other.rows["train"])
    assert limited(first, 50, 3) is first
    with pytest.raises(AiopError, match="no group of at most 2 training graphs"):
        limited(first, 2, 0)
