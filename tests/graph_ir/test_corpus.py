"""The corpus file: what goes in comes out, and nothing but a whole corpus is read."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from aiop.errors import AiopError
from aiop.graph_ir.corpus import Corpus, CorpusWriter
from aiop.graph_ir.features import GRAPH_FEATURES, NODE_FEATURES, RELATIVE, GraphArrays, fingerprint


def random_graph(seed: int, nodes: int, edges: int) -> GraphArrays:
    rng = np.random.default_rng(seed)
    return GraphArrays(
        op=rng.integers(0, 9, nodes).astype(np.uint8),
        node=rng.normal(size=(nodes, 5)).astype(np.float16),
        edge_index=rng.integers(0, nodes, size=(2, edges)).astype(np.int32),
        graph=rng.normal(size=3).astype(np.float32),
    )


DIGEST = "0123456789abcdef" * 2
GRAPHS = {"a:plain": random_graph(0, 4, 6), "b:Größe|+|": random_graph(1, 1, 0), "c": random_graph(2, 30, 41)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cells.corpus"
    with CorpusWriter(path, fingerprint(), {"table": "made here", "rows": 3}) as writer:
        for index, (name, graph) in enumerate(GRAPHS.items()):
            writer.add(name, graph, 7 * index, index + 1, DIGEST if index else None)
    return path


def operators(seed: int, nodes: int) -> GraphArrays:
    """A graph of this version's features: three kinds of operations, alike but for what relates them to the graph."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(0).normal(size=(3, len(NODE_FEATURES))).astype(np.float16)
    chosen = rng.integers(0, 3, nodes)
    node = kinds[chosen]
    node[:, RELATIVE] = rng.normal(size=node[:, RELATIVE].shape)
    ends = np.stack([np.arange(nodes - 1), np.arange(1, nodes)]).astype(np.int32)
    return GraphArrays(
        chosen.astype(np.uint8), node, ends, rng.normal(size=len(GRAPH_FEATURES)).astype(np.float32)
    )


def assert_same(left: GraphArrays, right: GraphArrays) -> None:
    for field in ("op", "node", "edge_index", "graph"):
        np.testing.assert_array_equal(getattr(left, field), getattr(right, field))
        assert getattr(left, field).dtype == getattr(right, field).dtype


def test_round_trip(path: Path) -> None:
    corpus = Corpus(path)
    assert len(corpus) == 3
    assert corpus.names == tuple(GRAPHS)
    assert corpus.metadata == {"table": "made here", "rows": 3}
    assert corpus.fingerprint == fingerprint()
    for index, (name, graph) in enumerate(GRAPHS.items()):
        assert corpus.index(name) == index
        assert_same(corpus[index], graph)
        assert corpus.node_count(index) == len(graph.op)
    assert_same(corpus[-1], GRAPHS["c"])
    assert sum(1 for _ in corpus) == 3
    np.testing.assert_array_equal(corpus.graph_features(), [graph.graph for graph in GRAPHS.values()])
    assert corpus.macs.tolist() == [0, 7, 14]
    assert corpus.params.tolist() == [1, 2, 3]
    assert corpus.hashes == ("", DIGEST, DIGEST)


def test_operations_that_are_alike_are_kept_once(tmp_path: Path) -> None:
    graphs = [operators(seed, 50) for seed in range(20)]
    with CorpusWriter(tmp_path / "x.corpus", fingerprint()) as writer:
        for index, graph in enumerate(graphs):
            writer.add(str(index), graph)
    corpus = Corpus(tmp_path / "x.corpus")
    assert sorted(corpus.tables["row_op"]) == [0, 1, 2]
    assert corpus.tables["number"].dtype == corpus.tables["source"].dtype == np.uint16
    for found, graph in zip(corpus, graphs, strict=True):
        assert_same(found, graph)


def test_more_than_16_bits_tell_apart(tmp_path: Path) -> None:
    nodes = 70_000
    graph = GraphArrays(
        op=np.zeros(nodes, np.uint8),
        node=np.arange(2 * nodes, dtype=np.uint32)
        .view(np.float16)
        .reshape(nodes, 4),  # every row another one
        edge_index=np.stack([np.arange(nodes - 1), np.arange(1, nodes)]).astype(np.int32),
        graph=np.zeros(3, np.float32),
    )
    with CorpusWriter(tmp_path / "x.corpus", fingerprint()) as writer:
        writer.add("large", graph, 2**63 - 1)
        with pytest.raises(AiopError, match="64 bits"):
            writer.add("larger", graph, 2**63)
    corpus = Corpus(tmp_path / "x.corpus")
    assert (corpus.tables["number"].dtype, corpus.tables["source"].dtype) == (np.uint32, np.int32)
    assert corpus[0].node.tobytes() == graph.node.tobytes()
    np.testing.assert_array_equal(corpus[0].edge_index, graph.edge_index)
    assert corpus.macs.tolist() == [2**63 - 1]


