import numpy as np
import pytest

from aiop.finetune.calibration import Interval, Neighbourhood, conformal_quantile, rescaling


def test_conformal_quantile_is_the_order_statistic_of_the_definition():
    residuals = np.array(
        [3.0, -1.0, 2.0, -5.0, 4.0, 0.5, -2.5, 1.5, 6.0]
    )  # n = 9: ceil(10 * 0.8) = 8th smallest
    assert conformal_quantile(residuals, 0.8) == 5.0
    assert conformal_quantile(residuals, 0.99) == 6.0
    assert np.isnan(conformal_quantile(np.array([]), 0.8))
    # six residuals of one group share one vote of four: 0.8 * (4 + 1) = 4 votes are needed, all of them
    grouped = conformal_quantile(np.array([0.1] * 6 + [2.0, 3.0, 4.0]), 0.8, ["big"] * 6 + ["a", "b", "c"])
    assert grouped == 4.0
    assert conformal_quantile(np.array([0.1] * 6 + [2.0, 3.0, 4.0]), 0.5) == 0.1


def test_intervals_cover_new_residuals_whose_spread_changes_along_the_range():
    rng = np.random.default_rng(1)

    def draw(count):
        predicted = rng.uniform(-2, 2, count)
        return predicted, predicted + rng.normal(0, 1, count) * (0.2 + 0.4 * np.abs(predicted - 2))

    interval = Interval.fit(*draw(1000), 0.8)
    predicted, measured = draw(20_000)
    inside = np.abs(measured - predicted) <= interval.half_width(predicted)
    assert inside.mean() == pytest.approx(0.8, abs=0.03)
    assert interval.half_width(np.array([-1.9]))[0] > 2 * interval.half_width(np.array([1.9]))[0]


def test_missing_targets_are_left_out_and_no_target_gives_no_bound():
    predicted = np.array([0.0, 1.0, 2.0])
    assert Interval.fit(predicted, np.array([0.5, np.nan, 2.0]), 0.5).widths == (0.5,)
    assert np.isinf(Interval.fit(predicted, np.full(3, np.nan), 0.8).half_width(predicted)).all()


def test_a_neighbourhood_keeps_its_own_and_refuses_what_lies_elsewhere():
    rng = np.random.default_rng(2)
    basis = rng.normal(size=(5, 40))
    train, own = rng.normal(size=(600, 5)) @ basis, rng.normal(size=(200, 5)) @ basis
    near = Neighbourhood.fit(train, own)
    fresh = rng.normal(size=(500, 5)) @ basis
    assert (near.distance(fresh) <= near.limit).mean() > 0.93
    assert (near.distance(fresh + 4 * basis.sum(axis=0)) > near.limit).mean() > 0.95


def test_what_is_new_only_off_the_axes_of_training_is_far_too():
    rng = np.random.default_rng(3)
    train = np.concatenate([rng.normal(size=(400, 3)), np.zeros((400, 5))], axis=1)
    near = Neighbourhood.fit(train, train[:100])
    elsewhere = np.zeros((1, 8))
    elsewhere[0, 6] = 10.0
    assert near.distance(elsewhere)[0] > near.limit


def test_rescaling_is_the_least_squares_line_and_keeps_ranks():
    rng = np.random.default_rng(4)
    predicted = rng.normal(0, 2, 300)
    measured = 0.5 * predicted - 1 + rng.normal(0, 0.1, 300)
    slope, offset = np.polyfit(predicted, measured, 1)
    groups = [str(i % 40) for i in range(300)]
    assert rescaling(predicted, measured, groups) == pytest.approx((offset, slope))
    assert rescaling(predicted, -measured, groups)[1] == 0.25  # never turned round
    assert rescaling(predicted, measured, [group[0] for group in groups]) == (0.0, 1.0)  # ten groups only


def test_a_large_odd_group_does_not_set_the_limit():
    rng = np.random.default_rng(5)
    train, own = rng.normal(size=(600, 4)), np.concatenate([rng.normal(size=(90, 4)), np.full((10, 4), 40.0)])
    families = [str(i % 60) for i in range(600)]
    held_out = [f"held out {i % 9}" for i in range(90)] + ["odd"] * 10
    near = Neighbourhood.fit(train, own, (families, held_out))
    assert near.distance(np.full((1, 4), 39.0))[0] > near.limit
    assert (near.distance(rng.normal(size=(500, 4))) <= near.limit).mean() > 0.93
    # of one group only, nothing of training is left out: the held-out points alone say what is near
    assert Neighbourhood.fit(train, own, (["one"] * 600, held_out)).limit > 50


def test_groups_of_training_are_seen_from_the_others():
    rng = np.random.default_rng(6)
    centres = rng.normal(0, 10, (30, 3))
    train = np.repeat(centres, 10, axis=0) + rng.normal(0, 0.1, (300, 3))
    families = [str(i // 10) for i in range(300)]
    apart = Neighbourhood.fit(train, train[:0], (families, []))
    together = Neighbourhood.fit(train, train[:0])
    assert apart.limit > 5 * together.limit
