"""The filter on views: ranker and few-shot head together, codes where there are any."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.finetune.views import Views
from aiop.search.path_filter import NetworkFilter, pairwise_accuracy


def networks(count, seed=0):
    """Networks whose value is a cost trend and something that the embedding shows, and something only a code shows."""
    random = np.random.default_rng(seed)
    macs = 2.0 ** random.uniform(27, 33, count)
    embedding, codes = random.normal(size=(count, 6)), random.integers(0, 3, (count, 4)).astype(float)
    views = Views(
        names=tuple(f"n{place}" for place in range(count)),
        embedding=embedding.astype(np.float32),
        outputs=random.normal(size=(count, 2)).astype(np.float32),
        graph=random.normal(size=(count, 5)).astype(np.float32),
        macs=macs,
        params=macs / 100,
        sources=("a", "b"),
    )
    return views, codes, 2.0 * np.log2(macs) + embedding[:, 0] + 2.0 * codes[:, 0]


@pytest.fixture(scope="module")
def fitted():
    views, codes, values = networks(60)
    return NetworkFilter.fitted(views, values, codes=codes)


def test_codes_and_views_both_count(fitted):
    views, codes, values = networks(100, seed=1)
    scores = fitted.score(views, codes)
    assert pairwise_accuracy(scores, views.macs, values, bins=10) > 0.85
    turned = fitted.score(views, codes[:, ::-1])
    assert pairwise_accuracy(turned, views.macs, values, bins=10) < 0.75
    assert fitted.weights_["head"] >= 0
    assert fitted.weights_["ranker"] > 0


def test_keep_is_of_the_scores(fitted):
    views, codes, values = networks(100, seed=1)
    keep = fitted.keep(views, 0.2, codes)
    assert keep.sum() == 20
    beyond = values - 2.0 * np.log2(views.macs)
    assert beyond[keep].mean() > beyond[~keep].mean() + 1.0


def test_without_codes_it_learns_from_views_alone():
    views, _, values = networks(30)
    others = networks(10, seed=1)[0]
    found = NetworkFilter.fitted(views, values)
    assert found.score(others).shape == (10,)
    again = NetworkFilter.fitted(views, values)
    assert np.array_equal(found.score(others), again.score(others))


def test_codes_must_be_those_it_was_fitted_to(fitted):
    views, codes, values = networks(20)
    with pytest.raises(AiopError, match="codes of 4 numbers"):
        fitted.score(views)
    with pytest.raises(AiopError, match="19 codes for 20 networks"):
        NetworkFilter.fitted(views, values, codes=codes[:-1])
