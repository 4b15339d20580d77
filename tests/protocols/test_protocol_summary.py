"""What results say together, in numbers that can be checked by hand."""

import math

import pytest

from aiop.protocols.methods import Method
from aiop.protocols.summary import best, chosen, efficiency, losses, pooled, summarise
from aiop.protocols.targets import target_rows

METHODS = {
    "head": Method("head", lambda setting: None, ours=True, scratch=False),
    "tree": Method("tree", lambda setting: None),
    "floor": Method("floor", lambda setting: None, scratch=False),
}
ONE, TWO = "classification/nas-bench-mr/cls-10c-top1", "video/nas-bench-mr/hmdb51-top1"


def record(task, method, labels, srcc, draw=0, **more):
    return {
        "fold": "fold-1", "kind": "few-shot", "space_seen": True, "tested": 9, "task": task, "method": method,
        "labels": labels, "draw": draw, "srcc": srcc, "tau": srcc / 2, "mae": 1 - srcc, "seconds": 1.0, **more,
    }  # fmt: skip


@pytest.fixture
def entries():
    return summarise(
        [
            record(ONE, "head", 20, 0.7),
            record(ONE, "head", 20, 0.9, draw=1, coverage=0.8),
            record(ONE, "tree", 20, 0.6),
            record(ONE, "tree", 100, 0.8),
            record(ONE, "floor", 20, 0.85),
            record(TWO, "head", 20, 0.5),
            record(TWO, "tree", 20, 0.51),
            record(TWO, "tree", 100, 0.6),
        ]
    )


def test_means_and_deviations_over_draws(entries):
    cell = entries[0].cells["head"][20]
    assert cell.draws == 2
    assert cell.mean["srcc"] == pytest.approx(0.8)
    assert cell.deviation["srcc"] == pytest.approx(math.sqrt(0.02))
    assert cell.mean["coverage"] == 0.8  # of the one draw that has it


def test_the_best_baseline_is_not_the_head(entries):
    assert best(entries[0], 20, "srcc", METHODS) == ("floor", 0.85)
    assert best(entries[0], 20, "srcc", METHODS, scratch=True) == ("tree", 0.6)
    assert best(entries[0], 20, "mae", METHODS)[0] == "floor"
    assert best(entries[0], 7, "srcc", METHODS)[0] == ""


def test_label_efficiency_is_a_geometric_mean(entries):
    # .8 is what the tree has with 100: factor 5; .5 it passes with its fewest, 20: factor 1
    factor, count, beyond = efficiency(entries, METHODS)
    assert factor == pytest.approx(math.sqrt(5))
    assert (count, beyond) == (2, 0)


def test_the_baseline_chosen_on_the_mean_is_not_the_best_of_each_task():
    methods = METHODS | {"bush": Method("bush", lambda setting: None)}
    found = summarise(
        [
            record(ONE, "tree", 20, 0.6),
            record(ONE, "bush", 20, 0.7),
            record(TWO, "tree", 20, 0.6),
            record(TWO, "bush", 20, 0.3),
            record(ONE, "floor", 20, 0.9),
            record(ONE, "head", 20, 0.69),
            record(TWO, "head", 20, 0.5),
        ]
    )
    choice = chosen(found, 20, methods)
    assert (choice.name, choice.stand_in) == ("tree", "tree")  # .6 against .5; the floor transfers
    assert choice.of(found[0], 20, "srcc") == ("tree", 0.6)
    assert [entry.task for entry, _, _ in losses(found, 20, methods, choice)] == [TWO]
    assert [entry.task for entry, _, _ in losses(found, 20, methods)] == [ONE, TWO]
    # errors of .4 and .4 against .3 and .7: a geometric mean of .4 against .458
    assert chosen(found, 20, methods, "mae").name == "tree"


def test_a_baseline_that_lacks_a_task_has_a_stand_in():
    methods = METHODS | {"code": Method("code", lambda setting: None)}
    found = summarise(
        [record(ONE, "tree", 20, 0.6), record(ONE, "code", 20, 0.7), record(TWO, "tree", 20, 0.1)]
    )
    choice = chosen(found, 20, methods)
    assert (choice.name, choice.stand_in) == ("code", "tree")
    assert choice.of(found[0], 20, "srcc") == ("code", 0.7)
    assert choice.of(found[1], 20, "srcc") == ("tree", 0.1)


def test_losses_are_those_beyond_the_margin(entries):
    (lost,) = losses(entries, 20, METHODS)
    assert (lost[0].task, lost[1]) == (ONE, "floor")
    assert lost[2] == pytest.approx(0.05)


def test_targets_stand_beside_what_was_measured(entries):
    rows = {row.what: row for row in target_rows("unseen-task", entries, METHODS, {("fold-1", "timm"): 0.95})}
    assert rows[f"{ONE}: SRCC at 20 labels"].reached is False  # .8 where .88 is asked for
    assert rows["tasks worse than the best baseline per task by more than .02 SRCC, 20 labels"].value == 1
    assert rows["tasks with SRCC above .5 at 20 labels"].value == 1
    assert rows["coverage of 80% intervals, 20 labels"].reached is True
    assert rows["AUROC of the out-of-distribution flag, timm (fold-1)"].reached is True
    assert f"{ONE}: SRCC at 100 labels" not in rows  # not measured


def test_pooling_leaves_out_what_is_not_there(entries):
    assert pooled(entries, "floor", 20, "srcc") == (0.85, 1)
    assert math.isnan(pooled(entries, "floor", 50, "srcc")[0])
