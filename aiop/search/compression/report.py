"""A compression as one HTML page that needs no network: the front, MACs of the layers before and after, the edits.

Names of layers and files are anyone's: every text is escaped, the figures are data and no script, and the page's policy
lets nothing run but the two scripts that it was written with.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiop.errors import AiopError
from aiop.predictor.html_page import html_page
from aiop.search.compression.compression import Compression
from aiop.tasks.networks import write_atomically

__all__ = ["FILE", "NEEDS", "can_report", "write_page"]

FILE = "report.html"
NEEDS = 'report.html needs plotly: install it with `pip install "aiop[compress]"`'

_MOST_LAYERS = 150
_COLOURS = ("#0072B2", "#D55E00", "#777777", "#009E73")  # Okabe and Ito's
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 2rem auto; max-width: 76rem;
  padding: 0 1.5rem; overflow-wrap: break-word }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem } td, th { padding: .25rem .9rem .25rem 0; text-align: right }
table { border-collapse: collapse; margin: 1rem 0 } th { border-bottom: 1px solid #999 }
th:first-child, td:first-child { text-align: left } .out { color: #b25000; font-weight: 600 } .plot { height: 26rem }
small { color: #555 } details { margin: .6rem 0 }
"""


def can_report() -> bool:
    """Return whether plotly is there."""
    try:
        import plotly  # noqa: F401
    except ImportError:
        return False
    return True


def write_page(search: Compression, document: Mapping[str, Any], path: str | Path) -> None:
    """Write the page of a result that `aiop.search.compression.result.write_result` returned.

    Raises:
        AiopError: Without plotly, and for a path that cannot be written.
    """
    if not can_report():
        raise AiopError(NEEDS)
    figures = [_front(search), _layers(search, document)]
    plots = "\n".join(
        f"<h2>{html.escape(heading)}</h2><p><small>{html.escape(note)}</small></p>"
        f'<div class="plot" id="plot{place}"></div>'
        for place, (heading, note, _) in enumerate(figures)
    )
    body = f"""{_facts(document)}
{_table(document)}
{plots}
<h2>Edits</h2>
{_edits(document)}
<h2>Left alone</h2>
{_left_alone(document)}"""
    title = f"{Path(str(document['network'])).name} at {document['settings']['macs'][1]:g} of its MACs"
    page = html_page(title, body, [text for _, _, text in figures], _STYLE)
    write_atomically(page.encode(), Path(path))


def _facts(document: Mapping[str, Any]) -> str:
    predicted, settings = document["original"]["predicted"], document["settings"]
    inside = "" if predicted["in_distribution"] else (
        " The original itself is unlike the networks that the predictor knows: all values are extrapolations."
    )  # fmt: skip
    outside = document["out_of_distribution"]
    start, value = document["original"]["macs"], f"{predicted['value']:.4g} {predicted['unit']}"
    text = (
        f"{document['trials']:,} trials. The original has {start:,} MACs and is predicted to reach {value} of "
        f"{predicted['task']}.{inside} {outside:,} candidates are out of distribution and stand behind all others. "
        f"Seed {settings['seed']}, mutations {', '.join(settings['mutations'])}."
    )
    return f"<p>{html.escape(text)}</p>"


