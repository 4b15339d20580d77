"""The search behind a filter: when it fits, how much it leaves, and what it asks for."""

from __future__ import annotations

import numpy as np
import pytest

from aiop.search.methods.base import Problem, get_searcher
from aiop.search.methods.path_filter import last_fit, share_left
from aiop.tasks import get_space

TASK = "classification/nats-size/cifar10-test-top1"


def cost(code):
    return float(sum(int(width) for width in code.split(":")))


def value(code):
    """At every cost that network is best whose last stage is wide."""
    widths = [int(width) for width in code.split(":")]
    return cost(code) / 100 + widths[-1] / 8 - widths[0] / 8


def test_filters_come_at_growing_distances():
    assert [last_fit(count) for count in (0, 9, 10, 13, 14, 18, 19, 25, 26)] == [
        0,
        0,
        10,
        10,
        14,
        14,
        19,
        19,
        26,
    ]


def test_the_share_left_falls_to_a_twentieth():
    assert share_left(1) == share_left(10) == 0.5
    assert share_left(40) == pytest.approx(0.25)
    assert share_left(100_000) == 0.05


@pytest.mark.parametrize("listed", [True, False])
def test_what_is_asked_after_the_first_filters_is_good_at_its_cost(listed):
    random = np.random.default_rng(0)
    codes = tuple(dict.fromkeys(get_space("nats-size").sample(random) for _ in range(400)))
    problem = Problem("nats-size", (TASK,), cost, None, codes if listed else None)
    search = get_searcher("filter")(problem, seed=1)
    asked = []
    for _ in range(45):
        asked.append(search.ask())
        search.tell(asked[-1], value(asked[-1]))
    beyond = [value(code) - cost(code) / 100 for code in asked]
    assert np.mean(beyond[30:]) > np.mean(beyond[:10]) + 3.0


def test_values_that_do_not_differ_leave_all_candidates():
    codes = ("8:8:8:8:8", "8:8:8:8:16", "8:8:8:8:24", *(f"{width}:8:8:8:64" for width in range(8, 65, 8)))
    search = get_searcher("filter")(Problem("nats-size", (TASK,), cost, None, codes))
    for _ in codes:
        search.tell(search.ask(), 1.0)
    assert len({told.code for told in search.told}) == len(codes)
