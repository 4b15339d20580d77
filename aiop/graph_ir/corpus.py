"""Thousands of encoded graphs in one memory-mapped file.

The file is a safetensors file of flat tables (`TENSORS` of the writer): one dictionary of the distinct rows of node
features, the row's number of every node, the edges, a few columns per graph, and where each graph's part lies. Opening
reads the header and the pointers; the rest is read when a graph is asked for. The fingerprint of the features the
graphs were encoded with is part of the file: a corpus of older features is refused, not misread.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiop.errors import AiopError, suggest
from aiop.graph_ir.corpus_writer import HASH_BYTES, KIND, SCHEMA, TENSORS, CorpusWriter
from aiop.graph_ir.features import GraphArrays
from aiop.graph_ir.features import fingerprint as current_fingerprint
from aiop.graph_ir.tensor_file import TensorFile

if TYPE_CHECKING:
    from aiop.graph_ir.batch import Engine, GraphBatch

__all__ = ["SCHEMA", "Corpus", "CorpusWriter"]


class Corpus:
    """The graphs of a corpus file, read when asked for.

    Args:
        path: a file of :class:`CorpusWriter`.
        check_fingerprint: refuse a corpus whose features differ from those of this version.

    Attributes:
        fingerprint: of the features the graphs are encoded with.
        metadata: as the writer was given it.
        tables: name -> tensor of the file (`TENSORS` of the writer), read-only.

    Raises:
        AiopError: for a missing, damaged or foreign file, or one of another schema or other features.
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
                f"{current_fingerprint()[:12]}: {_again(header)}"
            )
        self.tables: Mapping[str, np.ndarray[Any, Any]] = {name: self._tensor(name) for name in TENSORS}
        self._check_tables(header.get("relative"))
        # Looked up once: these are read for every graph.
        self._node_ptr, self._edge_ptr = self.tables["node_ptr"], self.tables["edge_ptr"]
        self._number, self._relative = self.tables["number"], self.tables["relative"]
        self._row_node, self._row_op = self.tables["row_node"], self.tables["row_op"]
        self._source, self._target = self.tables["source"], self.tables["target"]
        self._graph = self.tables["graph"]
        self._columns = slice(*header["relative"])

    def _read_header(self) -> dict[str, Any]:
        try:
            header = json.loads(self._file.metadata["aiop"])
            if header["kind"] != KIND:
                raise KeyError(KIND)
            schema, fingerprint, metadata = header["schema"], header["fingerprint"], header["metadata"]
        except (KeyError, TypeError, ValueError, RecursionError):
            raise AiopError(f"{self.path} is not a corpus of graphs: build one with CorpusWriter") from None
        if not isinstance(fingerprint, str) or not isinstance(metadata, dict):
            raise self.damaged("its header has fields of other types")
        if schema != SCHEMA:
            raise AiopError(
                f"corpus {self.path} has schema {schema}, this version reads {SCHEMA}: {_again(header)}"
            )
        return dict(header)

    def _tensor(self, name: str) -> np.ndarray[Any, Any]:
        dtypes, dimensions = TENSORS[name]
        layout = self._file.layouts.get(name)
        if layout is None:
            raise self.damaged(f"tensor {name!r} is missing")
        if layout.dtype not in dtypes or len(layout.shape) != dimensions:
            raise self.damaged(
                f"tensor {name!r} is {layout.dtype} {layout.shape}, not {dtypes[-1]} of {dimensions} axes"
            )
        return self._file[name]

    def _check_tables(self, relative: object) -> None:
        """Refuse tables that do not fit together; afterwards every slice lies inside the file.

        Whether numbers lie inside the dictionary, and edges inside their graph, shows when they are read.
        """
        tables = self.tables
        graphs, nodes, width = len(tables["graph"]), len(tables["number"]), tables["row_node"].shape[1]
        rows = {"node_ptr": nodes, "edge_ptr": len(tables["source"]), "name_ptr": len(tables["name"])}
        for name, total in rows.items():
            pointer = tables[name]
            if len(pointer) != graphs + 1 or pointer[0] != 0 or pointer[-1] != total:
                raise self.damaged(f"{name!r} does not span {graphs} graphs and {total} rows")
            if (pointer[1:] < pointer[:-1]).any():
                raise self.damaged(f"{name!r} is not ascending")
        for one, other in (("relative", "number"), ("row_op", "row_node"), ("target", "source")):
            if len(tables[one]) != len(tables[other]):
                raise self.damaged(f"{one!r} and {other!r} have different lengths")
        if tables["hash"].shape != (graphs, HASH_BYTES) or {len(tables["macs"]), len(tables["params"])} != {
            graphs
        }:
            raise self.damaged(f"its columns do not have {graphs} graphs")
        match relative:
            case [int(start), int(stop)] if 0 <= start <= stop <= width:
                if tables["relative"].shape[1] == stop - start:
                    return
        raise self.damaged(f"its header does not say which of {width} columns 'relative' holds")

    def damaged(self, cause: str) -> AiopError:
        """Return the error of a file whose content does not fit together."""
        return AiopError(f"corpus {self.path} is damaged: {cause}; delete it and build it again")

    def __len__(self) -> int:
        return len(self._graph)

    def __getitem__(self, index: int) -> GraphArrays:
        """Return graph ``index``; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"graph {index} of a corpus of {len(self)}")
        index %= len(self)
        nodes = slice(self._node_ptr[index], self._node_ptr[index + 1])
        edges = slice(self._edge_ptr[index], self._edge_ptr[index + 1])
        number = self._number[nodes]
        try:
            op, node = self._row_op[number], self._row_node[number]
        except IndexError:
            raise self.damaged(f"graph {index} has a node outside the dictionary") from None
        node[:, self._columns] = self._relative[nodes]
        ends = np.empty((2, edges.stop - edges.start), np.int32)
        ends[0], ends[1] = self._source[edges], self._target[edges]
        return GraphArrays(op, node, ends, self._graph[index])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of every graph, in order."""
        text, pointer = self._file["name"].tobytes(), self._file["name_ptr"].tolist()
        try:
            return tuple(text[start:stop].decode() for start, stop in itertools.pairwise(pointer))
        except UnicodeDecodeError:
            raise self.damaged("a name is not UTF-8") from None

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

    @property
    def macs(self) -> np.ndarray[Any, Any]:
        """MACs of every network as given: a read-only int64 (graphs,) view."""
        return self.tables["macs"]

    @property
    def params(self) -> np.ndarray[Any, Any]:
        """Parameters of every network as given: a read-only int64 (graphs,) view."""
        return self.tables["params"]

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """The content hash of every graph's canonical form, 32 hexadecimal digits; empty where it is not known."""
        text, digits = self.tables["hash"].tobytes().hex(), 2 * HASH_BYTES
        found = (text[start : start + digits] for start in range(0, len(text), digits))
        return tuple("" if digest == "0" * digits else digest for digest in found)

    def hashes_of(self, names: Sequence[str]) -> list[str]:
        """The content hashes of networks by name; empty for one that the corpus does not hold."""
        known = dict(zip(self.names, self.hashes, strict=True))
        return [known.get(name, "") for name in names]

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


def _again(header: Mapping[str, Any]) -> str:
    """How to get a corpus of this version: those of tables say which table they are of."""
    metadata = header["metadata"]
    name = metadata.get("source", metadata.get("table"))
    return f"build it again with `aiop corpus build {name}`" if isinstance(name, str) else "build it again"