def _table(document: Mapping[str, Any]) -> str:
    head = "".join(
        f"<th>{name}</th>"
        for name in (
            "File",
            "MACs",
            "of the original",
            "Parameters",
            "Predicted",
            "80% interval",
            "Drop",
            "Similarity",
            "In/out",
        )
    )
    rows = []
    for entry in document["candidates"]:
        predicted = entry["predicted"]
        ends = " to ".join(_number(predicted[end]) for end in ("low", "high"))
        inside = "in" if entry["in_distribution"] else '<span class="out">OUT</span>'
        cells = (
            html.escape(entry["file"]),
            f"{entry['macs']:,}",
            f"{entry['macs_share']:.1%}",
            f"{entry['params']:,}",
            f"{_number(predicted['value'])} {html.escape(predicted['unit'])}",
            ends,
            _number(entry["drop"]),
            "" if entry["similarity"] is None else f"{entry['similarity']:.3f}",
            inside,
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table>"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _edits(document: Mapping[str, Any]) -> str:
    parts = []
    for place, entry in enumerate(document["candidates"]):
        items = "".join(f"<li>{html.escape(text)}</li>" for text in entry["edits"])
        opened = " open" if place == 0 else ""
        parts.append(
            f"<details{opened}><summary>{html.escape(entry['file'])}</summary><ul>{items}</ul></details>"
        )
    return "\n".join(parts)


def _left_alone(document: Mapping[str, Any]) -> str:
    items = "".join(
        f"<li>{html.escape(entry['mutation'])}: {html.escape(entry['reason'])} "
        f"({entry['places']:,}, first {html.escape(entry['first'])})</li>"
        for entry in document["left_alone"]
    )
    return f"<ul>{items}</ul>" if items else "<p>Nothing.</p>"


def _json(figure: Any) -> str:
    """A figure as JSON that no markup can end."""
    text: str = figure.to_json()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _front(search: Compression) -> tuple[str, str, str]:
    import plotly.graph_objects as go

    chosen = {item.number for item in search.front()}
    figure = go.Figure()
    groups = (
        (
            "in distribution",
            [item for item in search.candidates if item.in_distribution and item.number not in chosen],
            2,
            5,
        ),
        ("out of distribution", [item for item in search.candidates if not item.in_distribution], 1, 5),
        ("front", [item for item in search.front() if item.in_distribution], 0, 9),
    )
    for name, items, colour, size in groups:
        if items:
            figure.add_scatter(
                x=[item.macs / search.network.macs for item in items],
                y=[item.predicted.value for item in items],
                mode="markers", name=name, marker={"color": _COLOURS[colour], "size": size},
                text=[f"trial {item.number}, score {item.score:.3f}" for item in items],
            )  # fmt: skip
    start = search.original.predicted.value
    figure.add_hline(y=start, line={"dash": "dot", "color": _COLOURS[2]}, annotation_text="the original")
    unit = html.escape(search.judge.unit)
    figure.update_layout(
        xaxis_title="MACs, share of the original's", yaxis_title=f"{html.escape(search.judge.task)} {unit}",
        template="plotly_white", margin={"t": 20},
    )  # fmt: skip
    note = "The front is in the score (predictions and outputs together) and MACs, so its points need "
    note += "not lie on an edge here."
    return "Candidates", note, _json(figure)


def _layers(search: Compression, document: Mapping[str, Any]) -> tuple[str, str, str]:
    import plotly.graph_objects as go

    before = {op.name: op.macs for op in search.network.compute_graph().operations if op.macs}
    best = (
        search.candidates[document["candidates"][0]["number"]] if document["candidates"] else search.original
    )
    after = {op.name: op.macs for op in best.network.compute_graph().operations if op.macs}
    best.forget()
    names = _order(list(before), list(after))
    shown = names[:_MOST_LAYERS]
    figure = go.Figure()
    for name, values, colour in (("before", before, 2), ("after", after, 0)):
        figure.add_bar(
            x=[html.escape(item) for item in shown], y=np.array([values.get(item, 0) for item in shown]).tolist(),
            name=name, marker={"color": _COLOURS[colour]},
        )  # fmt: skip
    figure.update_layout(yaxis_title="MACs", barmode="group", template="plotly_white", margin={"t": 20})
    more = f" The first {_MOST_LAYERS} of {len(names)} layers." if len(names) > len(shown) else ""
    return "MACs of the layers", f"The original and its best candidate.{more}", _json(figure)


def _order(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Layers of both networks in the order of computation: new ones after what stands before them."""
    names = list(before)
    place = 0
    for name in after:
        if name in names:
            place = names.index(name) + 1
        else:
            names.insert(place, name)
            place += 1
    return names
