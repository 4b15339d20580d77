"""The real networks of timm: 848 ONNX graphs, accuracy on 8 data sets, throughput in 22 settings."""

from __future__ import annotations

import lzma
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiop.errors import AiopError
from aiop.tasks.declare import cost, quality
from aiop.tasks.tables.families import family
from aiop.tasks.tables.table import Table, data_dir, read_columns, register_table, sha256

__all__ = ["iter_timm", "load"]

ACCURACY, BENCHMARK, GRAPHS = "timm_accuracy.parquet", "timm_benchmark.parquet", "timm_onnx.tar.xz"

_MEMBER = re.compile(r"timm_onnx/([A-Za-z0-9_.-]+)__(\d+)\.onnx")
_LARGEST_GRAPH = 64 * 2**20  # bytes; the largest graph has 3 MB

Key = tuple[str, int]  # architecture, input size

_TIMM = "timm results (Wightman)"

#: Set of timm's accuracy table -> data set.
TIMM_ACCURACY_SETS = {
    "imagenet": "ImageNet validation set",
    "imagenet-a": "ImageNet-A (natural adversarial examples)",
    "imagenet-a-clean": "ImageNet, the 200 classes of ImageNet-A",
    "imagenet-r": "ImageNet-R (renditions)",
    "imagenet-r-clean": "ImageNet, the 200 classes of ImageNet-R",
    "imagenet-real": "ImageNet with reassessed labels (ReaL)",
    "imagenetv2-matched-frequency": "ImageNetV2, matched frequency",
    "sketch": "ImageNet-Sketch",
}

#: Sets of timm's benchmark table that measure inference: ``infer-PRECISION-LAYOUT-VERSIONS-DEVICE``, where the
#: versions are those of PyTorch and CUDA. No two measure the same thing: none repeats another.
TIMM_THROUGHPUT_SETS = (
    "infer-amp-nchw-pt113-cu117-rtx3090",
    "infer-amp-nchw-pt210-cu121-rtx3090",
    "infer-amp-nchw-pt240-cu124-rtx3090",
    "infer-amp-nchw-pt240-cu124-rtx4090",
    "infer-amp-nchw-pt240-cu124-rtx4090-dynamo",
    "infer-amp-nchw-pt291-cu128-4090",
    "infer-amp-nchw-pt291-cu128-4090-dynamo",
    "infer-amp-nchw-pt291-cu130-5090",
    "infer-amp-nchw-pt291-cu130-5090-dynamo",
    "infer-amp-nchw-pt291-cu130-pro6000maxq",
    "infer-amp-nchw-pt291-cu130-pro6000maxq-dynamo",
    "infer-amp-nhwc-pt113-cu117-rtx3090",
    "infer-amp-nhwc-pt210-cu121-rtx3090",
    "infer-amp-nhwc-pt240-cu124-rtx3090",
    "infer-amp-nhwc-pt240-cu124-rtx4090",
    "infer-amp_bf16-nchw-pt291-cu130-pro6000maxq-dynamo",
    "infer-bf16-nchw-pt291-cu130-pro6000maxq-dynamo",
    "infer-fp32-nchw-pt221-cpu-i9_10940x-dynamo",
    "infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo",
    "infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo",
)

#: Sets of timm's benchmark table that measure training: forward, backward and the step of the optimiser.
TIMM_TRAINING_SETS = (
    "train-amp-nchw-pt112-cu113-rtx3090",
    "train-amp-nhwc-pt112-cu113-rtx3090",
)


def timm_accuracy_task(dataset: str, metric: str) -> str:
    """Task of a set and metric (``"top1"`` or ``"top5"``) of timm's accuracy table."""
    return f"classification/timm/{dataset}-{metric}"


def timm_throughput_task(benchmark: str) -> str:
    """Task of a set of timm's benchmark table."""
    domain = "training-throughput" if benchmark in TIMM_TRAINING_SETS else "throughput"
    return f"{domain}/timm/{benchmark}"


for _set, _dataset in TIMM_ACCURACY_SETS.items():
    for _metric in ("top1", "top5"):
        quality("classification", "timm", _set, _metric, _dataset, _TIMM, "Apache-2.0")
for _set in TIMM_THROUGHPUT_SETS:
    cost("throughput", "timm", _set, _set.removeprefix("infer-"), _TIMM, "Apache-2.0")
for _set in TIMM_TRAINING_SETS:
    cost("training-throughput", "timm", _set, _set.removeprefix("train-"), _TIMM, "Apache-2.0")


class _Accuracy(NamedTuple):
    """One row of the accuracy table: top-1 and top-5 in %, parameters in millions."""

    top1: float
    top5: float
    params: float


