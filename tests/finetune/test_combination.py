import numpy as np
import pytest
from scipy.optimize import minimize

from aiop.finetune.combination import combine, cross_combined, honest_quantile, prior_weights
from aiop.finetune.monotone import Monotone


def sample(count, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=count)
    held_out = np.stack([targets + noise * rng.normal(size=count) for noise in (0.3, 1.0, 3.0)], axis=1)
    return held_out, targets


def test_weights_minimise_the_stated_loss():
    held_out, targets = sample(25)
    prior = np.array([0.2, 0.3, 0.5])
    scale = np.mean((held_out - targets[:, None]) ** 2, axis=0).min()

    def loss(weights):
        return np.sum((targets - held_out @ weights) ** 2) / scale + 30 * np.sum((weights - prior) ** 2)

    found = minimize(
        loss, prior, method="SLSQP", bounds=[(0, 1)] * 3, options={"ftol": 1e-12},
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
    )  # fmt: skip
    assert combine(held_out, targets, prior) == pytest.approx(found.x, abs=1e-3)


def test_the_prior_fades_as_labels_arrive():
    prior, shares = np.array([0.0, 1.0]), []
    for count in (4, 40, 2000):
        targets = np.zeros(count)  # errors of variance 1 and 4: without a prior the second has a fifth
        errors = np.stack(
            [np.tile([1.0, -1.0], count // 2), np.tile([2.0, 2.0, -2.0, -2.0], count // 4)], axis=1
        )
        shares.append(combine(errors, targets, prior)[1])
    # least squares by hand: (n + 60) w = ... of n (1 - w)^2 + 4 n w^2 + 60 (1 - w)^2
    assert shares == pytest.approx([(n + 60) / (5 * n + 60) for n in (4, 40, 2000)], abs=1e-4)


def test_counting_costs_leads_with_two_labels_only():
    names = ("costs", "gp", "trees")
    assert prior_weights(names, 2).tolist() == [1, 0, 0]
    assert prior_weights(names, 4) == pytest.approx([0.25, 0.75 * 2 / 3.5, 0.75 * 1.5 / 3.5])
    assert prior_weights(names, 100)[0] < 0.001
    assert prior_weights(("costs",), 100).tolist() == [1]


def test_a_label_has_no_part_in_the_weights_that_predict_it():
    held_out, targets = sample(20)
    names = ("costs", "gp", "trees")
    before = cross_combined(held_out, targets, names)
    targets = targets.copy()
    targets[4] += 50
    after = cross_combined(held_out, targets, names)
    assert after[4] == pytest.approx(before[4])
    assert np.abs(after - before).max() > 1e-3


def test_the_quantile_is_infinite_where_labels_are_too_few():
    assert honest_quantile(np.array([3.0, 1.0, 2.0]), 0.8) == float("inf")  # ceil(4 * 0.8) = 4 > 3
    assert honest_quantile(np.array([3.0, 1.0, 2.0, 5.0]), 0.8) == 5.0  # the 4th of 4
    assert honest_quantile(np.arange(1.0, 20.0), 0.8) == 16.0  # ceil(20 * 0.8)
    assert honest_quantile(np.zeros(0), 0.8) == float("inf")


def test_the_quantile_covers_what_it_says():
    rng = np.random.default_rng(0)
    for count in (5, 9, 20):
        hits = [
            abs(rng.normal()) <= honest_quantile(np.abs(rng.normal(size=count)), 0.8) for _ in range(4000)
        ]
        expected = np.ceil((count + 1) * 0.8) / (count + 1)
        assert np.mean(hits) == pytest.approx(expected, abs=0.025)


def test_calibration_takes_errors_down_and_keeps_every_rank():
    rng = np.random.default_rng(0)
    predicted = np.sort(rng.normal(size=300))
    targets = np.where(predicted > 0, 3 * predicted, 0.2 * predicted) + 0.1 * rng.normal(size=300)
    found = Monotone.fit(predicted, targets)
    new = np.linspace(-3, 3, 200)
    truth = np.where(new > 0, 3 * new, 0.2 * new)
    assert (np.diff(found(new)) > 0).all()
    assert np.abs(found(new) - truth).mean() < 0.5 * np.abs(new - truth).mean()


def test_few_labels_and_good_predictions_are_left_as_they_are():
    x = np.linspace(-1, 1, 40)
    assert (Monotone.fit(x, 3 * x)(x) == x).all()
    noisy = np.random.default_rng(1).normal(size=200)
    assert Monotone.fit(noisy, noisy).share in (0.0, 0.25)
