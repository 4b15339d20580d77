"""``aiop inspect``: operators, shapes and costs of networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aiop.cli.networks import Json, Networks, Reader, Shapes
from aiop.cli.output import Name, console, human, print_json, table
from aiop.cli.pictures import Pictures
from aiop.graph_ir.picture.text import extents, percent, settings

__all__ = ["inspect"]


def inspect(
    nets: Networks,
    per_op: Annotated[
        bool, typer.Option("--per-op", help="List every node, most MACs first, not only every operator.")
    ] = False,
    svg: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.svg", help="Draw the network; a folder for several networks.", show_default=False
        ),
    ] = None,
    unknown_ops: Annotated[
        bool,
        typer.Option(
            "--unknown-ops", help="List only operators that are unknown, and how to register them in Python."
        ),
    ] = False,
    shape: Shapes = [],  # noqa: B006  (typer wants the default itself)
    json: Json = False,
) -> None:
    """Show operators, shapes, MACs and FLOPs, element operations, parameters and activations of networks."""
    from aiop.inspection import inspect as inspect_network

    reader = Reader(shape)
    pictures = Pictures(svg, nets) if svg is not None else None
    for network, graph in reader.read(nets):
        with reader.keep_going():
            report = inspect_network(graph).to_dict(per_op) | {"network": network}
            picture = pictures.write(network, graph) if pictures else None
            if json:
                print_json({key: report[key] for key in _UNKNOWN_KEYS} if unknown_ops else report)
            elif unknown_ops:
                _show_unknown(report)
            else:
                _show(report, picture)
    reader.finish()


_COSTS = ("macs", "elementwise", "params", "activations")
_UNKNOWN_KEYS = ("network", "nodes", "unknown")


def _show_unknown(report: dict[str, Any]) -> None:
    out = console()
    out.print(report["network"], style="bold", soft_wrap=True)
    nodes, unknown = report["nodes"], report["unknown"]
    if not unknown:
        out.print(f"  every operator of its {nodes:,} nodes is known")
        return
    count = sum(operator["count"] for operator in unknown.values())
    out.print(f"  {count:,} of {nodes:,} nodes are of unknown operators ({percent(count / nodes)})")
    out.print()
    operators = table("Unknown operator", "Count", "Share")
    for name, operator in unknown.items():
        operators.add_row(name, f"{operator['count']:,}", percent(operator["share"]))
    out.print(operators)
    out.print()
    out.print("Above a function of one node that returns its output shapes and MACs:")
    for operator in unknown.values():
        out.print(f"  {operator['register']}", soft_wrap=True)


def _show(report: dict[str, Any], picture: Path | None) -> None:
    out = console()
    out.print(report["network"], style="bold", soft_wrap=True)
    for direction in ("inputs", "outputs"):
        for name, spec in report[direction].items():
            out.print(f"  {direction[:-1]:<12}{name}  {extents(spec['shape'], 'x')}  {spec['dtype']}")
    out.print(f"  nodes       {report['nodes']:,}")
    out.print(f"  MACs        {human(report['macs'])}  ({report['macs']:,})")
    out.print(f"  FLOPs       {human(report['flops'])}  (FLOPs = 2 x MACs)")
    out.print(
        f"  element ops {human(report['elementwise'])}  (activations, norms, pools ...; not in MACs and FLOPs)"
    )
    out.print(f"  parameters  {human(report['params'])}  ({report['params']:,})")
    out.print(f"  activations {human(report['activations'])}  (written by operators that have MACs)")
    if report["precision"]:
        of = "MACs" if report["macs"] else "nodes"
        shares = (f"{name} ({percent(share)} of {of})" for name, share in report["precision"].items())
        out.print(f"  precision   {', '.join(shares)}")
    for note in report["notes"]:
        out.print(f"  note        {note}")
    if picture is not None:
        out.print(f"  picture     {picture}", soft_wrap=True)
    out.print()
    operators = table("Operator", "Count", "MACs", "Element ops", "Params", "Activations")
    for name, total in report["operators"].items():
        costs = (human(total[key]) if total[key] else "" for key in _COSTS)
        operators.add_row(name, f"{total['count']:,}", *costs)
    out.print(operators)
    if "operations" in report:
        out.print()
        out.print(_operations(report["operations"], report["macs"]))
    out.print()


def _operations(operations: list[dict[str, Any]], total: int) -> Any:
    """Return the table of all nodes, most MACs first, nodes of equal cost in topological order."""
    formats = any(node["precision"] != "float32" for node in operations)
    last = ("Precision",) if formats else ()
    nodes = table(
        "Node", "Operator", "Settings", "Output", "MACs", "Share", "Element ops", "Params", *last, left=3
    )
    for node in sorted(operations, key=lambda node: -node["macs"]):
        nodes.add_row(
            Name(node["name"]),
            node["op"],
            settings(node["kernel"], node["stride"], node["dilation"], node["groups"], "x"),
            " ".join(extents(shape, "x") for shape in node["outputs"]),
            human(node["macs"]) if node["macs"] else "",
            percent(node["macs"] / total) if node["macs"] else "",
            human(node["elementwise"]) if node["elementwise"] else "",
            human(node["params"]) if node["params"] else "",
            *(node["precision"] for _ in last),
        )
    return nodes
