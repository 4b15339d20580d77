"""What a reshape becomes when its input has other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

__all__ = ["groups", "regroup"]

Shape = tuple[int | None, ...]

_FEW = 4  # pixels: windows of attention are larger, and their size belongs to their weights
_OPEN = 1_000_003  # a prime in place of an extent that is not known: equal to itself and to no product


def groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Return which axes of a reshape's input become which of its output, in the fewest that belong together.

    >>> groups((1, 8, 14, 14), (1, 8, 196))
    [([0], [0]), ([1], [1]), ([2, 3], [2])]
    """
    left = [_OPEN if extent is None else extent for extent in source]
    right = [_OPEN if extent is None else extent for extent in target]
    if math.prod(left) != math.prod(right) or 0 in left:
        return None
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        one, other = [i], [j]
        a, b = left[i], right[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a *= left[i]
                one.append(i)
                i += 1
            else:
                b *= right[j]
                other.append(j)
                j += 1
        found.append((one, other))
    # what is left are ones
    found += [([axis], []) for axis in range(i, len(left))]
    found += [([], [axis]) for axis in range(j, len(right))]
    return found


def regroup(
    source: Shape,
    target: Shape,
    changed: Shape,
    known: Mapping[Shape, Shape | None],
    learn: Callable[[Shape, Shape], None],
) -> Shape | None:
    """Return the shape to which a reshape follows when its input changes, None where there is no one way.

    Args:
        source: The input as it was.
        target: The output as it was.
        changed: The input as it will be.
        known: Extents that became others together, as rows and columns; None where in several ways.
        learn: Told of each group of extents that is joined.
    """
    found = groups(source, target)
    if found is None:
        return None
    result = list(target)
    for one, other in found:
        before = tuple(source[axis] for axis in one)
        after = tuple(changed[axis] for axis in one)
        if before == after:
            continue
        if None in after:
            return None
        wide = [axis for axis in other if target[axis] != 1]
        parts = _parts(before, after, tuple(target[axis] for axis in wide), known)
        if parts is None:
            return None
        for axis, extent in zip(wide, parts, strict=True):
            result[axis] = extent
        learn(before, after)
    return tuple(result)


def _parts(before: Shape, after: Shape, wide: Shape, known: Mapping[Shape, Shape | None]) -> Shape | None:
    """Return what the extents ``wide`` become when ``before``, of the same product, becomes ``after``."""
    product = math.prod(extent or 1 for extent in after)
    if len(wide) == 1:
        return (product,)
    parts = known.get(wide)
    if parts is not None and math.prod(extent or 1 for extent in parts) == product:
        return parts
    # groups of channels: all but the last divide what comes first and does not change
    stays = 1
    for old, new in zip(before, after, strict=True):
        if old != new:
            break
        stays *= old or 1
    first = math.prod(extent or 1 for extent in wide[:-1])
    if stays % first == 0 and stays > 1 and wide:
        return (*wide[:-1], product // first)
    # neighbouring pixels to channels: blocks of a few stay, there are fewer of them
    if len(before) == 1 and len(wide) == 2:
        few = [place for place, extent in enumerate(wide) if extent is not None and extent <= _FEW]
        if len(few) == 1:
            block = wide[few[0]] or 1
            if product % block == 0:
                return (product // block, block) if few[0] else (block, product // block)
    return None
