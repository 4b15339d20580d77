"""Tables as cached corpora, and the rows that training and scoring see of them."""

import numpy as np
import pytest

from aiop.graph_ir import read_onnx
from aiop.graph_ir.features import encode
from aiop.pretrain.data import labelled_corpora
from aiop.tasks import corpora, get_space
from aiop.tasks.corpora import open_corpus, plain, variants
from aiop.tasks.tables import Table, table

TASK = "classification/nas-bench-201/cifar10-test-top1"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))


def cells(count, name="cells", digest="0" * 64):
    space = get_space("nas-bench-201")
    rng = np.random.default_rng(0)
    codes = list(dict.fromkeys(space.sample(rng) for _ in range(2 * count)))[:count]
    values = np.linspace(50, 90, count)
    return Table(
        name, [f"nas-bench-201:{code}" for code in codes], {TASK: values}, [str(i % 6) for i in range(count)],
        values, values, {"cells.parquet": digest}, "Apache-2.0",
    )  # fmt: skip


def test_a_corpus_holds_the_networks_in_order_with_their_costs():
    networks = cells(5)
    corpus = open_corpus(networks, progress=False)
    assert list(corpus.names) == networks.networks
    for row, name in enumerate(networks.networks):
        graph = read_onnx(get_space("nas-bench-201").build(name.partition(":")[2]))
        assert corpus.metadata["macs"][row] == graph.macs
        assert corpus.metadata["params"][row] == graph.params
        np.testing.assert_array_equal(corpus[row].node, encode(graph).node)


def test_a_cached_corpus_is_taken_until_the_table_changes(monkeypatch):
    calls = []
    build = corpora._build
    monkeypatch.setattr(corpora, "_build", lambda *arguments: (calls.append(1), build(*arguments)))
    open_corpus(cells(3), progress=False)
    open_corpus(cells(3), progress=False)
    assert len(calls) == 1
    open_corpus(cells(3, digest="1" * 64), progress=False)
    assert len(calls) == 2
    path = open_corpus(cells(3, digest="1" * 64), progress=False).path
    path.write_bytes(b"damaged")
    assert len(open_corpus(cells(3, digest="1" * 64), progress=False)) == 3


def test_what_cannot_be_read_is_left_out_with_its_reason():
    networks = cells(3)
    networks.networks[1] = "nas-bench-201:|nor_conv_9x9~0|"
    corpus = open_corpus(networks, progress=False)
    assert len(corpus) == 2
    assert list(corpus.metadata["refused"]) == [networks.networks[1]]
    assert "nor_conv_9x9" in corpus.metadata["refused"][networks.networks[1]]


def test_other_forms_come_after_the_tables_own_networks_and_are_only_trained_on(monkeypatch):
    networks = cells(40, name="nas-bench-201")
    forms = variants(networks)
    assert len(forms) == 16  # one in five, in two forms
    assert {plain(name) for name in forms} <= set(networks.networks)
    monkeypatch.setitem(table._LOADERS, "nas-bench-201", lambda folder: networks)
    monkeypatch.setitem(corpora.FORMS, "nas-bench-201", ("cifar10", "imagenet16-120"))
    from aiop.pretrain import data

    monkeypatch.setattr(
        data, "split", lambda _: {"train": np.arange(30), "val": np.arange(30, 35), "test": np.arange(35, 40)}
    )
    (item,), targets = labelled_corpora(["nas-bench-201"], ["*cifar10*"], workers=1, progress=False)
    assert [target.name for target in targets] == [TASK]
    assert list(item.corpus.names) == networks.networks + forms
    assert len(item.own_rows("train")) == 30 < len(item.rows["train"])
    for part in ("val", "test"):
        np.testing.assert_array_equal(item.own_rows(part), item.rows[part])
    for row, name in enumerate(item.corpus.names):
        assert item.values[row, 0] == networks.values[TASK][networks.networks.index(plain(name))]
        assert item.group(row) == networks.groups[networks.networks.index(plain(name))]
    trained = {plain(item.corpus.names[row]) for row in item.rows["train"]}
    scored = {plain(item.corpus.names[row]) for part in ("val", "test") for row in item.rows[part]}
    assert not trained & scored