def test_corpora_joined_are_the_corpus_of_all_their_graphs(tmp_path: Path) -> None:
    def write(name: str, seeds: range) -> Path:
        with CorpusWriter(tmp_path / name, fingerprint(), may_be_empty=True) as writer:
            for seed in seeds:
                writer.add(f"graph {seed}", operators(seed, 5 + seed), seed, 2 * seed, f"{seed:032x}")
        return tmp_path / name

    parts = [write("a", range(1, 4)), write("b", range(0)), write("c", range(4, 9))]
    with CorpusWriter(tmp_path / "joined", fingerprint()) as writer:
        for part in parts:
            writer.extend(Corpus(part))
        with pytest.raises(AiopError, match="already has a graph 'graph 4'"):
            writer.extend(Corpus(parts[2]))
    assert (tmp_path / "joined").read_bytes() == write("whole", range(1, 9)).read_bytes()


def test_corpora_of_other_features_are_not_joined(path: Path, tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "x.corpus", "0" * 64) as writer:
        writer.add("c", GRAPHS["c"])
        with pytest.raises(AiopError, match="other features"):
            writer.extend(Corpus(path))
    rewrite(path, number=np.full(35, 35, np.uint16))
    with (
        pytest.raises(AiopError, match="damaged"),
        CorpusWriter(tmp_path / "y.corpus", fingerprint()) as writer,
    ):
        writer.extend(Corpus(path))
    assert not (tmp_path / "y.corpus").exists()


def test_batch_is_in_the_order_asked_for(path: Path) -> None:
    batch = Corpus(path).batch([2, 0, 2])
    assert batch.ptr.tolist() == [0, 30, 34, 64]
    np.testing.assert_array_equal(batch.node[30:34].numpy(), GRAPHS["a:plain"].node.astype(np.float32))
    assert (batch.src[-41:] - 34).tolist() == GRAPHS["c"].edge_index[0].tolist()


def test_safetensors_itself_reads_the_file(path: Path) -> None:
    tensors = safetensors.numpy.load_file(path)
    assert tensors["node_ptr"].tolist() == [0, 4, 5, 35]
    assert tensors["name"].tobytes().decode() == "".join(GRAPHS)
    np.testing.assert_array_equal(tensors["target"][:6], GRAPHS["a:plain"].edge_index[1])


def test_views_are_read_only(path: Path) -> None:
    for view in (Corpus(path).graph_features(), Corpus(path).macs):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1


def test_what_is_read_is_a_copy(path: Path) -> None:
    corpus = Corpus(path)
    corpus[0].node[:] = 0
    assert_same(corpus[0], GRAPHS["a:plain"])


