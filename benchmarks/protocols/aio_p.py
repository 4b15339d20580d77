"""Train AIO-P as published on NAS-Bench-101, for `aiop bench PROTOCOL --aio-p FILE`.

    python -m benchmarks.protocols.aio_p -o runs/aio-p.safetensors [--epochs 40] [--networks N]

Its settings are the published ones (40 epochs, batches of 32, Adam at 1e-4, labels scaled by FLOPs); it learns from the
training side of the table (the authors: 50,000 cells of it), so that networks kept out are new to it too. A checkpoint
beside the file is written after every epoch; the same command goes on from it. `aiop bench` does not call NAS-Bench-101
unseen for it: where that space, or a near-copy of its accuracy, is judged as unseen, AIO-P has no row.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from aiop.finetune.baselines.aio_p import GraphStore, Settings, train_base
from aiop.protocols import protocols_dir
from aiop.protocols.seen import bench

TABLE, TASK = "nas-bench-101", "classification/nas-bench-101/cifar10-val-top1"


def main() -> None:
    """Train and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="file to write")
    parser.add_argument("--epochs", type=int, default=Settings().epochs)
    parser.add_argument("--networks", type=int, default=0, help="as many of the training side; 0 for all")
    options = parser.parse_args()
    found = bench(TABLE, protocols_dir())
    rows = np.sort(np.random.default_rng(0).permutation(found.side("train"))[: options.networks or None])
    store = GraphStore.of_table(TABLE, rows=rows.tolist())
    names = [found.table.networks[row] for row in rows.tolist()]
    readable = np.array([name not in store.refused for name in names])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    trained = train_base(
        store.graphs([name for name, kept in zip(names, readable, strict=True) if kept]),
        found.table.values[TASK][rows[readable]],
        TASK,
        Settings(epochs=options.epochs),
        checkpoint=options.out.with_suffix(".state"),
    )
    trained.save(options.out)
    print(f"written to {options.out}: {int(readable.sum())} networks, {options.epochs} epochs")


if __name__ == "__main__":
    main()
