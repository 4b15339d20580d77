"""Sensitivities to widths as a picture: two bars per layer, in plain SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiop.graph_ir.picture.text import count, escape, percent, shorten

if TYPE_CHECKING:
    from aiop.search.explain import Explanation, WidthEffect

__all__ = ["draw"]

_ROW, _TOP, _NAMES, _BARS, _GAP = 20, 92, 330, 260, 24
_MOST = 400  # rows of a picture; of more layers those that matter most
_COLOURS = {"widen": "#1b7f4d", "cut": "#c0392b", "keep": "#6b7785"}
_MARKS = {"widen": "▲ widen", "cut": "▼ cut", "keep": ""}


def draw(explanation: Explanation) -> str:
    """Return the picture: change of the value with 10% more width, and the share of the MACs that grows with it."""
    widths = explanation.widths
    left_out = max(0, len(widths) - _MOST)
    if left_out:
        largest = sorted(range(len(widths)), key=lambda place: -abs(widths[place].value_per_10))[:_MOST]
        widths = tuple(widths[place] for place in sorted(largest))
    reach = max((abs(item.value_per_10) for item in widths), default=0.0) or 1.0
    most = max((item.macs_share for item in widths), default=0.0) or 1.0
    values, shares = _NAMES + 70, _NAMES + 70 + _BARS + _GAP
    whole, height = shares + _BARS // 2 + 190, _TOP + _ROW * len(widths) + 40
    better = "more is better" if explanation.direction == "max" else "less is better"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{height}" viewBox="0 0 {whole} {height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(explanation.network)}: sensitivity to widths</title>",
        f'<rect width="{whole}" height="{height}" fill="#ffffff"/>',
        _text(16, 26, shorten(explanation.network, 90), 'font-size="16" font-weight="600"'),
        _text(
            16, 46,
            f"{explanation.task}: {explanation.value:.4g} {explanation.unit} predicted ({better}), "
            f"{count(explanation.macs)} MACs; 1 % more MACs by all widths at once: "
            f"{explanation.value_per_percent_macs:+.3g} {explanation.unit}",
        ),
        _text(16, _TOP - 12, "layer", 'fill="#6b7785"'),
        _text(_NAMES + 56, _TOP - 12, "width", 'fill="#6b7785" text-anchor="end"'),
        _text(values, _TOP - 12, f"value with 10 % more width ({explanation.unit})", 'fill="#6b7785"'),
        _text(shares, _TOP - 12, "MACs that grow with it", 'fill="#6b7785"'),
    ]  # fmt: skip
    for number, item in enumerate(widths):
        lines += _row(item, _TOP + _ROW * number, values, shares, reach, most)
    foot = f"{left_out} layers that matter less are left out" if left_out else ""
    note = "; ".join([foot, *explanation.notes] if foot else list(explanation.notes))
    if note:
        lines.append(_text(16, height - 14, shorten(note, 160), 'fill="#6b7785"'))
    return "\n".join([*lines, "</svg>", ""])


def _row(item: WidthEffect, top: int, values: int, shares: int, reach: float, most: float) -> list[str]:
    middle, base = values + _BARS // 2, top + 14
    length = abs(item.value_per_10) / reach * (_BARS // 2 - 46)
    start = middle if item.value_per_10 >= 0 else middle - length
    colour = _COLOURS[item.advice]
    label = middle + length + 4 if item.value_per_10 >= 0 else middle - length - 4
    anchor = "start" if item.value_per_10 >= 0 else "end"
    share = item.macs_share / most * (_BARS // 2)
    others = f" and {len(item.layers) - 1} coupled" if len(item.layers) > 1 else ""
    return [
        f"<g><title>{escape(', '.join(item.layers))}</title>",
        _text(16, base, shorten(item.layer, 44 - len(others)) + others),
        _text(_NAMES + 56, base, str(item.width), 'text-anchor="end"'),
        f'<line x1="{middle}" y1="{top}" x2="{middle}" y2="{top + _ROW}" stroke="#d5dae0"/>',
        _bar(start, top, length, colour),
        _text(label, base, f"{item.value_per_10:+.2g}", f'fill="{colour}" text-anchor="{anchor}"'),
        _bar(shares, top, share, "#9fb3c8"),
        _text(shares + share + 4, base, percent(item.macs_share), 'fill="#6b7785"'),
        _text(shares + _BARS // 2 + 90, base, _MARKS[item.advice], f'fill="{colour}"'),
        "</g>",
    ]


def _bar(x: float, top: int, length: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{top + 4}" width="{max(length, 0.5):.1f}" height="{_ROW - 8}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}"{" " + more if more else ""}>{escape(text)}</text>'