def test_an_exception_leaves_what_was_there(path: Path) -> None:
    before = path.read_bytes()
    with suppress(ZeroDivisionError), CorpusWriter(path, fingerprint()) as writer:
        writer.add("x", GRAPHS["c"])
        _ = 1 / 0
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AiopError, match="no graph"), CorpusWriter(tmp_path / "new.corpus", fingerprint()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(path: Path) -> None:
    with (
        pytest.raises(AiopError, match="cannot be written"),
        CorpusWriter(path / "inside.corpus", fingerprint()),
    ):
        pass


def blank_graph(nodes: int = 2, rows: int = 2, width: int = 5, edge: int = 0) -> GraphArrays:
    return GraphArrays(
        op=np.zeros(nodes, np.uint8),
        node=np.zeros((rows, width), np.float16),
        edge_index=np.full((2, 1), edge, np.int32),
        graph=np.zeros(3, np.float32),
    )


@pytest.mark.parametrize(
    ("name", "graph", "match"),
    [
        ("c", GRAPHS["c"], "already has a graph 'c'"),
        ("d", blank_graph(width=4), "feature widths"),
        ("e", blank_graph(edge=2), "outside its 2 nodes"),
        ("f", blank_graph(nodes=3), "for 3 nodes"),
        ("g", blank_graph(nodes=0, rows=0), "for 0 nodes"),
    ],
)
def test_bad_graphs_are_refused(tmp_path: Path, name: str, graph: GraphArrays, match: str) -> None:
    with CorpusWriter(tmp_path / "x.corpus", fingerprint()) as writer:
        writer.add("c", GRAPHS["c"])
        with pytest.raises(AiopError, match=match):
            writer.add(name, graph)


def test_unknown_names_and_numbers(path: Path) -> None:
    corpus = Corpus(path)
    with pytest.raises(AiopError, match=r'no graph \'a:plane\' \(did you mean "a:plain"\?\)'):
        corpus.index("a:plane")
    with pytest.raises(IndexError):
        corpus[3]


def test_a_stale_fingerprint_says_how_to_rebuild(tmp_path: Path) -> None:
    path = tmp_path / "old.corpus"
    with CorpusWriter(path, "0" * 64) as writer:
        writer.add("c", GRAPHS["c"])
    with pytest.raises(AiopError, match=r"encoded with features 000000000000.*build it again"):
        Corpus(path)
    assert len(Corpus(path, check_fingerprint=False)) == 1


def rewrite(path: Path, **changes: object) -> None:
    """Write the corpus again with other tensors or another header, as a hostile or broken writer would."""
    tensors = safetensors.numpy.load_file(path)
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    described = json.loads(header["__metadata__"]["aiop"])
    for name, value in changes.items():
        if name in ("schema", "relative_columns"):
            described[name.removesuffix("_columns")] = value
        elif value is None:
            del tensors[name]
        else:
            tensors[name] = value
    safetensors.numpy.save_file(tensors, path, {"aiop": json.dumps(described)})


@pytest.mark.parametrize(
    "changes",
    [
        {"node_ptr": np.array([0, 4, 3, 35])},  # not ascending
        {"node_ptr": np.array([0, 4, 5, 36])},  # past the end
        {"node_ptr": np.array([0, -4, 5, 35])},
        {"edge_ptr": np.array([1, 6, 6, 47])},  # does not start at 0
        {"edge_ptr": np.array([0, 6, 47])},  # too few graphs
        {"name_ptr": np.array([0, 7, 20, 99])},
        {"number": np.zeros(34, np.uint16)},
        {"number": np.zeros(35, np.int32)},  # wrong dtype
        {"row_op": np.zeros(34, np.uint8)},
        {"row_node": np.zeros((34, 5), np.float16)},
        {"relative": np.zeros((34, 0), np.float16)},
        {"relative": np.zeros((35, 1), np.float16)},  # of no column
        {"macs": np.zeros(2, np.int64)},
        {"params": np.zeros(2, np.int64)},
        {"hash": np.zeros((3, 15), np.uint8)},
        {"target": np.zeros(46, np.uint16)},
        {"graph": np.zeros((2, 3), np.float32)},
        {"graph": None},
    ],
)
def test_damaged_tables_are_refused(path: Path, changes: dict[str, np.ndarray | None]) -> None:
    rewrite(path, **changes)
    with pytest.raises(AiopError, match=r"damaged.*build it again"):
        Corpus(path)


def test_edges_that_leave_their_graph_are_refused_when_read(path: Path) -> None:
    for number in (np.uint16(1000), np.int32(-1)):
        rewrite(path, source=np.full(47, number))
        with pytest.raises(AiopError, match="outside its 4 nodes"):
            Corpus(path).batch([0])


def test_nodes_outside_the_dictionary_are_refused_when_read(path: Path) -> None:
    rewrite(path, number=np.full(35, 35, np.uint16))
    with pytest.raises(
        AiopError, match=r"damaged: graph 1 has a node outside the dictionary.*build it again"
    ):
        Corpus(path)[1]


@pytest.mark.parametrize("relative", [None, [0], [0, 1], [3, 2], [-1, -1], [0, 9], ["a", "b"], {"0": 1}])
def test_a_header_that_names_other_columns_is_refused(path: Path, relative: object) -> None:
    rewrite(path, relative_columns=relative)
    with pytest.raises(AiopError, match=r"damaged.*'relative'"):
        Corpus(path)


@pytest.mark.parametrize("schema", [1, 3, None])
def test_other_schemas_say_how_to_rebuild(path: Path, schema: object) -> None:
    rewrite(path, schema=schema)
    with pytest.raises(AiopError, match=r"reads 2: build it again with `aiop corpus build made here`"):
        Corpus(path)


def test_names_that_are_not_text_are_refused(path: Path) -> None:
    rewrite(path, name=np.full_like(safetensors.numpy.load_file(path)["name"], 0xFF))
    with pytest.raises(AiopError, match="not UTF-8"):
        Corpus(path).index("c")


def test_a_truncated_file_is_refused_at_every_length(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(AiopError):
            Corpus(path)


def hostile(header: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + b"\0" * 64


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 not this",
        hostile(b"{}", length=1 << 62),
        hostile(b"[1, 2]"),
        hostile(b"[" * 100_000),
        hostile(b'{"op": 3}'),
        hostile(b'{"op": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}'),
        hostile(b'{"op": {"dtype": "U8", "shape": [1e9], "data_offsets": [0, 8]}}'),
        hostile(b'{"op": {"dtype": "U8", "shape": [-8, -1], "data_offsets": [0, 8]}}'),
        hostile(b'{"op": {"dtype": "U8", "shape": [80], "data_offsets": [0, 80]}}'),
        hostile(b'{"op": {"dtype": "U8", "shape": [8], "data_offsets": [0, 9]}}'),
        hostile(b'{"op": {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]}}'),
        hostile(b'{"__metadata__": {"aiop": 3}}'),
        hostile(b'{"__metadata__": {"aiop": "[]"}}'),
        hostile(b'{"__metadata__": {}}'),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hostile.corpus"
    path.write_bytes(content)
    with pytest.raises(AiopError, match=r"hostile\.corpus"):
        Corpus(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AiopError, match="does not exist"):
        Corpus(tmp_path / "none.corpus")
    with pytest.raises(AiopError, match="cannot be read"):
        Corpus(tmp_path)
