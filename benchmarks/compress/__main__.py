"""Real trained networks, cut by the search and by simpler methods, fine-tuned equally, measured.

    python -m benchmarks.compress [--networks vgg,resnet] [--levels 0.7,0.5] [--methods search,uniform] [--seeds 2]
        [--trials 300] [--work FOLDER] [--again search] [--write]

Trains what is not trained yet (in FOLDER, by default in the cache), and goes on where it was interrupted. `--again`
cuts anew by a method, or measures anew (`latency`, on a quiet machine). `--write` puts the tables into
docs/results/compress-networks.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from aiop.errors import AiopError
from aiop.graph_ir.tensor_file import atomic_path
from aiop.predictor.few_shot import fit_head
from aiop.search.editing.network import EditableNetwork
from aiop.tasks.corpora import cache_dir
from benchmarks.compress.measuring import fine_tuned, latency_ratio
from benchmarks.compress.methods import METHODS, Guide
from benchmarks.compress.networks import NETWORKS
from benchmarks.compress.originals import original
from benchmarks.compress.table import Measured, lines
from benchmarks.compress.training import FINE_TUNING, Images, load_images
from benchmarks.document import DOCUMENT, write_section

RESULTS = DOCUMENT.parent / "results" / "compress-networks.md"
TASK, LABELS = "classification/digits-ofa/main-top1", 40


class Workshop:
    """Cuts and measurements of one folder; each is made once."""

    def __init__(self, folder: Path, images: Images, trials: int) -> None:
        self.folder, self.images, self.trials = folder, images, trials
        self._guide: Guide | None = None
        self.results = folder / "measured.jsonl"
        self.latencies = folder / "latencies.jsonl"
        self._known = {key: Measured(**entry) for key, entry in _read(self.results)}
        self._latency: dict[str, float] = {key: entry["ratio"] for key, entry in _read(self.latencies)}

    def forget_latencies(self) -> None:
        """Measure all latencies anew."""
        self._latency.clear()
        self.latencies.unlink(missing_ok=True)

    @property
    def guide(self) -> Guide:
        """What the search is guided by; the head is fitted when it is first asked for."""
        if self._guide is None:
            calibration = self.folder / "calibration.npz"
            if not calibration.exists():
                with atomic_path(calibration) as temporary, temporary.open("wb") as file:
                    np.savez(file, image=self.images.calibration())
            self._guide = Guide(fit_head("digits-ofa", TASK, budget=LABELS, seed=0), calibration, self.trials)
        return self._guide

    def cut(self, kind: str, method: str, level: float, seed: int, whole: onnx.ModelProto) -> onnx.ModelProto:
        """Return a network cut by a method."""
        path = self.folder / "cuts" / f"{kind}-{method}-{round(100 * level)}-{seed}.onnx"
        if not path.exists():
            network = METHODS[method](EditableNetwork.read(whole, name=kind), level, seed, self.guide)
            path.parent.mkdir(exist_ok=True)
            network.check()
            network.save(path)
        return onnx.load(path)

    def measure(
        self,
        kind: str,
        method: str,
        level: float,
        seed: int,
        network: onnx.ModelProto,
        whole: onnx.ModelProto,
    ) -> Measured:
        """Fine-tune and measure a cut network, or return what was measured of it before."""
        mark = hashlib.sha256(
            network.SerializeToString(deterministic=True)
            + repr((FINE_TUNING, kind, method, level, seed)).encode()
        )
        key = mark.hexdigest()[:24]
        if key not in self._known:
            before, after = fine_tuned(network, self.images, seed)
            macs = EditableNetwork.read(network).macs / EditableNetwork.read(whole).macs
            found = Measured(kind, method, level, seed, macs, math.nan, before, after)
            self._known[key] = found
            _append(self.results, {"key": key, **asdict(found)})
        return replace(self._known[key], latency=self._ratio(network, whole))

    def _ratio(self, network: onnx.ModelProto, whole: onnx.ModelProto) -> float:
        """Return the latency ratio of a network, measured before or now."""
        if network is whole:
            return 1.0
        key = hashlib.sha256(network.SerializeToString(deterministic=True)).hexdigest()[:24]
        if key not in self._latency:
            self._latency[key] = latency_ratio(network, whole)
            _append(self.latencies, {"key": key, "ratio": self._latency[key]})
        return self._latency[key]


def _read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    if not path.exists():
        return []
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [(str(entry.pop("key")), entry) for entry in entries]


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--levels", default="0.7,0.5", help="shares of the MACs that may be left")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=2, help="fine-tunings, and draws of random cuts")
    parser.add_argument("--trials", type=int, default=300, help="of the search")
    parser.add_argument("--work", type=Path, help="folder of networks and measurements")
    parser.add_argument("--again", default="", help="methods whose cuts are made anew")
    parser.add_argument("--write", action="store_true", help="write docs/results/compress-networks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    folder = options.work or cache_dir() / "compress-benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    images = load_images(folder)
    workshop = Workshop(folder, images, options.trials)
    kinds, methods = options.networks.split(","), options.methods.split(",")
    levels = [float(level) for level in options.levels.split(",")]
    for method in filter(None, options.again.split(",")):
        if method == "latency":
            workshop.forget_latencies()
        for path in (folder / "cuts").glob(f"*-{method}-*.onnx"):
            path.unlink()
    measured: list[Measured] = []
    originals: dict[str, float] = {}
    for seed in range(options.seeds):
        for kind in kinds:
            whole, originals[kind] = original(kind, images, folder)
            found = [workshop.measure(kind, "original", 1.0, seed, whole, whole)]
            for level in levels:
                for method in methods:
                    network = workshop.cut(kind, method, level, seed if method == "random" else 0, whole)
                    found.append(workshop.measure(kind, method, level, seed, network, whole))
                    print(_line(found[-1]), flush=True)
            measured += found
    given = f"--networks {options.networks} --seeds {options.seeds} --trials {options.trials}"
    text = [f"`python -m benchmarks.compress {given}`", "", *lines(measured, originals, methods)]
    print("\n".join(["", *text]))
    if options.write:
        write_section("compress-networks", text, RESULTS)


def _line(item: Measured) -> str:
    return (
        f"{item.kind:14s} {item.method:10s} {item.level:.2f} seed {item.seed}: MACs {item.macs:.3f}, latency "
        f"{item.latency:.2f}, top-1 {item.before:.1f} -> {item.after:.1f}"
    )


if __name__ == "__main__":
    try:
        main()
    except AiopError as error:
        raise SystemExit(f"error: {error}") from None
