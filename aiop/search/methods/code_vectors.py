"""Architecture codes as points that gradients can move, and the way back to valid codes.

The coordinates are those of `aiop.finetune.baselines.codes`: numbers stay numbers (a *ladder* of allowed ones), a
choice without an order has one column per option (a *simplex*; a module that may be missing can have none of them).
Numbers of a block that a stage may leave out are 0 while it is out: how far the depth reaches into the block scales
them, so that gradients know what one more block brings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aiop.errors import AiopError, suggest
from aiop.finetune.baselines.codes import code_matrix
from aiop.tasks import get_space
from aiop.tasks.spaces import nas_bench_201, nas_bench_mr, nats_size, ofa_mbv3

__all__ = ["SPACES", "Choice", "CodeVectors", "Ladder", "code_vectors", "onto_simplex"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ladder:
    """A number: one of ``choices``, ascending. With ``depth``, a column, it is 0 from so few blocks as ``block`` on."""

    choices: tuple[float, ...]
    depth: int | None = None
    block: int = 0


@dataclass(frozen=True)
class Choice:
    """One of ``count`` options, a column each; ``optional`` where it may be none of them."""

    count: int
    optional: bool = False


@dataclass(frozen=True, eq=False)
class CodeVectors:
    """The code vectors of a space, D columns.

    fields: what the columns are, in order.
    spell: a valid vector ``(D,)`` -> its code.
    listed: whether only some combinations of options are codes, all of which ``every`` lists.
    """

    space: str
    fields: tuple[Ladder | Choice, ...]
    spell: Callable[[Array], str]
    every: Callable[[], tuple[str, ...]] | None = field(default=None)

    @cached_property
    def width(self) -> int:
        """D."""
        return sum(1 if isinstance(item, Ladder) else item.count for item in self.fields)

    def encode(self, codes: Sequence[str]) -> Array:
        """Return the vectors of codes, float64 ``(n, D)``; a code outside the grammar is an `AiopError`."""
        if not len(codes):
            return np.zeros((0, self.width))
        return code_matrix([f"{self.space}:{code}" for code in codes])

    def decode(self, vectors: Array) -> list[str]:
        """Return the codes nearest to points ``(n, D)``."""
        return [self.spell(vector) for vector in self.nearest(vectors)]

    def nearest(self, vectors: Array) -> Array:
        """Return the nearest valid vectors ``(n, D)``: the next number (of two the larger), the largest option."""
        found = np.array(vectors, np.float64)
        if self.every is not None:
            known = self._known
            squared = (found**2).sum(1)[:, None] - 2 * found @ known.T + (known**2).sum(1)[None]
            return np.asarray(known[squared.argmin(axis=1)])
        for at, item in self._placed:
            if isinstance(item, Ladder):
                column, choices = found[:, at], np.asarray(item.choices)
                halves = (choices[1:] + choices[:-1]) / 2
                found[:, at] = choices[np.searchsorted(halves, column, side="right")]
            else:
                part = found[:, at : at + item.count]
                chosen = np.eye(item.count)[part.argmax(axis=1)]
                if item.optional:
                    chosen[part.max(axis=1) < 1 - part.sum(axis=1)] = 0.0
                found[:, at : at + item.count] = chosen
        for at, item in self._gated:
            found[:, at] *= found[:, item.depth] > item.block
        return found

    def relax(self, vectors: Array) -> Array:
        """Return the nearest points ``(n, D)`` between valid codes: numbers in range, options that share 1."""
        found = np.array(vectors, np.float64)
        for at, item in self._placed:
            if isinstance(item, Ladder):
                found[:, at] = found[:, at].clip(item.choices[0], item.choices[-1])
            else:
                part = slice(at, at + item.count)
                found[:, part] = onto_simplex(found[:, part], inside=item.optional)
        return found

    def seen(self, vectors: Tensor) -> Tensor:
        """Points ``(n, D)`` -> what a predictor is to see of them, differentiable; of valid vectors these themselves.

        A block's numbers count by how far the depth reaches into it.
        """
        if not self._gated:
            return vectors
        columns = list(vectors.unbind(dim=1))
        for at, item in self._gated:
            columns[at] = columns[at] * (vectors[:, item.depth] - item.block).clamp(0.0, 1.0)
        return torch.stack(columns, dim=1)

    @cached_property
    def _placed(self) -> tuple[tuple[int, Ladder | Choice], ...]:
        widths = [1 if isinstance(item, Ladder) else item.count for item in self.fields]
        starts = np.concatenate([[0], np.cumsum(widths[:-1])]).astype(int).tolist()
        return tuple(zip(starts, self.fields, strict=True))

    @cached_property
    def _gated(self) -> tuple[tuple[int, Ladder], ...]:
        return tuple(
            (at, item) for at, item in self._placed if isinstance(item, Ladder) and item.depth is not None
        )

    @cached_property
    def _known(self) -> Array:
        assert self.every is not None
        return self.encode(self.every())


def onto_simplex(points: Array, *, inside: bool = False) -> Array:
    """Return the nearest points ``(n, k)`` of the simplex: not below 0, with the sum 1, or at most 1 if ``inside``.

    By sorting (Duchi et al., ICML 2008).
    """
    points = np.asarray(points, np.float64)
    count = points.shape[1]
    descending = -np.sort(-points, axis=1)
    excess = (np.cumsum(descending, axis=1) - 1) / np.arange(1, count + 1)
    last = (descending > excess).sum(axis=1) - 1
    found = np.maximum(points - excess[np.arange(len(points)), last][:, None], 0.0)
    if inside:
        clipped = np.maximum(points, 0.0)
        found = np.where(clipped.sum(axis=1, keepdims=True) <= 1, clipped, found)
    return np.asarray(found)


def code_vectors(space: str) -> CodeVectors:
    """Return the code vectors of a search space; one that has none is an `AiopError`."""
    if space not in SPACES:
        get_space(space)
        raise AiopError(
            f'codes of "{space}" are no points that gradients can move{suggest(space, SPACES)}: '
            f"the spaces with such codes are {', '.join(SPACES)}"
        )
    return _made(space)


@cache
def _made(space: str) -> CodeVectors:
    return SPACES[space]()


def _integers(separator: str) -> Callable[[Array], str]:
    return lambda vector: separator.join(str(round(number)) for number in vector)


def _options(vector: Array, count: int) -> list[int]:
    """Return the option of every choice, -1 of one that has none."""
    parts = vector.reshape(-1, count)
    return [int(part.argmax()) if part.any() else -1 for part in parts]


def _multi_resolution() -> CodeVectors:
    counts, channels = (
        Ladder(tuple(map(float, nas_bench_mr.COUNTS))),
        Ladder(tuple(map(float, nas_bench_mr.CHANNELS))),
    )
    fields = [channels] * 2
    for branches in range(1, nas_bench_mr.STAGES + 1):
        fields += [counts] * (1 + branches) + [channels] * branches
    return CodeVectors("nas-bench-mr", (*fields, channels), _integers(","))


def _sizes() -> CodeVectors:
    return CodeVectors("nats-size", (Ladder(tuple(map(float, nats_size.CHANNELS))),) * 5, _integers(":"))


def _once_for_all() -> CodeVectors:
    stages, blocks = len(ofa_mbv3.STAGES), ofa_mbv3.BLOCKS
    long = ofa_mbv3.POSITIONS

    def entry(choices: tuple[int, ...], position: int) -> Ladder:
        return Ladder(tuple(map(float, choices)), 2 * long + position // blocks, position % blocks)

    def spell(vector: Array) -> str:
        # Entries of blocks that are not there are part of a code: the smallest stand for all.
        lists = [
            ",".join(str(round(number) or least) for number in vector[part : part + long])
            for part, least in ((0, ofa_mbv3.KERNELS[0]), (long, ofa_mbv3.EXPANSIONS[0]))
        ]
        depths = ",".join(str(round(number)) for number in vector[2 * long : 2 * long + stages])
        return "/".join([*lists, depths, str(round(vector[-1]))])

    fields = [entry(ofa_mbv3.KERNELS, position) for position in range(long)]
    fields += [entry(ofa_mbv3.EXPANSIONS, position) for position in range(long)]
    fields += [Ladder(tuple(map(float, ofa_mbv3.DEPTHS)))] * stages
    fields.append(Ladder(tuple(map(float, ofa_mbv3.RESOLUTIONS))))
    return CodeVectors("ofa-mbv3", tuple(fields), spell)


def _cells() -> CodeVectors:
    count = len(nas_bench_201.OPERATIONS)
    space = get_space("nas-bench-201")
    return CodeVectors(
        "nas-bench-201",
        (Choice(count),) * 6,
        lambda vector: space.format(tuple(nas_bench_201.OPERATIONS[i] for i in _options(vector, count))),
    )


def _macro() -> CodeVectors:
    return CodeVectors(
        "nas-bench-macro", (Choice(3),) * 8, lambda vector: "".join(map(str, _options(vector, 3)))
    )


def _transnas_micro() -> CodeVectors:
    space = get_space("transnas-micro")
    return CodeVectors(
        "transnas-micro",
        (Choice(4),) * 6,
        lambda vector: space.format("".join(map(str, _options(vector, 4)))),
    )


def _transnas_macro() -> CodeVectors:
    space = get_space("transnas-macro")

    def spell(vector: Array) -> str:
        return space.format("".join(str(option + 1) for option in _options(vector, 4) if option >= 0))

    def every() -> tuple[str, ...]:
        found = []
        for depth in (4, 5, 6):
            for digits in product("1234", repeat=depth):
                try:
                    found.append(space.validate(space.format("".join(digits))))
                except AiopError:
                    continue
        return tuple(found)

    return CodeVectors("transnas-macro", (Choice(4),) * 4 + (Choice(4, optional=True),) * 2, spell, every)


SPACES: dict[str, Callable[[], CodeVectors]] = {
    "nas-bench-201": _cells,
    "nas-bench-macro": _macro,
    "nas-bench-mr": _multi_resolution,
    "nats-size": _sizes,
    "ofa-mbv3": _once_for_all,
    "transnas-macro": _transnas_macro,
    "transnas-micro": _transnas_micro,
}
"""Search space -> its code vectors."""
