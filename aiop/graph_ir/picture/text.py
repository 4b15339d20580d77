"""Text in a picture: escaped, shortened, measured without a font, numbers a person can read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["count", "escape", "extents", "percent", "settings", "shorten", "width"]

# What XML 1.0 does not allow, and what would reorder the text around it: controls, directional marks, surrogates.
_FORBIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    r"\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
_ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;", ord("'"): "&#39;"}

_NARROW = frozenset("ijltfrI.,:;'|!()[]{}/\\ `-")
_WIDE = frozenset("mwMWQO@%&")


def escape(text: str) -> str:
    r"""Return text that stands for itself in XML content and in attributes, whatever it holds.

    >>> escape("<a href='x'>\x00&")
    '&lt;a href=&#39;x&#39;&gt;\ufffd&amp;'
    """
    return _FORBIDDEN.sub("\ufffd", text).translate(_ENTITIES)


def shorten(text: str, most: int) -> str:
    """Return ``text`` in at most ``most`` characters and one line, its middle left out.

    >>> shorten("features/denseblock1/layer2/conv", 17)
    'features…er2/conv'
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def width(text: str, size: float, bold: bool = False) -> float:
    """Return what ``text`` takes at most, in pixels, at a font size: as wide as the widest common sans-serif."""
    return size * (1.15 if bold else 1.0) * sum(_advance(character) for character in text)


def _advance(character: str) -> float:
    if character in _NARROW:
        return 0.39
    if character in _WIDE:
        return 0.98
    if character.isascii():
        return 0.7 if character.isupper() else 0.63
    return 0.84 if character in "×·…–→Σ" else 1.05


def count(number: int) -> str:
    """Return a count with three significant digits.

    >>> count(1_814_073_344), count(512), count(999_600)
    ('1.81 G', '512', '1 M')
    """
    value = float(number)
    for prefix in ("", " k", " M", " G", " T"):
        if value < 999.5:
            return f"{value:.3g}{prefix}"
        value /= 1000
    return f"{value:.3g} P"


def percent(share: float) -> str:
    """Return a share of 1 in percent, with two digits where it is small.

    >>> percent(0.1234), percent(0.00731), percent(0.000002), percent(0.0)
    ('12.3 %', '0.73 %', '<0.01 %', '0 %')
    """
    value = 100 * share
    if value >= 99.95:
        return "100 %"
    if value >= 9.995:
        return f"{value:.1f} %"
    if value >= 0.01:
        return f"{value:.2f} %"
    return "<0.01 %" if value else "0 %"


def extents(shape: Iterable[int], times: str = "×") -> str:
    """Return a shape or a kernel.

    >>> extents((1, 64, 56, 56)), extents((1, 3), "x"), extents(())
    ('1×64×56×56', '1x3', 'scalar')
    """
    return times.join(map(str, shape)) or "scalar"


def settings(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int, times: str = "×"
) -> str:
    """Return kernel, and whatever differs from stride 1, dilation 1 and one group.

    >>> settings((3, 3), (2, 2), (1, 1), 32), settings((1, 7), (1, 2), (), 1), settings((), (), (), 1)
    ('3×3 /2 g32', '1×7 /1,2', '')
    """
    words = [extents(kernel, times)] if kernel else []
    if any(step != 1 for step in stride):
        words.append("/" + _brief(stride))
    if any(step != 1 for step in dilation):
        words.append("d" + _brief(dilation))
    if groups != 1:
        words.append(f"g{groups}")
    return " ".join(words)


def _brief(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ",".join(map(str, values))
