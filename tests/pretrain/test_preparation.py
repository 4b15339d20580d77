"""How corpora and tasks share the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from aiop.pretrain.preparation import balance
from aiop.pretrain.training import TrainingSet

NAMES = ("classification/a/x", "latency/a/p", "latency/a/q", "classification/b/x")


@pytest.fixture(scope="module")
def sets(make_set: Callable[..., TrainingSet]) -> list[TrainingSet]:
    """Corpus a with 36 training graphs: 36, 9 and 9 labels of three tasks; b with 9, all labelled."""
    large, small = make_set("a", 48), make_set("b", 12)
    values = np.full((48, 4), np.nan)
    values[:, 0] = values[:9, 1] = values[:9, 2] = 1.0
    other = np.full((12, 4), np.nan)
    other[:, 3] = 1.0
    return [replace(large, values=values), replace(small, values=other)]


@pytest.mark.parametrize(
    ("kind", "power", "expected"),
    [
        ("corpora", 0.0, [1 / 3, 1 / 3, 1 / 3, 1]),
        ("domains", 0.0, [1 / 2, 1 / 4, 1 / 4, 1]),
        # labels 36 : 9 : 9 as 6 : 3 : 3, graphs 36 : 9 as 6 : 3, whose mean is 4.5
        ("corpora", 0.5, [4 / 3 * 1 / 2, 4 / 3 * 1 / 4, 4 / 3 * 1 / 4, 2 / 3]),
        ("corpora", 1.0, [1.6 * 2 / 3, 1.6 / 6, 1.6 / 6, 0.4]),
    ],
)
def test_shares_of_the_loss(sets: list[TrainingSet], kind: str, power: float, expected: list[float]) -> None:
    np.testing.assert_allclose(balance(sets, NAMES, kind, power), expected, rtol=1e-6)


def test_a_task_nobody_labels_weighs_nothing(sets: list[TrainingSet]) -> None:
    assert balance(sets[:1], NAMES, "domains").tolist() == [0.5, 0.25, 0.25, 0.0]
