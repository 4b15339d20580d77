"""A fitted head as one file: safetensors, with everything that is no array as JSON in the header.

Loading executes nothing. A file that is damaged, hostile, of another version or made with another predictor is refused
in one line. It holds no names of networks; what was measured of them is in the fitted head.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from aiop.errors import AiopError
from aiop.finetune.baselines import CostTrend
from aiop.finetune.head import FewShotHead
from aiop.finetune.tuned_member import with_tuned
from aiop.finetune.views import Views
from aiop.graph_ir.features import GRAPH_FEATURES, fingerprint
from aiop.graph_ir.structure import STRUCTURE_WIDTH
from aiop.graph_ir.tensor_file import atomic_path, encode_header, read_header
from aiop.predictor.few_shot import FitRecord, TaskHead
from aiop.predictor.labels import HeadTask
from aiop.predictor.predictor import Predictor, load
from aiop.predictor.tuned_network import TunedNetworks

__all__ = ["KIND", "SCHEMA", "load_head", "save_head"]

Array = npt.NDArray[Any]

SCHEMA = 1
KIND = "aiop-head"
_LARGEST = 1 << 30  # bytes: keeps a hostile size from being read
_UNKNOWN = "0" * 32  # a content hash that is not known
_STATE, _TUNED, _MARKS, _HELD_OUT = "state/", "tuned/", "marks", "held_out"


def save_head(head: TaskHead, path: str | Path) -> None:
    """Write a head, replacing the file as a whole or not at all.

    Raises:
        AiopError: for a path that cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise AiopError(f'cannot write "{path}": it is a directory; give the name of a file')
    arrays, state = head.head.to_state()
    record = head.record
    tensors = {f"{_STATE}{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
    marks = "".join(mark or _UNKNOWN for mark in record.marks)
    tensors[_MARKS] = np.frombuffer(bytes.fromhex(marks), np.uint8).reshape(record.labels, -1)
    tensors[_HELD_OUT] = np.asarray(record.held_out, np.float64)
    document = {
        "kind": KIND,
        "schema": SCHEMA,
        "predictor": head.predictor.card["weights_sha256"],
        "fingerprint": fingerprint(),
        "task": head.task.to_dict(),
        "fit": {
            "labels": record.labels,
            "low": record.low,
            "high": record.high,
            "seed": record.seed,
            "scores": record.scores,
            "trend": record.trend.to_dict(),
        },
        "state": state,
    }
    if head.tuned is not None:
        weights, document["tuned"] = head.tuned.to_state()
        tensors |= {f"{_TUNED}{name}": np.ascontiguousarray(array) for name, array in weights.items()}
    text = json.dumps(document, allow_nan=False, ensure_ascii=False)
    # The largest elements first, so that every array lies at a multiple of its element's size.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    metadata = {"head": text, "sha256": _digest(text, tensors)}
    header = encode_header({name: (tensors[name].dtype, tensors[name].shape) for name in order}, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(header + b"".join(tensors[name].tobytes() for name in order))


def load_head(path: str | Path, predictor: Predictor | str | Path | None = None) -> TaskHead:
    """Load a head that `TaskHead.save` wrote.

    Args:
        path: of the file.
        predictor: the one the head was fitted on, or its folder; by default the one that comes with the package.

    Raises:
        AiopError: for a missing, damaged or foreign file, and a head that another predictor or version made.
    """
    path = Path(path)
    text, tensors = _read(path)
    document = _document(path, text)
    if not isinstance(predictor, Predictor):
        predictor = load(predictor)
    _check_origin(path, document, predictor)
    try:
        task = HeadTask.from_dict(document["task"])
        record = _record(document["fit"], tensors)
        fitted = FewShotHead.from_state(_under(tensors, _STATE), document["state"])
        tuned = None
        if document.get("tuned") is not None:
            tuned = TunedNetworks.from_state(_under(tensors, _TUNED), document["tuned"], predictor.module)
        head = TaskHead(task, fitted, predictor, record, tuned=tuned)
        _try(head)
    except Exception as error:  # whatever a file with a foreign state leads to: it is the file's fault
        _refuse(path, f"its parts do not fit together ({type(error).__name__}: {str(error)[:80]})")
    return head


def _under(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _read(path: Path) -> tuple[str, dict[str, Array]]:
    """Return the document's text and the arrays, after comparing them with their hash."""
    metadata, layouts = read_header(path)
    if path.stat().st_size > _LARGEST:
        _refuse(path, f"it is larger than {_LARGEST >> 20} MB")
    if "head" not in metadata or "sha256" not in metadata:
        raise AiopError(f"{path} is not the file of a head: give one that `aiop finetune` wrote")
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        _refuse(path, str(error))
    if tensors.keys() != layouts.keys() or _digest(metadata["head"], tensors) != metadata["sha256"]:
        _refuse(path, "its content hash differs")
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            _refuse(path, f"array {name[:60]!r} is not finite")
    return metadata["head"], tensors


def _document(path: Path, text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_constant=_no_constant)
        kind, schema = document["kind"], document["schema"]
    except (KeyError, TypeError, ValueError, RecursionError):
        _refuse(path, "its description is no JSON of a head")
    if kind != KIND:
        raise AiopError(f"{path} is not the file of a head: give one that `aiop finetune` wrote")
    if schema != SCHEMA:
        raise AiopError(
            f"head {path} has schema {str(schema)[:20]}, this version reads {SCHEMA}: fit it again with `aiop finetune`"
        )
    return dict(document)


def _check_origin(path: Path, document: Mapping[str, Any], predictor: Predictor) -> None:
    made, mine = str(document.get("predictor")), str(predictor.card["weights_sha256"])
    if made != mine:
        raise AiopError(
            f"head {path} was made with predictor {made[:12]}, this is {mine[:12]}: name that one with --weights, or "
            "fit the head again with `aiop finetune`"
        )
    if document.get("fingerprint") != fingerprint():
        raise AiopError(
            f"head {path} was made with features {str(document.get('fingerprint'))[:12]}, this version has "
            f"{fingerprint()[:12]}: fit it again with `aiop finetune`"
        )


def _record(fit: Mapping[str, Any], tensors: Mapping[str, Array]) -> FitRecord:
    labels, marks, held_out = fit["labels"], tensors[_MARKS], tensors[_HELD_OUT]
    if type(labels) is not int or marks.shape != (labels, len(_UNKNOWN) // 2) or held_out.shape != (labels,):
        raise ValueError("number of labels")
    low, high = float(fit["low"]), float(fit["high"])
    trend = CostTrend.from_dict(fit["trend"])
    if not (
        math.isfinite(low)
        and math.isfinite(high)
        and trend.knots.shape == trend.values.shape == (len(trend.knots),)
    ):
        raise ValueError("range or trend")
    return FitRecord(
        labels=labels,
        low=low,
        high=high,
        seed=int(fit["seed"]),
        scores={str(row): dict(scores) for row, scores in fit["scores"].items()},
        trend=trend,
        marks=tuple("" if mark == _UNKNOWN else mark for mark in (row.tobytes().hex() for row in marks)),
        held_out=held_out.astype(np.float64),
    )


def _try(head: TaskHead) -> None:
    """Predict for two networks of nothing: an array of a wrong shape shows here, not at the user's first network."""
    module, sources = head.predictor.module, head.predictor.sources
    views = Views(
        names=("", ""),
        embedding=np.zeros((2, module.embedding), np.float32),
        outputs=np.zeros((2, len(sources)), np.float32),
        graph=np.zeros((2, len(GRAPH_FEATURES)), np.float32),
        macs=np.ones(2),
        params=np.ones(2),
        sources=sources,
        structure=np.zeros((2, STRUCTURE_WIDTH), np.uint8),
        blind=np.array([False, True]),
    )
    if head.tuned is not None:
        views = with_tuned(views, np.zeros(2))
    if any(np.shape(column) != (2,) for column in head.predict_views(views)):
        raise ValueError("shape of predictions")


def _digest(text: str, tensors: Mapping[str, Array]) -> str:
    """SHA-256 over the description and over name, type, shape and bytes of every array, in the order of the names."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass"))
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse(path: Path, cause: str) -> NoReturn:
    raise AiopError(f"head {path} is damaged: {cause}; fit it again with `aiop finetune`")
