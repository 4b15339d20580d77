"""Tables as cached corpora, and the rows that training and scoring see of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.graph_ir import read_onnx
from aiop.graph_ir.corpus import Corpus, CorpusWriter
from aiop.graph_ir.features import encode
from aiop.graph_ir.hashing import content_hash
from aiop.graph_ir.passes import canonicalise
from aiop.pretrain.data import labelled_corpora
from aiop.tasks import corpora, get_space, networks, provenance, shards
from aiop.tasks.corpora import build_corpus, corpus_path, corpus_state, open_corpus, plain, variants
from aiop.tasks.tables import Table, table

TASK = "classification/nas-bench-201/cifar10-test-top1"
FILE = "nas_bench_201.parquet"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    return tmp_path / "cache"


def cells(count, name="cells", digest="0" * 64, seed=0):
    space = get_space("nas-bench-201")
    rng = np.random.default_rng(seed)
    codes = list(dict.fromkeys(space.sample(rng) for _ in range(2 * count)))[:count]
    values = np.linspace(50, 90, count)
    return Table(
        name, [f"nas-bench-201:{code}" for code in codes], {TASK: values}, [str(i % 6) for i in range(count)],
        values, values, {FILE: digest}, "Apache-2.0",
    )  # fmt: skip


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """A benchmark table of ten cells, whose file can be changed."""
    (tmp_path / FILE).write_bytes(b"measurements")

    def load(folder: Path) -> Table:
        return cells(10, "nas-bench-201", table.sha256(folder / FILE))

    monkeypatch.setitem(table._LOADERS, "nas-bench-201", load)
    return tmp_path / FILE


def test_a_corpus_holds_the_networks_in_order_with_their_costs():
    given = cells(5)
    corpus = build_corpus(given, progress=False)
    assert list(corpus.names) == given.networks
    for row, name in enumerate(given.networks):
        graph = read_onnx(get_space("nas-bench-201").build(name.partition(":")[2]))
        assert corpus.macs[row] == graph.macs
        assert corpus.params[row] == graph.params
        assert corpus.hashes[row] == content_hash(canonicalise(graph))
        np.testing.assert_array_equal(corpus[row].node, encode(graph).node)


@pytest.mark.parametrize(
    ("name", "forms"),
    [("nas-bench-201", ("cifar10", "imagenet16-120")), ("nas-bench-mr", ("cls-10", "seg")), ("timm", ())],
)
def test_forms_are_those_that_were_measured(name, forms):
    assert provenance.forms_of(name) == forms


def test_one_in_five_is_there_in_every_other_form():
    given = cells(12, "nas-bench-201")
    codes = [name.partition(":")[2] for name in given.networks]
    assert variants(given) == [
        *(f"nas-bench-201@cifar10:{codes[place]}" for place in (0, 5, 10)),
        *(f"nas-bench-201@imagenet16-120:{codes[place]}" for place in (1, 6, 11)),
    ]
    assert variants(cells(12)) == []  # a table of one's own names its forms itself


def test_what_cannot_be_read_is_left_out_with_its_reason():
    given = cells(3)
    given.networks[1] = "nas-bench-201:|nor_conv_9x9~0|"
    corpus = build_corpus(given, progress=False)
    assert len(corpus) == 2
    assert list(corpus.metadata["refused"]) == [given.networks[1]]
    assert "nor_conv_9x9" in corpus.metadata["refused"][given.networks[1]]


def test_a_table_of_which_nothing_can_be_read_is_refused(cache):
    given = cells(1)
    given.networks[0] = "nas-bench-201:|nor_conv_9x9~0|"
    with pytest.raises(AiopError, match=r"no network that can be read, e\.g\..*nor_conv_9x9"):
        build_corpus(given, progress=False)
    assert not corpus_path(given).exists()


def test_a_missing_corpus_says_how_to_build_it(benchmark):
    assert corpus_state("nas-bench-201").kind == "missing"
    with pytest.raises(AiopError, match="has no corpus yet: build it with `aiop corpus build nas-bench-201`"):
        open_corpus("nas-bench-201")


def test_an_unknown_table_is_refused():
    with pytest.raises(AiopError, match='did you mean "nas-bench-201"'):
        open_corpus("nas-bench-2O1")


def test_a_corpus_is_opened_without_its_table(benchmark, monkeypatch):
    built = build_corpus("nas-bench-201", progress=False)
    monkeypatch.setitem(table._LOADERS, "nas-bench-201", None)
    assert open_corpus("nas-bench-201").names == built.names


def refuses(part, given="nas-bench-201"):
    with pytest.raises(AiopError, match=f"stale.*{part}.*`aiop corpus build nas-bench-201`"):
        open_corpus(given)
    assert corpus_state(given).kind == "stale"
    build_corpus(given, progress=False)
    assert corpus_state(given).kind == "fresh"


def test_a_changed_file_makes_a_corpus_stale(benchmark):
    build_corpus("nas-bench-201", progress=False)
    benchmark.write_bytes(b"other measurements")
    refuses("nas_bench_201.parquet changed")
    benchmark.unlink()
    assert corpus_state("nas-bench-201").why == "nas_bench_201.parquet changed"


def test_changed_features_make_a_corpus_stale(benchmark, monkeypatch):
    build_corpus("nas-bench-201", progress=False)
    for module in (corpora, shards, sys.modules["aiop.graph_ir.corpus"]):
        for name in ("fingerprint", "current_fingerprint"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda: "1" * 64)
    refuses("other features")


@pytest.mark.parametrize("what", ["builder", "pass", "forms"])
def test_a_changed_builder_makes_a_corpus_stale(benchmark, monkeypatch, what):
    build_corpus("nas-bench-201", progress=False)
    provenance._code.cache_clear()
    monkeypatch.setattr(provenance, "_code", lambda: what)  # as edited source code has another hash
    assert corpus_state("nas-bench-201").kind == "fresh"  # an edit that changes no network
    if what == "builder":
        monkeypatch.setattr("aiop.tasks.spaces.nas_bench_201.CELLS_PER_STAGE", 4)
    elif what == "pass":
        monkeypatch.setattr(provenance, "canonicalise", lambda graph: graph)
    else:
        monkeypatch.setattr(corpora, "forms_of", lambda name: ("cifar10",))
    monkeypatch.setattr(provenance, "_code", lambda: f"{what} edited")
    refuses("builders, reader or passes")


def test_a_loaded_table_of_other_networks_makes_a_corpus_stale(benchmark):
    build_corpus("nas-bench-201", progress=False)
    digest = table.sha256(benchmark)
    refuses("other networks", cells(10, "nas-bench-201", digest, seed=1))


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_damaged_corpus_is_stale(benchmark, content):
    path = build_corpus("nas-bench-201", progress=False).path
    if content is None:  # a whole one, but of another origin
        with CorpusWriter(path, Corpus(path).fingerprint) as writer:
            writer.add(
                "x", encode(read_onnx(get_space("nas-bench-201").build(get_space("nas-bench-201").example)))
            )
    else:
        path.write_bytes(content)
    refuses("")


def test_what_is_fresh_is_not_built_again(benchmark, monkeypatch):
    build_corpus("nas-bench-201", progress=False)
    calls = []
    monkeypatch.setattr(corpora, "write_shards", lambda *arguments: calls.append(arguments) or iter(()))
    build_corpus("nas-bench-201", progress=False)
    assert not calls


def count_reads(monkeypatch, until=None):
    """Record the names of networks that are read, and interrupt after ``until`` of them."""
    seen = []
    read = networks.read

    def counted(name):
        if len(seen) == until:
            raise KeyboardInterrupt
        seen.append(name)
        return read(name)

    monkeypatch.setattr(networks, "read", counted)
    return seen


def test_a_restart_goes_on_and_makes_the_same_bytes(monkeypatch, cache):
    monkeypatch.setattr(shards, "CHUNK", 4)
    given = cells(18)
    given.networks[5:7] = ["nas-bench-201:no code", "nowhere.onnx"]
    with monkeypatch.context() as patch:
        count_reads(patch)
        whole = build_corpus(given, progress=False).path.read_bytes()
    corpus_path(given).unlink()
    with monkeypatch.context() as patch:
        count_reads(patch, until=10)  # in the third shard
        with pytest.raises(KeyboardInterrupt):
            build_corpus(given, progress=False)
    parts = corpus_path(given).with_name("cells.corpus.parts")
    assert not corpus_path(given).exists()
    assert sorted(path.name for path in parts.iterdir()) == ["000000.corpus", "000001.corpus"]
    (parts / "000001.corpus").write_bytes(b"torn")
    again = count_reads(monkeypatch)
    assert build_corpus(given, progress=False).path.read_bytes() == whole
    assert again == given.networks[4:]
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_shards_of_other_networks_are_made_again(monkeypatch):
    given = cells(6)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "CHUNK", 4)
        count_reads(patch, until=5)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(given, progress=False)
    other = cells(6, seed=1)
    assert list(build_corpus(other, progress=False).names) == other.networks


def test_the_number_of_processes_leaves_no_trace(monkeypatch):
    given = cells(12)
    monkeypatch.setattr(shards, "CHUNK", 4)
    alone = build_corpus(given, workers=1, progress=False).path.read_bytes()
    monkeypatch.setattr(corpora, "_WORTH_PROCESSES", 0)
    assert build_corpus(given, workers=2, progress=False, anew=True).path.read_bytes() == alone


@pytest.mark.skipif(os.name == "nt", reason="folders are locked on POSIX systems")
def test_two_processes_do_not_build_the_same_corpus():
    given = cells(3)
    with (
        corpora._building(corpus_path(given).with_name("cells.corpus.parts")),
        pytest.raises(AiopError, match="another process is building"),
    ):
        build_corpus(given, progress=False)


def test_processes_end_with_the_one_that_is_killed(tmp_path):
    program = (
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from aiop.tasks import get_space, shards\n"
        "def main():\n"
        "    space, rng = get_space('nas-bench-201'), np.random.default_rng(0)\n"
        "    items = (('nas-bench-201:' + space.sample(rng), None) for _ in range(1_000_000))\n"
        f"    for shard in shards.write_shards(items, Path({str(tmp_path)!r}), 'key', 2):\n"
        "        print(shard.number, flush=True)\n"
        "if __name__ == '__main__': main()\n"
    )
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline().strip().isdigit()
        process.kill()
        process.communicate(timeout=10)  # returns when the last process has let go of the pipes


def write_table(folder, rows, name="mine.csv"):
    path = folder / name
    path.write_text(
        "network,top1\n" + "".join(f'"{network}",{70 + row}\n' for row, network in enumerate(rows))
    )
    return path


def test_a_table_of_ones_own(tmp_path):
    code = get_space("nas-bench-201").example
    for name in ("a.onnx", "b.onnx"):
        networks.build(f"nas-bench-201@cifar10:{code}", tmp_path / name)
    path = write_table(
        tmp_path, [f"nas-bench-201:{code}", f"nas-bench-201@imagenet16-120:{code}", "a.onnx", "b.onnx"]
    )
    corpus = build_corpus(str(path), progress=False)
    assert list(corpus.names) == [
        f"nas-bench-201:{code}", f"nas-bench-201@imagenet16-120:{code}",
        str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"),
    ]  # fmt: skip
    assert corpus.hashes[2] == corpus.hashes[3] != corpus.hashes[0]
    assert corpus.path.name.startswith("mine-")
    assert open_corpus(str(path)).names == open_corpus(table.load_table(str(path))).names == corpus.names
    assert corpora.own_sources() == [str(path)]
    os.utime(tmp_path / "b.onnx", (1, 1))
    with pytest.raises(AiopError, match=f"stale.*`aiop corpus build {path}`"):
        open_corpus(str(path))
    build_corpus(str(path), progress=False)
    path.write_text(path.read_text().replace("70", "71"))
    with pytest.raises(AiopError, match=r"mine\.csv changed"):
        open_corpus(str(path))


def test_tables_of_one_name_in_two_folders(tmp_path):
    code = get_space("nas-bench-201").example
    paths = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        paths.append(str(write_table(tmp_path / folder, [f"nas-bench-201:{code}"])))
    found = {build_corpus(path, progress=False).path for path in paths}
    assert len(found) == 2
    assert corpora.own_sources() == paths


def test_a_table_of_ones_own_can_be_trained_on(tmp_path):
    names = cells(10).networks
    networks.build(names.pop(), tmp_path / "a.onnx")
    path = write_table(tmp_path, [*names, "a.onnx"])
    (item,), (target,) = labelled_corpora([str(path)], progress=False)
    assert target.name == "own/mine/top1"
    assert item.corpus.names[-1] == str(tmp_path / "a.onnx")
    assert item.values[:, 0].tolist() == [70 + row for row in range(10)]
    assert sorted(np.concatenate(list(item.rows.values()))) == list(range(10))
    assert item.group(9) not in {item.group(row) for row in range(9)}


def test_other_forms_come_after_the_tables_own_networks_and_are_only_trained_on(monkeypatch):
    given = cells(40, name="nas-bench-201")
    forms = variants(given)
    assert len(forms) == 16  # one in five, in two forms
    assert {plain(name) for name in forms} <= set(given.networks)
    monkeypatch.setitem(table._LOADERS, "nas-bench-201", lambda folder: given)
    from aiop.pretrain import data

    def halves(table, twins):
        assert len(twins) == 40
        return {"train": np.arange(30), "val": np.arange(30, 35), "test": np.arange(35, 40)}

    monkeypatch.setattr(data, "split", halves)
    (item,), targets = labelled_corpora(["nas-bench-201"], ["*cifar10*"], workers=1, progress=False)
    assert [target.name for target in targets] == [TASK]
    assert list(item.corpus.names) == given.networks + forms
    assert len(item.own_rows("train")) == 30 < len(item.rows["train"])
    for part in ("val", "test"):
        np.testing.assert_array_equal(item.own_rows(part), item.rows[part])
    for row, name in enumerate(item.corpus.names):
        place = given.networks.index(plain(name))
        assert item.values[row, 0] == given.values[TASK][place]
        assert item.macs[row] == item.corpus.macs[row]
        assert item.group(row) == item.group(place)
    trained = {plain(item.corpus.names[row]) for row in item.rows["train"]}
    scored = {plain(item.corpus.names[row]) for part in ("val", "test") for row in item.rows[part]}
    assert not trained & scored


def test_training_builds_what_is_missing_and_refuses_what_is_stale(benchmark):
    with pytest.raises(AiopError, match="too few"):  # ten networks do not make its split, but a corpus
        labelled_corpora(["nas-bench-201"], [TASK], progress=False)
    assert len(open_corpus("nas-bench-201")) == 14
    benchmark.write_bytes(b"other measurements")
    with pytest.raises(AiopError, match="stale"):
        labelled_corpora(["nas-bench-201"], [TASK], progress=False)


def test_twins_share_a_group_and_a_side(monkeypatch, tmp_path):
    # Swapping the two inner nodes of this cell gives the same network under another code.
    one = "nas-bench-201:|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    other = "nas-bench-201:|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    names = [*(name for name in cells(20).networks if name not in (one, other)), one, other]
    path = write_table(tmp_path, names)
    (item,), _ = labelled_corpora([str(path)], progress=False)
    places = [item.corpus.index(one), item.corpus.index(other)]
    assert item.corpus.hashes[places[0]] == item.corpus.hashes[places[1]]
    assert len({item.group(place) for place in places}) == 1
    assert sum(set(places) <= set(rows.tolist()) for rows in item.rows.values()) == 1
