"""Thousands of encoded graphs in one memory-mapped file.

The file is a safetensors file of nine tensors: flat node and edge tables, and where each graph's rows lie in them.
Opening reads the header and the pointers; rows are read when a graph is asked for. The fingerprint of the features
the graphs were encoded with is part of the file: a corpus of older features is refused, not misread.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from aiop.errors import AiopError, suggest
from aiop.graph_ir.features import GraphArrays
from aiop.graph_ir.features import fingerprint as current_fingerprint
from aiop.graph_ir.tensor_file import TensorFile, atomic_path, encode_header

if TYPE_CHECKING:
    from aiop.graph_ir.batch import Engine, GraphBatch

__all__ = ["SCHEMA", "Corpus", "CorpusWriter"]

SCHEMA = 1
_KIND = "aiop-corpus"

_INT64, _FLOAT32, _INT32, _FLOAT16, _UINT8 = (np.dtype(code) for code in ("<i8", "<f4", "<i4", "<f2", "u1"))
# Wide types first, so that every tensor starts at a multiple of its element size.
_TENSORS: dict[str, tuple[np.dtype[Any], int]] = {
    "node_ptr": (_INT64, 1),  # (graphs + 1,)
    "edge_ptr": (_INT64, 1),  # (graphs + 1,)
    "name_ptr": (_INT64, 1),  # (graphs + 1,), bytes
    "graph": (_FLOAT32, 2),  # (graphs, G)
    "source": (_INT32, 1),  # (edges,), counted from the first node of the edge's graph
    "target": (_INT32, 1),  # (edges,)
    "node": (_FLOAT16, 2),  # (nodes, F)
    "op": (_UINT8, 1),  # (nodes,)
    "name": (_UINT8, 1),  # (bytes,), UTF-8
}


class CorpusWriter:
    """Write a corpus graph by graph with bounded memory; the file appears whole when the block ends, or not at all.

    >>> with CorpusWriter("cells.corpus", fingerprint()) as writer:  # doctest: +SKIP
    ...     writer.add("nas-bench-201:...", encode(graph))

    Args:
        path: the file to write; an older one is replaced at the end.
        fingerprint: ``aiop.graph_ir.features.fingerprint()`` of the features the graphs are encoded with.
        metadata: anything JSON can hold, returned by ``Corpus.metadata``.
    """

    def __init__(self, path: str | Path, fingerprint: str, metadata: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._header = {
            "kind": _KIND,
            "schema": SCHEMA,
            "fingerprint": fingerprint,
            "metadata": dict(metadata or {}),
        }
        self._numbers: dict[str, int] = {}
        self._pointers: dict[str, list[int]] = {name: [0] for name in ("node_ptr", "edge_ptr", "name_ptr")}
        self._widths: tuple[int, int] | None = None
        self._spools: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for name in ("graph", "source", "target", "node", "op", "name"):
                # Nameless files: the system drops them however the process ends.
                spool = tempfile.TemporaryFile(dir=self.path.parent)
                self._spools[name] = self._stack.enter_context(spool)
        except OSError as error:
            self._stack.close()
            raise AiopError(f"{self.path} cannot be written ({error.strerror}): check the folder") from error
        return self

    def add(self, name: str, arrays: GraphArrays) -> None:
        """Append a graph.

        Raises:
            AiopError: for a name that is there already, or arrays that do not have the shapes of ``GraphArrays``.
        """
        if name in self._numbers:
            raise AiopError(f"corpus {self.path} already has a graph {name!r}: give every graph one name")
        nodes, edges = len(arrays.op), arrays.edge_index
        if arrays.node.ndim != 2 or arrays.graph.ndim != 1 or len(arrays.node) != nodes or nodes == 0:
            raise AiopError(
                f"graph {name!r} has node features {arrays.node.shape} for {nodes} nodes: encode it again"
            )
        if edges.ndim != 2 or len(edges) != 2 or (edges.size and not 0 <= edges.min() <= edges.max() < nodes):
            raise AiopError(
                f"graph {name!r} has edges {edges.shape} outside its {nodes} nodes: encode it again"
            )
        widths = (arrays.node.shape[1], arrays.graph.shape[0])
        if self._widths not in (None, widths):
            raise AiopError(
                f"graph {name!r} has feature widths {widths}, those before {self._widths}: encode again"
            )
        self._widths = widths
        label = name.encode()
        parts = {
            "graph": arrays.graph,
            "source": edges[0],
            "target": edges[1],
            "node": arrays.node,
            "op": arrays.op,
            "name": np.frombuffer(label, dtype=np.uint8),
        }
        for part, values in parts.items():
            self._spools[part].write(np.ascontiguousarray(values, dtype=_TENSORS[part][0]).tobytes())
        for pointer, count in (("node_ptr", nodes), ("edge_ptr", edges.shape[1]), ("name_ptr", len(label))):
            self._pointers[pointer].append(self._pointers[pointer][-1] + count)
        self._numbers[name] = len(self._numbers)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        if self._widths is None:
            raise AiopError(f"corpus {self.path} would hold no graph: add at least one")
        count = len(self._numbers)
        nodes, edges, text = (self._pointers[name][-1] for name in ("node_ptr", "edge_ptr", "name_ptr"))
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(self._pointers, (count + 1,))
        shapes |= {"graph": (count, self._widths[1]), "source": (edges,), "target": (edges,)}
        shapes |= {"node": (nodes, self._widths[0]), "op": (nodes,), "name": (text,)}
        header = encode_header(
            {name: (dtype, shapes[name]) for name, (dtype, _) in _TENSORS.items()},
            {"aiop": json.dumps(self._header, allow_nan=False)},
        )
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(header)
            for name in _TENSORS:
                if name in self._pointers:
                    stream.write(np.asarray(self._pointers[name], dtype=_INT64).tobytes())
                else:
                    self._spools[name].seek(0)
                    shutil.copyfileobj(self._spools[name], stream, 1 << 20)


class Corpus:
    """The graphs of a corpus file, read when asked for.

    Args:
        path: a file of :class:`CorpusWriter`.
        check_fingerprint: refuse a corpus whose features differ from those of this version.

    Raises:
        AiopError: for a missing, damaged or foreign file, or one of other features.
    """

    def __init__(self, path: str | Path, *, check_fingerprint: bool = True) -> None:
        self.path = Path(path)
        self._file = TensorFile(self.path)
        header = self._read_header()
        self.fingerprint: str = header["fingerprint"]
        self.metadata: dict[str, Any] = header["metadata"]
        if check_fingerprint and self.fingerprint != current_fingerprint():
            raise AiopError(
                f"corpus {self.path} was encoded with features {self.fingerprint[:12]}, this version has "
                f"{current_fingerprint()[:12]}: delete it and build it again"
            )
        tensors = {name: self._tensor(name) for name in _TENSORS}
        self._node_ptr, self._edge_ptr = tensors["node_ptr"], tensors["edge_ptr"]
        self._graph, self._node, self._op = tensors["graph"], tensors["node"], tensors["op"]
        self._source, self._target = tensors["source"], tensors["target"]
        self._check_pointers(tensors)

    def _read_header(self) -> dict[str, Any]:
        try:
            header = json.loads(self._file.metadata["aiop"])
            if header["kind"] != _KIND:
                raise KeyError(_KIND)
            schema, fingerprint, metadata = header["schema"], header["fingerprint"], header["metadata"]
        except (KeyError, TypeError, ValueError, RecursionError):
            raise AiopError(f"{self.path} is not a corpus of graphs: build one with CorpusWriter") from None
        if schema != SCHEMA:
            raise AiopError(
                f"corpus {self.path} has schema {schema}, this version reads {SCHEMA}: build it again"
            )
        if not isinstance(fingerprint, str) or not isinstance(metadata, dict):
            raise self._damaged("its header has fields of other types")
        return dict(header)

    def _tensor(self, name: str) -> np.ndarray[Any, Any]:
        dtype, dimensions = _TENSORS[name]
        layout = self._file.layouts.get(name)
        if layout is None:
            raise self._damaged(f"tensor {name!r} is missing")
        if layout.dtype != dtype or len(layout.shape) != dimensions:
            raise self._damaged(
                f"tensor {name!r} is {layout.dtype} {layout.shape}, not {dtype} of {dimensions} axes"
            )
        return self._file[name]

    def _check_pointers(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Refuse pointers that leave their tables; afterwards every slice lies inside the file."""
        rows = {"node_ptr": len(self._op), "edge_ptr": len(self._source), "name_ptr": len(tensors["name"])}
        for name, total in rows.items():
            pointer = tensors[name]
            if len(pointer) != len(self._graph) + 1 or pointer[0] != 0 or pointer[-1] != total:
                raise self._damaged(f"{name!r} does not span {len(self._graph)} graphs and {total} rows")
            if (pointer[1:] < pointer[:-1]).any():
                raise self._damaged(f"{name!r} is not ascending")
        if len(self._node) != len(self._op) or len(self._target) != len(self._source):
            raise self._damaged("its tables have different lengths")

    def _damaged(self, cause: str) -> AiopError:
        return AiopError(f"corpus {self.path} is damaged: {cause}; delete it and build it again")

    def __len__(self) -> int:
        return len(self._graph)

    def __getitem__(self, index: int) -> GraphArrays:
        """Return graph ``index`` as read-only views of the file; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"graph {index} of a corpus of {len(self)}")
        index %= len(self)
        nodes = slice(self._node_ptr[index], self._node_ptr[index + 1])
        edges = slice(self._edge_ptr[index], self._edge_ptr[index + 1])
        return GraphArrays(
            op=self._op[nodes],
            node=self._node[nodes],
            edge_index=np.stack([self._source[edges], self._target[edges]]),
            graph=self._graph[index],
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of every graph, in order."""
        text, pointer = self._file["name"].tobytes(), self._file["name_ptr"].tolist()
        try:
            return tuple(text[start:stop].decode() for start, stop in itertools.pairwise(pointer))
        except UnicodeDecodeError:
            raise self._damaged("a name is not UTF-8") from None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Return the number of the graph called ``name``; an unknown name raises an AiopError."""
        try:
            return self._numbers[name]
        except KeyError:
            hint = suggest(name, self.names[:2000])
            raise AiopError(f"corpus {self.path} has no graph {name!r}{hint}: see Corpus.names") from None

    def graph_features(self) -> np.ndarray[Any, Any]:
        """The graph features of all graphs: a read-only float32 (graphs, G) view."""
        return self._graph

    def node_count(self, index: int) -> int:
        """Number of nodes of graph ``index``."""
        return int(self._node_ptr[index + 1] - self._node_ptr[index])

    def batch(self, indices: Sequence[int] | np.ndarray[Any, Any], *, engine: Engine = "auto") -> GraphBatch:
        """Read graphs ``indices`` into one batch, in that order. Needs torch."""
        from aiop.graph_ir.batch import collate  # torch is imported here and nowhere above

        return collate([self[int(index)] for index in indices], engine=engine)
