"""The process that guides searches: what it expects of codes, before labels and after, and of what it is a function."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, spearmanr

from aiop.finetune.views import Views
from aiop.search.methods.base import Problem
from aiop.search.methods.choices import code_columns
from aiop.search.methods.scoring import log_improvement
from aiop.search.methods.surrogate import ProcessScorer
from aiop.tasks import get_space, list_tasks

TASK = "classification/nats-size/cifar10-test-top1"
RANDOM = np.random.default_rng(0)
CODES = tuple(dict.fromkeys(get_space("nats-size").sample(RANDOM) for _ in range(150)))


def widths(codes):
    return np.array([[int(width) for width in code.split(":")] for code in codes], float)


def truth(codes):
    """Wide networks are better, the last stage's width most of all, with a bend."""
    return np.log(widths(codes)) @ [0.2, 0.4, 0.1, 0.3, 2.0]


def views(codes):
    """Counts, one source that is the truth with noise, no embedding."""
    costs = widths(codes).prod(axis=1)
    source = (truth(codes) + 0.3 * np.sin(costs))[:, None]
    return Views(
        tuple(codes),
        np.zeros((len(codes), 0), np.float32),
        source,
        np.log(widths(codes)) + 1.0,
        costs,
        costs,
        ("classification/other/top1",),
    )


def scorer(task=TASK, space="nats-size", candidates=CODES, own=None):
    return ProcessScorer(Problem(space, (task,), lambda code: 1.0, candidates=candidates), views, own=own)


def test_without_labels_the_task_itself_ranks_where_it_is_a_source():
    guide = scorer(own="classification/other/top1")
    guide.fit([], np.zeros(0))
    assert guide.rank(CODES) == [CODES[place] for place in np.argsort(-views(CODES).outputs[:, 0])]


@pytest.mark.parametrize(("labels", "least"), [(12, 0.9), (40, 0.98)])
def test_labels_improve_what_is_expected(labels, least):
    guide = scorer()
    held_out = CODES[labels:]
    before = spearmanr(guide.score(held_out).mean, truth(held_out)).statistic
    guide.fit(CODES[:labels], truth(CODES[:labels]))
    after = spearmanr(guide.score(held_out).mean, truth(held_out)).statistic
    assert before < 0.8
    assert after > least


def test_it_is_surer_of_what_it_was_told():
    guide = scorer()
    guide.fit(CODES[:40], truth(CODES[:40]))
    told, other = guide.score(CODES[:40]), guide.score(CODES[40:])
    assert told.deviation.max() < np.median(other.deviation)
    assert np.abs(told.mean - guide.placed(truth(CODES[:40]))).max() < 0.2


def test_only_the_last_fit_counts():
    first, again = scorer(), scorer()
    first.fit(CODES[:33], -truth(CODES[:33]))
    for guide in (first, again):
        guide.fit(CODES[:30], truth(CODES[:30]))
    assert np.array_equal(first.score(CODES).mean, again.score(CODES).mean)
    assert np.array_equal(first.score(CODES).deviation, again.score(CODES).deviation)


def test_smaller_is_better_where_the_task_says_so():
    task = next(name for name in list_tasks("latency/nas-bench-201/*"))
    random = np.random.default_rng(1)
    codes = tuple(dict.fromkeys(get_space("nas-bench-201").sample(random) for _ in range(40)))

    def counted(names):
        size = np.array([float(name.count("nor_conv_3x3")) for name in names])
        none = np.zeros((len(names), 0))
        return Views(tuple(names), none, none, size[:, None], size + 1, size + 1, ())

    guide = ProcessScorer(Problem("nas-bench-201", (task,), lambda code: 1.0, candidates=codes), counted)
    slow = np.array([1.0 + code.count("nor_conv_3x3") for code in codes])
    guide.fit(codes[:25], slow[:25])
    assert spearmanr(guide.score(codes).mean, slow).statistic < -0.9


def test_values_that_do_not_differ_leave_the_ranks_without_labels():
    guide = scorer()
    before = guide.rank(CODES)
    guide.fit(CODES[:10], np.full(10, 3.0))
    assert guide.rank(CODES) == before


def test_codes_outside_the_reference_are_ranked_beside_it():
    guide = scorer(candidates=CODES[:100], own="classification/other/top1")
    order = guide.rank(CODES)
    known = truth(order)
    assert spearmanr(known, -np.arange(len(order))).statistic > 0.9


def test_bad_ones_do_not_squeeze_the_good_ones_together():
    """With one value far below the others, the distance between the best two hardly changes."""
    values = np.r_[np.linspace(90, 92, 30), 10.0]
    guide = scorer()
    guide.fit(CODES[:31], values)
    placed = guide.placed(np.array([91.0, 92.0, 10.0]))
    assert placed[1] - placed[0] > 0.4
    assert placed[2] < placed.min() + 1e-9


@pytest.mark.parametrize("above", [-12.0, -7.9, -2.0, 0.0, 1.5])
def test_expected_improvement_is_the_integral(above):
    """By numerical integration of max(x, 0) under a normal density around ``above``."""
    exact = quad(lambda x: x * norm.pdf(x, above), 0, max(above, 0) + 12, points=[0.05, 0.5])[0]
    assert log_improvement(np.array([above]))[0] == pytest.approx(np.log(exact), abs=0.03)


def test_codes_as_columns():
    """Widths 8 to 64 from 0 to 2, shared between five choices; an operation is one of five columns of its edge."""
    found = code_columns("nats-size", ["8:64:8:8:8", "64:8:8:8:8"]) * np.sqrt(5)
    assert found == pytest.approx(np.array([[0, 2, 0, 0, 0], [2, 0, 0, 0, 0]]))
    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
    found = code_columns("nas-bench-201", [cell]) * np.sqrt(6)
    assert found.shape == (1, 30)
    assert sorted(found[0]) == pytest.approx([0.0] * 24 + [1.0] * 6)
