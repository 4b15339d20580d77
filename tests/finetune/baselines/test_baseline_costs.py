import numpy as np
import pytest
from scipy.stats import rankdata

from aiop.finetune.baselines import CostRank, CostTrend, Forest, Macs, hand_made, mean_cost_rank
from aiop.finetune.views import Views
from aiop.graph_ir.features import GRAPH_FEATURES


def views(macs, params):
    count = len(macs)
    return Views(
        names=tuple(f"n{i}" for i in range(count)),
        embedding=np.zeros((count, 1), np.float32),
        outputs=np.zeros((count, 0), np.float32),
        graph=np.zeros((count, len(GRAPH_FEATURES)), np.float32),
        macs=np.asarray(macs, np.float64),
        params=np.asarray(params, np.float64),
        sources=(),
    )


def test_ranks_of_costs():
    macs, params = np.array([5.0, 1.0, 3.0, 3.0]), np.array([1.0, 2.0, 4.0, 3.0])
    np.testing.assert_allclose(mean_cost_rank(macs, params), (rankdata(macs) + rankdata(params)) / 2)
    seen = views(macs, params)
    empty = seen.rows([])
    assert CostRank().fit(empty, np.empty(0)).predict(seen).tolist() == [2.5, 1.5, 3.25, 2.75]
    assert Macs().fit(empty, np.empty(0)).predict(seen).tolist() == pytest.approx(np.log2(1 + macs))


def test_labels_choose_the_sign_only_where_asked():
    seen = views([1e6, 2e6, 4e6, 8e6], [1.0, 2.0, 3.0, 4.0])
    falling = np.array([4.0, 3.0, 2.0, 1.0])
    assert (np.diff(Macs().fit(seen, falling).predict(seen)) > 0).all()
    for baseline in (Macs, CostRank):
        assert (np.diff(baseline(sign="labels").fit(seen, falling).predict(seen)) < 0).all()
        assert (np.diff(baseline(sign="labels").fit(seen, -falling).predict(seen)) > 0).all()
        assert (np.diff(baseline(sign="labels").fit(seen, np.ones(4)).predict(seen)) > 0).all()


def test_hand_made_features_are_costs_the_longest_path_and_counts():
    row = np.arange(len(GRAPH_FEATURES), dtype=np.float32)[None]
    kept = [GRAPH_FEATURES[int(index)] for index in hand_made(row)[0]]
    assert {"log_macs", "log_params", "log_depth", "count_Conv"} <= set(kept)
    assert not any(name.startswith("level") for name in kept)


def test_the_forest_sees_counts():
    seen = views([1e6] * 40, [1e5] * 40)
    rng = np.random.default_rng(0)
    seen.graph[:, GRAPH_FEATURES.index("count_Conv")] = rng.uniform(0, 5, 40)
    values = 10 * seen.graph[:, GRAPH_FEATURES.index("count_Conv")].astype(float)
    predicted = Forest().fit(seen.rows(range(30)), values[:30]).predict(seen.rows(range(30, 40)))
    assert np.abs(predicted - values[30:]).mean() < 5


def test_a_trend_is_the_quadratic_it_was_made_from():
    macs = np.geomspace(1e6, 1e9, 200)
    x = np.log2(1 + macs)
    values = 1 + 2 * x - 0.01 * x**2
    middle = macs[20:-20]
    found = CostTrend.fit(macs, values).predict(middle)
    np.testing.assert_allclose(found, (1 + 2 * x - 0.01 * x**2)[20:-20], rtol=1e-3)
    assert CostTrend.fit(np.full(20, 1e6), np.arange(20.0)).predict(np.array([1e3])) == [9.5]
