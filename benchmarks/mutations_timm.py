"""What mutations reach in real networks, and whether every candidate they make is valid: random graphs of timm.

    python -m benchmarks.mutations_timm --networks 100 --candidates 5000 --seed 0 [--work FOLDER] [--write]

`AIOP_DATA` names the folder of timm_onnx.tar.xz; the graphs have no weights, which are filled with random values. A
convolution counts as reached where a site of a mutation names it. Every mutation is tried at one place of a network.

Candidates are random sequences of decisions of all mutations. Every one is checked by `onnx.checker` with full shape
inference (large weights as inputs of their shape, since none of this depends on values), must keep the names, types
and ranks of inputs and outputs, and must not cost more than its network. Every tenth candidate of networks of up to
20 MB is also written with all its weights, checked as it is, and run by onnxruntime: its outputs must have the shapes
that were inferred.

``--work`` keeps what is done for each network, and a second run goes on from there. `--write` puts the tables into
docs/results/mutations.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.progress import Progress

from aiop.errors import AiopError
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, NotApplicableError, Site, mutations
from aiop.search.mutations.sequence import mutate
from aiop.tasks.networks import write_atomically
from aiop.tasks.tables.timm import iter_timm
from benchmarks.document import write_section

__all__ = ["main"]

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "results" / "mutations.md"
CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = (*CONVOLUTIONS, "Gemm", "MatMul")
MOST_DECISIONS = 16
RUN_EVERY, RUN_LARGEST = 10, 20_000_000  # bytes

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=5000, help="in all networks together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder in which results of networks are kept")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name}")
    options = parser.parse_args(arguments)
    each = -(-options.candidates // options.networks)
    rows = list(measured(options.networks, each, options.seed, options.work))
    command = (
        f"python -m benchmarks.mutations_timm --networks {options.networks} --candidates {options.candidates}"
    )
    lines = [f"`{command} --seed {options.seed}`", "", *table(rows), "", *conclusions(rows)]
    print("\n".join(lines))
    if options.write:
        write_section("timm", lines, DOCUMENT)


def measured(networks: int, each: int, seed: int, work: Path | None) -> Iterator[Row]:
    """Yield what was found for each network, from ``work`` where it is there already."""
    names = [name for name, _ in iter_timm()]
    chosen = set(random.Random(seed).sample(names, min(networks, len(names))))
    with Progress(transient=True) as progress:
        task = progress.add_task("networks", total=len(chosen))
        for name, content in iter_timm():
            if name not in chosen:
                continue
            kept = work / f"{name.removeprefix('timm:')}.{each}.{seed}.json" if work is not None else None
            if kept is not None and kept.is_file():
                row = json.loads(kept.read_text(encoding="utf-8"))
            else:
                row = one(name, content, each, seed)
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(json.dumps(row).encode(), kept)
            progress.advance(task)
            yield row


def one(name: str, content: bytes, candidates: int, seed: int) -> Row:
    """Return what mutations reach in a network, and what became of random candidates."""
    start = time.process_time()
    row: Row = {
        "name": name,
        "sites": {},
        "works": {},
        "invalid": [],
        "candidates": 0,
        "run": 0,
        "refused": 0,
        "decisions": 0,
    }
    try:
        network = EditableNetwork.read(content, name=name, fill=seed)
    except AiopError as error:
        return row | {"unreadable": str(error)}
    products = {node.name for node in network.graph if node.op_type in PRODUCTS and weighted(network, node)}
    convolutions = {node.name for node in network.graph if node.op_type in CONVOLUTIONS}
    row |= {"convolutions": len(convolutions), "products": len(products)}
    places: list[Site] = []
    reached: dict[str, set[str]] = {}
    for key, mutation in mutations().items():
        found = mutation.sites(network)
        places += found
        reached[key] = {node for site in found for node in site.convolutions}
        row["sites"][key] = [len(found), len(reached[key] & convolutions), len(reached[key] & products)]
        row["works"][key] = bool(found) and works(network, found[0])
    local = set().union(*(nodes for key, nodes in reached.items() if key != "resolution"))
    row["reached"] = [len(local & convolutions), len(local & products)]
    row["seconds to look"] = time.process_time() - start
    tensors = [network.weight(value) for value in network.graph.initializers.values()]
    small = sum(tensor.nbytes for tensor in tensors if tensor is not None) <= RUN_LARGEST
    rng = random.Random(f"{seed}/{name}")
    for index in range(candidates if places else 0):
        decisions = drawn(places, rng)
        full = small and index % RUN_EVERY == 0
        try:
            changed, edits, refused = mutate(network, decisions)
            verify(network, changed)
            if full:
                run(changed, network)
            row["run"] += full
            row["refused"] += len(refused)
            row["decisions"] += len(edits) + len(refused)
        except Exception as error:  # whatever goes wrong makes it an invalid candidate
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            row["invalid"].append([[decision.to_dict() for decision in decisions], what])
        row["candidates"] += 1
    row["seconds"] = time.process_time() - start
    return row


def weighted(network: EditableNetwork, node: Any) -> bool:
    """Whether one of a product's operands is stored."""
    return any(network.weight(value) is not None for value in node.inputs)


