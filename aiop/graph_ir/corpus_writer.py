"""Writing corpora: the layout of the file, graph by graph or a whole corpus at a time.

Operations repeat: the same convolution stands in thousands of graphs. A corpus therefore keeps every distinct row of
node features once, in a dictionary, and a number per node. Only the columns that relate an operation to its whole graph
(`RELATIVE` of the features: shares and depths) differ nearly everywhere; they are kept per node.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from aiop.errors import AiopError
from aiop.graph_ir.features import NODE_FEATURES, RELATIVE, GraphArrays
from aiop.graph_ir.tensor_file import MAX_HEADER_BYTES, atomic_path, encode_header

if TYPE_CHECKING:
    from aiop.graph_ir.corpus import Corpus

__all__ = ["HASH_BYTES", "KIND", "SCHEMA", "TENSORS", "CorpusWriter"]

SCHEMA = 2
KIND = "aiop-corpus"
HASH_BYTES = 16

_INT64, _FLOAT32, _INT32, _UINT32 = (np.dtype(code) for code in ("<i8", "<f4", "<i4", "<u4"))
_UINT16, _FLOAT16, _UINT8 = (np.dtype(code) for code in ("<u2", "<f2", "u1"))

TENSORS: dict[str, tuple[tuple[np.dtype[Any], ...], int]] = {
    "node_ptr": ((_INT64,), 1),  # (graphs + 1,)
    "edge_ptr": ((_INT64,), 1),  # (graphs + 1,)
    "name_ptr": ((_INT64,), 1),  # (graphs + 1,), bytes
    "macs": ((_INT64,), 1),  # (graphs,), of the network as given
    "params": ((_INT64,), 1),  # (graphs,)
    "graph": ((_FLOAT32,), 2),  # (graphs, G)
    "source": ((_UINT16, _INT32), 1),  # (edges,), counted from the first node of the edge's graph
    "target": ((_UINT16, _INT32), 1),  # (edges,)
    "number": ((_UINT16, _UINT32), 1),  # (nodes,), row of the dictionary
    "relative": ((_FLOAT16,), 2),  # (nodes, R), the columns that are kept per node
    "row_node": ((_FLOAT16,), 2),  # (rows, F), the dictionary; zeros in the columns of `relative`
    "row_op": ((_UINT8,), 1),  # (rows,)
    "hash": ((_UINT8,), 2),  # (graphs, 16), content hash of the canonical form, zeros where not known
    "name": ((_UINT8,), 1),  # (bytes,), UTF-8
}
"""Name -> types a tensor may have (the narrowest that holds its values is written) and number of axes."""

_POINTERS = ("node_ptr", "edge_ptr", "name_ptr")
_NARROW = 1 << 16  # values that 16 bits tell apart
_BLOCK = 1 << 20
# While writing it is not known yet how narrow a tensor can be.
_SPOOLED = {
    name: dtypes[-1]
    for name, (dtypes, _) in TENSORS.items()
    if name not in (*_POINTERS, "row_node", "row_op")
}


class CorpusWriter:
    """Write a corpus graph by graph with bounded memory; the file appears whole when the block ends, or not at all.

    >>> with CorpusWriter("cells.corpus", fingerprint()) as writer:  # doctest: +SKIP
    ...     writer.add("nas-bench-201:...", encode(graph), graph.macs, graph.params)

    Args:
        path: the file to write; an older one is replaced at the end.
        fingerprint: ``aiop.graph_ir.features.fingerprint()`` of the features the graphs are encoded with.
        metadata: anything JSON can hold, returned by ``Corpus.metadata``; ``writer.metadata`` may be filled until the
            block ends.
        may_be_empty: a corpus of no graphs is written, where it otherwise is an error.
    """

    def __init__(
        self,
        path: str | Path,
        fingerprint: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        may_be_empty: bool = False,
    ) -> None:
        self.path = Path(path)
        self.fingerprint = fingerprint
        self.metadata = dict(metadata or {})
        self._may_be_empty = may_be_empty
        self._names: set[str] = set()
        self._rows: dict[bytes, int] = {}  # op and features of an operation -> row of the dictionary
        self._pointers: dict[str, list[int]] = {name: [0] for name in _POINTERS}
        self._widths: tuple[int, int] | None = None
        self._largest = 0  # nodes of the largest graph
        self._spools: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for name in _SPOOLED:
                # Nameless files: the system drops them however the process ends.
                spool = tempfile.TemporaryFile(dir=self.path.parent)
                self._spools[name] = self._stack.enter_context(spool)
        except OSError as error:
            self._stack.close()
            raise AiopError(f"{self.path} cannot be written ({error.strerror}): check the folder") from error
        return self

    def add(
        self, name: str, arrays: GraphArrays, macs: int = 0, params: int = 0, digest: str | None = None
    ) -> None:
        """Append a graph.

        Args:
            name: of the graph, unique.
            arrays: the encoded graph.
            macs: multiply-accumulates of the network as given.
            params: of the network as given.
            digest: ``content_hash`` of the canonical form, 32 hexadecimal digits; None where it is not known.

        Raises:
            AiopError: for a name that is there already, or arrays that do not have the shapes of ``GraphArrays``.
        """
        nodes, edges = len(arrays.op), arrays.edge_index
        if arrays.node.ndim != 2 or arrays.graph.ndim != 1 or len(arrays.node) != nodes or nodes == 0:
            raise AiopError(
                f"graph {name!r} has node features {arrays.node.shape} for {nodes} nodes: encode it again"
            )
        if edges.ndim != 2 or len(edges) != 2 or (edges.size and not 0 <= edges.min() <= edges.max() < nodes):
            raise AiopError(
                f"graph {name!r} has edges {edges.shape} outside its {nodes} nodes: encode it again"
            )
        if not (0 <= macs < 1 << 63 and 0 <= params < 1 << 63):
            raise AiopError(
                f"graph {name!r} has {macs} MACs and {params} parameters, which 64 bits do not hold"
            )
        hashed = bytes.fromhex(digest or "00" * HASH_BYTES)
        if len(hashed) != HASH_BYTES:
            raise AiopError(f"graph {name!r} has the hash {digest!r}: expected {2 * HASH_BYTES} digits")
        self._claim([name], (arrays.node.shape[1], arrays.graph.shape[0]))
        node = np.ascontiguousarray(arrays.node, _FLOAT16)
        own = relative_columns(node.shape[1])
        rows = np.empty((nodes, 1 + node.itemsize * node.shape[1]), np.uint8)
        rows[:, 0] = arrays.op
        shared = node.copy()
        shared[:, own] = 0
        rows[:, 1:] = shared.view(np.uint8)
        label = name.encode()
        self._append(
            {
                "macs": macs,
                "params": params,
                "graph": arrays.graph,
                "source": edges[0],
                "target": edges[1],
                "number": self._number(rows),
                "relative": node[:, own],
                "hash": np.frombuffer(hashed, np.uint8),
                "name": np.frombuffer(label, np.uint8),
            },
            {"node_ptr": [nodes], "edge_ptr": [edges.shape[1]], "name_ptr": [len(label)]},
        )

    def extend(self, corpus: Corpus) -> None:
        """Append every graph of a corpus of the same features.

        Raises:
            AiopError: for other features, a name that is there already, or a damaged corpus.
        """
        if corpus.fingerprint != self.fingerprint:
            raise AiopError(f"{corpus.path} has other features than {self.path}: encode its networks again")
        if not len(corpus):
            return
        tables = corpus.tables
        node = tables["row_node"]
        self._claim(corpus.names, (node.shape[1], tables["graph"].shape[1]))
        rows = np.concatenate([tables["row_op"][:, None], np.ascontiguousarray(node).view(np.uint8)], axis=1)
        numbers = self._number(rows)
        if tables["number"].max() >= len(numbers):
            raise corpus.damaged("a node is outside the dictionary")
        parts = {name: tables[name] for name in _SPOOLED} | {"number": numbers[tables["number"]]}
        self._append(parts, {name: np.diff(tables[name]).tolist() for name in _POINTERS})

    def _claim(self, names: tuple[str, ...] | list[str], widths: tuple[int, int]) -> None:
        """Refuse names that are taken and features of other widths."""
        for name in names:
            if name in self._names:
                raise AiopError(f"corpus {self.path} already has a graph {name!r}: give every graph one name")
        if self._widths not in (None, widths):
            raise AiopError(
                f"graph {names[0]!r} has feature widths {widths}, those before {self._widths}: encode again"
            )
        self._widths = widths
        self._names.update(names)

    def _number(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the dictionary's number of every row, uint8 (n, 1 + 2 F), entering those that are new."""
        content, width = rows.tobytes(), rows.shape[1]
        known = self._rows
        found = [
            known.setdefault(content[start : start + width], len(known))
            for start in range(0, len(content), width)
        ]
        return np.array(found, _UINT32)

    def _append(self, parts: Mapping[str, Any], counts: Mapping[str, list[int]]) -> None:
        for name, values in parts.items():
            self._spools[name].write(np.ascontiguousarray(values, dtype=_SPOOLED[name]).tobytes())
        for name, found in counts.items():
            pointer = self._pointers[name]
            pointer += itertools.islice(itertools.accumulate(found, initial=pointer[-1]), 1, None)
        self._largest = max(self._largest, *counts["node_ptr"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        if self._widths is None and not self._may_be_empty:
            raise AiopError(f"corpus {self.path} would hold no graph: add at least one")
        width, graph_width = self._widths or (0, 0)
        own = relative_columns(width)
        row_bytes = 1 + _FLOAT16.itemsize * width
        dictionary = np.frombuffer(b"".join(self._rows), np.uint8).reshape(len(self._rows), row_bytes)
        ready = {name: np.asarray(pointer, _INT64) for name, pointer in self._pointers.items()}
        ready["row_op"] = dictionary[:, 0]
        ready["row_node"] = np.ascontiguousarray(dictionary[:, 1:]).view(_FLOAT16)
        graphs = len(self._pointers["node_ptr"]) - 1
        nodes, edges, text = (self._pointers[name][-1] for name in _POINTERS)
        edge_type = _UINT16 if self._largest <= _NARROW else _INT32
        layouts: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "macs": (_INT64, (graphs,)),
            "params": (_INT64, (graphs,)),
            "graph": (_FLOAT32, (graphs, graph_width)),
            "source": (edge_type, (edges,)),
            "target": (edge_type, (edges,)),
            "number": (_UINT16 if len(dictionary) <= _NARROW else _UINT32, (nodes,)),
            "relative": (_FLOAT16, (nodes, own.stop - own.start)),
            "hash": (_UINT8, (graphs, HASH_BYTES)),
            "name": (_UINT8, (text,)),
        }
        layouts |= {name: (values.dtype, values.shape) for name, values in ready.items()}
        # Wide types first, so that every tensor starts at a multiple of its element size.
        layouts = dict(sorted(layouts.items(), key=lambda item: -item[1][0].itemsize))
        description = {
            "kind": KIND,
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "relative": [own.start, own.stop],
            "metadata": self.metadata,
        }
        header = encode_header(layouts, {"aiop": json.dumps(description, allow_nan=False)})
        if len(header) > MAX_HEADER_BYTES:
            raise AiopError(f"corpus {self.path} has {len(header)} bytes of metadata: make it smaller")
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(header)
            for name, (dtype, _) in layouts.items():
                if name in ready:
                    stream.write(ready[name].tobytes())
                else:
                    stream.writelines(self._blocks(name, dtype))

    def _blocks(self, name: str, dtype: np.dtype[Any]) -> Iterator[bytes]:
        """Yield what was spooled, in the type that it is kept in."""
        spool, spooled = self._spools[name], _SPOOLED[name]
        spool.seek(0)
        while block := spool.read(_BLOCK):
            yield np.frombuffer(block, spooled).astype(dtype, copy=False).tobytes()


def relative_columns(width: int) -> slice:
    """Return which of so many columns of node features are kept per node: none where the features are unknown ones."""
    return RELATIVE if width == len(NODE_FEATURES) else slice(0, 0)
