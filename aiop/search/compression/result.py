"""What a search leaves in its folder: candidates as ONNX files, and everything about them as JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiop.errors import AiopError
from aiop.search.compression.candidate import Candidate
from aiop.search.compression.compression import Compression, Progress
from aiop.tasks.networks import write_atomically

__all__ = ["FILE", "SCHEMA", "check_drop", "write_result"]

FILE = "pareto.json"
SCHEMA = 1


def check_drop(search: Compression, max_drop: float | None) -> None:
    """Refuse a limit that no candidate keeps.

    Raises:
        AiopError: Every candidate is predicted to lose more; the message names the nearest.
    """
    if max_drop is None or search.best(1, max_drop=max_drop):
        return
    if not search.candidates:
        raise AiopError(f"{search.network.name}: no candidate was found in the window; widen it")
    near = min(search.candidates, key=lambda item: (search.drop(item), item.number))
    unit = search.judge.unit
    raise AiopError(
        f"{search.network.name}: no candidate keeps the predicted drop of {search.judge.task} within "
        f"{max_drop:g} {unit}: "
        f"the nearest loses {search.drop(near):.3g} {unit} at {near.macs / search.network.macs:.3f} of the MACs; "
        "allow a larger drop, more MACs or more trials"
    )


def write_result(
    search: Compression,
    folder: str | Path,
    *,
    count: int = 10,
    max_drop: float | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Write the best candidates as ``candidate-01.onnx`` ... and ``pareto.json``; return what the latter holds.

    Files of an earlier result that this one has no more are taken away, if they are still what was written.

    Raises:
        AiopError: As of `check_drop`, and for a folder that cannot be written.
    """
    check_drop(search, max_drop)
    folder = Path(folder)
    chosen = search.best(count, max_drop=max_drop)
    before = _written(folder)
    front = {item.number for item in search.front()}
    entries = []
    for place, item in enumerate(chosen, 1):
        progress("writing", place - 1, len(chosen))
        name = f"candidate-{place:02d}.onnx"
        path = folder / name
        message = item.network.check(search.network)
        item.network.save(path)
        del message
        entries.append(
            {"file": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            | describe(search, item)
            | {"on_front": item.number in front}
        )
        item.forget()
    progress("writing", len(chosen), len(chosen))
    document: dict[str, Any] = finite(
        {
            "kind": "aiop-compression",
            "schema": SCHEMA,
            "network": search.network.name,
            "settings": search.settings,
            "max_drop": max_drop,
            "trials": len(search.candidates),
            "original": {
                "macs": search.original.macs,
                "params": search.original.params,
                "predicted": search.original.predicted.to_dict(),
                "latency": None if search.original.latency is None else search.original.latency.to_dict(),
                "measured": search.original.measured,
            },
            "candidates": entries,
            "front": [point(search, item) for item in search.front()],
            "out_of_distribution": sum(not item.in_distribution for item in search.candidates),
            "left_alone": _refusals(search),
        }
    )
    write_atomically((json.dumps(document, indent=1, allow_nan=False) + "\n").encode(), folder / FILE)
    names = {entry["file"] for entry in entries}
    for name, digest in before.items():
        path = folder / name
        if name not in names and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            path.unlink()
    return document


def point(search: Compression, item: Candidate) -> dict[str, Any]:
    """Return what is known of a candidate, without its edits."""
    return item.to_dict() | {
        "macs_share": item.macs / search.network.macs,
        "drop": search.drop(item),
        "in_distribution": item.in_distribution,
    }


def describe(search: Compression, item: Candidate) -> dict[str, Any]:
    """Return all that is known of a candidate, with its edits in words."""
    return point(search, item) | {
        "edits": [edit.text for edit in item.edits],
        "not_applied": [f"{refusal.where}: {refusal.reason}" for refusal in item.refusals],
    }


def _refusals(search: Compression) -> list[dict[str, Any]]:
    """Why places were left alone: every reason once, with how many places it holds for and the first of them."""
    counts = Counter((item.mutation, item.reason) for item in search.refusals)
    first: dict[tuple[str, str], str] = {}
    for item in search.refusals:
        first.setdefault((item.mutation, item.reason), item.where)
    return [
        {"mutation": mutation, "reason": reason, "places": count, "first": first[mutation, reason]}
        for (mutation, reason), count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    ]


def _written(folder: Path) -> dict[str, str]:
    """Files of the result that is there: name -> SHA-256."""
    try:
        document = json.loads((folder / FILE).read_text("utf-8"))
        files = {str(entry["file"]): str(entry["sha256"]) for entry in document["candidates"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: digest for name, digest in files.items() if Path(name).name == name}


def finite(value: Any) -> Any:
    """Return plain values with None for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
