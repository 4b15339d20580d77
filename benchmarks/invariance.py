"""Compare what is read from one network's files, whichever exporter, opset and optimiser wrote them.

Prints, and with `--write` puts into docs/results.md, per way of writing a file: the share of networks whose content
hash, MACs and features equal those of the reference (TorchScript, opset 17), and the largest change of any prediction:
in points where the unit is %, relative otherwise. The files come from `benchmarks.exports` and are made where they are
missing.

    python -m benchmarks.invariance [--cache FOLDER] [--no-predictions] [--no-export] [--networks GLOB] [--write]
    python -m benchmarks.invariance [--cache FOLDER] --explain NETWORK VARIANT

`--explain` prints where the canonical graphs of two files part: the operations that only one of them has, and the
first ones, in the order of computing, that compute something else.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt

import aiop
from aiop.errors import AiopError
from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.extents import COMMUTATIVE
from aiop.graph_ir.features import GraphArrays, encode
from aiop.graph_ir.hashing import content_hash, operation_texts
from aiop.graph_ir.passes import canonicalise
from aiop.predictor import NetworkPrediction, Predictor
from benchmarks.architectures import NETWORKS
from benchmarks.document import write_section
from benchmarks.exports import REFERENCE, VARIANTS, default_cache, export_all

ALLOWED_POINTS, ALLOWED_PERCENT = 0.1, 1.0


@dataclass
class Case:
    """One file beside the reference of its network; ``points`` and ``percent`` are the largest changes, with tasks."""

    network: str
    variant: str
    hash_equal: bool = False
    macs_equal: bool = False
    features_equal: bool = False
    points: tuple[float, str] = (0.0, "")
    percent: tuple[float, str] = (0.0, "")
    problem: str = ""


@dataclass
class Comparison:
    """All files compared, and those that no exporter could write, with the reason."""

    cases: list[Case] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)

    def of(self, variant: str) -> list[Case]:
        """Return the cases of a variant."""
        return [case for case in self.cases if case.variant == variant]


# -- comparing


def compare(cache: Path, networks: str, predictor: Predictor | None) -> Comparison:
    """Compare every file in ``cache`` with its network's reference; without a predictor hashes and MACs only."""
    result = Comparison()
    for network in NETWORKS:
        folder = cache / network
        if not fnmatchcase(network, networks) or not (folder / f"{REFERENCE}.onnx").exists():
            continue
        for variant in VARIANTS:
            reason = folder / f"{variant}.refused"
            if reason.exists():
                result.refused.append((network, variant, reason.read_text(encoding="utf-8")))
        result.cases += compare_network(folder, predictor)
    return result


def compare_network(folder: Path, predictor: Predictor | None) -> list[Case]:
    """Compare the files of one network with its reference."""
    reference = read_onnx(folder / f"{REFERENCE}.onnx")
    expected = content_hash(canonicalise(reference))
    features = _sorted(encode(reference))
    predicted = predictor.predict(reference) if predictor else None
    cases = []
    for variant in VARIANTS:
        path = folder / f"{variant}.onnx"
        if variant == REFERENCE or not path.exists():
            continue
        case = Case(folder.name, variant)
        cases.append(case)
        try:
            graph = read_onnx(path)
        except AiopError as error:
            case.problem = str(error).removeprefix(f"{path}: ")
            continue
        case.hash_equal = content_hash(canonicalise(graph)) == expected
        case.macs_equal = graph.macs == reference.macs
        case.features_equal = all(map(np.array_equal, features, _sorted(encode(graph))))
        if predictor and predicted:
            case.points, case.percent = changes(predicted, predictor.predict(graph))
    return cases


