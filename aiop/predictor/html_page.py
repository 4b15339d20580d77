"""One HTML page that needs no network: its figures are data, and its policy lets nothing run but two known scripts.

Names in a page are anyone's: whoever makes the body escapes every text.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence

from aiop import __version__

__all__ = ["html_page"]

_RENDER = """
for (const block of document.querySelectorAll('script[type="application/json"]')) {
  const figure = JSON.parse(block.textContent);
  Plotly.newPlot(block.dataset.target, figure.data, figure.layout, {responsive: true, displaylogo: false,
    showSendToCloud: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]]});
}
"""


def html_page(title: str, body: str, figures: Sequence[str], style: str) -> str:
    """Return the whole page; needs plotly.

    Args:
        title: plain text, escaped here.
        body: HTML after the title, every text in it escaped; figure k goes to the element ``plotk``.
        figures: figures as JSON.
        style: CSS.
    """
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs()
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(_RENDER)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    title = html.escape(title)
    data = "\n".join(
        f'<script type="application/json" data-target="plot{number}">{figure}</script>'
        for number, figure in enumerate(figures)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<meta name="generator" content="aiop {__version__}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
{data}
<script>{library}</script>
<script>{_RENDER}</script>
</body>
</html>
"""


def _hash(script: str) -> str:
    """The name by which a policy knows a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
