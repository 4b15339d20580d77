"""Shapes and multiply-accumulates of real networks against what others infer, publish and count.

    python -m benchmarks.counts [--torch 100] [--write]

Three tables over the ONNX graphs of timm: how many tensors have a known shape, here and by onnx's own inference; MACs
against the published counts of fvcore, with and without the operators that only one side counts; MACs against half of
`torch.utils.flop_counter`, run on the modules themselves. `--write` puts them into docs/results.md.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import onnx

from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.importers import from_torch
from aiop.tasks.tables.table import data_dir, read_columns
from aiop.tasks.tables.timm import iter_timm
from benchmarks.architectures import NETWORKS, build, library
from benchmarks.document import write_section
from benchmarks.fvcore_rules import ADDED, CONSTANTS, RULES, Rule, fvcore_rules, weights_as_inputs

ROUNDING = 0.005e9  # of counts printed to .01 G
_SLACK = 1.0  # MACs, for the arithmetic of published values


class Gaps(NamedTuple):
    """Tensors of a graph that onnx's inference leaves without a shape, products among them, and disagreements."""

    tensors: int
    products: int
    different: int


@dataclass
class Counted:
    """One graph: its tensors, how many of them onnx does not know (plain, and propagating values), and its MACs.

    ``executed`` counts products of constants too. ``published`` are fvcore's counts, one per setting, in MACs.
    """

    name: str
    shape: tuple[int, ...]
    tensors: int
    products: int
    plain: Gaps
    propagated: Gaps
    macs: int
    executed: int
    rules: Counter[Rule]
    published: list[float]

    @property
    def target(self) -> float:
        """The published count: the median over settings."""
        return statistics.median(self.published)

    def total(self, *kinds: str) -> int:
        """MACs with the rules of some kinds applied."""
        return self.macs + sum(count for rule, count in self.rules.items() if rule.kind in kinds)

    def agrees(self, total: int, share: float = 0.01) -> bool:
        """Whether a count is the published one within a share of it or its rounding."""
        return abs(total - self.target) <= max(ROUNDING + _SLACK, share * self.target)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--torch", type=int, default=100, help="timm networks to count with torch too; 848 are all"
    )
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/results.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    networks = list(count_networks())
    lines = shape_table(networks)
    print("\n".join(lines), flush=True)
    for table in (published_table, rule_table):
        print("\n".join(section := ["", *table(networks)]), flush=True)
        lines += section
    if options.torch > 0:
        print("\n".join(section := ["", *torch_table(networks, options.torch)]), flush=True)
        lines += section
    if options.write:
        write_section("counts", lines)


def count_networks() -> Iterator[Counted]:
    """Read every graph of timm as it is, by onnx's inference, and with its weights as inputs."""
    published = published_counts()
    for name, content in iter_timm():
        graph = read_onnx(content, name=name)
        network = onnx.load_model_from_string(content)
        executed = read_onnx(weights_as_inputs(network), name=name)
        architecture, size = name.removeprefix("timm:").rsplit("__", 1)
        yield Counted(
            name=architecture,
            shape=graph.tensors[graph.inputs[0]].shape,
            tensors=len(graph.tensors),
            products=sum(operation.macs > 0 for operation in graph.operations),
            plain=gaps(graph, onnx.shape_inference.infer_shapes(network)),
            propagated=gaps(graph, onnx.shape_inference.infer_shapes(network, data_prop=True)),
            macs=graph.macs,
            executed=executed.macs,
            rules=fvcore_rules(network, graph, executed),
            published=published.get((architecture, int(size)), []),
        )


def published_counts() -> dict[tuple[str, int], list[float]]:
    """(architecture, input size) -> fvcore's count in each setting, in MACs."""
    columns = read_columns(data_dir() / "timm_benchmark.parquet", ["arch", "infer_img_size", "infer_gmacs"])
    counts: dict[tuple[str, int], list[float]] = defaultdict(list)
    for architecture, size, giga in zip(*columns.values(), strict=True):
        if size is not None and giga is not None:
            counts[architecture, int(size)].append(giga * 1e9)
    return counts


