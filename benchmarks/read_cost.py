"""What it costs to read and count a network, against the onnx package and onnx-tool, on the timm graphs.

    python -m benchmarks.read_cost [--every N] [--repeats K]

`AIOP_DATA` names the folder of timm_onnx.tar.xz. Times are CPU seconds of this process, the best of K turns, of reading
and of ``onnx.load(path, load_external_data=False)`` with ``onnx.shape_inference.infer_shapes`` in turns, after one turn
of each that is told apart: the first. Reading keeps what it has learned about the nodes it met
(`aiop.graph_ir.reading.forms`), so it is timed three times: first, the network never read before but others
were; again; and from nothing, that knowledge thrown away before every turn.

onnx-tool counts from the values of all weights, which the graphs do not have: it gets the message with every missing
weight filled with zeros (made before the clock starts), and is timed from there: ``Model``, ``shape_infer``,
``profile``. It is tried on every 20th network with at most 100 M weights; where it fails, the network is left out.

At the end: seconds of `aiop inspect` in a new process, on a network of about 200 nodes (by the clock, and of CPU, which
a busy machine does not change), and which heavy modules it loads.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx

from aiop.graph_ir import ComputeGraph, read_onnx
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.graph_ir.reading.forms import FORMS
from aiop.tasks.tables.timm import iter_timm

TOOL_EVERY = 20
TOOL_MOST_WEIGHTS = 100_000_000
WARM_UP = 5
INSPECTED_NODES = 200
HEAVY_MODULES = ("torch", "dgl", "onnxruntime", "pandas", "pyarrow", "scipy")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="take every Nth network")
    parser.add_argument("--repeats", type=int, default=5, help="turns of which the best counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.every, options.repeats)


def measure(folder: Path, every: int, repeats: int) -> None:
    """Time every network, print the ratios, then `aiop inspect` on the one nearest to 200 nodes."""
    first: list[float] = []
    again: list[float] = []
    nothing: list[float] = []
    canonical: list[float] = []
    tool: list[float] = []
    failed = 0
    nearest, inspected = math.inf, folder / "inspected.onnx"
    for index, (_, content) in enumerate(iter_timm()):
        path = folder / "network.onnx"
        path.write_bytes(content)
        if index < WARM_UP:
            known_tools(path)
            read_onnx(path)
        if index % every:
            continue
        theirs, ours = cpu(known_tools, path), cpu(read_onnx, path)
        first.append(ours / theirs)
        theirs, ours, fresh = math.inf, math.inf, math.inf
        for _ in range(repeats):
            theirs = min(theirs, cpu(known_tools, path))
            ours = min(ours, cpu(read_onnx, path))
        for _ in range(repeats):
            known = dict(FORMS.known)
            FORMS.forget()
            fresh = min(fresh, cpu(read_onnx, path))
            FORMS.known.update(known)
        again.append(ours / theirs)
        nothing.append(fresh / theirs)
        graph = read_onnx(path)
        canonical.append(min(cpu(prepare, graph) for _ in range(2)) / ours)
        nodes = len(graph.operations)
        if abs(nodes - INSPECTED_NODES) < nearest:
            nearest = abs(nodes - INSPECTED_NODES)
            inspected.write_bytes(content)
        if index % TOOL_EVERY == 0 and graph.params <= TOOL_MOST_WEIGHTS:
            seconds = tool_seconds(onnx.load_from_string(content))
            failed += seconds is None
            tool += [] if seconds is None else [seconds / ours]
    print(
        f"{len(again)} networks; CPU time over that of onnx.load + infer_shapes    median   90th percentile"
    )
    report("read again", again)
    report("read for the first time, after others", first)
    report("read from nothing", nothing)
    print()
    report("canonical form, hash and encoding over reading again", canonical)
    if tool:
        print(
            f"\nonnx-tool over reading again, {len(tool)} networks ({failed} more it cannot read): "
            f"median {statistics.median(tool):.0f}, least {min(tool):.0f}"
        )
    inspect_cost(inspected)


def cpu(function: Callable[..., object], argument: object) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    function(argument)
    return time.process_time() - start


def known_tools(path: Path) -> onnx.ModelProto:
    """Load a network and infer its shapes as the onnx package does."""
    return onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))


def prepare(graph: ComputeGraph) -> object:
    """Do to a graph what prediction does before the predictor sees it."""
    form = canonicalise(graph)
    return content_hash(form), encode(form)


def tool_seconds(model: onnx.ModelProto) -> float | None:
    """Return the CPU seconds that onnx-tool takes to count a network, ``None`` where it fails."""
    import onnx_tool  # type: ignore[import-untyped]

    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.raw_data = bytes(dtype.itemsize * math.prod(tensor.dims))
    start = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            counted = onnx_tool.Model(model)
            counted.graph.shape_infer(None)
            counted.graph.profile()
    except Exception:  # whatever it raises
        return None
    finally:
        gc.collect()
    return time.process_time() - start


def report(what: str, ratios: Sequence[float]) -> None:
    """Print the median and the 90th percentile."""
    ordered = sorted(ratios)
    print(
        f"{what:60s} {statistics.median(ordered):12.2f} {ordered[len(ordered) * 9 // 10]:12.2f}", flush=True
    )


def inspect_cost(path: Path, runs: int = 5) -> None:
    """Print the seconds of `aiop inspect` in a new process, and which heavy modules it loads."""
    command = [sys.executable, "-m", "aiop", "inspect", str(path)]
    seconds = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / runs
    code = (
        "import sys; sys.argv[1:] = ['inspect', '--json', sys.argv[1]]\n"
        "from aiop.cli.main import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY_MODULES} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    nodes = len(read_onnx(path).operations)
    print(
        f"\naiop inspect of {nodes} operations in a new process: {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} .. {max(seconds):.2f}), {busy:.2f} s of CPU; of {', '.join(HEAVY_MODULES)} it loads "
        f"{done.stderr.strip().splitlines()[-1]}"
    )


if __name__ == "__main__":
    main()
