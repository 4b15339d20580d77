import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr, zscore

from aiop.errors import AiopError
from aiop.finetune.views import Views
from aiop.finetune.zero_labels import (
    at_home,
    consensus,
    reliability,
    size_ranks,
    standard_ranks,
    zero_label_ranks,
)
from aiop.graph_ir.features import GRAPH_FEATURES

COUNT = 80


def views(outputs, sources, remoteness=None, seed=0):
    rng = np.random.default_rng(seed)
    graph = rng.normal(size=(COUNT, len(GRAPH_FEATURES))).astype(np.float32)
    return Views(
        names=tuple(map(str, range(COUNT))),
        embedding=np.zeros((COUNT, 0), np.float32),
        outputs=np.asarray(outputs, np.float32).reshape(COUNT, -1),
        graph=graph,
        macs=np.exp(rng.normal(size=COUNT)),
        params=np.exp(rng.normal(size=COUNT)),
        sources=sources,
        remoteness=remoteness,
    )


def test_size_is_the_mean_rank_of_three_measures():
    seen = views(np.zeros((COUNT, 0)), ())
    activations = seen.graph[:, GRAPH_FEATURES.index("log_activations")]
    total = rankdata(seen.macs) + rankdata(seen.params) + rankdata(activations)
    assert size_ranks(seen) == pytest.approx(zscore(total))
    assert zero_label_ranks(seen) == pytest.approx(size_ranks(seen))
    assert zero_label_ranks(seen, -1) == pytest.approx(-size_ranks(seen))


def test_reliability_is_cronbachs_alpha_of_standardised_scores():
    rng = np.random.default_rng(0)
    common = rng.normal(size=500)
    scores = np.stack([zscore(common + rng.normal(size=500)) for _ in range(4)])
    alpha = 4 / 3 * (1 - scores.var(axis=1).sum() / scores.sum(axis=0).var())
    assert reliability(scores) == pytest.approx(alpha)
    assert reliability(np.stack([common, -common])) == 0
    assert reliability(common[None]) == 0
    assert reliability(np.stack([common, np.zeros(500)])) == 0


def test_spaces_that_contradict_each_other_leave_size_alone():
    truth = np.random.default_rng(1).normal(size=COUNT)
    seen = views(np.stack([truth, -truth], axis=1), ("classification/a/x", "classification/b/x"))
    assert zero_label_ranks(seen) == pytest.approx(size_ranks(seen))


def test_spaces_that_agree_count_half_as_much_as_size():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=COUNT)
    outputs = truth[:, None] + 0.3 * rng.normal(size=(COUNT, 3))
    seen = views(outputs, tuple(f"classification/{space}/x" for space in "abc"))
    found, size = spearmanr(zero_label_ranks(seen), truth)[0], spearmanr(size_ranks(seen), truth)[0]
    # of uncorrelated standard scores s + t / 2: 0.5 / sqrt(1 + 0.25) with t
    assert abs(size) < 0.2
    assert found == pytest.approx(0.5 / 1.25**0.5, abs=0.15)


def test_a_source_against_all_others_has_no_vote():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=COUNT)
    size = standard_ranks(truth + rng.normal(size=COUNT))
    spaces = [standard_ranks(truth + 0.5 * rng.normal(size=COUNT))[None] for _ in range(3)]
    contrary = standard_ranks(-truth)[None]
    with_it = [*spaces[:2], np.concatenate([spaces[2], contrary])]
    assert consensus(size, with_it) == pytest.approx(consensus(size, spaces))


def test_sources_of_the_networks_own_space_come_first():
    rng = np.random.default_rng(3)
    truth, other = rng.normal(size=(2, COUNT))
    outputs = np.stack([truth, other, other + 0.1 * rng.normal(size=COUNT)], axis=1)
    sources = ("classification/a/x", "classification/b/x", "classification/c/x")
    near = np.tile(np.array([0.5, 9.0, 9.0], np.float32), (COUNT, 1))
    ranks = {
        name: spearmanr(zero_label_ranks(views(outputs, sources, remoteness)), truth)[0]
        for name, remoteness in (("home", near), ("nowhere", near + 9), ("unknown", None))
    }
    assert ranks["home"] > 0.85 > 0.5 > ranks["nowhere"]
    assert ranks["nowhere"] == ranks["unknown"]


def test_at_home_fades_from_the_limit_to_its_double():
    remoteness = np.repeat(np.array([[0.2], [1.0], [1.5], [3.0]], np.float32), COUNT // 4, axis=0)
    assert at_home(views(np.zeros((COUNT, 1)), ("classification/a/x",), remoteness), [0]) == pytest.approx(
        (1 + 1 + 0.5 + 0) / 4
    )


def test_costs_are_ranked_by_sources_of_cost_and_rates_are_turned():
    rng = np.random.default_rng(4)
    latency = rng.normal(size=COUNT)
    outputs = np.stack([latency, -latency, rng.normal(size=COUNT)], axis=1)
    sources = ("latency/a/phone", "throughput/b/gpu", "classification/c/x")
    seen = views(outputs, sources)
    assert spearmanr(zero_label_ranks(seen, 1, quality=False), latency)[0] > 0.55
    assert zero_label_ranks(seen, -1, quality=False) == pytest.approx(-zero_label_ranks(seen, quality=False))


def test_two_networks_are_ranked_by_size():
    seen = views(np.zeros((COUNT, 1)), ("classification/a/x",)).rows([3, 5])
    assert zero_label_ranks(seen) == pytest.approx(size_ranks(seen))


def test_views_keep_remoteness_beside_its_networks_and_sources():
    remoteness = np.arange(COUNT * 2, dtype=np.float32).reshape(COUNT, 2)
    seen = views(np.zeros((COUNT, 2)), ("classification/a/x", "classification/b/x"), remoteness)
    part = seen.rows([4, 2]).only([False, True])
    assert part.remoteness is not None
    assert part.remoteness.tolist() == [[9.0], [5.0]]
    assert part.sources == ("classification/b/x",)
    with pytest.raises(AiopError, match="remoteness"):
        views(np.zeros((COUNT, 2)), ("a/b/c", "a/c/d"), remoteness[:, :1])