# -- shapes


def gaps(graph: ComputeGraph, inferred: onnx.ModelProto) -> Gaps:
    """Return which of a graph's tensors onnx leaves without a full shape, and to how many it gives another one.

    Every tensor of a graph that was read has a full shape; that it has is checked, not assumed.
    """
    known = {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    missing = {name for name in graph.tensors if None in known.get(name, (None,))}
    for name, spec in graph.tensors.items():
        if not all(type(extent) is int and extent >= 0 for extent in spec.shape):
            raise AiopError(f"{graph.name}: tensor {name!r} has no known shape; report it")
    return Gaps(
        tensors=len(missing),
        products=sum(bool(missing & {*each.outputs}) for each in graph.operations if each.macs),
        different=sum(known[name] != graph.tensors[name].shape for name in graph.tensors.keys() - missing),
    )


def shape_table(networks: list[Counted]) -> list[str]:
    """Return who knows how many shapes."""
    tensors, products = sum(each.tensors for each in networks), sum(each.products for each in networks)
    lines = [
        f"Shapes of {tensors:,} tensors of {len(networks)} networks of timm, {products:,} of them of convolutions "
        "and matrix products:",
        "",
        "| | tensors with a shape | products with one | networks with all | differ from aiop |",
        "|---|---|---|---|---|",
        f"| aiop | {part(tensors, tensors)} | {part(products, products)} "
        f"| {part(len(networks), len(networks))} | |",
    ]
    for text, kind in (("", "plain"), (", `data_prop=True`", "propagated")):
        found: list[Gaps] = [getattr(each, kind) for each in networks]
        lines.append(
            f"| `onnx.shape_inference`{text} | {part(tensors - sum(each.tensors for each in found), tensors)} "
            f"| {part(products - sum(each.products for each in found), products)} "
            f"| {part(sum(not each.tensors for each in found), len(found))} "
            f"| {sum(each.different for each in found)} |"
        )
    return lines


def part(count: int, of: int) -> str:
    """Return a number and its share of another one."""
    return f"{count:,} ({100 * count / of:.1f}%)"


# -- published counts


def published_table(networks: list[Counted]) -> list[str]:
    """Return how many networks have the published count, under which convention."""
    compared = [each for each in networks if each.published]
    everything = tuple({rule.kind for rule in RULES})
    without_constants = tuple(kind for kind in everything if kind != CONSTANTS)
    conventions = (
        ("plain MACs", ()),
        ("with the operators that fvcore adds", (ADDED,)),
        ("and without those it has no rule for", without_constants),
        ("and with products of constants", everything),
    )
    lines = [
        f"MACs of {len(compared)} networks against fvcore's published counts at the same input size (median over "
        "settings, printed to .01 G):",
        "",
        "| aiop's count | within 1% or the rounding | within 0.1% or the rounding | within the rounding |",
        "|---|---|---|---|",
    ]
    for text, kinds in conventions:
        cells = []
        for share in (0.01, 0.001, 0.0):
            agreeing = sum(each.agrees(each.total(*kinds), share) for each in compared)
            cells.append(part(agreeing, len(compared)))
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Outside 1% with the operators that fvcore adds (counts in G):",
        "",
        "| network | size | published | aiop | ratio | what one side does not count |",
        "|---|---|---|---|---|---|",
    ]
    for each in compared:
        total = each.total(ADDED)
        if not each.agrees(total):
            lines.append(
                f"| {each.name} | {each.shape[-1]} | {each.target / 1e9:.2f} | {total / 1e9:.2f} "
                f"| {total / each.target:.3f} | {reasons(each, everything)} |"
            )
    several = [each for each in compared if max(each.published) - min(each.published) > 0.015e9]
    left = [each for each in compared if not each.agrees(each.total(*everything), 0.0)]
    any_of = sum(
        any(abs(each.total(*everything) - count) <= ROUNDING + _SLACK for count in each.published)
        for each in left
    )
    lines += [
        "",
        f"{len(several)} networks were published with different counts in different settings (fused attention, which "
        "fvcore cannot see into; branches merged before counting). Outside the rounding with everything: "
        f"{len(left)}, of which {any_of} have the count of some setting"
        + (": " if left else ".")
        + ", ".join(f"{each.name} ({each.total(*everything) / each.target:.4f})" for each in left),
    ]
    return lines


