"""Published graphs of many networks: in memory in a compact form, and kept on disk between runs.

Nodes repeat, so a store keeps every distinct row once and a number per node. On disk a store lies in the cache of
corpora in pieces of 1,024 networks, each named by what it was made from: an interrupted run goes on where it was, and
what other builders or rules would make is never taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from aiop.errors import AiopError
from aiop.finetune.baselines.aio_p.graphs import PublishedGraph, publish
from aiop.graph_ir import read_onnx
from aiop.graph_ir.tensor_file import atomic_path, read_header
from aiop.tasks.corpora import cache_dir
from aiop.tasks.networks import is_code, parse_code, read
from aiop.tasks.provenance import ARCHIVES, builder_fingerprint
from aiop.tasks.tables import load_table

__all__ = ["GraphStore", "in_form", "pack", "read_published"]

Array = npt.NDArray[Any]

_PIECE = 1024
_VERSION = 1  # of the rules by which a network becomes a published graph
_ARRAYS = ("rows", "number", "node_ptr", "edges", "edge_ptr", "maxima", "gflops")


def in_form(name: str, form: str) -> str:
    """Return the name with a form of its space; a name that has one, and an empty form, leave it as it is.

    >>> in_form("nas-bench-mr:1,2", "seg")
    'nas-bench-mr@seg:1,2'
    """
    space, colon, code = name.partition(":")
    return f"{space}@{form}{colon}{code}" if form and "@" not in space else name


def read_published(name: str) -> PublishedGraph:
    """Return the published graph of ``space:code``, ``space@form:code`` or an ONNX file.

    Forms whose head does not classify are divided by their own maxima. Errors are those of reading the network.
    """
    return publish(read(name), own_maxima=_has_task_head(name))


def _has_task_head(name: str) -> bool:
    if not is_code(name):
        return False
    space, form, _ = parse_code(name)
    return space.form(form).head != "classification"


class GraphStore:
    """Published graphs by name.

    Names that are not in the store are read when they are asked for, and remembered.

    Args:
        names: of n networks.
        arrays: ``rows`` int32 ``(R, 10)``, ``number`` int32 (nodes,), ``node_ptr`` int64 ``(n + 1,)``, ``edges``
            int32 ``(2, edges)``, ``edge_ptr`` int64 ``(n + 1,)``, ``maxima`` int32 ``(n, 3)``, ``gflops`` float64
            ``(n,)``.
    """

    def __init__(self, names: Sequence[str] = (), arrays: dict[str, Array] | None = None) -> None:
        self._pieces: list[dict[str, Array]] = []
        self._place: dict[str, tuple[int, int]] = {}
        self._read: dict[str, PublishedGraph] = {}
        self.refused: dict[str, str] = {}
        if arrays is not None:
            self._extend(names, arrays)

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, name: str) -> PublishedGraph:
        """Return a network's graph; one that cannot be read is an `AiopError`."""
        if name in self.refused:
            raise AiopError(self.refused[name])
        if name not in self._place:
            if name not in self._read:
                self._read[name] = read_published(name)
            return self._read[name]
        piece, index = self._place[name]
        arrays = self._pieces[piece]
        nodes = slice(*arrays["node_ptr"][index : index + 2])
        edges = slice(*arrays["edge_ptr"][index : index + 2])
        height, width, channels = (int(value) for value in arrays["maxima"][index])
        return PublishedGraph(
            arrays["rows"][arrays["number"][nodes]],
            arrays["edges"][:, edges],
            (height, width, channels),
            float(arrays["gflops"][index]),
        )

    def graphs(self, names: Sequence[str]) -> list[PublishedGraph]:
        """Return the graphs of networks, in their order."""
        return [self[name] for name in names]

    @classmethod
    def of_table(
        cls, table: str, *, form: str = "", rows: Sequence[int] | None = None, progress: bool = True
    ) -> GraphStore:
        """Return the graphs of a benchmark table (of its ``rows``), from the cache where they are in it.

        Networks that cannot be read are in ``refused`` with the reason. A ``form`` of the space puts it into the names.

        Raises:
            AiopError: for an unknown table or form.
        """
        loaded = load_table(table)
        names = loaded.networks if rows is None else [loaded.networks[row] for row in rows]
        if table in ARCHIVES:
            content = cache(lambda: dict(ARCHIVES[table]()))  # unpacked only where the cache lacks something
            digests = json.dumps(loaded.files)
            return cls._cached(names, digests, lambda name: _from_bytes(name, content()), table, progress)
        return cls.of_names([in_form(name, form) for name in names], title=table, progress=progress)

    @classmethod
    def of_names(cls, names: Sequence[str], *, title: str = "networks", progress: bool = True) -> GraphStore:
        """Return the graphs of architectures ``space:code``, from the cache where they are in it."""
        forms: dict[str, set[str]] = {}
        for name in names:
            space, form, _ = parse_code(name)
            forms.setdefault(space.name, set()).update({form} if form else ())
        cache_dir().mkdir(parents=True, exist_ok=True)
        made_by = builder_fingerprint(
            {space: sorted(found) for space, found in sorted(forms.items())}, {}, [], cache_dir()
        )
        return cls._cached(names, made_by, read_published, title, progress)

    @classmethod
    def _cached(
        cls,
        names: Sequence[str],
        made_by: str,
        make: Callable[[str], PublishedGraph],
        title: str,
        progress: bool,
    ) -> GraphStore:
        store = cls()
        folder = cache_dir() / "aio-p"
        folder.mkdir(parents=True, exist_ok=True)
        with _bar(progress) as bar:
            task = bar.add_task(f"AIO-P graphs of {title}", total=len(names))
            for start in range(0, len(names), _PIECE):
                piece = list(names[start : start + _PIECE])
                text = json.dumps([_VERSION, made_by, piece])
                path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.graphs"
                if not store._load(path):
                    kept: list[str] = []
                    graphs: list[PublishedGraph] = []
                    refused: dict[str, str] = {}
                    for name in piece:
                        try:
                            graphs.append(make(name))
                            kept.append(name)
                        except AiopError as error:
                            refused[name] = str(error)
                        bar.update(task, advance=1)
                    _save(path, kept, pack(graphs), refused)
                    store._load(path)
                bar.update(task, completed=start + len(piece))
        return store

    def _load(self, path: Path) -> bool:
        """Add a piece of the cache; False where it is not there or damaged."""
        try:
            header = json.loads(read_header(path)[0]["aiop"])
            arrays = load_file(path)
        except (AiopError, KeyError, ValueError, OSError, SafetensorError):
            return False
        self.refused |= header["refused"]
        self._extend(header["names"], arrays)
        return True

    def _extend(self, names: Sequence[str], arrays: dict[str, Array]) -> None:
        piece = len(self._pieces)
        self._pieces.append(arrays)
        self._place |= {name: (piece, index) for index, name in enumerate(names)}


