"""Scores beside scipy's; what resampling says beside scipy's bootstrap."""

import numpy as np
import pytest
from scipy import stats

from aiop.finetune.baselines import CostTrend
from aiop.predictor import judging
from aiop.predictor.judging import judge, judge_costs, trend_held_out


@pytest.fixture
def pairs():
    rng = np.random.default_rng(3)
    measured = rng.normal(70, 5, 40)
    return measured + rng.normal(0, 4, 40), measured


def test_scores_are_those_of_scipy(pairs):
    predicted, measured = pairs
    row = judge(predicted, measured)
    assert row["n"] == 40
    assert row["srcc"] == pytest.approx(stats.spearmanr(predicted, measured).statistic)
    assert row["tau"] == pytest.approx(stats.kendalltau(predicted, measured).statistic)
    assert row["mae"] == pytest.approx(np.abs(predicted - measured).mean())


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("srcc", lambda x, y: stats.spearmanr(x, y).statistic),
        ("tau", lambda x, y: stats.kendalltau(x, y).statistic),
        ("mae", lambda x, y: np.abs(x - y).mean()),
    ],
)
def test_intervals_are_those_of_the_percentile_bootstrap(pairs, name, statistic):
    low, high = judge(*pairs)["between"][name]
    expected = stats.bootstrap(
        pairs, statistic, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=5
    ).confidence_interval
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.15 * width)
    assert high == pytest.approx(expected.high, abs=0.15 * width)


def test_taus_of_draws_are_those_of_scipy_however_many_networks_there_are(pairs, monkeypatch):
    one, other = np.round(pairs[0]), np.round(pairs[1])  # with ties
    draws = np.random.default_rng(0).integers(0, 40, (20, 40))
    expected = [stats.kendalltau(one[draw], other[draw]).statistic for draw in draws]
    assert judging._taus(one, other, draws) == pytest.approx(expected)
    monkeypatch.setattr(judging, "_MANY", 10)
    assert judging._taus(one, other, draws) == pytest.approx(expected)


def test_regret_is_in_the_unit_and_knows_what_is_better():
    measured = np.arange(12.0)
    predicted = -measured  # the worst are predicted best
    assert judge(predicted, measured)["regret5"] == 11 - 4
    assert judge(predicted, measured)["regret10"] == 11 - 9
    assert judge(predicted, measured, "min")["regret5"] == 7 - 0
    assert judge(measured, measured)["regret5"] == 0
    assert judge(predicted[:5], measured[:5])["regret5"] is None


def test_what_does_not_exist_is_none():
    row = judge(np.ones(6), np.arange(6.0))
    assert (row["srcc"], row["tau"], row["between"]["srcc"]) == (None, None, None)
    assert row["mae"] == pytest.approx((1 + 0 + 1 + 2 + 3 + 4) / 6)


def test_few_networks_have_no_intervals():
    assert set(judge(np.arange(3.0), np.arange(3.0))["between"].values()) == {None}


def test_costs_rank_and_their_trend_is_in_the_unit(pairs):
    _, measured = pairs
    macs = np.exp(measured / 10)
    rows = judge_costs(macs, macs[::-1], measured, measured + 2, "max")
    assert rows["macs"]["srcc"] == pytest.approx(1)
    assert rows["macs"]["mae"] == pytest.approx(2)
    ranks = stats.rankdata(macs) + stats.rankdata(macs[::-1])
    assert rows["cost-rank"]["srcc"] == pytest.approx(stats.spearmanr(ranks, measured).statistic)
    assert rows["cost-rank"]["mae"] is None


def test_the_trend_of_a_network_does_not_know_its_label():
    macs, values = np.geomspace(1e6, 1e9, 20), np.linspace(0, 1, 20)
    wrong = values.copy()
    wrong[7] = 100
    kept = np.arange(20) != 7
    expected = CostTrend.fit(macs[kept], values[kept]).predict(macs[7:8])[0]
    assert trend_held_out(macs, wrong)[7] == pytest.approx(expected)
    assert trend_held_out(macs, values)[7] == pytest.approx(expected)
