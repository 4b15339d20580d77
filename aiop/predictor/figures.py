"""The figures of a report, drawn with plotly. Every text that a user's file may hold is escaped for plotly's markup."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.stats import rankdata

from aiop.predictor.curves import Point
from aiop.predictor.few_shot import Evaluation
from aiop.predictor.predictor import COVERAGE
from aiop.tasks.networks import is_code

__all__ = ["Figure", "figures", "space_of"]

Array = npt.NDArray[Any]

_MOST_POINTS = 3000
_LEAST_PER_BIN = 5
_BINS = 5
# Okabe and Ito's colours, told apart also by those who see fewer
_NEW, _SEEN, _LINE = "#0072B2", "#D55E00", "#777777"
_METHODS = {
    "head": ("this head", "#0072B2"),
    "macs": ("MACs only", "#777777"),
    "cost-rank": ("rank of MACs and parameters", "#000000"),
    "forest": ("random forest", "#009E73"),
    "gp": ("Gaussian process", "#E69F00"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawn figure: ``json`` is data and layout, safe inside of HTML."""

    title: str
    caption: str
    json: str
    wide: bool = False


def figures(evaluation: Evaluation, curves: Mapping[str, Sequence[Point]]) -> list[Figure]:
    """Draw what an evaluation and its learning curves say; a figure that would be empty is left out."""
    drawn = [_values(evaluation), _ranks(evaluation), _by_size(evaluation)]
    more = (_by_space(evaluation), _coverage(evaluation), _curves(evaluation, curves))
    return [*drawn, *(figure for figure in more if figure is not None)]


def space_of(network: str) -> str:
    """Return the search space of ``space:code``; of a file, that it is one."""
    return network.partition(":")[0].partition("@")[0] if is_code(network) else "ONNX files"


def _values(evaluation: Evaluation) -> Figure:
    figure, unit = go.Figure(), _in(evaluation)
    ends = [evaluation.measured.min(), evaluation.measured.max()]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": _LINE, "dash": "dot"}, showlegend=False, hoverinfo="skip"
    )
    for name, rows, colour in _sides(evaluation):
        bars = None
        if name == "new":
            bars = {
                "type": "data",
                "symmetric": False,
                "array": (evaluation.high - evaluation.predicted)[rows],
                "arrayminus": (evaluation.predicted - evaluation.low)[rows],
                "thickness": 0.7,
                "width": 0,
            }
        figure.add_scatter(
            x=evaluation.measured[rows], y=evaluation.predicted[rows], error_y=bars, mode="markers", name=name,
            marker={"color": colour, "size": 6}, hovertext=_hover(evaluation, rows), hoverinfo="text",
        )  # fmt: skip
    figure.update_xaxes(title=f"measured{unit}")
    figure.update_yaxes(title=f"predicted{unit}")
    return _done(
        figure, "Predicted against measured", "Bars are 80% intervals. Leave-one-out predictions, of networks that the "
        "head was fitted on, have none."
    )  # fmt: skip


def _ranks(evaluation: Evaluation) -> Figure:
    sign = 1.0 if evaluation.task.direction == "max" else -1.0
    measured, predicted = (rankdata(-sign * column) for column in (evaluation.measured, evaluation.predicted))
    figure = go.Figure()
    ends = [1, len(measured)]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": _LINE, "dash": "dot"}, showlegend=False, hoverinfo="skip"
    )
    for name, rows, colour in _sides(evaluation):
        figure.add_scatter(
            x=measured[rows], y=predicted[rows], mode="markers", name=name, marker={"color": colour, "size": 6},
            hovertext=_hover(evaluation, rows), hoverinfo="text",
        )  # fmt: skip
    figure.update_xaxes(title="rank by measured value (1 is the best)")
    figure.update_yaxes(title="rank by predicted value")
    return _done(figure, "Ranks", "The lower left corner holds what a search would keep.")


def _by_size(evaluation: Evaluation) -> Figure:
    errors = np.abs(evaluation.predicted - evaluation.measured)
    figure = go.Figure()
    for name, rows, colour in _sides(evaluation):
        figure.add_scatter(
            x=evaluation.macs[rows], y=errors[rows], mode="markers", name=name, opacity=0.6,
            marker={"color": colour, "size": 5}, hovertext=_hover(evaluation, rows), hoverinfo="text",
        )  # fmt: skip
    parts = [part for part in _parts(evaluation.macs, np.arange(len(errors))) if len(part)]
    figure.add_scatter(
        x=[float(np.median(evaluation.macs[part])) for part in parts],
        y=[float(errors[part].mean()) for part in parts],
        mode="lines+markers", line={"color": "black"}, name="mean", hoverinfo="y",
    )  # fmt: skip
    figure.update_xaxes(title="MACs", type="log", exponentformat="SI")
    if evaluation.macs.max() > 10 * evaluation.macs.min():
        figure.update_xaxes(dtick="D2")  # 1, 2, 5, 10; of a smaller range plotly knows better ticks
    figure.update_yaxes(title=f"absolute error{_in(evaluation)}", rangemode="tozero")
    return _done(figure, "Error by size", "The line is the mean of equally many networks by MACs.")


