"""Heads of one's own: fitted on few labels, asked about networks, judged on others."""

import numpy as np
import pytest
from own_labels import codes, value, write_table
from scipy import stats

import aiop
from aiop.errors import AiopError
from aiop.predictor.few_shot import LEAST

NEW = codes(200, seed=1)


def test_it_predicts_what_it_was_fitted_on_better_than_costs(own_head):
    known = set(codes(60))
    networks = [name for name in NEW if name not in known][:60]
    predicted = [item.predictions[0] for item in own_head.predict(networks)]
    measured = [value(name) for name in networks]
    rank = stats.spearmanr([item.value for item in predicted], measured).statistic
    costs = stats.spearmanr([item.macs_only for item in predicted], measured).statistic
    assert rank > costs
    errors = [item.value - label for item, label in zip(predicted, measured, strict=True)]
    assert np.abs(errors).mean() < np.std(measured)
    for item in predicted:
        assert (item.task, item.unit) == ("own/cells/top1", "%")
        assert 0 <= item.low <= item.value <= item.high <= 100
    assert np.mean([item.in_distribution for item in predicted]) > 0.5


def test_one_network_and_many_are_predicted_alike(own_head):
    one = own_head.predict(NEW[0])
    many = own_head.predict(NEW[:3])
    assert one.predictions[0].value == pytest.approx(many[0].predictions[0].value, rel=1e-3)
    assert [item.network for item in many] == NEW[:3]
    assert own_head.predict([]) == []


def test_the_same_seed_gives_the_same_head_and_another_draws_others(own_table, own_head):
    again = aiop.fit_head(own_table, "top1", budget=30)
    assert again.record.marks == own_head.record.marks
    assert again.predict(NEW[:5]) == own_head.predict(NEW[:5])
    other = aiop.fit_head(own_table, "top1", budget=30, seed=1)
    assert set(other.record.marks) != set(own_head.record.marks)


def test_the_record_says_what_it_was_fitted_on(own_head):
    record = own_head.record
    assert record.labels == len(record.marks) == len(record.held_out) == 30
    values = [value(name) for name in codes(60)]
    assert min(values) - 1e-4 < record.low < record.high < max(values) + 1e-4  # as the table writes them
    assert list(record.scores) == ["head", "macs", "cost-rank"]
    low, high = record.scores["head"]["between"]["srcc"]
    assert low <= record.scores["head"]["srcc"] <= high
    assert record.scores["macs"]["mae"] > 0
    assert record.scores["cost-rank"]["mae"] is None


def test_networks_of_the_fit_are_judged_without_their_labels(own_table, own_head):
    found = own_head.evaluate(own_table)
    assert (len(found.networks), int(found.seen.sum())) == (60, 30)
    # those of the fit: leave-one-out predictions, in the order of the table, and no intervals
    assert found.predicted[found.seen] == pytest.approx(np.clip(own_head.record.held_out, 0, 100))
    assert np.isnan(found.low[found.seen]).all()
    fresh = ~found.seen
    direct = own_head.predict([found.networks[row] for row in np.flatnonzero(fresh)])
    assert found.predicted[fresh] == pytest.approx([item.predictions[0].value for item in direct], rel=1e-3)
    inside = (found.low <= found.measured) & (found.measured <= found.high)
    assert found.scores["head"]["coverage"] == pytest.approx(inside[fresh].mean())
    assert found.scores["head"]["srcc"] == pytest.approx(
        stats.spearmanr(found.predicted, found.measured).statistic
    )
    assert found.scores["macs"]["srcc"] == pytest.approx(
        stats.spearmanr(found.macs, found.measured).statistic
    )
    assert "30 of the 60 networks" in found.notes[-1]


def test_on_new_networks_everything_is_new(own_head):
    known = set(codes(60))
    labels = {name: value(name) for name in NEW[:30] if name not in known}
    found = own_head.evaluate(labels, "top1")
    assert not found.seen.any()
    assert found.notes == ()
    assert found.scores["head"]["coverage"] is not None
    assert found.to_dict()["networks"] == len(labels)


def test_a_mapping_is_as_good_as_a_table(own_cache):
    head = aiop.fit_head({name: value(name) for name in codes(12)}, "quality")
    assert head.task.name == "quality"
    assert head.predict(NEW[0]).predictions[0].task == "quality"


def test_the_order_of_a_minimised_metric_is_turned_round(own_cache, tmp_path):
    networks = codes(20)
    table = write_table(tmp_path / "loss.csv", networks, "loss (lower)")
    found = aiop.fit_head(table).evaluate({name: value(name) for name in NEW[:20]})
    lowest = np.argsort(found.predicted)[:5]
    assert found.task.direction == "min"
    assert found.scores["head"]["regret5"] == pytest.approx(
        found.measured[lowest].min() - found.measured.min()
    )


def test_twins_among_the_labels_are_noted(own_cache, tmp_path):
    path = tmp_path / "copy.onnx"
    networks = codes(12)
    aiop.build(networks[0], path)
    labels = {name: value(name) for name in networks} | {str(path): value(networks[0])}
    assert "1 of the 13 networks compute the same" in aiop.fit_head(labels).notes[-1]


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ([70.0], "1 usable label"),
        ([], "0 usable labels"),
        ([70.0] * 5, "all 5 labels of value in the labels are 70"),
    ],
)
def test_labels_that_nothing_can_be_learnt_from(values, cause):
    with pytest.raises(AiopError, match=cause):
        aiop.fit_head(dict(zip(codes(5), values, strict=False)))


def test_too_few_labels_say_what_was_left_out(own_cache, tmp_path):
    table = write_table(tmp_path / "few.csv", codes(1))
    table.write_text(table.read_text() + "nowhere.onnx,70\n")
    with pytest.raises(AiopError, match=r'better 20; left out: line 3 is left out: file "nowhere\.onnx"'):
        aiop.fit_head(table)


def test_a_budget_is_at_least_two_and_at_most_what_there_is(own_table):
    with pytest.raises(AiopError, match=f"budget of 1 labels is too small: give at least {LEAST}"):
        aiop.fit_head(own_table, budget=1)
    head = aiop.fit_head(own_table, budget=100)
    assert head.record.labels == 60
    assert "the budget is 100 labels, but there are 60" in head.notes[0]


def test_labels_in_another_unit_are_refused(own_head, own_cache, tmp_path):
    table = write_table(tmp_path / "other.csv", codes(5), "top1 [points]")
    with pytest.raises(
        AiopError, match=r"predicts own/cells/top1 in %, labels own/other/top1 of .* are in points"
    ):
        own_head.evaluate(table)


def test_the_column_called_like_the_task_is_found(own_head, own_cache, tmp_path):
    lines = [f"{name},{value(name)},{index}" for index, name in enumerate(NEW[:12])]
    (tmp_path / "more.csv").write_text("\n".join(["network,top1 [%],seconds", *lines]))
    found = own_head.evaluate(tmp_path / "more.csv")
    assert found.measured == pytest.approx([value(name) for name in NEW[:12]])
