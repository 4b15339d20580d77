"""The first networks of timm, as the whole benchmark counts them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from benchmarks.counts import Counted, count_networks, published_table, shape_table
from benchmarks.fvcore_rules import ADDED, CONSTANTS, MISSED


@pytest.fixture(scope="module")
def networks(data_dir: Path) -> list[Counted]:
    return list(islice(count_networks(), 60))


def test_macs_as_published(networks: list[Counted]) -> None:
    wrong = {
        each.name: each.total(ADDED, MISSED, CONSTANTS) / each.target
        for each in networks
        if not each.agrees(each.total(ADDED, MISSED, CONSTANTS))
    }
    assert wrong == {}


def test_shapes_as_inferred_by_onnx(networks: list[Counted]) -> None:
    assert [each.name for each in networks if each.plain.different or each.propagated.different] == []
    assert sum(each.propagated.tensors for each in networks) < sum(each.plain.tensors for each in networks)


def test_tables_say_how_many(networks: list[Counted]) -> None:
    assert "| 60 (100.0%) | |" in "\n".join(shape_table(networks))
    assert any(
        line.startswith("| and with products of constants | 60 (100.0%)")
        for line in published_table(networks)
    )
