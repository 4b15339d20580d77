"""Corrections by few labels: against ridge regression written out, scikit-learn's Gaussian process, and arithmetic."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from aiop.finetune.correction import VARIANCES, Correction, link_of

RNG = np.random.default_rng(0)
OWN = RNG.normal(40, 3, 24)
FEATURE = RNG.normal(size=(24, 3))
VALUES = 60 + 0.8 * (OWN - 40) + 2 * FEATURE[:, 0] + RNG.normal(0, 0.3, 24)


def test_without_more_than_the_prediction_it_is_a_shrunk_line():
    # by hand: the slope of least squares on standardised pairs, with three pairs' worth of .75
    correlation = stats.pearsonr(OWN, VALUES).statistic
    slope = (24 * correlation + 3 * 0.75) / 27
    found = Correction.fit(OWN, {}, VALUES).predict({"own": OWN[:, None]})
    wanted = VALUES.mean() + VALUES.std() * slope * (OWN - OWN.mean()) / OWN.std()
    np.testing.assert_allclose(found, wanted)


def test_it_is_the_gaussian_process_of_scikit_learn():
    z, f = stats.zscore(OWN), stats.zscore(FEATURE, axis=0)
    y = stats.zscore(VALUES)
    # linear kernels are dot products of columns times the root of their variance; three columns: squared length 3
    rows = np.column_stack([z * np.sqrt(0.5 / 3), f * np.sqrt(VARIANCES["graph"] / 3)])
    process = GaussianProcessRegressor(DotProduct(0.0, sigma_0_bounds="fixed"), alpha=0.5, optimizer=None)
    process.fit(rows, y - 0.75 * z)
    wanted = VALUES.mean() + VALUES.std() * (0.75 * z + process.predict(rows))
    found = Correction.fit(OWN, {"graph": FEATURE}, VALUES)
    np.testing.assert_allclose(found.predict({"own": OWN[:, None], "graph": FEATURE}), wanted, rtol=1e-9)


def test_related_tasks_count_by_their_difference_from_the_own():
    # a related prediction equal to the own one tells nothing new
    alone = Correction.fit(OWN, {}, VALUES).predict({"own": OWN[:, None]})
    twin = Correction.fit(OWN, {"others": OWN[:, None]}, VALUES)
    np.testing.assert_allclose(twin.predict({"own": OWN[:, None], "others": OWN[:, None]}), alone)


def test_what_cheap_labels_miss_is_found():
    fitted, new = slice(0, 16), slice(16, 24)
    blocks = {"graph": FEATURE}
    line = Correction.fit(OWN[fitted], {}, VALUES[fitted]).predict({"own": OWN[new, None]})
    found = Correction.fit(OWN[fitted], {"graph": FEATURE[fitted]}, VALUES[fitted])
    better = found.predict({"own": OWN[new, None]} | {name: block[new] for name, block in blocks.items()})
    assert np.abs(better - VALUES[new]).mean() < 0.7 * np.abs(line - VALUES[new]).mean()


def test_a_label_has_no_part_in_what_is_held_out_of_it():
    found = Correction.fit(OWN, {"graph": FEATURE}, VALUES)
    kept = np.arange(24) != 5
    other = Correction.fit(OWN[kept], {"graph": FEATURE[kept]}, VALUES[kept])
    assert found.held_out is not None
    assert found.held_out[5] == pytest.approx(
        other.predict({"own": OWN[[5], None], "graph": FEATURE[[5]]})[0]
    )


def test_shares_stay_between_their_ends_and_logarithms_above_none():
    values = np.clip(98 + (OWN - 40) / 2, 1, 99.9)
    far = {"own": np.array([[-1e6], [1e6]])}
    low, high = Correction.fit(OWN, {}, values, "logit").predict(far)
    assert 0 < low < high < 100
    # at the mean of the prediction it says the mean on its scale
    middle = Correction.fit(OWN, {}, values, "logit").predict({"own": np.array([[OWN.mean()]])})
    assert logit(middle[0] / 100) == pytest.approx(logit(values / 100).mean())
    assert (Correction.fit(OWN, {}, np.exp(OWN / 3), "log").predict(far) > 0).all()
    assert link_of(values, "%", "identity") == "logit"
    assert link_of(np.array([99.0, 100.0]), "%", "identity") == "identity"
    assert link_of(values, "ms", "log") == "log"
    assert link_of(values, "points", "identity") == "identity"


def test_saved_and_read_it_says_the_same():
    blocks = {"own": OWN[:, None], "costs": FEATURE[:, :2], "outputs": FEATURE}
    found = Correction.fit(OWN, {name: blocks[name] for name in ("costs", "outputs")}, VALUES)
    again = Correction.from_arrays(found.arrays(), found.link, found.intercept)
    np.testing.assert_array_equal(again.predict(blocks), found.predict(blocks))
    with pytest.raises(ValueError, match="link"):
        Correction.from_arrays(found.arrays(), "probit", 0.0)
    with pytest.raises(ValueError, match="costs"):
        Correction.from_arrays(found.arrays() | {"costs/weights": np.ones(1)}, "identity", 0.0)
    with pytest.raises(KeyError):
        Correction.from_arrays({}, "identity", 0.0)


@pytest.mark.parametrize("count", [4, 5, 70])
def test_few_many_and_equal_labels(count):
    rng = np.random.default_rng(count)
    own, block = rng.normal(size=count), rng.normal(size=(count, 8))
    block[:, 3] = 7.0  # does not vary
    values = own + rng.normal(size=count)
    found = Correction.fit(own, {"graph": block, "others": block[:, :0]}, values)
    assert found.held_out is not None
    assert np.isfinite(found.held_out).all()
    values[1:] = 1.0  # all but one equal
    assert np.isfinite(Correction.fit(own, {"graph": block}, values).held_out).all()