def pack(graphs: Sequence[PublishedGraph]) -> dict[str, Array]:
    """Return the arrays of a store, every distinct row of nodes once."""
    nodes = np.concatenate([np.zeros((0, 10), np.int32), *(graph.nodes for graph in graphs)])
    rows, number = np.unique(nodes, axis=0, return_inverse=True)
    return {
        "rows": rows.astype(np.int32),
        "number": number.reshape(-1).astype(np.int32),
        "node_ptr": _pointer([len(graph.nodes) for graph in graphs]),
        "edges": np.concatenate([np.zeros((2, 0), np.int32), *(graph.edges for graph in graphs)], axis=1),
        "edge_ptr": _pointer([graph.edges.shape[1] for graph in graphs]),
        "maxima": np.array([graph.maxima for graph in graphs], np.int32).reshape(-1, 3),
        "gflops": np.array([graph.gflops for graph in graphs], np.float64),
    }


def _pointer(counts: Sequence[int]) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _save(path: Path, names: Sequence[str], arrays: dict[str, Array], refused: dict[str, str]) -> None:
    header = {"kind": "aio-p-graphs", "names": list(names), "refused": refused}
    with atomic_path(path) as temporary:
        save_file(
            {name: np.ascontiguousarray(arrays[name]) for name in _ARRAYS},
            temporary,
            {"aiop": json.dumps(header)},
        )


def _from_bytes(name: str, content: dict[str, bytes]) -> PublishedGraph:
    if name not in content:
        raise AiopError(f"network {name} is not in the table's archive: fetch the archive again")
    return publish(read_onnx(content[name], name=name))


def _bar(progress: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not (progress and console.is_terminal),
    )  # fmt: skip
