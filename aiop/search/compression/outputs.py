"""What a network computes on given inputs, and how near another one comes to it; through onnxruntime."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from aiop.errors import AiopError, suggest
from aiop.search.editing.network import EditableNetwork

__all__ = ["Reference", "noise_inputs", "read_calibration", "resampled"]

Array = npt.NDArray[Any]
Feed = dict[str, Array]

LEAST_SIMILARITY = 1e-3
_WORK = 8e9  # multiply-accumulates that one comparison may cost, as long as it has a few inputs
_FEWEST, _MOST = 2, 16
_WEIGHTS = "weights"  # the file, empty, that messages without weights name


def read_calibration(path: str | Path, network: EditableNetwork) -> tuple[list[Feed], str]:
    """Return inputs of a network from an ``.npz`` file, one feed per row, and the SHA-256 of the file.

    The file has an array ``(n, ...)`` per input, under its name; of a network with one input any single array will do.
    Rows have the network's sizes; its batch size must divide n.

    Raises:
        AiopError: No such file, not a file of arrays, names or shapes that are not the network's.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if not zipfile.is_zipfile(path):
            raise ValueError("save them with numpy.savez")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise AiopError(f'cannot read calibration file "{path}": {error.strerror or error}') from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:80]
        raise AiopError(f'calibration file "{path}" is no .npz of arrays ({reason})') from error
    inputs = {value.name or "": value for value in network.graph.inputs}
    if len(inputs) == len(arrays) == 1 and arrays.keys() != inputs.keys():
        arrays = dict(zip(inputs, arrays.values(), strict=True))
    for name in inputs:
        if name not in arrays:
            near = suggest(name, arrays)
            raise AiopError(
                f'calibration file "{path}" has no array "{name}"{near}: it has {", ".join(arrays) or "none"}'
            )
    feeds: list[Feed] = []
    counts = set()
    parts: dict[str, list[Array]] = {}
    for name, value in inputs.items():
        shape = [extent or 1 for extent in network.shape(value) or ()]
        array = arrays[name]
        if array.dtype.kind not in "fiub" or array.ndim != len(shape) or list(array.shape[1:]) != shape[1:]:
            raise AiopError(
                f'array "{name}" of calibration file "{path}" has shape {array.shape} and type {array.dtype}: '
                f"the network takes numbers of shape (n, {', '.join(map(str, shape[1:]))})"
            )
        if not len(array) or len(array) % shape[0] or not np.isfinite(array).all():
            raise AiopError(
                f'array "{name}" of calibration file "{path}" needs finite rows, a multiple of '
                f"{shape[0]}: it has {len(array)}"
            )
        kept = array.astype(_type(value), copy=False)
        parts[name] = np.split(kept, len(kept) // shape[0])
        counts.add(len(parts[name]))
    if len(counts) != 1:
        raise AiopError(f'arrays of calibration file "{path}" have different numbers of rows')
    feeds = [{name: rows[index] for name, rows in parts.items()} for index in range(counts.pop())]
    return feeds, hashlib.sha256(data).hexdigest()


def noise_inputs(network: EditableNetwork, count: int, seed: int) -> list[Feed]:
    """Return inputs where no real ones are given: pictures whose spectrum falls as 1/f, as that of photographs does.

    Field (1987). Other inputs of real numbers are Gaussian, integers are below 10.
    """
    feeds = []
    for index in range(count):
        feed: Feed = {}
        for value in network.graph.inputs:
            name = value.name or ""
            shape = tuple(extent or 1 for extent in network.shape(value) or ())
            mark = hashlib.sha256(name.encode()).digest()[0]
            rng = np.random.default_rng([seed, index, mark])
            dtype = _type(value)
            if np.dtype(dtype).kind != "f":
                feed[name] = rng.integers(0, 10, shape).astype(dtype)
            elif len(shape) == 4:
                feed[name] = _pink(rng, shape).astype(dtype)
            else:
                feed[name] = rng.standard_normal(shape).astype(dtype)
        feeds.append(feed)
    return feeds


def _pink(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    spectrum = np.fft.fft2(rng.standard_normal(shape))
    rows, columns = (np.fft.fftfreq(extent) for extent in shape[-2:])
    frequency = np.hypot(rows[:, None], columns[None, :])
    frequency[0, 0] = np.inf
    picture = np.fft.ifft2(spectrum / frequency).real
    return np.asarray(picture / max(float(picture.std()), 1e-12))


def _type(value: ir.Value) -> np.dtype[Any]:
    return np.dtype(value.dtype.numpy()) if value.dtype is not None else np.dtype(np.float32)


def resampled(array: Array, shape: Sequence[int]) -> Array | None:
    """Return an array in another shape of the same rank, each element the nearest; None for another rank.

    >>> resampled(np.array([[1, 2], [3, 4]]), (2, 4)).tolist()
    [[1, 1, 2, 2], [3, 3, 4, 4]]
    """
    if array.ndim != len(shape):
        return None
    if array.shape == tuple(shape):
        return array
    places = [
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(array.shape, shape, strict=True)
    ]
    return np.asarray(array[np.ix_(*places)])


class Reference:
    """The outputs of a network on some inputs, with which those of its variants are compared.

    Weights that a variant shares with the original are computed once and never written. ``varies`` is False where the
    outputs are constant, as those of a network of zeros: nothing can be learnt from them.
    """

    def __init__(self, network: EditableNetwork, feeds: Sequence[Feed]) -> None:
        import onnxruntime

        self._runtime = onnxruntime
        onnxruntime.set_default_logger_severity(4)
        most = int(np.clip(_WORK / max(network.macs, 1), _FEWEST, _MOST))
        step = max(1, len(feeds) // most)
        self._feeds = list(feeds[::step])[:most]
        self._kept: dict[int, tuple[Any, Any]] = {}
        self._keep_weights(network)
        self._outputs = self._run(network)
        self.varies = any(
            array.dtype.kind == "f" and float(np.ptp(array)) > 0 for run in self._outputs for array in run
        )

    def __len__(self) -> int:
        """Return the number of inputs that are compared."""
        return len(self._feeds)

    def similarity(self, network: EditableNetwork) -> float | None:
        """Return the mean cosine between the outputs and the original's, each less its mean; None where there is none.

        1 is the same up to scale, 0 unrelated. Outputs of integers, and those whose rank changed, are not compared.
        """
        found = []
        try:
            outputs = self._run(network)
        except AiopError:
            return None
        for ours, theirs in zip(self._outputs, outputs, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                if one.dtype.kind != "f" or other.dtype.kind != "f":
                    continue
                fitted = resampled(other, one.shape)
                if fitted is None:
                    continue
                cosine = _cosine(one, fitted)
                if cosine is not None:
                    found.append(cosine)
        return float(np.mean(found)) if found else None

    def _keep_weights(self, network: EditableNetwork) -> None:
        for value in network.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None:
                self._kept[id(tensor)] = (tensor, None)

    def _value(self, tensor: Any) -> Any:
        """A weight as onnxruntime holds it; those of the original are kept."""
        known = self._kept.get(id(tensor))
        if known is not None and known[1] is not None:
            return known[1]
        made = self._runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor.numpy()))
        if known is not None:
            self._kept[id(tensor)] = (tensor, made)
        return made

    def _run(self, network: EditableNetwork) -> list[list[Array]]:
        message = network.proto(weights=False)
        outside = [
            item.name for item in message.graph.initializer if item.data_location == onnx.TensorProto.EXTERNAL
        ]
        values = [self._value(network.graph.initializers[name].const_value) for name in outside]
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = self._runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 4
        if outside:
            options.add_external_initializers(outside, values)
        with tempfile.TemporaryDirectory() as folder:
            # onnxruntime takes weights from memory only where the message names a file that is there
            path = Path(folder) / "network.onnx"
            path.write_bytes(message.SerializeToString())
            (Path(folder) / _WEIGHTS).touch()
            try:
                session = self._runtime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )
                shapes = {value.name or "": network.shape(value) or () for value in network.graph.inputs}
                return [session.run(None, _fitted(feed, shapes)) for feed in self._feeds]
            except Exception as error:  # onnxruntime raises its own kinds, all of them plain exceptions
                reason = " ".join(str(error).split())[:160]
                raise AiopError(f"{network.name}: onnxruntime cannot run it ({reason})") from error


def _fitted(feed: Mapping[str, Array], shapes: Mapping[str, Sequence[int | None]]) -> Feed:
    """Inputs in the sizes of a network whose resolution may have changed."""
    fitted: Feed = {}
    for name, array in feed.items():
        shape = [extent or old for extent, old in zip(shapes[name], array.shape, strict=True)]
        found = resampled(array, shape)
        assert found is not None
        fitted[name] = np.ascontiguousarray(found)
    return fitted


def _cosine(one: Array, other: Array) -> float | None:
    one, other = (np.asarray(array, np.float64).ravel() for array in (one, other))
    one, other = one - one.mean(), other - other.mean()
    if one.size < 2:
        return None
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    if not np.isfinite(length):
        return 0.0
    return float(np.dot(one, other) / length) if length > 0 else float(not one.any() and not other.any())
