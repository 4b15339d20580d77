"""Writes a picture as SVG: plain shapes and text, no scripts, no fonts or images from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiop.graph_ir.picture.geometry import (
    FONT,
    FRAME_PAD,
    FRAME_TITLE,
    PAD_X,
    PAD_Y,
    ROW,
    Drawn,
    Path,
    Placed,
    font_size,
)
from aiop.graph_ir.picture.text import escape, percent, width

__all__ = ["colour", "document"]

_RAMP = ((255, 250, 235), (254, 227, 170), (253, 196, 118), (249, 164, 96), (243, 134, 92))
"""From nearly no MACs to the most: every step darker than the one before, all light enough for dark text."""
_MARGIN = 28.0
_LEAST_WIDTH = 620.0
_LEGEND_WIDTH = 180.0
_INK, _FAINT, _GREY, _LINE, _EDGE = "#1c2530", "#2f3945", "#5a6572", "#66717f", "#7d8896"
_FRAME_FILLS = ("#f3f6fb", "#e9eff8", "#dfe8f4")


def colour(share: float, most: float) -> str:
    """Return the fill of a box with a share of the MACs, ``most`` being the largest; white for none.

    Its place on the scale is the square root of share / most, so that small shares are told apart.

    >>> colour(0.0, 0.5), colour(0.5, 0.5)
    ('#ffffff', '#f3865c')
    """
    if share <= 0 or most <= 0:
        return "#ffffff"
    return _shade(min(1.0, share / most) ** 0.5)


def _shade(place: float) -> str:
    step = min(int(place * (len(_RAMP) - 1)), len(_RAMP) - 2)
    part = place * (len(_RAMP) - 1) - step
    low, high = _RAMP[step], _RAMP[step + 1]
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))


def document(title: str, lines: Sequence[str], drawn: Drawn, most: float) -> str:
    """Return the whole SVG: title, lines below it, legend of the colours up to the share ``most``, the picture."""
    texts = [width(title, 18.0, bold=True), *(width(line, FONT) for line in lines)]
    wide = max(_LEAST_WIDTH, drawn.width, *texts) + 2 * _MARGIN
    head = _MARGIN + 26 + 17 * len(lines) + (40 if most else 0)
    high = head + 14 + drawn.height + _MARGIN
    body = [*_heading(title, lines), *(_legend(head - 34, most) if most else ())]
    shift = (wide - drawn.width) / 2
    body += [f'<g transform="translate({_n(shift)} {_n(head + 14)})">', *_panel(drawn, most, 0), "</g>"]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(wide)}" height="{_n(high)}" '
            f'viewBox="0 0 {_n(wide)} {_n(high)}" role="img" font-size="{_n(FONT)}" fill="{_INK}" '
            "font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">",
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(' '.join(lines))}</desc>",
            "<defs>",
            '<marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0.8L8 4L0 7.2Z" fill="{_EDGE}"/></marker>',
            '<linearGradient id="scale">',
            *(f'<stop offset="{i / 16}" stop-color="{_shade(i / 16)}"/>' for i in range(17)),
            "</linearGradient>",
            "</defs>",
            f'<rect width="{_n(wide)}" height="{_n(high)}" fill="#ffffff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _heading(title: str, lines: Sequence[str]) -> Iterator[str]:
    y = _MARGIN + 14
    yield f'<text x="{_n(_MARGIN)}" y="{_n(y)}" font-size="18" font-weight="bold">{escape(title)}</text>'
    for line in lines:
        y += 17 if y > _MARGIN + 14 else 22
        yield f'<text x="{_n(_MARGIN)}" y="{_n(y)}" fill="{_GREY}">{escape(line)}</text>'


def _legend(y: float, most: float) -> Iterator[str]:
    """Yield the scale of colours with the shares that its places stand for."""
    text = "share of MACs:"
    left = _MARGIN + width(text, FONT - 1) + 4
    yield f'<g font-size="{_n(FONT - 1)}" fill="{_GREY}">'
    yield f'<text x="{_n(_MARGIN)}" y="{_n(y + 10)}">{text}</text>'
    yield (
        f'<rect x="{_n(left)}" y="{_n(y)}" width="12" height="12" fill="#ffffff" stroke="{_LINE}" stroke-width="0.8"/>'
        f'<text x="{_n(left + 6)}" y="{_n(y + 26)}" text-anchor="middle">none</text>'
    )
    left += 32
    yield (
        f'<rect x="{_n(left)}" y="{_n(y)}" width="{_n(_LEGEND_WIDTH)}" height="12" fill="url(#scale)" '
        f'stroke="{_LINE}" stroke-width="0.8"/>'
    )
    for place in (0.25, 0.5, 0.75, 1.0):
        x = left + place * _LEGEND_WIDTH
        yield (
            f'<path d="M{_n(x)} {_n(y + 12)}v4" stroke="{_LINE}" stroke-width="0.8"/>'
            f'<text x="{_n(x)}" y="{_n(y + 26)}" text-anchor="middle">{escape(percent(place**2 * most))}</text>'
        )
    yield "</g>"


def _panel(drawn: Drawn, most: float, depth: int) -> Iterator[str]:
    """Yield frames with what is in them, then edges, then boxes, so that boxes are never covered."""
    for placed in drawn.nodes:
        if placed.inner:
            yield from _frame(placed, most, depth)
    if drawn.paths:
        yield f'<g fill="none" stroke="{_EDGE}" stroke-width="1.3">'
        yield from map(_path, drawn.paths)
        yield "</g>"
    for placed in drawn.nodes:
        if not placed.inner:
            yield from _box(placed, most)


def _frame(placed: Placed, most: float, depth: int) -> Iterator[str]:
    assert placed.inner is not None
    (row,) = placed.node.rows
    title_width = width(row.left, FONT, bold=True)
    yield f'<g transform="translate({_n(placed.x)} {_n(placed.y)})">'
    yield (
        f'<g><title>{escape(row.tooltip)}</title><rect width="{_n(placed.width)}" height="{_n(placed.height)}" rx="8" '
        f'fill="{_FRAME_FILLS[depth % len(_FRAME_FILLS)]}" stroke="#8ea0b8" stroke-width="1.2"/>'
        f'<text x="{_n(placed.title + 9)}" y="16" font-weight="bold" fill="#2f5d9b">{escape(row.left)}</text>'
        f'<text x="{_n(placed.title + 9 + title_width + 8)}" y="16" font-size="{_n(FONT - 1)}" fill="{_GREY}">'
        f"{escape(row.right)}</text></g>"
    )
    inner = placed.inner
    yield f'<g fill="none" stroke="{_EDGE}" stroke-width="1.3">'
    for index in placed.node.panel.entries if placed.node.panel else ():
        yield f'<path d="M{_n(inner.ports[index] + FRAME_PAD)} 0V{_n(FRAME_TITLE)}"/>'
    yield "</g>"
    yield f'<g transform="translate({_n(FRAME_PAD)} {_n(FRAME_TITLE)})">'
    yield from _panel(inner, most, depth + 1)
    yield "</g></g>"


def _path(path: Path) -> str:
    """Return an edge: straight down, or an S between two layers."""
    if path.lead:
        return _element(_right_angles(path.points), path)
    (x, y), *rest = path.points
    words = [f"M{_n(x)} {_n(y)}"]
    for to_x, to_y in rest:
        if abs(to_x - x) < 0.05:
            words.append(f"V{_n(to_y)}")
        else:
            middle = (y + to_y) / 2
            words.append(f"C{_n(x)} {_n(middle)} {_n(to_x)} {_n(middle)} {_n(to_x)} {_n(to_y)}")
            x = to_x
        y = to_y
    return _element("".join(words), path)


def _right_angles(points: Sequence[tuple[float, float]]) -> str:
    """Return a way down, to the right, up, to the right and down again, with round corners."""
    (x, y), (gutter, low), (end, high), (_, stop) = points
    r = 8.0
    return (
        f"M{_n(x)} {_n(y)}V{_n(low - r)}q0 {r} {r} {r}H{_n(gutter - r)}q{r} 0 {r} {-r}V{_n(high + r)}"
        f"q0 {-r} {r} {-r}H{_n(end - r)}q{r} 0 {r} {r}V{_n(stop)}"
    )


def _element(way: str, path: Path) -> str:
    arrow = ' marker-end="url(#arrow)"' if path.arrow else ""
    return f'<path d="{way}"{arrow}><title>{escape(path.tooltip)}</title></path>'


def _box(placed: Placed, most: float) -> Iterator[str]:
    node = placed.node
    radius = placed.height / 2 if node.kind == "end" else 4
    fill = "#eef2f6" if node.kind == "end" else colour(node.share, most)
    yield f'<g transform="translate({_n(placed.x)} {_n(placed.y)})">'
    yield (
        f'<rect width="{_n(placed.width)}" height="{_n(placed.height)}" rx="{_n(radius)}" fill="{fill}" '
        f'stroke="{_LINE}"/>'
    )
    top = PAD_Y
    middle = node.kind == "end"
    for row in node.rows:
        size = font_size(row)
        weight = ' font-weight="bold"' if row.strong else f' fill="{_FAINT}"' if row.faint else ""
        x, anchor = (placed.width / 2, ' text-anchor="middle"') if middle else (PAD_X, "")
        yield (
            f"<g><title>{escape(row.tooltip)}</title>"
            f'<rect y="{_n(top)}" width="{_n(placed.width)}" height="{_n(ROW)}" fill="none" pointer-events="all"/>'
            f'<text x="{_n(x)}" y="{_n(top + 12)}" font-size="{_n(size)}"{weight}{anchor}>{escape(row.left)}</text>'
        )
        if row.right:
            yield (
                f'<text x="{_n(placed.width - PAD_X)}" y="{_n(top + 12)}" font-size="{_n(FONT - 1)}" '
                f'text-anchor="end">{escape(row.right)}</text>'
            )
        yield "</g>"
        top += ROW
    yield "</g>"


def _n(value: float) -> str:
    """Return a number with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