def reasons(each: Counted, kinds: tuple[str, ...]) -> str:
    """Return which operators explain a difference, and what is left with them."""
    found = [rule.operator for rule, count in each.rules.items() if rule.kind != ADDED and count]
    ratio = each.total(*kinds) / each.target
    return f"{', '.join(found) or 'unknown'}; ratio with it {ratio:.4f}"


def rule_table(networks: list[Counted]) -> list[str]:
    """Return the rules, and how much each changes."""
    lines = [
        "| operator | fvcore's rule | networks | largest change |",
        "|---|---|---|---|",
    ]
    for rule in RULES:
        having = [each for each in networks if each.rules[rule]]
        change = max((each.rules[rule] / each.macs for each in having), key=abs, default=0.0)
        lines.append(f"| {rule.operator} | {rule.text} | {len(having)} | {100 * change:+.2f}% |")
    return lines


# -- torch's own counter


def torch_table(networks: list[Counted], wanted: int) -> list[str]:
    """Return for how many networks torch counts exactly twice the MACs, on modules without weights."""
    chosen = networks[:: max(1, round(len(networks) / wanted))]
    results = [(each, torch_macs(each)) for each in chosen]
    plain = sum(each.macs == half for each, half in results)
    executed = sum(each.executed == half for each, half in results)
    vision = [name for name, item in NETWORKS.items() if item.library == "torchvision"]
    direct = sum(torchvision_agrees(name) for name in vision)
    torch = library("torch")
    wrong = [f"{each.name} ({each.executed / half:.4f})" for each, half in results if each.executed != half]
    return [
        f"MACs against half of `torch.utils.flop_counter` (torch {torch.__version__.split('+')[0]}), exactly equal:",
        "",
        "| networks | equal | equal with products of constants |",
        "|---|---|---|",
        f"| timm, ONNX files | {plain} of {len(results)} | {executed} of {len(results)} |",
        f"| torchvision, modules (classification, segmentation, video) | {direct} of {len(vision)} | |",
        *(["", "Not equal: " + ", ".join(wrong)] if wrong else []),
    ]


def torch_macs(each: Counted) -> float:
    """Half of what torch counts for the module of an architecture, which is made without values."""
    timm, torch = library("timm"), library("torch")
    with torch.device("meta"):
        try:
            module = timm.create_model(each.name, img_size=each.shape[-1])
        except TypeError:  # takes images of any size
            module = timm.create_model(each.name)
        image = torch.empty(each.shape)
    return half_of_flops(module, image)


def torchvision_agrees(name: str) -> bool:
    """Whether a module of torchvision, read by `from_torch`, has half of the FLOPs that torch counts."""
    module, image = build(NETWORKS[name])
    return from_torch(module, image).macs == half_of_flops(module, image)


def half_of_flops(module: Any, *inputs: Any) -> float:
    """Half of what torch's counter says, with attention written as products, which it can see into."""
    torch, counting = library("torch"), library("torch.utils.flop_counter")
    attention = library("torch.nn.attention")
    module.eval().requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)
    with (
        attention.sdpa_kernel(attention.SDPBackend.MATH),
        counting.FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        module(*inputs)
    return float(counter.get_total_flops()) / 2


if __name__ == "__main__":
    main()
