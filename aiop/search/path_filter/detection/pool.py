"""Bodies to filter: their codes, their costs, and what a predictor sees of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import resume_checkpoint, save_checkpoint
from aiop.predictor import Predictor
from aiop.tasks.latent.body import SPACE
from aiop.tasks.latent.config import digest

__all__ = ["Pool", "draw_pool"]

Array = npt.NDArray[Any]
FORM = f"{SPACE.name}@stages"  # a body without a head: all bodies share the detection head
CHUNK = 200  # bodies that are read at once


@dataclass(frozen=True, eq=False)
class Pool:
    """n bodies, no code twice.

    codes: of the space ``digits-ofa``. macs: float64 ``(n,)``, of the body without a head. features: float32
    ``(n, d)``, every column with mean 0 and deviation 1 over the pool, or 0 everywhere.
    """

    codes: tuple[str, ...]
    macs: Array
    features: Array

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def identity(self) -> str:
        """Digest of codes and features."""
        return digest(list(self.codes), np.round(self.features.astype(np.float64), 3).tolist())

    def bins(self, count: int) -> tuple[Array, Array]:
        """Return ranges of cost with as many bodies each: edges ``(count + 1,)``, and the bin of each body ``(n,)``."""
        edges = np.quantile(self.macs, np.linspace(0, 1, count + 1))
        return edges, np.searchsorted(edges[1:-1], self.macs, side="left")


def draw_pool(
    predictor: Predictor,
    count: int,
    *,
    seed: int = 0,
    path: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pool:
    """Draw bodies, every choice uniformly, and look at each with a predictor.

    What it sees is its embedding, its expectations of all tasks it knows, and graph features.

    path: a file that the pool is kept in, and read from where it is there.

    Raises:
        AiopError: for a damaged file, or one of another pool.
    """
    identity = {
        "count": str(count),
        "seed": str(seed),
        "predictor": str(predictor.card["weights_sha256"]),
    }
    if path is not None:
        found = resume_checkpoint(
            path, lambda: identity, "of a pool with another {key}: delete it, or name another file"
        )
        if found is not None:
            tensors, state = found
            try:
                return Pool(tuple(state["codes"]), tensors["macs"].numpy(), tensors["features"].numpy())
            except (KeyError, TypeError):
                raise AiopError(f"{path} holds no pool of bodies: delete it to draw them again") from None
    random = np.random.default_rng((seed, 3))
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        drawn[SPACE.sample(random)] = None
    codes = tuple(drawn)
    features, macs = [], []
    for start in range(0, count, CHUNK):
        seen = predictor.views([f"{FORM}:{code}" for code in codes[start : start + CHUNK]])
        features.append(np.concatenate([seen.embedding, seen.outputs, seen.graph], axis=1))
        macs.append(seen.macs)
        progress(min(start + CHUNK, count), count)
    raw = np.concatenate(features).astype(np.float64)
    spread = raw.std(axis=0)
    scaled = (raw - raw.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    pool = Pool(codes, np.concatenate(macs), scaled.astype(np.float32))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"macs": torch.from_numpy(pool.macs), "features": torch.from_numpy(pool.features)}
        save_checkpoint(path, tensors, {"codes": list(codes), **identity})
    return pool
