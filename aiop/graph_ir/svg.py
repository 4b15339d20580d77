"""A network as a picture: plain SVG that any browser shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from aiop.graph_ir.graph import ComputeGraph
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.picture.columns import set_in_columns
from aiop.graph_ir.picture.drawing import document
from aiop.graph_ir.picture.geometry import arrange
from aiop.graph_ir.picture.layering import lanes_needed
from aiop.graph_ir.picture.repeats import Likeness, collapse, drawn
from aiop.graph_ir.picture.scene import MOST_STACKED, Node, Panel, build, build_groups
from aiop.graph_ir.picture.text import count, shorten
from aiop.graph_ir.picture.wiring import Wiring, depth_first_order, wire

__all__ = ["to_svg"]

_LIMITS = ((Likeness.EXACT, 120), (Likeness.CHANNELS_DIFFER, 260), (Likeness.SIZES_DIFFER, 500))
"""How alike the copies of a block must be to be drawn once, and up to how many boxes that is good enough."""
_WORTH = 0.85  # part of the boxes that a coarser picture has at most
_MOST_LANES = 12_000
_GROUPS = 120


def to_svg(graph: ComputeGraph, *, canonical: bool = True) -> str:
    """Draw a network from top to bottom: operators, shapes and what share of the MACs each has.

    Blocks that repeat are drawn once in a frame. Networks of more than about a hundred boxes after that are drawn
    coarser, and the picture says so. ``canonical`` draws the canonical form, which is the same for every way of
    writing a network to a file and has fewer nodes; without it every node of the file is drawn.
    """
    shown = canonicalise(graph) if canonical else graph
    panel, note = _compose(shown)
    nodes = sum(operation.op != "Input" for operation in graph.operations)
    drawn_nodes = sum(operation.op != "Input" for operation in shown.operations)
    name = PurePath(graph.name).name if graph.name.endswith(".onnx") else graph.name
    lines = [
        f"{count(graph.macs)} MACs · {count(graph.flops)} FLOPs (FLOPs = 2 × MACs) · {count(graph.params)} parameters",
        f"{nodes:,} operations"
        + (f", {drawn_nodes:,} in the canonical form that is drawn" if drawn_nodes != nodes else "")
        + (f" ({count(shown.macs)} MACs)" if shown.macs != graph.macs else ""),
        note,
    ]
    return document(
        shorten(name, 90), [line for line in lines if line], set_in_columns(arrange(panel)), _largest(panel)
    )


def _compose(graph: ComputeGraph) -> tuple[Panel, str]:
    """Return what to draw, as exactly as a readable picture can show it, and a line that says how exactly."""
    wirings = [wire(graph), wire(graph, depth_first_order(graph))]
    best: Panel | None = None
    for likeness, enough in _LIMITS:
        exact = likeness is Likeness.EXACT
        every = [(wiring, collapse(wiring, likeness)) for wiring in wirings]
        if min(drawn(items) for _, items in every) > MOST_STACKED * enough:
            continue
        panels = [build(wiring, items, exact, graph.macs) for wiring, items in every]
        panel = min(panels, key=lambda panel: panel.boxes)
        if best is None or panel.boxes < _WORTH * best.boxes:
            best = panel
        if best.boxes <= enough and lanes_needed(best) <= _MOST_LANES:
            return best, _frames_note(best)
    groups = build_groups(wirings[1], _cuts(wirings[1]), graph.macs)
    return (
        groups,
        f"too many operations to draw each: a box is a group of consecutive ones, {len(groups.nodes)} in all",
    )


def _frames_note(panel: Panel) -> str:
    if not any(node.panel for node in panel.nodes):
        return ""
    if panel.alike:
        return "a frame is a block that repeats, drawn once: n × the MACs of one copy"
    return "a frame is a block that repeats, drawn once even if sizes differ: the first copy's shapes, Σ of the MACs"


def _cuts(wiring: Wiring) -> Sequence[int]:
    """Return where to cut the operations into groups of about the same size."""
    operations = len(wiring.operations)
    groups = min(_GROUPS, operations)
    return [round(group * operations / groups) for group in range(groups + 1)]


def _largest(panel: Panel) -> float:
    """Return the largest share of the MACs that a box has."""

    def shares(node: Node) -> float:
        return max(map(shares, node.panel.nodes), default=0.0) if node.panel else node.share

    return max(map(shares, panel.nodes), default=0.0)