def _by_space(evaluation: Evaluation) -> Figure | None:
    errors = evaluation.predicted - evaluation.measured
    spaces = np.array([space_of(name) for name in evaluation.networks])
    names = sorted(set(spaces.tolist()))
    if len(names) < 2:
        return None
    figure = go.Figure()
    for name in names:
        rows = np.flatnonzero(spaces == name)[:_MOST_POINTS]
        label = f"{html.escape(name)} ({int((spaces == name).sum()):,})"
        figure.add_box(y=errors[rows], name=label, marker={"color": _NEW}, showlegend=False)
    figure.add_hline(y=0, line={"color": _LINE, "dash": "dot"})
    figure.update_yaxes(title=f"predicted minus measured{_in(evaluation)}")
    return _done(
        figure, "Error by search space", "In brackets the number of networks; a box off the line is a bias."
    )


def _coverage(evaluation: Evaluation) -> Figure | None:
    new = np.flatnonzero(np.isfinite(evaluation.low))
    if len(new) < _LEAST_PER_BIN:
        return None
    held = (evaluation.low <= evaluation.measured) & (evaluation.measured <= evaluation.high)
    parts = _parts(evaluation.predicted, new)
    ends = [(evaluation.predicted[part].min(), evaluation.predicted[part].max()) for part in parts]
    figure = go.Figure()
    figure.add_bar(
        x=[f"{_short(low)} to {_short(high)}" for low, high in ends],
        y=[float(held[part].mean()) for part in parts],
        marker={"color": _NEW}, text=[f"{len(part):,} networks" for part in parts], hoverinfo="y+text",
    )  # fmt: skip
    figure.add_hline(y=COVERAGE, line={"color": "black", "dash": "dot"})
    figure.update_xaxes(title=f"predicted{_in(evaluation)}", type="category")
    figure.update_yaxes(title="share in the interval", range=[0, 1.02], tickformat=".0%")
    return _done(
        figure, "Coverage by range", f"New networks only; the intervals are meant to hold {COVERAGE:.0%}."
    )


def _curves(evaluation: Evaluation, curves: Mapping[str, Sequence[Point]]) -> Figure | None:
    if not any(curves.values()):
        return None
    figure = make_subplots(1, 2, horizontal_spacing=0.13)
    for method, points in curves.items():
        name, colour = _METHODS.get(method, (method, _LINE))
        for column, kind in enumerate(("srcc", "mae"), start=1):
            known = [point for point in points if np.isfinite(getattr(point, kind)[0])]
            if known:
                figure.add_scatter(
                    x=[point.labels for point in known], y=[getattr(point, kind)[0] for point in known],
                    error_y={"type": "data", "array": [getattr(point, kind)[1] for point in known], "thickness": 0.7},
                    mode="lines+markers", name=name, legendgroup=method, showlegend=column == 1,
                    line={"color": colour}, row=1, col=column,
                )  # fmt: skip
    sizes = sorted({point.labels for points in curves.values() for point in points})
    figure.update_xaxes(title="labels", type="log", tickvals=sizes, ticktext=[str(size) for size in sizes])
    figure.update_yaxes(title="SRCC", row=1, col=1)
    figure.update_yaxes(title=f"MAE{_in(evaluation)}", rangemode="tozero", row=1, col=2)
    shares = ", ".join(f"{point.coverage[0]:.0%} at {point.labels}" for point in curves.get("head", ()))
    return _done(
        figure, "Learning curves", "New heads and baselines fitted on drawn labels of this table and scored on the "
        f"others: mean and deviation over draws. The heads' 80% intervals held {shares}.", wide=True
    )  # fmt: skip


def _sides(evaluation: Evaluation) -> list[tuple[str, Array, str]]:
    """The new networks and those of the fit, of each as many as a page can show."""
    sides = [("new", ~evaluation.seen, _NEW), ("leave one out", evaluation.seen, _SEEN)]
    return [(name, np.flatnonzero(mask)[:_MOST_POINTS], colour) for name, mask, colour in sides if mask.any()]


def _parts(values: Array, rows: Array) -> list[Array]:
    """Cut rows, ordered by their values, into up to five equal parts of at least five."""
    ordered = rows[np.argsort(values[rows], kind="stable")]
    return list(np.array_split(ordered, max(1, min(_BINS, len(rows) // _LEAST_PER_BIN))))


def _hover(evaluation: Evaluation, rows: Array) -> list[str]:
    return [
        f"{html.escape(evaluation.networks[row])}<br>measured {_short(evaluation.measured[row])}, predicted "
        f"{_short(evaluation.predicted[row])}{'' if evaluation.inside[row] else '<br>unlike known networks'}"
        for row in rows
    ]


def _in(evaluation: Evaluation) -> str:
    return f" ({html.escape(evaluation.task.unit)})" if evaluation.task.unit else ""


def _short(value: float) -> str:
    return f"{value:.4g}"


def _done(figure: go.Figure, title: str, caption: str, *, wide: bool = False) -> Figure:
    figure.update_layout(
        template="plotly_white", margin={"l": 60, "r": 15, "t": 15, "b": 55},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return Figure(title, caption, figure.to_json().replace("<", "\\u003c"), wide)
