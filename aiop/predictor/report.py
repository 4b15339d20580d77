"""An evaluation as one HTML page that needs no network: scores as tables, the rest as figures.

Networks, tables and columns are named by files that anyone may have written: every text is escaped, the figures are
data and no script, and the page's policy lets the two scripts run that it was written with, known by their hash, and
nothing else, and lets nothing be fetched.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path
from aiop.predictor.curves import DRAWS, SIZES, learning_curve, progress_bar
from aiop.predictor.few_shot import Evaluation, TaskHead
from aiop.predictor.html_page import html_page
from aiop.predictor.labels import LabelSource, see

if TYPE_CHECKING:
    from aiop.predictor.figures import Figure

__all__ = ["check_report", "page", "write_report"]

_NEEDS = 'reports need plotly: install it with `pip install "aiop[report]"`'
_NOTES = 20

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 2rem auto; max-width: 76rem;
  padding: 0 1.5rem; overflow-wrap: break-word }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 0 0 .3rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .25rem .9rem .25rem 0; text-align: right }
th:first-child, td:first-child { text-align: left } th { border-bottom: 1px solid #999 }
small, figcaption { color: #555 } .figures { display: grid; gap: 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(32rem, 100%), 1fr)) }
figure { margin: 0; min-width: 0 } figure.wide { grid-column: 1 / -1 } .plot { height: 24rem }
"""


def check_report(path: Path) -> None:
    """Say before the work what would only fail after it.

    Raises:
        AiopError: where plotly is not installed, and for a path that no page can be written to.
    """
    try:
        import plotly  # noqa: F401
    except ImportError:
        raise AiopError(_NEEDS) from None
    if path.is_dir():
        raise AiopError(f'cannot write "{path}": it is a directory; give the name of a file')
    if path.suffix.lower() not in (".html", ".htm"):
        raise AiopError(f'"{path}" does not end in .html: give the name of a page')


def write_report(
    head: TaskHead,
    labels: LabelSource,
    metric: str | None,
    path: str | Path,
    *,
    progress: bool = False,
    seed: int = 0,
    draws: int = DRAWS,
) -> Evaluation:
    """Evaluate a head as `TaskHead.evaluate` does, and write the page.

    The learning curves are of new heads, fitted on parts of the same labels, ``draws`` times for each number of them.

    Raises:
        AiopError: as `TaskHead.evaluate` and `check_report`.
    """
    path = Path(path)
    check_report(path)
    from aiop.predictor.figures import figures

    labelled = see(head.predictor, head.read(labels, metric), progress=progress)
    evaluation = head.evaluate_labelled(labelled)
    with progress_bar(progress, "learning curves", len(SIZES) * draws) as advance:
        curves = learning_curve(labelled, head.task, draws=draws, seed=seed, advance=advance)
    text = page(head, evaluation, labelled.labels.source, figures(evaluation, curves))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return evaluation


def page(head: TaskHead, evaluation: Evaluation, source: str, drawn: Iterable[Figure]) -> str:
    """Return the whole page; ``source`` names the labels."""
    shown = list(drawn)
    plots = "\n".join(_figure(number, figure) for number, figure in enumerate(shown))
    body = f"""{_facts(head, evaluation)}
{_scores(evaluation)}
{_notes(evaluation)}
<noscript>The figures below need scripts.</noscript>
<div class="figures">
{plots}
</div>"""
    title = f"{evaluation.task.name} on {Path(source).name}"
    return html_page(title, body, [figure.json for figure in shown], _STYLE)


def _facts(head: TaskHead, evaluation: Evaluation) -> str:
    task, record = evaluation.task, head.record
    better = "higher" if task.direction == "max" else "lower"
    new = len(evaluation.networks) - int(evaluation.seen.sum())
    unlike = len(evaluation.networks) - int(evaluation.inside.sum())
    text = (
        f"{len(evaluation.networks):,} labelled networks, {new:,} of them new to the head, {unlike:,} unlike those "
        f"that are known. {better.capitalize()} is better. The head was fitted on {record.labels:,} labels from "
        f"{record.low:.4g} to {record.high:.4g} {task.unit}, on predictor "
        f"{str(head.predictor.card['weights_sha256'])[:12]}."
    )
    return f"<p>{html.escape(text)}</p>"


_ROWS = {"head": "this head", "macs": "MACs only", "cost-rank": "rank of MACs and parameters"}


def _scores(evaluation: Evaluation) -> str:
    unit = f" ({evaluation.task.unit})" if evaluation.task.unit else ""
    columns = (
        "Predicted by",
        "SRCC",
        "Kendall tau",
        f"MAE{unit}",
        f"Regret of top 5{unit}",
        f"of top 10{unit}",
        "Coverage",
    )
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "\n".join(
        f"<tr><td>{html.escape(_ROWS.get(name, name))}</td>{''.join(f'<td>{cell}</td>' for cell in _cells(row))}</tr>"
        for name, row in evaluation.scores.items()
    )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>\n<p><small>In brackets 95% intervals, "
        "bootstrapped over networks. The regret of the top 5 is how much worse the best of the five highest predicted "
        "networks is than the best of all. Coverage is the share of new networks in their 80% interval.</small></p>"
    )


def _cells(row: Mapping[str, Any]) -> Iterable[str]:
    for name in ("srcc", "tau", "mae"):
        ends = row["between"][name]
        yield _number(row[name]) + (
            f" <small>[{_number(ends[0])}, {_number(ends[1])}]</small>" if ends else ""
        )
    yield from (_number(row[name]) for name in ("regret5", "regret10"))
    share = row.get("coverage")
    yield "" if share is None else f"{share:.0%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _notes(evaluation: Evaluation) -> str:
    if not evaluation.notes:
        return ""
    shown = [f"<li>{html.escape(note)}</li>" for note in evaluation.notes[:_NOTES]]
    if len(evaluation.notes) > _NOTES:
        shown.append(f"<li>and {len(evaluation.notes) - _NOTES:,} more</li>")
    return f"<ul>{''.join(shown)}</ul>"


def _figure(number: int, figure: Figure) -> str:
    kind = ' class="wide"' if figure.wide else ""
    return (
        f'<figure{kind}><h2>{html.escape(figure.title)}</h2><div class="plot" id="plot{number}"></div>'
        f"<figcaption>{html.escape(figure.caption)}</figcaption></figure>"
    )
