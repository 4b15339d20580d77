"""Learning curves: who sees which labels, and means over draws."""

import numpy as np
import pytest
from own_labels import codes, value

import aiop
from aiop.finetune.baselines import CostTrend
from aiop.predictor.curves import BASELINES_SHOWN, learning_curve
from aiop.predictor.labels import LabelledViews, read_labels, see


@pytest.fixture(scope="module")
def labelled(own_cache):
    labels = read_labels({name: value(name) for name in codes(40)}, "top1")
    return see(aiop.load(), labels)


@pytest.fixture(scope="module")
def curves(labelled):
    fits = []
    found = learning_curve(
        labelled, labelled.labels.task, sizes=(10, 20, 35), draws=2, advance=lambda: fits.append(1)
    )
    return found, len(fits)


def test_every_method_has_a_point_per_number_of_labels(curves):
    found, fits = curves
    assert list(found) == ["head", *BASELINES_SHOWN]
    for points in found.values():
        assert [point.labels for point in points] == [10, 20]  # 35 would leave five to score on
        for point in points:
            assert -1 <= point.srcc[0] <= 1
    assert fits == 4
    for point in found["head"]:
        assert point.mae[0] > 0
        assert 0 <= point.coverage[0] <= 1
    assert np.isnan(found["cost-rank"][0].mae[0])


def test_the_row_of_macs_is_the_trend_fitted_on_the_same_labels(labelled, curves):
    errors = []
    for draw in range(2):
        order = np.random.default_rng([0, 20, draw]).permutation(40)
        train, test = order[:20], order[20:]
        trend = CostTrend.fit(labelled.views.macs[train], labelled.values[train])
        errors.append(np.abs(trend.predict(labelled.views.macs[test]) - labelled.values[test]).mean())
    assert curves[0]["macs"][1].mae == pytest.approx((np.mean(errors), np.std(errors)))


def test_nothing_is_scored_that_computes_the_same_as_a_drawn_one(labelled):
    # thirty twins of one network: where ten are drawn, at most ten others are left, and mostly fewer
    marks = tuple(f"{max(place, 30):032x}" for place in range(40))
    twins = LabelledViews(labelled.labels, labelled.views, marks)
    assert learning_curve(twins, labelled.labels.task, sizes=(10,), draws=2) == {}
    assert learning_curve(labelled, labelled.labels.task, sizes=(10,), draws=1)["macs"]


def test_too_few_labels_give_no_curve(labelled):
    few = LabelledViews(labelled.labels.rows(range(15)), labelled.views.rows(range(15)), labelled.marks[:15])
    assert learning_curve(few, labelled.labels.task) == {}
