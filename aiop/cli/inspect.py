"""``aiop inspect``: operators, shapes and costs of networks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiop.cli.networks import Json, Networks, Reader, Shapes
from aiop.cli.output import Name, console, human, print_json, table

__all__ = ["inspect"]


def inspect(
    nets: Networks,
    per_op: Annotated[
        bool, typer.Option("--per-op", help="List every node, not only every operator.")
    ] = False,
    shape: Shapes = [],  # noqa: B006  (typer wants the default itself)
    json: Json = False,
) -> None:
    """Show operators, shapes, MACs and FLOPs, parameters and activations of networks."""
    from aiop.inspection import inspect as inspect_network

    reader = Reader(shape)
    for network, graph in reader.read(nets):
        with reader.keep_going():
            report = inspect_network(graph).to_dict(per_op) | {"network": network}
            if json:
                print_json(report)
            else:
                _show(report)
    reader.finish()


def _show(report: dict[str, Any]) -> None:
    out = console()
    out.print(report["network"], style="bold", soft_wrap=True)
    for direction in ("inputs", "outputs"):
        for name, spec in report[direction].items():
            out.print(f"  {direction[:-1]:<12}{name}  {_extents(spec['shape'])}  {spec['dtype']}")
    out.print(f"  nodes       {report['nodes']:,}")
    out.print(f"  MACs        {human(report['macs'])}  ({report['macs']:,})")
    out.print(f"  FLOPs       {human(report['flops'])}  (FLOPs = 2 x MACs)")
    out.print(f"  parameters  {human(report['params'])}  ({report['params']:,})")
    out.print(f"  activations {human(report['activations'])}  (written by operators that have MACs)")
    for note in report["notes"]:
        out.print(f"  note        {note}")
    out.print()
    operators = table("Operator", "Count", "MACs", "Params", "Activations")
    for name, total in report["operators"].items():
        costs = (human(total[key]) if total[key] else "" for key in ("macs", "params", "activations"))
        operators.add_row(name, f"{total['count']:,}", *costs)
    out.print(operators)
    if "operations" in report:
        out.print()
        out.print(_operations(report["operations"]))
    out.print()


def _operations(operations: list[dict[str, Any]]) -> Any:
    nodes = table("Node", "Operator", "Settings", "Output", "MACs", "Params", left=3)
    for node in operations:
        nodes.add_row(
            Name(node["name"]),
            node["op"],
            _settings(node),
            " ".join(_extents(shape) for shape in node["outputs"]),
            human(node["macs"]) if node["macs"] else "",
            human(node["params"]) if node["params"] else "",
        )
    return nodes


def _settings(node: dict[str, Any]) -> str:
    """Kernel, and whatever differs from stride 1, dilation 1 and one group, e.g. ``3x3 /2 g32``."""
    words = ["x".join(map(str, node["kernel"]))]
    if any(step != 1 for step in node["stride"]):
        words.append("/" + _brief(node["stride"]))
    if any(step != 1 for step in node["dilation"]):
        words.append("d" + _brief(node["dilation"]))
    if node["groups"] != 1:
        words.append(f"g{node['groups']}")
    return " ".join(words).strip()


def _brief(values: list[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ",".join(map(str, values))


def _extents(shape: list[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