@register_table("timm")
def load(folder: Path) -> Table:
    """One entry per ONNX graph, ``timm:<architecture>__<input size>``, joined on both with the two tables.

    149 of the graphs were evaluated with several training recipes (ResNet-50 at 224: 18, 76.2% to 81.1%).
    A graph cannot tell them apart, so its accuracy is the median over recipes, which no single unusual recipe
    moves; ``extras["recipes"]`` counts them. Recipes with training data beyond ImageNet-1k are kept: many
    families have no other, and leaving them out where there is one was seen to make no difference to how well
    size alone ranks the networks.

    ``macs`` is fvcore's count, printed to 0.01 G (median over settings), ``params`` to 0.01 M. Values of
    throughput are the measured images/s at the graph's input size, in training at half of the sizes only. The
    table's milliseconds per step are the batch divided by them, no measurement of their own. ``groups`` are families.

    There is no ``noise``: recipes differ by more than chance, and no setting is measured twice.
    """
    keys = _graph_keys(folder / GRAPHS)
    position = {key: i for i, key in enumerate(keys)}
    values = {
        timm_accuracy_task(dataset, metric): np.full(len(keys), np.nan)
        for dataset in TIMM_ACCURACY_SETS
        for metric in ("top1", "top5")
    }
    params = np.full(len(keys), np.nan)
    recipes = np.zeros(len(keys), dtype=np.int64)

    for (dataset, key), rows in _accuracy_rows(folder / ACCURACY).items():
        i = position.get(key)
        if i is None or dataset not in TIMM_ACCURACY_SETS:
            continue
        values[timm_accuracy_task(dataset, "top1")][i] = np.median([row.top1 for row in rows])
        values[timm_accuracy_task(dataset, "top5")][i] = np.median([row.top5 for row in rows])
        params[i] = np.round(rows[0].params * 1e6)
        if dataset == "imagenet":
            recipes[i] = len(rows)

    throughput, macs = _benchmark_values(folder / BENCHMARK, position)
    return Table(
        name="timm",
        networks=[_network(key) for key in keys],
        values=values | throughput,
        groups=[family(architecture) for architecture, _ in keys],
        macs=macs,
        params=params,
        files={file: sha256(folder / file) for file in (ACCURACY, BENCHMARK, GRAPHS)},
        licence="Apache-2.0",
        extras={"recipes": recipes},
    )


def iter_timm() -> Iterator[tuple[str, bytes]]:
    """Stream ``(network name, ONNX bytes)`` of every graph, in the order of ``load_table("timm").networks``.

    Nothing is extracted to disk; members that are not regular ONNX files are skipped.
    """
    for key, content in _members(data_dir() / GRAPHS, read=True):
        yield _network(key), content


def _network(key: Key) -> str:
    return f"timm:{key[0]}__{key[1]}"


def _graph_keys(path: Path) -> list[Key]:
    return [key for key, _ in _members(path, read=False)]


def _members(path: Path, read: bool) -> Iterator[tuple[Key, bytes]]:
    if not path.is_file():
        raise AiopError(f'archive "{path}" does not exist: set AIOP_DATA to the folder that holds it')
    try:
        with tarfile.open(path, "r|xz") as archive:
            for member in archive:
                match = _MEMBER.fullmatch(member.name)
                if match is None or not member.isreg() or member.size > _LARGEST_GRAPH:
                    continue
                file = archive.extractfile(member) if read else None
                yield (match[1], int(match[2])), file.read() if file else b""
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise AiopError(f'archive "{path}" cannot be read ({error}): fetch the file again') from error


def _accuracy_rows(path: Path) -> dict[tuple[str, Key], list[_Accuracy]]:
    """(set, key) -> one row per training recipe."""
    columns = read_columns(path, ["set", "arch", "img_size", "top1", "top5", "param_count"])
    rows: dict[tuple[str, Key], list[_Accuracy]] = defaultdict(list)
    for dataset, arch, size, top1, top5, params in zip(*columns.values(), strict=True):
        rows[dataset, (arch, int(size))].append(_Accuracy(top1, top5, float(params.replace(",", ""))))
    return rows


def _benchmark_values(
    path: Path, position: dict[Key, int]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Task -> images/s ``(n,)``, and MACs ``(n,)``."""
    kinds = {"infer": TIMM_THROUGHPUT_SETS, "train": TIMM_TRAINING_SETS}
    measured = [f"{kind}_{column}" for kind in kinds for column in ("img_size", "samples_per_sec")]
    columns = read_columns(path, ["set", "arch", "infer_gmacs", *measured])
    count = len(position)
    values = {timm_throughput_task(name): np.full(count, np.nan) for sets in kinds.values() for name in sets}
    gmacs: dict[int, list[float]] = defaultdict(list)
    for kind, sets in kinds.items():
        rows = zip(
            columns["set"],
            columns["arch"],
            columns[f"{kind}_img_size"],
            columns[f"{kind}_samples_per_sec"],
            columns["infer_gmacs"],
            strict=True,
        )
        for name, arch, size, images, giga in rows:
            i = position.get((arch, int(size))) if size is not None else None
            if i is None or name not in sets:
                continue
            if images is not None:
                values[timm_throughput_task(name)][i] = images
            if giga is not None:
                gmacs[i].append(giga)
    macs = np.full(count, np.nan)
    for i, counts in gmacs.items():
        macs[i] = np.round(np.median(counts) * 1e9)
    return values, macs
