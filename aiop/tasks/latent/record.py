"""The outcome of a build as a table (Parquet) and a card (JSON): labels, seeds, costs, versions."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiop.graph_ir.tensor_file import atomic_path
from aiop.tasks.latent.config import LatentConfig
from aiop.tasks.latent.ledger import Label

__all__ = ["SCHEMA", "Costs", "agreement", "rows_of", "write_record"]

SCHEMA = 1
_PACKAGES = ("aiop", "torch", "numpy", "scipy", "scikit-learn", "faster-coco-eval", "pyarrow")


@dataclass
class Costs:
    """CPU seconds of what is trained once: the supernet, and the shared heads by method and group."""

    supernet: float = 0.0
    heads: dict[tuple[str, str], float] = field(default_factory=dict)


def rows_of(
    truth: Sequence[str], pseudo: Sequence[str], labels: Sequence[Label], space: str
) -> list[dict[str, Any]]:
    """One row per body, and one for the second training of a body that has one (`repeat` 1, truth only).

    Columns: network; role (``truth``, ``pseudo``); repeat; depth; macs and params of the classifier at 64 x 64; then
    per kind of label KIND/TASK (%), KIND_seconds/GROUP, KIND_evaluation_seconds/GROUP, KIND_seed/GROUP; None where
    there is no label.
    """
    columns: dict[str, None] = {}
    found: dict[tuple[str, int], dict[str, Any]] = {}
    seen: dict[tuple[str, str, str], int] = {}
    for label in labels:
        repeat = seen.get((label.kind, label.code, label.group), -1) + 1
        seen[label.kind, label.code, label.group] = repeat
        values = {f"{label.kind}/{task}": figure for task, figure in label.figures.items()}
        values[f"{label.kind}_seconds/{label.group}"] = label.seconds
        values[f"{label.kind}_evaluation_seconds/{label.group}"] = label.evaluation_seconds
        values[f"{label.kind}_seed/{label.group}"] = label.seed
        found.setdefault((label.code, repeat), {}).update(values)
        columns |= dict.fromkeys(values)
    order = [(code, "truth") for code in truth] + [(code, "pseudo") for code in pseudo]
    rows = []
    for code, role in order:
        measured = {repeat: found[code, repeat] for repeat in (0, 1) if (code, repeat) in found}
        described = _described(space, code) if measured else {}
        for repeat, values in measured.items():
            rows.append(
                {"network": f"{space}:{code}", "role": role, "repeat": repeat}
                | described
                | {name: values.get(name) for name in columns}
            )
    return rows


def _described(space: str, code: str) -> dict[str, Any]:
    from aiop.tasks.latent.body import SPACE
    from aiop.tasks.networks import read

    graph = read(f"{space}:{code}")
    return {"depth": SPACE.parse(code).depth, "macs": graph.macs, "params": graph.params}


def agreement(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Per task, Spearman's correlation over the individually trained bodies of truth with pseudo-labels and with MACs.

    ``n`` is how many bodies there are; None stands where fewer than three are or nothing varies.
    ``noise``: deviation of one training of a body from another with a second seed, in %, root mean square.
    """
    first = [row for row in rows if row["role"] == "truth" and row["repeat"] == 0]
    again = {row["network"]: row for row in rows if row["repeat"] == 1}
    names = [name for row in first[:1] for name in row]
    result: dict[str, dict[str, float | int | None]] = {}
    for name in names:
        kind, _, task = name.partition("/")
        if kind != "truth":
            continue
        measured = [row for row in first if row[name] is not None]
        entry: dict[str, float | int | None] = {"n": len(measured)}
        for other in ("latent", "swapping"):
            if f"{other}/{task}" in names:
                entry[other] = _srcc(measured, f"{other}/{task}", name)
        entry["macs"] = _srcc(measured, "macs", name)
        pairs = [
            (row[name], again[row["network"]][name])
            for row in measured
            if row["network"] in again and again[row["network"]][name] is not None
        ]
        # The difference of two trainings has twice the variance of one.
        spread = math.sqrt(sum((a - b) ** 2 for a, b in pairs) / (2 * len(pairs))) if pairs else None
        entry["noise"] = spread
        result[task] = entry
    return result


def _srcc(rows: Sequence[Mapping[str, Any]], name: str, other: str) -> float | None:
    from scipy.stats import spearmanr

    pairs = np.asarray(
        [(row[name], row[other]) for row in rows if row[name] is not None and row[other] is not None],
        dtype=np.float64,
    ).reshape(-1, 2)
    if len(pairs) < 3 or (pairs == pairs[0]).all(axis=0).any():
        return None
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def write_record(
    config: LatentConfig,
    truth: Sequence[str],
    pseudo: Sequence[str],
    labels: Sequence[Label],
    costs: Costs,
    failures: Mapping[str, str],
    begun: float,
) -> dict[str, Any]:
    """Write ``labels.parquet`` and ``labels.json`` into the folder of a build, and return what the latter holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from aiop.tasks.latent.body import SPACE

    rows = rows_of(truth, pseudo, labels, SPACE.name)
    card = {
        "schema": SCHEMA,
        "space": SPACE.name,
        "rows": len(rows),
        "bodies": {"truth": len(truth), "pseudo": len(pseudo)},
        "agreement": agreement(rows),
        "seconds": _seconds(labels, costs),
        "failures": dict(failures),
        "config": config.plain(),
        "versions": _versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_seconds_of_last_run": round(time.time() - begun, 1),
    }
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    table = table.replace_schema_metadata({"aiop": json.dumps({"schema": SCHEMA, "space": SPACE.name})})
    with atomic_path(config.folder / "labels.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")
    text = json.dumps(card, indent=1, allow_nan=False) + "\n"
    with atomic_path(config.folder / "labels.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    plain: dict[str, Any] = json.loads(text)
    return plain


def _seconds(labels: Sequence[Label], costs: Costs) -> dict[str, Any]:
    """CPU seconds: what was trained once, and the mean of every kind of label; what a pseudo-label costs of a truth."""
    means: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(label.kind for label in labels):
        for group in dict.fromkeys(label.group for label in labels):
            taken = [(x.seconds, x.evaluation_seconds) for x in labels if (x.kind, x.group) == (kind, group)]
            if taken:
                mean, evaluation = np.mean(taken, axis=0)
                means.setdefault(kind, {})[group] = {
                    "labels": len(taken),
                    "mean": round(float(mean), 3),
                    "evaluation": round(float(evaluation), 3),
                }
    of_truth = sum(entry["mean"] for entry in means.get("truth", {}).values())
    shares = {
        kind: round(sum(entry["mean"] for entry in groups.values()) / of_truth, 4)
        for kind, groups in means.items()
        if kind != "truth" and of_truth
    }
    everything = sum(x.seconds + x.evaluation_seconds for x in labels)
    heads = {f"{method}/{group}": round(seconds, 1) for (method, group), seconds in costs.heads.items()}
    return {
        "supernet": round(costs.supernet, 1),
        "heads": heads,
        "labels": means,
        "share_of_truth": shares,
        "total": round(everything + costs.supernet + sum(costs.heads.values()), 1),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
