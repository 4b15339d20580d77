import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from aiop.errors import AiopError
from aiop.finetune.kernel import KernelExpert


def sample(count, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 6))
    features[:, 5] = 3.0  # constant: must not count
    targets = np.stack([np.sin(features[:, 0]) + features[:, 1], features[:, 2] ** 2], axis=1)
    return features, targets, [str(i % 20) for i in range(count)]


def test_equals_the_mean_of_a_gaussian_process():
    features, targets, groups = sample(120, 0)
    expert = KernelExpert.fit(features, targets, groups)
    scaled = np.clip((features[:, :5] - features[:, :5].mean(0)) / features[:, :5].std(0), -4, 4)
    new = np.random.default_rng(9).normal(size=(30, 6))
    new_scaled = np.clip((new[:, :5] - features[:, :5].mean(0)) / features[:, :5].std(0), -4, 4)
    fits = []
    for noise in (0.03, 0.1, 0.3):
        process = GaussianProcessRegressor(
            Matern(length_scale=expert.length * np.sqrt(5), nu=0.5), alpha=noise, optimizer=None
        )
        fits.append(np.abs(process.fit(scaled, targets).predict(new_scaled) - expert.predict(new)).max())
    assert min(fits) < 1e-4


def test_missing_targets_leave_out_a_row_for_that_column_only():
    features, targets, groups = sample(100, 1)
    holed = targets.copy()
    holed[::3, 0] = np.nan
    expert = KernelExpert.fit(features, holed, groups)
    assert (expert.weights[::3, 0] == 0).all()
    assert (expert.weights[::3, 1] != 0).any()
    assert expert.predict(features, [1]) == pytest.approx(expert.predict(features)[:, [1]])


def test_goes_back_to_zero_far_away_and_survives_saving():
    features, targets, groups = sample(100, 2)
    expert = KernelExpert.fit(features, targets, groups)
    again = KernelExpert.from_arrays(expert.arrays(), expert.length)
    assert again.predict(features) == pytest.approx(expert.predict(features), abs=0.02)


def test_held_out_predictions_come_from_fits_without_the_group():
    features, targets, groups = sample(100, 3)
    expert = KernelExpert.fit(features, targets, groups)
    assert expert.held_out.shape == targets.shape
    inside = np.abs(expert.predict(features) - targets).mean()
    assert np.abs(expert.held_out - targets).mean() > 2 * inside


def test_what_tells_networks_apart_is_stretched():
    rng = np.random.default_rng(4)
    names = ["log_macs", *(f"count_{i}" for i in range(40)), *(f"level0_{i}" for i in range(40))]
    features = rng.normal(size=(240, len(names)))
    targets, groups = np.sin(2 * features[:, :1]), [str(i % 24) for i in range(160)]
    known = KernelExpert.fit(features[:160], targets[:160], groups, names=names)
    plain = KernelExpert.fit(features[:160], targets[:160], groups)
    assert known.stress[0] > known.stress[1]
    errors = [np.square(expert.predict(features[160:]) - targets[160:]).mean() for expert in (known, plain)]
    assert errors[0] < 0.9 * errors[1]
    again = KernelExpert.from_arrays(known.arrays(), known.length)
    assert again.predict(features) == pytest.approx(known.predict(features), abs=0.02)


def test_too_little_to_fit_is_refused():
    with pytest.raises(AiopError, match="two groups"):
        KernelExpert.fit(np.zeros((5, 3)), np.zeros((5, 1)), ["a"] * 5)
