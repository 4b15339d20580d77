"""Lines from one scale to another: slopes against least squares, shrinkage by hand, intervals that hold."""

import numpy as np
import pytest
from scipy import stats

from aiop.errors import AiopError
from aiop.finetune.rescaling import LEAST, Line

RNG = np.random.default_rng(0)
X = RNG.normal(40, 3, 20)
Y = 50 + 0.5 * (X - 40) + RNG.normal(0, 1, 20)


def test_least_squares_is_that_of_scipy():
    line, wanted = Line.fit(X, Y, method="least-squares"), stats.linregress(X, Y)
    assert line.slope == pytest.approx(wanted.slope)
    assert line.intercept == pytest.approx(wanted.intercept)


def test_moments_gives_the_mean_and_deviation_of_the_truth():
    found = Line.fit(X, Y, method="moments")(X)
    assert found.mean() == pytest.approx(Y.mean())
    assert found.std() == pytest.approx(Y.std())


def test_shrunk_pulls_the_correlation_towards_three_quarters():
    # what was expected counts as much as three pairs
    x, y = X[:10], Y[:10]
    correlation = stats.pearsonr(x, y).statistic
    wanted = (10 * correlation + 3 * 0.75) / 13 * y.std() / x.std()
    assert Line.fit(x, y).slope == pytest.approx(wanted)


@pytest.mark.parametrize("method", ["shrunk", "moments", "least-squares"])
def test_ranks_stay_even_where_the_pairs_fall(method):
    line = Line.fit(X, -X, method=method)
    assert line.slope > 0


def test_the_reach_is_of_errors_at_pairs_left_out():
    # by hand: of nineteen errors the sixteenth, ceil(20 * .8), bounds 80%
    x, y = X[:19], Y[:19]
    errors = []
    for place in range(19):
        kept = np.arange(19) != place
        fit = stats.linregress(x[kept], y[kept])
        errors.append(abs(fit.intercept + fit.slope * x[place] - y[place]))
    assert Line.fit(x, y, method="least-squares").reach == pytest.approx(sorted(errors)[15])


def test_the_interval_holds_its_share_of_new_values():
    held = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=21)
        y = 3 * x + rng.normal(size=21)
        line = Line.fit(x[:20], y[:20])
        held.append(abs(line(x[20]) - y[20]) <= line.reach)
    assert 0.72 < np.mean(held) < 0.9


def test_what_shows_no_scale_is_refused():
    with pytest.raises(AiopError, match=f"3 labels are too few.*{LEAST}"):
        Line.fit(X[:3], Y[:3])
    with pytest.raises(AiopError, match="all labels are 1,"):
        Line.fit(X, np.ones(20))
    with pytest.raises(AiopError, match="predictions of the labelled networks are 2,"):
        Line.fit(np.full(20, 2.0), Y)
    with pytest.raises(AiopError, match="did you mean"):
        Line.fit(X, Y, method="moment")
    # all but one equal: no line without that one, and still an answer
    assert np.isfinite(Line.fit(np.array([1.0, 1, 1, 1, 2]), Y[:5]).slope)
