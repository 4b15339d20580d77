"""Architecture codes as vectors: a search space's own coordinates, with no network in sight.

Numbers that mean sizes stay numbers, choices without an order become one column each. What a code lacks (a vertex, a
layer that is not read) is zero. NAS-Bench-MR's 27 integers are as its authors feed them to their predictor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.tasks.networks import is_code, parse_code
from aiop.tasks.spaces import darts, digits_ofa, fbnet, nas_bench_101, nas_bench_201, ofa_mbv3
from aiop.tasks.spaces.darts_network import NODES

__all__ = ["SPACES", "code_matrix", "code_vector"]

Array = npt.NDArray[Any]
Numbers = list[float]

_MACRO_DEPTH = 6


def code_vector(name: str) -> Array:
    """Return the vector ``(D,)`` of ``space:code``; a form in the name is no part of the code.

    Raises:
        AiopError: for a file, an unknown space or a code outside its grammar.
    """
    return np.asarray(code_matrix([name])[0])


def code_matrix(names: Sequence[str]) -> Array:
    """Return the vectors of networks of one space as float64 ``(n, D)``; errors as `code_vector`."""
    rows = [_row(name) for name in names]
    spaces = {space for space, _ in rows}
    if len(spaces) > 1:
        raise AiopError(
            f"codes of {' and '.join(sorted(spaces))} have no vector in common: compare one space at a time"
        )
    return np.array([numbers for _, numbers in rows], np.float64).reshape(len(rows), -1 if rows else 0)


@lru_cache(maxsize=1 << 17)
def _row(name: str) -> tuple[str, tuple[float, ...]]:
    """Return the space of a network and its numbers; draws of labels ask for the same networks again and again."""
    if not is_code(name) or name.startswith("timm:"):
        raise AiopError(
            f'network "{name}" has no architecture code: baselines on codes need "space:code", use "forest"'
        )
    space, _, code = parse_code(name)
    if space.name not in SPACES:
        raise AiopError(f'search space "{space.name}" has no code vector: the spaces are {", ".join(SPACES)}')
    return space.name, tuple(SPACES[space.name](space.parse(code)))


def _one_hot(choices: Sequence[int], count: int) -> Numbers:
    """Return ``count`` columns for every choice; a negative choice is none of them."""
    found = [0.0] * (count * len(choices))
    for place, choice in enumerate(choices):
        if choice >= 0:
            found[place * count + choice] = 1.0
    return found


def _nas_bench_101(cell: Any) -> Numbers:
    """21 bits of the matrix over seven vertices, the last of which is the output, then 5 x 3 operations."""
    last = nas_bench_101.MOST_VERTICES - 1
    bits = np.zeros((last + 1, last + 1))
    for source, target in cell.edges:
        bits[source, last if target == cell.vertices - 1 else target] = 1.0
    operations = [nas_bench_101.OPERATIONS.index(digit) for digit in cell.operations]
    absent = [-1] * (last - 1 - len(operations))
    return [*bits[np.triu_indices(last + 1, 1)], *_one_hot([*operations, *absent], 3)]


def _nas_bench_201(cell: Any) -> Numbers:
    operations = nas_bench_201.OPERATIONS
    return _one_hot([operations.index(operation) for operation in cell], len(operations))


def _nas_bench_mr(network: Any) -> Numbers:
    numbers = [*network.stem]
    for stage in network.stages:
        numbers += [stage.modules, *stage.blocks, *stage.channels]
    return [float(number) for number in (*numbers, network.last)]


def _transnas_macro(skeleton: Any) -> Numbers:
    digits = [int(digit) - 1 for digit in skeleton]
    return _one_hot([*digits, *[-1] * (_MACRO_DEPTH - len(digits))], 4)


def _accel_nasbench(blocks: Any) -> Numbers:
    return [float(value) for block in blocks for value in block]


def _ofa_mbv3(network: Any) -> Numbers:
    """Kernels, expansions (0 where the block is not there), depths and the side of the image."""
    active = network.active()
    lists = np.zeros((2, ofa_mbv3.POSITIONS))
    for row, values in enumerate((network.kernels, network.expansions)):
        lists[row, active] = np.asarray(values)[active]
    return [*lists.reshape(-1), *map(float, network.depths), float(network.resolution)]


def _digits_ofa(body: Any) -> Numbers:
    """For each stage its width and depth, then kernel and expansion of four blocks, 0 where a block is not there."""
    found: Numbers = []
    for stage in body.stages:
        absent = [0.0, 0.0] * (digits_ofa.BLOCKS - len(stage.blocks))
        choices = [float(value) for block in stage.blocks for value in (block.kernel, block.expansion)]
        found += [float(stage.width), float(len(stage.blocks)), *choices, *absent]
    return found


def _gaia_det(detector: Any) -> Numbers:
    return [float(value) for value in (detector.side, detector.stem, *detector.width, *detector.depth)]


def _darts(genotype: Any) -> Numbers:
    found: Numbers = []
    for cell in (genotype.normal, genotype.reduction):
        found += _one_hot(
            [darts.OPERATIONS.index(edge.operation) for edge in cell.edges], len(darts.OPERATIONS)
        )
        found += _one_hot([edge.source for edge in cell.edges], max(NODES))
        found += [float(node in cell.concat) for node in NODES]
    return found


SPACES: dict[str, Callable[[Any], Numbers]] = {
    "accel-nasbench": _accel_nasbench,
    "darts": _darts,
    "digits-ofa": _digits_ofa,
    "fbnet": lambda choices: _one_hot(choices, len(fbnet.OPERATIONS)),
    "gaia-det": _gaia_det,
    "nas-bench-101": _nas_bench_101,
    "nas-bench-201": _nas_bench_201,
    "nas-bench-macro": lambda digits: _one_hot([int(digit) for digit in digits], 3),
    "nas-bench-mr": _nas_bench_mr,
    "nats-size": lambda channels: [float(value) for value in channels],
    "ofa-mbv3": _ofa_mbv3,
    "transnas-macro": _transnas_macro,
    "transnas-micro": lambda digits: _one_hot([int(digit) for digit in digits], 4),
}
"""Search space -> vector of a parsed architecture."""
