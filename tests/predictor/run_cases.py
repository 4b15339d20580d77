"""What the tests of whole runs share: tables so small that a run over them takes seconds."""

import numpy as np
import yaml

from aiop.graph_ir import read_onnx
from aiop.tasks import get_space
from aiop.tasks.tables import Table, table

TASK = "classification/nas-bench-201/cifar10-test-top1"
LATENCY = "latency/nas-bench-201/raspi4"
CELLS = 90


def settings(path, **more):
    values = {
        "corpora": ["small"], "out": "out", "steps": 60, "batch_size": 16, "eval_every": 0, "threads": 1,
        "backbone": {"width": 16, "layers": 2, "embedding": 16, "head": 16}, **more,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    return path


def make_small_table(monkeypatch, tmp_path):
    """Ninety cells whose labels are functions of their costs; no benchmark file is needed."""
    space = get_space("nas-bench-201")
    rng = np.random.default_rng(0)
    codes = list(dict.fromkeys(space.sample(rng) for _ in range(2 * CELLS)))[:CELLS]
    macs = np.array([read_onnx(space.build(code)).macs for code in codes], float)
    values = {TASK: 60 + 5 * np.log10(macs), LATENCY: macs / 1e6}
    values[LATENCY][::4] = np.nan

    def load(folder):
        return Table(
            "small", [f"nas-bench-201:{code}" for code in codes], values, [str(i % 30) for i in range(CELLS)],
            macs, macs, {"small.parquet": "0" * 64}, "Apache-2.0",
        )  # fmt: skip

    monkeypatch.setitem(table._LOADERS, "small", load)
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    return codes


def make_own_table(monkeypatch, tmp_path):
    """Forty cells in ``tables/my.csv``, with two measurements that follow their convolutions."""
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    space, rng = get_space("nas-bench-201"), np.random.default_rng(0)
    codes = [space.sample(rng) for _ in range(40)]
    lines = [f"nas-bench-201:{code},{50 + code.count('conv')},{1 + code.count('3x3')}" for code in codes]
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "my.csv"
    path.write_text("\n".join(["network,top1 [%],latency/my-phone/batch1", *lines]))
    return path
