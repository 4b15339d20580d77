"""Labels from tables and mappings: which column is meant, what is refused, what is noted."""

from dataclasses import replace

import numpy as np
import pytest
from own_labels import codes, value

import aiop
from aiop.errors import AiopError
from aiop.predictor.labels import HeadTask, read_labels, see
from aiop.tasks.corpora import build_corpus
from aiop.tasks.tables import Table, load_table, table

NETWORKS = codes(12)


@pytest.fixture
def write(tmp_path, own_cache):
    def write(text, name="mine.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def rows(*columns):
    """A row per network with the given columns, each a function of its place."""
    return [
        ",".join([name, *(str(column(place)) for column in columns)]) for place, name in enumerate(NETWORKS)
    ]


def whole(header, *columns):
    return "\n".join([header, *rows(*columns)])


@pytest.mark.parametrize("metric", ["top1", "top1 [%]", "own/mine/top1", "Top1"])
def test_a_column_is_meant_by_its_header_with_or_without_unit_or_by_its_task(write, metric):
    path = write(whole("network,top1 [%],size [MB] (lower)", lambda i: 70 + i, lambda i: i + 1))
    labels = read_labels(path, metric)
    assert labels.task == HeadTask("own/mine/top1", "top1", "%", "max", "identity")
    assert labels.networks == tuple(NETWORKS)
    assert labels.values.tolist() == [70.0 + place for place in range(12)]


def test_the_header_says_unit_and_direction_and_a_cost_its_scale(write):
    path = write(whole("network,size [MB] (lower),latency/phone/batch1", lambda i: i, lambda i: i + 1))
    assert read_labels(path, "size").task == HeadTask("own/mine/size", "size", "MB", "min", "identity")
    assert read_labels(path, "latency/phone/batch1").task.transform == "log"


def test_lower_is_better_where_the_user_says_so(write):
    path = write(whole("network,loss", lambda i: i))
    assert read_labels(path).task.direction == "max"
    assert read_labels(path, lower=True).task.direction == "min"


def test_of_several_columns_one_must_be_named(write):
    path = write(whole("network,a,b", lambda i: i, lambda i: -i))
    with pytest.raises(
        AiopError, match=r"2 columns of numbers: choose one with --metric, such as own/mine/a, own/mine/b"
    ):
        read_labels(path)


def test_a_column_that_is_not_there_suggests_the_nearest(write):
    path = write(whole("network,top1,comment", lambda i: i, lambda i: "good"))
    with pytest.raises(AiopError, match=r'no column of numbers "top2" \(did you mean ".*top1"\?\)'):
        read_labels(path, "top2")
    with pytest.raises(AiopError, match=r'column "comment" is left out: most of its cells are no numbers'):
        read_labels(path, "comment")


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_labels_that_are_not_finite_are_refused_with_their_line(write, bad):
    path = write(whole("network,top1,other", lambda i: bad if i == 3 else i, lambda i: i))
    with pytest.raises(AiopError, match=f'line 5 has "{bad}", which is not finite'):
        read_labels(path, "top1")
    assert len(read_labels(path, "other")) == 12


def test_an_empty_cell_was_not_measured(write):
    path = write(whole("network,top1,other", lambda i: "" if i == 3 else i, lambda i: i))
    labels = read_labels(path, "top1")
    assert len(labels) == 11
    assert NETWORKS[3] not in labels.networks


def test_one_network_with_two_values_is_refused_and_with_the_same_value_is_one(write):
    text = whole("network,top1,other", lambda i: 1.5 * i, lambda i: i)
    path = write(f"{text}\n{NETWORKS[2]},3.5,2\n")
    with pytest.raises(AiopError, match=r"02?.*has several values, from 3 to 3\.5"):
        read_labels(path, "top1")
    assert len(read_labels(path, "other")) == 12


def test_a_network_that_cannot_be_read_is_left_out_with_a_note(write):
    write("no network", "broken.onnx")
    path = write(whole("network,top1", lambda i: i) + "\nbroken.onnx,50\nnowhere.onnx,51\n")
    labelled = see(aiop.load(), read_labels(path))
    assert labelled.labels.networks == tuple(NETWORKS)
    assert len(labelled.views) == len(labelled.marks) == 12
    notes = labelled.labels.notes
    assert any("nowhere.onnx" in note for note in notes)
    assert any("broken.onnx" in note for note in notes)


def test_views_are_those_of_the_networks_in_their_order(write):
    path = write(whole("network,top1", lambda i: i))
    labelled = see(aiop.load(), read_labels(path).rows([5, 2]))
    expected = aiop.load().embed([NETWORKS[5], NETWORKS[2]])
    assert labelled.views.embedding == pytest.approx(expected, abs=1e-4)
    assert labelled.values.tolist() == [5, 2]
    direct = see(aiop.load(), read_labels({NETWORKS[5]: 5.0, NETWORKS[2]: 2.0}))
    assert direct.marks == labelled.marks
    assert direct.views.embedding == pytest.approx(expected, abs=1e-4)


def test_a_mapping_holds_finite_numbers():
    labels = read_labels({name: value(name) for name in NETWORKS}, "quality", lower=True)
    assert (labels.task.name, labels.task.direction) == ("quality", "min")
    with pytest.raises(AiopError, match=f"the label of {NETWORKS[0]} is nan"):
        read_labels({NETWORKS[0]: float("nan")})
    with pytest.raises(AiopError, match="is '7'"):
        read_labels({NETWORKS[0]: "7"})


def test_of_a_benchmark_table_the_split_decides(monkeypatch, tmp_path, own_cache):
    networks, task = codes(40), "classification/nas-bench-macro/cifar10-test-top1"

    def load(folder):
        return Table(
            "small",
            networks,
            {task: np.arange(40.0)},
            [str(i) for i in range(40)],
            np.ones(40),
            np.ones(40),
            {},
            "MIT",
        )

    monkeypatch.setitem(table._LOADERS, "small", load)
    monkeypatch.setenv("AIOP_DATA", str(tmp_path))
    build_corpus("small", progress=False)
    train, test = (read_labels("small", task, part=part) for part in ("train", "test"))
    assert len(train) + len(test) < 40  # the rest validates
    assert len(test) == 8
    assert not set(train.networks) & set(test.networks)
    for labels in (train, test):
        assert [networks[int(place)] for place in labels.values] == list(labels.networks)
    with pytest.raises(AiopError, match="higher is better"):
        read_labels("small", task, lower=True)


def test_logarithms_there_and_back():
    task = HeadTask("latency/a/b", "latency", "ms", "min", "log")
    values = np.array([0.5, 1.0, 20.0])
    assert task.scale(values) == pytest.approx(np.log(values))
    assert task.unscale(task.scale(values)) == pytest.approx(values)
    with pytest.raises(AiopError, match="go down to 0, but must be above 0"):
        task.scale(np.array([1.0, 0.0]))


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"name": "a", "metric": 3},
        {"name": "a", "metric": "b", "direction": "up"},
        {"nme": "a", "metric": "b"},
    ],
)
def test_what_is_no_task(data):
    with pytest.raises(ValueError, match=r"task|direction"):
        HeadTask.from_dict(data)


def test_the_corpus_of_an_embedded_table_follows_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("AIOP_CACHE", str(tmp_path))
    table = load_table("digits-ofa")
    few = replace(
        table,
        networks=table.networks[:3],
        groups=table.groups[:3],
        values={task: values[:3] for task, values in table.values.items()},
        macs=table.macs[:3],
        params=table.params[:3],
        files=dict.fromkeys(table.files, "0" * 64),  # as an older package had it
    )
    assert len(build_corpus(few)) == 3
    labels = read_labels("digits-ofa", "classification/digits-ofa/main-top1")
    seen = see(aiop.load(), labels)
    assert len(seen.labels) == len(labels) > 3
