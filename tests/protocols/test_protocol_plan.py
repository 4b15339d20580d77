"""The committed plan: every space and every group of tasks has its fold."""

from collections import Counter
from fnmatch import fnmatchcase

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.pretrain.config import PretrainConfig
from aiop.protocols.folds import table_tasks
from aiop.protocols.plan import load_plan, protocols_dir
from aiop.protocols.splits import load_split
from aiop.tasks.corpora import corpus_state, open_corpus
from aiop.tasks.tables import list_tables, load_table
from aiop.tasks.tables.split import joined_groups
from benchmarks.protocols.make import fold_settings


@pytest.fixture(scope="module")
def plan():
    return load_plan()


def folds(plan):
    return [fold for fold in plan.folds if not fold.only]


def test_every_space_is_kept_out_of_one_of_at_most_six_folds(plan):
    assert len(folds(plan)) <= 6
    assert Counter(space for fold in folds(plan) for space in fold.spaces) == Counter(list_tables())


def test_every_task_is_in_one_group(plan):
    for tasks in table_tasks().values():
        for task in tasks:
            matching = [
                name for name, globs in plan.groups.items() if any(fnmatchcase(task, glob) for glob in globs)
            ]
            assert len(matching) == 1, (task, matching)


def test_every_group_is_kept_out_where_its_spaces_are(plan):
    spaces, alone = {}, set()
    for table, tasks in table_tasks().items():
        groups = {plan.group(task) for task in tasks}
        for group in groups:
            spaces.setdefault(group, set()).add(table)
        if len(groups) == 1:
            alone |= groups
    planned = Counter(group for fold in folds(plan) for group in fold.groups)
    assert planned == Counter(set(plan.groups) - alone)
    for fold in folds(plan):
        for group in fold.groups:
            assert not spaces[group] & set(fold.spaces), (fold.name, group)


def test_committed_settings_are_those_of_the_plan(plan):
    for fold in plan.folds:
        path = plan.folder / f"{fold.name}.yaml"
        assert path.read_text("utf-8") == fold_settings(plan, fold), "run python -m benchmarks.protocols.make"
        config = PretrainConfig.load(path)
        assert not set(config.corpora) & set(fold.spaces)
        assert config.corpora
        left_out = {
            task
            for table in config.corpora
            for task in table_tasks()[table]
            if any(fnmatchcase(task, glob) for glob in config.exclude)
        }
        assert left_out == {
            task
            for table in config.corpora
            for task in table_tasks()[table]
            if plan.group(task) in fold.groups
        }


def test_the_representative_tasks_are_one_of_each_kind(plan):
    tasks = [
        (table, task)
        for table, names in table_tasks().items()
        for task in names
        if any(fnmatchcase(task, glob) for glob in plan.representative)
    ]
    assert 40 <= len(tasks) <= 60
    for glob in plan.representative:
        assert any(fnmatchcase(task, glob) for _, task in tasks), glob
    everything = {(table, plan.group(task)) for table, names in table_tasks().items() for task in names}
    assert {(table, plan.group(task)) for table, task in tasks} == everything
    kinds = [
        (table, plan.group(task), task.split("/")[0])
        for table, task in tasks
        if plan.group(task).startswith("device/")
    ]
    assert len(set(kinds)) == len(
        kinds
    )  # of a kind of device one in every space, and of what is measured on it


def test_settings_of_a_pair_are_its_own(plan):
    pair = PretrainConfig.load(plan.folder / "pair-101-201.yaml")
    assert list(pair.corpora) == ["nas-bench-101"]
    assert pair.steps < PretrainConfig.load(plan.folder / "fold-1.yaml").steps


def test_a_damaged_plan_is_refused(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("groups: {a: ['*']}\nfolds: {fold-1: {spaces: [x], groups: [aa]}}")
    with pytest.raises(AiopError, match='keeps out "aa", which is no group'):
        load_plan(tmp_path)
    path.write_text("groups: 3")
    with pytest.raises(AiopError, match="cannot be used"):
        load_plan(tmp_path)
    path.write_text("groups: {a: ['*']}\nfolds: {fold-1: {spaces: [x]}}")
    with pytest.raises(AiopError, match=r'fold "fold-2" is not planned .did you mean "fold-1"'):
        load_plan(tmp_path).fold("fold-2")


def test_committed_files_are_of_the_tables(data_dir):
    looked_at = 0
    for name in list_tables():
        if corpus_state(name).corpus is None:
            continue
        table = load_table(name)
        corpus = open_corpus(table)
        found = load_split(protocols_dir(), table, corpus)
        groups = np.array(joined_groups(table, corpus.hashes[: len(table)]))
        for place, draw in enumerate(found.draws):
            assert not set(groups[draw]) & set(groups[found.tested(place)]), name
        assert len(found.test) <= 1000
        looked_at += 1
    if not looked_at:
        pytest.skip("no corpus of a benchmark table is built; run `aiop corpus build`")
