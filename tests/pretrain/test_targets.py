"""Label scaling against scipy, and its inverse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from aiop.errors import AiopError
from aiop.pretrain.targets import MAX_KNOTS, LabelScaler

RNG = np.random.default_rng(0)
LABELS = {
    "normal": RNG.normal(70, 3, 200),
    "skewed": RNG.lognormal(0, 1.5, 5000),
    "ties": np.round(RNG.normal(0, 1, 3000), 1),
    "binary": np.array([0.0, 1.0, 1.0]),
    "two": np.array([-3.0, 5.0]),
    "outlier": np.concatenate([RNG.normal(93, 0.5, 500), [10.0]]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("scaling", ["rank-gaussian", "standard"])
def test_scaling_is_monotone_and_inverts(labels: np.ndarray, scaling: str) -> None:
    scaler = LabelScaler.fit(labels, scaling)
    inside = np.linspace(labels.min(), labels.max(), 1001)
    spread = inside[-1] - inside[0]
    grid = np.concatenate([[inside[0] - spread], inside, [inside[-1] + spread]])
    scaled = scaler.transform(grid)
    assert (np.diff(scaled) > 0).all()
    np.testing.assert_allclose(scaler.inverse(scaled), grid, atol=1e-9 * max(1, np.abs(grid).max()))


def test_standard_is_the_z_score() -> None:
    labels = LABELS["skewed"]
    np.testing.assert_allclose(
        LabelScaler.fit(labels, "standard").transform(labels), stats.zscore(labels), atol=1e-9
    )
    logs = LabelScaler.fit(labels, "standard", "log").transform(labels)
    np.testing.assert_allclose(logs, stats.zscore(np.log(labels)), atol=1e-9)


@pytest.mark.parametrize("name", ["normal", "skewed", "ties"])
def test_rank_gaussian_is_the_normal_quantile_of_the_rank(name: str) -> None:
    labels = LABELS[name]
    expected = stats.norm.ppf((stats.rankdata(labels) - 0.5) / len(labels))
    scaled = LabelScaler.fit(labels).transform(labels)
    # Exact with a knot per label; with 256 knots for 5,000 labels within a twentieth of a deviation.
    np.testing.assert_allclose(scaled, expected, atol=1e-9 if name != "skewed" else 0.05)


def test_knots_are_bounded_and_keep_both_ends() -> None:
    labels = LABELS["skewed"]
    scaler = LabelScaler.fit(labels)
    assert len(scaler.values) <= MAX_KNOTS
    assert (scaler.values[0], scaler.values[-1]) == (labels.min(), labels.max())


def test_extrapolation_goes_on_without_exploding() -> None:
    labels = LABELS["normal"]
    scaler = LabelScaler.fit(labels)
    top = scaler.transform(labels.max())
    beyond = scaler.transform(labels.max() + labels.std())
    assert top < beyond < top + 3
    assert np.isfinite(scaler.inverse([-50.0, 50.0])).all()


def test_nan_labels_are_left_out_and_stay_nan() -> None:
    labels = LABELS["normal"]
    with_gaps = np.concatenate([labels, [np.nan, np.nan]])
    assert LabelScaler.fit(with_gaps) == LabelScaler.fit(labels)
    assert np.isnan(LabelScaler.fit(labels).transform(with_gaps)[-2:]).all()
    assert np.isnan(LabelScaler.fit(labels, link="log").inverse(np.nan))


def test_log_labels_come_back_positive() -> None:
    scaler = LabelScaler.fit(LABELS["skewed"], link="log")
    assert (scaler.inverse(np.linspace(-20, 20, 99)) > 0).all()


@pytest.mark.parametrize("link", ["identity", "log"])
def test_json_round_trip_is_exact(link: str) -> None:
    scaler = LabelScaler.fit(LABELS["skewed"], link=link)
    assert LabelScaler.from_dict(json.loads(json.dumps(scaler.to_dict()))) == scaler


@pytest.mark.parametrize(
    ("labels", "arguments", "match"),
    [
        ([3.0, 3.0, 3.0], {}, "'acc' has 3 labels with 1 distinct values"),
        ([3.0], {}, "at least two"),
        ([np.nan, np.nan], {}, "0 labels"),
        ([1.0, np.inf], {}, "infinite"),
        ([0.0, 1.0], {"link": "log"}, "not above 0"),
        ([1.0, 2.0], {"scaling": "rank-gausian"}, r'did you mean "rank-gaussian"\?'),
        ([1.0, 2.0], {"link": "sqrt"}, "choose one of identity, log"),
    ],
)
def test_bad_labels_are_named(labels: list[float], arguments: dict[str, str], match: str) -> None:
    with pytest.raises(AiopError, match=match):
        LabelScaler.fit(labels, name="acc", **arguments)


@pytest.mark.parametrize(
    "change",
    [{"values": [1.0, 1.0]}, {"values": [1.0]}, {"scaled": [1.0, float("nan")]}, {"scaling": "x"}, {"link": None},
     {"values": "ab"}, {"values": None}],
)  # fmt: skip
def test_damaged_scalers_are_refused(change: dict[str, object]) -> None:
    data = LabelScaler.fit([1.0, 2.0]).to_dict() | change
    with pytest.raises(AiopError):
        LabelScaler.from_dict(data)