def _sorted(arrays: GraphArrays) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what the predictor sees of the operations, in an order of their own, and of the graph."""
    rows = np.concatenate([arrays.op[:, None], arrays.node], axis=1, dtype=np.float32)
    return rows[np.lexsort(rows.T)], arrays.graph


def changes(one: NetworkPrediction, other: NetworkPrediction) -> tuple[tuple[float, str], tuple[float, str]]:
    """Return the largest change of a value in %, in points, and of any other, in percent of it, with their tasks."""
    points, percent = (0.0, ""), (0.0, "")
    for before, after in zip(one.predictions, other.predictions, strict=True):
        moved = abs(after.value - before.value)
        if before.unit == "%":
            points = max(points, (moved, before.task))
        else:
            percent = max(percent, (100 * moved / max(abs(before.value), 1e-12), before.task))
    return points, percent


# -- tables


def table(result: Comparison, predicted: bool) -> list[str]:
    """Return the table of the variants."""
    lines = [
        "| file | networks | equal hash | equal MACs | equal features |"
        + (" largest change, points | largest change, % of the value |" if predicted else ""),
        "|---|---|---|---|---|" + ("---|---|" if predicted else ""),
    ]
    lines += [_row(name, cases, predicted) for name in VARIANTS if (cases := result.of(name))]
    if result.cases:
        lines.append(_row("**all**", result.cases, predicted))
    return lines


def _row(name: str, cases: list[Case], predicted: bool) -> str:
    cells = [name, str(len(cases))]
    cells += [_share(cases, what) for what in ("hash_equal", "macs_equal", "features_equal")]
    if predicted:
        cells += [
            f"{max(case.points[0] for case in cases):.3f}",
            f"{max(case.percent[0] for case in cases):.3f}",
        ]
    return "| " + " | ".join(cells) + " |"


def _share(cases: list[Case], what: str) -> str:
    return f"{100 * sum(getattr(case, what) for case in cases) / len(cases):.1f}%"


def summary(result: Comparison, predicted: bool) -> list[str]:
    """Return the overall numbers in prose, and what could not be exported."""
    networks = {case.network for case in result.cases}
    lines = [f"{len(networks)} networks, {len(result.cases)} files beside their references."]
    if result.refused:
        lines += [f"{len(result.refused)} more that the exporter or optimiser refuses to write:", ""]
        lines += [f"- {network}, {variant}: {reason[:120]}" for network, variant, reason in result.refused]
    if predicted:
        still = sum(
            case.points[0] <= ALLOWED_POINTS and case.percent[0] <= ALLOWED_PERCENT and not case.problem
            for case in result.cases
        )
        lines += [
            "",
            f"{100 * still / max(1, len(result.cases)):.1f}% of the files move no prediction by more than "
            f"{ALLOWED_POINTS} points or {ALLOWED_PERCENT:.0f}% of its value.",
        ]
    return lines


def differing(result: Comparison, predicted: bool) -> list[str]:
    """Return a line per network with the variants that differ from its reference, and what moves most."""
    lines = []
    for network in dict.fromkeys(case.network for case in result.cases):
        mine = [case for case in result.cases if case.network == network]
        apart = [case for case in mine if not (case.hash_equal and case.macs_equal and case.features_equal)]
        lines.append(f"{network}: {len(mine) - len(apart)} of {len(mine)} equal")
        for case in apart:
            notes = [case.problem] if case.problem else _notes(case)
            if predicted and not case.problem:
                notes += [
                    f"{case.points[0]:.3f} points {case.points[1]}",
                    f"{case.percent[0]:.3f}% {case.percent[1]}",
                ]
            lines.append(f"  {case.variant}" + (f": {'; '.join(notes)}" if notes else ""))
    return lines


def _notes(case: Case) -> list[str]:
    equal = {"hash": case.hash_equal, "MACs": case.macs_equal, "features": case.features_equal}
    return [f"other {', '.join(name for name, same in equal.items() if not same)}"]


# -- explaining


def explain(cache: Path, network: str, variant: str, shown: int = 12) -> list[str]:
    """Return where the canonical graph of a variant parts from the reference's."""
    graphs = [canonicalise(read_onnx(cache / network / f"{name}.onnx")) for name in (REFERENCE, variant)]
    hashes = [content_hash(graph) for graph in graphs]
    lines = [f"{network}: {REFERENCE} (-) {hashes[0]} beside {variant} (+) {hashes[1]}"]
    lines.append(f"operations {len(graphs[0].operations)} / {len(graphs[1].operations)}")
    lines.append(
        f"MACs {graphs[0].macs} / {graphs[1].macs}, parameters {graphs[0].params} / {graphs[1].params}"
    )
    if hashes[0] == hashes[1]:
        return [*lines, "equal"]
    texts = [operation_texts(graph) for graph in graphs]
    counts = [Counter(each) for each in texts]
    lines += ["", "operations that only one side has (count, what the hash covers):"]
    for mine, theirs, sign in ((counts[0], counts[1], "-"), (counts[1], counts[0], "+")):
        left = (mine - theirs).most_common()
        lines += [f"  {sign} {count} x {text}" for text, count in left[:shown]]
        if len(left) > shown:
            lines.append(f"  {sign} ... and {len(left) - shown} other kinds")
    digests = [_digests(graph, each) for graph, each in zip(graphs, texts, strict=True)]
    lines += ["", "first operations that compute something else (name, operator, inputs <- their producers):"]
    for side, sign in ((0, "-"), (1, "+")):
        lines += [
            f"  {sign} {line}" for line in _first(graphs[side], digests[side], digests[1 - side], shown // 2)
        ]
    return lines


def _digests(graph: ComputeGraph, texts: list[str]) -> list[bytes]:
    """Return per operation a digest of all that leads to it."""
    known: dict[str, bytes] = {}
    every = []
    for operation, text in zip(graph.operations, texts, strict=True):
        sources = [known[key] for key in operation.inputs]
        if operation.op in COMMUTATIVE:
            sources.sort()
        every.append(hashlib.blake2b(text.encode() + b"".join(sources), digest_size=16).digest())
        known.update((key, every[-1] + bytes([slot % 256])) for slot, key in enumerate(operation.outputs))
    return every


def _first(graph: ComputeGraph, mine: list[bytes], theirs: list[bytes], shown: int) -> list[str]:
    """Describe the operations without a counterpart whose inputs all have one, then what follows them."""
    spare = Counter(theirs)
    apart: set[int] = set()
    for index, digest in enumerate(mine):
        if spare[digest] > 0:
            spare[digest] -= 1
        else:
            apart.add(index)
    producers = graph.producers
    roots = [
        i for i in sorted(apart) if not any(producers[key] in apart for key in graph.operations[i].inputs)
    ]
    after = [
        i
        for i in sorted(apart)
        if i not in roots and any(producers[key] in roots[:2] for key in graph.operations[i].inputs)
    ]
    if not apart:
        return ["none: the outputs differ"]
    return [f"({len(apart)} apart, {len(roots)} of them first)"] + [
        _description(graph, index) for index in (*roots[:shown], *after[:shown])
    ]


def _description(graph: ComputeGraph, index: int) -> str:
    operation = graph.operations[index]
    sources = [
        f"{graph.operations[graph.producers[key]].op}{list(graph.tensors[key].shape)}"
        for key in operation.inputs
    ]
    parts = {
        name: getattr(operation, name)
        for name in ("kernel", "stride", "dilation", "padding", "bias", "scalars", "attributes")
        if getattr(operation, name)
    }
    if operation.groups != 1:
        parts["groups"] = operation.groups
    if operation.weights:
        parts["weights"] = [list(weight.shape) for weight in operation.weights]
    shapes = [list(graph.tensors[key].shape) for key in operation.outputs]
    return f"{operation.op} ({operation.onnx_type}) {operation.name} {parts} -> {shapes} <- {sources}"


# -- the command


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="folder of the exported files, kept between runs"
    )
    parser.add_argument("--networks", default="*", help="glob of the networks to compare")
    parser.add_argument("--weights", help="folder of a predictor; the shipped one by default")
    parser.add_argument("--no-predictions", action="store_true", help="compare hashes and MACs only")
    parser.add_argument("--no-export", action="store_true", help="compare the files that are there")
    parser.add_argument(
        "--explain", nargs=2, metavar=("NETWORK", "VARIANT"), help="show where one file parts"
    )
    parser.add_argument("--write", action="store_true", help="replace the table in docs/results.md")
    options = parser.parse_args()
    if options.explain:
        print("\n".join(explain(options.cache, *options.explain)))
        return
    start = time.perf_counter()
    if not options.no_export:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        export_all(options.cache, options.networks)
    predictor = None if options.no_predictions else aiop.load(options.weights)
    result = compare(options.cache, options.networks, predictor)
    lines = [*table(result, predictor is not None), "", *summary(result, predictor is not None)]
    print("\n".join([*lines, "", *differing(result, predictor is not None)]))
    print(f"{time.perf_counter() - start:.0f} s")
    if options.write:
        write_section("invariance", lines)


if __name__ == "__main__":
    main()
