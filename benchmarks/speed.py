"""How fast the predictor reads, predicts and embeds, printed as medians over repeats.

    python -m benchmarks.speed [--weights FOLDER] [--repeats 5]

Networks per second through the loaded predictor from a corpus; seconds per network from a file, in a new process and in
one that has loaded the predictor. (`benchmarks.spaces` times how search spaces are written and read.)
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch

import aiop
from aiop.graph_ir import read_onnx
from aiop.graph_ir.corpus import Corpus, CorpusWriter
from aiop.graph_ir.features import encode, fingerprint
from aiop.tasks import get_space


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="folder of a predictor; the shipped one by default")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; median of {options.repeats} runs (fastest .. slowest)\n")
    with tempfile.TemporaryDirectory() as folder:
        corpus_speed(options.weights, options.repeats, Path(folder))
        file_speed(options.weights, options.repeats, Path(folder))


def timed(function: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of each of ``repeats`` calls, ascending."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)


def report(what: str, numbers: list[float], unit: str) -> None:
    """Print a median with its range."""
    low, high = min(numbers), max(numbers)
    print(f"{what:66s} {statistics.median(numbers):9.3g} {unit}  ({low:.3g} .. {high:.3g})", flush=True)


def corpus_speed(weights: str | None, repeats: int, folder: Path) -> None:
    """NAS-Bench-201 graphs per second through the loaded predictor."""
    space = get_space("nas-bench-201")
    rng = np.random.default_rng(0)
    codes = list(dict.fromkeys(space.sample(rng) for _ in range(2600)))[:2048]
    with CorpusWriter(folder / "cells.corpus", fingerprint()) as writer:
        for code in codes:
            writer.add(code, encode(read_onnx(space.build(code))))
    corpus = Corpus(folder / "cells.corpus")
    predictor = aiop.load(weights)
    predictor.predict_corpus(corpus, np.arange(256), engine="dgl")
    seconds = timed(lambda: predictor.predict_corpus(corpus, engine="dgl"), repeats)
    report(
        "NAS-Bench-201 graphs from a corpus, all tasks, DGL", [len(corpus) / s for s in seconds], "graphs/s"
    )
    seconds = timed(lambda: predictor.predict_corpus(corpus, engine="torch"), repeats)
    report(
        "NAS-Bench-201 graphs from a corpus, all tasks, plain torch",
        [len(corpus) / s for s in seconds],
        "graphs/s",
    )


def file_speed(weights: str | None, repeats: int, folder: Path) -> None:
    """Seconds to predict for a ResNet-50 file with weights."""
    path = folder / "resnet50.onnx"
    path.write_bytes(resnet50_with_weights())
    print(f"\nResNet-50 file of {path.stat().st_size / 1e6:.0f} MB")
    extra = ["--weights", weights] if weights else []
    command = [sys.executable, "-m", "aiop", "predict", str(path), "--json", *extra]
    report(
        "aiop predict in a new process",
        timed(lambda: subprocess.run(command, check=True, capture_output=True), repeats),
        "s",
    )
    command = [sys.executable, "-m", "aiop", "inspect", str(path), "--json"]
    report(
        "aiop inspect in a new process",
        timed(lambda: subprocess.run(command, check=True, capture_output=True), repeats),
        "s",
    )
    predictor = aiop.load(weights)
    predictor.predict(path)
    report(
        "predict in a process that has loaded the predictor",
        timed(lambda: predictor.predict(path), repeats),
        "s",
    )


def resnet50_with_weights() -> bytes:
    """Return the onnx package's ResNet-50, whose weights are left out, with random weights put in."""
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"
    network = onnx.load(light)
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in network.graph.initializer}
    rng = np.random.default_rng(0)
    nodes = []
    for node in network.graph.node:
        if node.op_type == "ConstantOfShape":
            shape = tuple(constants[node.input[0]])
            values = rng.normal(0.0, 0.01, shape).astype(np.float32)
            network.graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    return bytes(network.SerializeToString())


if __name__ == "__main__":
    main()