def works(network: EditableNetwork, site: Site) -> bool:
    """Whether a mutation changes a network at a place and leaves it valid."""
    changed = network.clone()
    try:
        mutations()[site.mutation].apply(changed, site.where, site.amounts[-1])
        verify(network, changed)
    except (NotApplicableError, AiopError, ValueError):
        return False
    return True


def drawn(places: Sequence[Site], rng: random.Random) -> list[Decision]:
    """Return random decisions: kinds of mutations evenly, since some have far more places."""
    kinds: dict[str, list[Site]] = {}
    for site in places:
        kinds.setdefault(site.mutation, []).append(site)
    found: dict[tuple[str, str], Decision] = {}
    for _ in range(rng.randint(1, MOST_DECISIONS)):
        site = rng.choice(kinds[rng.choice(list(kinds))])
        found[site.mutation, site.where] = Decision(site.mutation, site.where, rng.choice(site.amounts))
    return list(found.values())


def verify(network: EditableNetwork, changed: EditableNetwork) -> None:
    """Check a candidate without its weights; raise what is wrong."""
    message = changed.proto(weights=False)
    missing = [
        tensor for tensor in message.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    for tensor in missing:
        message.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    kept = [
        tensor for tensor in message.graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL
    ]
    del message.graph.initializer[:]
    message.graph.initializer.extend(kept)
    onnx.checker.check_model(message, full_check=True)
    if signature(changed) != signature(network):
        raise ValueError("inputs or outputs changed their names, types or ranks")
    if changed.macs > network.macs:
        raise ValueError(f"it costs {changed.macs} MACs, more than {network.macs} before")


def signature(network: EditableNetwork) -> list[Any]:
    """Names, types and ranks of inputs and outputs."""
    values: Iterable[Any] = (*network.graph.inputs, *network.graph.outputs)
    return [(value.name, value.dtype, None if value.shape is None else len(value.shape)) for value in values]


def run(changed: EditableNetwork, network: EditableNetwork) -> None:
    """Check a candidate with all its weights, and run it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    message = changed.check(like=network)
    session = onnxruntime.InferenceSession(
        message.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        value.name: np.zeros([extent if isinstance(extent, int) else 1 for extent in value.shape], np.float32)
        for value in session.get_inputs()
    }
    for value, array in zip(changed.graph.outputs, session.run(None, feeds), strict=True):
        shape = changed.shape(value) or ()
        if len(shape) != array.ndim or any(
            a not in (None, b) for a, b in zip(shape, array.shape, strict=True)
        ):
            raise ValueError(f"{value.name} is {array.shape}, not {shape} as inferred")


def table(rows: Sequence[Row]) -> list[str]:
    """Return a row per mutation."""
    read = [row for row in rows if "unreadable" not in row]
    lines = [
        "| mutation | networks with a place | tried there, valid | places, median | convolutions reached "
        "| products reached |",
        "|---|---|---|---|---|---|",
    ]
    convolutions, products = (sum(row[key] for row in read) for key in ("convolutions", "products"))
    for key in mutations():
        places = [row["sites"][key][0] for row in read]
        reached = [sum(row["sites"][key][place] for row in read) for place in (1, 2)]
        valid = sum(row["works"][key] for row in read)
        lines.append(
            f"| {key} | {sum(map(bool, places))} | {valid} | {statistics.median(places):g} "
            f"| {reached[0] / max(convolutions, 1):.1%} | {reached[1] / max(products, 1):.1%} |"
        )
    reached = [sum(row["reached"][place] for row in read) for place in (0, 1)]
    lines.append(
        f"| any but resolution | | | | {reached[0] / max(convolutions, 1):.1%} | {reached[1] / max(products, 1):.1%} |"
    )
    return lines


def conclusions(rows: Sequence[Row]) -> list[str]:
    """Return what the rows say in all."""
    read = [row for row in rows if "unreadable" not in row]
    both = [
        row for row in read if row["works"].get("width") and (row["works"]["block"] or row["works"]["kernel"])
    ]
    lacking = [row["name"] for row in read if row not in both]
    candidates, invalid = sum(row["candidates"] for row in read), sum(len(row["invalid"]) for row in read)
    decisions, refused = sum(row["decisions"] for row in read), sum(row["refused"] for row in read)
    seconds = sum(row.get("seconds", 0) for row in read)
    lines = [
        f"- {len(read)} of {len(rows)} networks read; {len(both)} have a width and a depth or kernel mutation that "
        "works.",
        f"- {candidates:,} candidates, {invalid} invalid; {sum(row['run'] for row in read)} run with all weights.",
        f"- {decisions:,} decisions, of which {refused:,} did not fit any more after others.",
        f"- {seconds:,.0f} s of processor time.",
    ]
    if lacking:
        lines.append(f"- Without both: {', '.join(lacking)}.")
    lines += [f"- Not read: {row['unreadable']}" for row in rows if "unreadable" in row]
    lines += [f"- Invalid in {row['name']}: {what}" for row in read for _, what in row["invalid"][:3]]
    return lines


if __name__ == "__main__":
    main()
