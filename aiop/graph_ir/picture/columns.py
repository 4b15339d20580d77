"""Sets a tall picture in columns, as text is: cut below nodes where nothing else goes on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from aiop.graph_ir.picture.geometry import Cut, Drawn, Path

__all__ = ["set_in_columns"]

_TALL = 1500.0  # pixels up to which one column is a screen or two
_MOST_COLUMNS = 12
_ASPECT = 1.4  # wanted width / height
_COST = 0.03  # part by which a column more has to make the picture smaller
_GUTTER = 64.0
_LEAD = 24.0  # its way below a column and above the next


def set_in_columns(drawn: Drawn) -> Drawn:
    """Return the picture in as many columns as fit it into the smallest screen."""
    if drawn.height <= _TALL or not drawn.cuts:
        return drawn
    choices = [drawn]
    for count in range(2, _MOST_COLUMNS + 1):
        wanted = [drawn.height * part / count for part in range(1, count)]
        cuts = {min(drawn.cuts, key=lambda cut: abs(cut.y - y)) for y in wanted}
        choices.append(_columns(drawn, sorted(cuts, key=lambda cut: cut.y)))
    return min(
        choices, key=lambda choice: max(choice.width / _ASPECT, choice.height) * (1 + _COST * choice.columns)
    )


def _columns(drawn: Drawn, cuts: Sequence[Cut]) -> Drawn:
    """Return the picture cut at ``cuts``, which are some of its own."""
    bounds = [0.0, *(cut.y for cut in cuts), drawn.height + 1]
    result = Drawn(columns=len(cuts) + 1)
    left, foot = 0.0, (0.0, 0.0)  # of the column, and of its last node
    for column, (low, high) in enumerate(pairwise(bounds)):
        nodes = [placed for placed in drawn.nodes if low <= placed.y < high]
        paths = [path for path in drawn.paths if low <= path.points[0][1] < high]
        xs = [x for placed in nodes for x in (placed.x, placed.x + placed.width)]
        xs += [x for path in paths for x, _ in path.points]
        right, down = left - min(xs), (_LEAD if column else 0.0) - low
        if column:
            cut, (x, y) = cuts[column - 1], foot
            points = [(x, y), (left - _GUTTER / 2, y + _LEAD), (cut.x + right, 0.0), (cut.x + right, _LEAD)]
            result.paths.append(Path(points, False, cut.tooltip, lead=True))
        result.nodes += [placed.moved(right, down) for placed in nodes]
        result.paths += [path.moved(right, down) for path in paths]
        left += max(xs) - min(xs)
        result.height = max(result.height, high + down)
        if column < len(cuts):
            foot = cuts[column].x + right, cuts[column].y + down
            result.height = max(result.height, foot[1] + _LEAD)
            left += _GUTTER
    result.width = left
    return result
