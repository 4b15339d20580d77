"""Pools of bodies: what a predictor sees of them, scaled, and kept in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.predictor import Predictor
from aiop.search.path_filter.detection.pool import Pool, draw_pool
from aiop.tasks.latent.body import SPACE


class Counts:
    """Sees the depth of a body twice, the length of its code, and a number that is always the same."""

    def __init__(self, weights: str = "a" * 64) -> None:
        self.card = {"weights_sha256": weights}
        self.asked: list[str] = []

    def views(self, networks: Sequence[str]) -> Any:
        self.asked += networks
        codes = [network.removeprefix("digits-ofa@stages:") for network in networks]
        depth = np.array([[SPACE.parse(code).depth] for code in codes], np.float32)
        long = np.array([[len(code), 7.0] for code in codes], np.float32)
        return SimpleNamespace(embedding=depth, outputs=-depth, graph=long, macs=depth[:, 0] * 1e6)


def drawn(by: Counts, count: int = 30, **rest: Any) -> Pool:
    return draw_pool(cast(Predictor, by), count, **rest)


def test_every_column_is_scaled_over_the_pool_and_no_code_stands_twice() -> None:
    pool = drawn(Counts())
    assert len(set(pool.codes)) == len(pool) == 30
    depth = np.array([SPACE.parse(code).depth for code in pool.codes])
    np.testing.assert_array_equal(pool.macs, depth * 1e6)
    wanted = (depth - depth.mean()) / depth.std()
    np.testing.assert_allclose(pool.features[:, 0], wanted, atol=1e-5)
    np.testing.assert_allclose(pool.features[:, 1], -wanted, atol=1e-5)
    assert not pool.features[:, 3].any()
    assert pool.features.shape == (30, 4)


def test_a_pool_depends_on_its_seed() -> None:
    assert drawn(Counts()).codes == drawn(Counts()).codes
    assert drawn(Counts()).codes != drawn(Counts(), seed=1).codes


def test_a_kept_pool_is_read_and_nothing_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "pool.safetensors"
    seen: list[tuple[int, int]] = []
    first = drawn(Counts(), path=path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(30, 30)]
    nobody = Counts()
    again = drawn(nobody, path=path)
    assert not nobody.asked
    assert again.codes == first.codes
    assert again.identity == first.identity
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.macs, first.macs)


@pytest.mark.parametrize("other", ["count", "seed", "predictor"])
def test_a_pool_of_another_kind_is_refused(tmp_path: Path, other: str) -> None:
    path = tmp_path / "pool.safetensors"
    drawn(Counts(), path=path)
    with pytest.raises(AiopError, match=f"pool with another {other}: delete it") as error:
        drawn(
            Counts("b" * 64 if other == "predictor" else "a" * 64),
            31 if other == "count" else 30,
            seed=int(other == "seed"),
            path=path,
        )
    assert "\n" not in str(error.value)


def test_a_damaged_pool_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "pool.safetensors"
    drawn(Counts(), path=path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(AiopError, match=r"pool\.safetensors") as error:
        drawn(Counts(), path=path)
    assert "\n" not in str(error.value)
