"""Tables of users' own: what becomes of good cells, and the line and the reason of every bad one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiop.errors import AiopError
from aiop.tasks import get_task, list_tasks, task
from aiop.tasks.tables import Table, list_tables, load_table
from aiop.tasks.tables import sheet as sheet_module

CELL = "nas-bench-201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
OTHER = CELL.replace("avg_pool_3x3", "nor_conv_1x1")
BRANCHES = "nas-bench-mr:" + ",".join(
    ["16"] * 2 + "1 1 16 1 1 1 16 16 1 1 1 1 16 16 16 1 1 1 1 1".split() + ["16"] * 5
)
RESNET = Path(__file__).parents[2] / "examples" / "resnet18.onnx"

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the tasks that a test registers."""
    monkeypatch.setattr(task, "_TASKS", dict(task._TASKS))


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a table of the given lines beside an ONNX file ``nets/a.onnx``."""
    (tmp_path / "nets").mkdir()
    shutil.copy(RESNET, tmp_path / "nets" / "a.onnx")

    def write_lines(*lines: str, name: str = "my.csv", encoding: str = "utf-8", end: str = "\n") -> Path:
        path = tmp_path / name
        path.write_bytes((end.join(lines) + end).encode(encoding))
        return path

    return write_lines


def load(path: Path) -> Table:
    return load_table(str(path))


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(AiopError) as error:
        load(path)
    for part in (path.name, *parts):
        assert part in str(error.value)


def test_networks_values_and_tasks(write: Write, tmp_path: Path) -> None:
    path = write(
        "network,top1 [%],Peak memory [MB] (lower),latency/my-phone/pixel8,comment",
        "nets/a.onnx,71.25,14,3.5e1,the first",
        f"{CELL},68,,2.5,",
        f'"{BRANCHES}",,17.5,4,"has, a comma"',
    )
    table = load(path)
    assert (table.name, len(table), table.path) == ("my", 3, str(path))
    assert table.networks == [str(tmp_path / "nets" / "a.onnx"), CELL, BRANCHES]
    assert table.groups == ["nets/a.onnx", CELL, BRANCHES]
    assert list(table.values) == ["own/my/top1", "own/my/peak-memory", "latency/my-phone/pixel8"]
    np.testing.assert_array_equal(table.values["own/my/top1"], [71.25, 68, np.nan])
    np.testing.assert_array_equal(table.values["own/my/peak-memory"], [14, np.nan, 17.5])
    np.testing.assert_array_equal(table.values["latency/my-phone/pixel8"], [35, 2.5, 4])
    assert np.isnan(table.macs).all()
    assert table.noise == {}
    assert table.notes == [
        'column "comment" is left out: most of its cells are no numbers, such as "the first" in line 2'
    ]
    memory, latency = get_task("own/my/peak-memory"), get_task("latency/my-phone/pixel8")
    assert (memory.unit, memory.direction, memory.transform) == ("MB", "min", "identity")
    assert (latency.unit, latency.direction, latency.transform) == ("ms", "min", "log")
    assert (get_task("own/my/top1").direction, get_task("own/my/top1").rows) == ("max", 0)
    assert len(table.files["my.csv"]) == 64


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",70", "names no network"),
        ("missing.onnx,70", 'file "missing.onnx" does not exist'),
        ("nets,70", '"nets" is a folder'),
        ("pipe.onnx,70", "is no regular file"),
        ("gone.onnx,70", 'file "gone.onnx" cannot be read (No such file or directory)'),
        ("nets/a.onnx/b.onnx,70", "does not exist"),
        (f"{'x' * 5000}.onnx,70", "does not exist"),
        ("nets\0/a.onnx,70", "does not exist"),
        ("nas-bench-201:|none~0|,70", "expected 3 groups joined by '+', found 1"),
        ("nas-bench-202:abc,70", 'unknown (did you mean "nas-bench-201"?)'),
        (CELL.replace(":", "@cifar11:") + ",70", 'has no form "cifar11" (did you mean "cifar10"?)'),
        (f"{BRANCHES},70", '28 cells under a header of 2; a code that holds "," must stand in quotes'),
        ("nets/a.onnx", "1 cells under a header of 2"),
        ('"nets/a.onnx"x,70', "its quotes are wrong"),
    ],
)
def test_bad_networks_cost_their_row(write: Write, tmp_path: Path, row: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "gone.onnx").symlink_to(tmp_path / "nowhere")
    table = load(write("network,top1", f"{CELL},60", row, f"{OTHER},61"))
    assert table.networks == [CELL, OTHER]
    assert table.values["own/my/top1"].tolist() == [60, 61]
    (note,) = table.notes
    assert note.startswith("line 3 is left out: ")
    assert reason in note
    assert "\n" not in note


@pytest.mark.parametrize(
    ("header", "cell", "reason"),
    [
        ("top1", "abc", '"abc" is no number'),
        ("top1", "71;3", "is no number"),
        ("top1", "1_000", "is no number"),
        ("top1", "７１", "is no number"),
        ("top1", '"71,3"', '"71,3" is no number, write its decimals after a point'),
        ("top1", "NaN", '"NaN" is not finite, leave the cell empty'),
        ("top1", "-inf", "is not finite"),
        ("top1", "1e999", '"1e999" is not finite'),
        ("top1 [%]", "170", '"170" is no percentage'),
        ("segmentation/mine/city-miou", "-1", "is no percentage"),
        ("latency/phone/x", "0", "is no latency, which is above 0 ms"),
    ],
)
def test_bad_cells_cost_the_cell(write: Write, header: str, cell: str, reason: str) -> None:
    table = load(write(f"network,{header},size", f"{CELL},60,1", f"{OTHER},{cell},2", "nets/a.onnx,61,3"))
    values, size = table.values.values()
    np.testing.assert_array_equal(values, [60, np.nan, 61])
    assert size.tolist() == [1, 2, 3]
    (note,) = table.notes
    assert note.startswith(f"line 3, {header}: ")
    assert reason in note


def test_notes_are_in_the_order_of_the_file(write: Write) -> None:
    lines = [f"{CELL},60,5", ",1,1", f"{OTHER},x,y", "no.onnx,1,1", f"{CELL},62,inf", f"{CELL},64,7"]
    table = load(write("network,a,b", *lines))
    assert [note.split(",")[0].split(" is ")[0] for note in table.notes] == [
        "networks that stand in several rows have the mean of their values: line 6",
        "line 3",
        "line 4",
        "line 4",
        "line 5",
        "line 6",
    ]
    # three runs of one network: 60, 62 and 64; two runs: 5 and 7
    np.testing.assert_array_equal(table.values["own/my/a"], [62, np.nan])
    assert table.noise == pytest.approx({"own/my/a": 2.0, "own/my/b": 2**0.5})


def test_notes_are_bounded(write: Write) -> None:
    table = load(write("network,top1", f"{CELL},60", *["no.onnx,1"] * 1500))
    assert len(table.notes) == 1001
    assert table.notes[999].startswith("line 1002 ")
    assert table.notes[-1] == "and 500 more"


def test_lines_count_as_an_editor_counts_them(write: Write) -> None:
    table = load(
        write("network,top1,remark", f'{CELL},60,"two\nlines"', "", ",,", 'no.onnx,1,"a\nb"', f"{OTHER},x,c")
    )
    assert [note.partition(" is ")[0] for note in table.notes[1:]] == ["lines 6 to 7", 'line 8, top1: "x"']


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_dialects(write: Write, sign: str, end: str, encoding: str) -> None:
    lines = [("top1", "network", "größe"), ("60", CELL, "1"), ("", "", ""), (" 61", f'"{OTHER}" ', "2")]
    path = write(*(sign.join(cells) for cells in lines), end=end, encoding=encoding, name="Mein Netz.csv")
    if sign == "," and end == "\n":
        path.write_bytes(path.read_bytes().replace(b'" ', b'"'))
        table = load(path)
        assert (table.networks, table.name, table.notes) == ([CELL, OTHER], "mein-netz", [])
        assert table.values["own/mein-netz/top1"].tolist() == [60, 61]
    else:
        table = load(path)  # after a closing quote nothing may stand
        assert [note[:7] for note in table.notes] == ["line 4 "]
        assert table.values["own/mein-netz/gr-e"].tolist() == [1]


def test_networks_from_the_working_directory(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables" / "nets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = write("network,top1", "nets/a.onnx,60", name="tables/my.csv")
    table = load(path.relative_to(tmp_path))
    assert (table.networks, table.path) == ([str(tmp_path / "nets" / "a.onnx")], str(path))
    shutil.copy(RESNET, path.parent / "nets" / "a.onnx")  # what lies beside the table comes first
    assert load(path).networks == [str(path.parent / "nets" / "a.onnx")]


def test_spellings_and_forms_of_a_network(write: Write) -> None:
    default, form = CELL.replace(":", "@cifar100:"), CELL.replace(":", "@cifar10:")
    table = load(write("network,top1", f"{CELL},60", f"{default},62", f"{form},70", "./nets/a.onnx,1"))
    assert table.networks[:2] == [CELL, form]
    assert table.groups == [CELL, CELL, "nets/a.onnx"]
    assert table.values["own/my/top1"].tolist() == [61, 70, 1]


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([""], ["no header"]),
        (["net,top1", "a,1"], ['no column "network"']),
        (["netwrok,top1", "a,1"], ['did you mean "netwrok"?']),
        (["Network;top1", "a;1"], ['did you mean "Network"?']),
        (["network", "nets/a.onnx"], ["no column of numbers"]),
        (["network,name", "nets/a.onnx,best"], ["no column of numbers", '"best" in line 2']),
        (["network,top1", "nets/a.onnx,"], ["no column of numbers", '"top1" is left out: it is empty']),
        (["network,top1"], ["no usable row"]),
        (["network,top1", "no.onnx,1"], ["no usable row", 'line 2 is left out: file "no.onnx"']),
        (["network,top1,top1", "nets/a.onnx,1,2"], ['two columns "top1"']),
        (["network,Top-1,top 1", "nets/a.onnx,1,2"], ['"Top-1" and "top 1"', "both own/my/top-1"]),
        (['network,"top1', "nets/a.onnx,1"], ["quotes are not closed"]),
        (["network,top1", '"nets/a.onnx,1', "nets/a.onnx,1"], ["line 2", "never closed"]),
        (["network,top1", "nets/a.onnx,1", f'"{"x" * 200_000}",1'], ["line 3", "131,071 characters"]),
        (["network," + "x" * 300, "nets/a.onnx,1"], ["shorten it"]),
        (["network," + ",".join(f"x{i}" for i in range(300)), "nets/a.onnx,1"], ["301 columns"]),
        (["network," + "x" * 70_000, "nets/a.onnx,1"], ["header of more than 65,536"]),
        (["network,точность", "nets/a.onnx,1"], ["Latin letters"]),
        (["network,latncy/my/x", "nets/a.onnx,1"], ['"latncy" is unknown (did you mean "latency"?)']),
        (["network,latency/my/x [s]", "nets/a.onnx,1"], ["is in ms, and lower is better"]),
        (["network,throughput/my/x (lower)", "nets/a.onnx,1"], ["is in images/s, and higher is better"]),
    ],
)
def test_tables_that_are_refused(write: Write, lines: list[str], parts: list[str]) -> None:
    before = list_tasks()
    refused(write(*lines), *parts)
    assert list_tasks() == before


def test_files_that_are_refused(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path / "none.csv", "does not exist")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "is not a regular file")
    os.mkfifo(tmp_path / "pipe.csv")
    refused(tmp_path / "pipe.csv", "is not a regular file")
    refused(write("network,größe", "nets/a.onnx,1", encoding="latin-1"), "is not UTF-8")
    refused(write("network,top1", "nets/a.onnx,1", encoding="utf-16"), "is not UTF-8")
    for name in ("timm.csv", "NAS Bench-201.csv", "darts.csv"):
        refused(write("network,top1", "nets/a.onnx,1", name=name), "is a public one", "rename the file")
    refused(write("network,top1", "nets/a.onnx,1", name="сеть.csv"), "no Latin letter or digit")
    path = write("network,top1", "nets/a.onnx,1", "nets/a.onnx,2")
    monkeypatch.setattr(sheet_module, "_MOST_ROWS", 1)
    refused(path, "more than 1 rows")
    monkeypatch.setattr(sheet_module, "_LARGEST_FILE", 10)
    refused(path, "split it")
    with pytest.raises(AiopError, match=r"ends in \.csv or \.parquet"):
        load_table("my.xlsx")


def test_headers_that_name_public_tasks(write: Write) -> None:
    name = "latency/nas-bench-201/pixel3"
    public = get_task(name)
    assert list(load(write(f"network,{name}", f"{CELL},5")).values) == [name]
    assert get_task(name) == public
    refused(write(f"network,{name}", f"{CELL},5", "nets/a.onnx,5"), "nas-bench-201", "line 3")
    refused(write("network,latency/nas-bench-201/mine", f'"{BRANCHES}",5'), "nas-bench-201", "line 2")
    refused(write("network,throughput/timm/mine", "nets/a.onnx,5"), "timm", "line 2")
    assert load(write("network,latency/nas-bench-201/mine", f"{CELL},5")).values.keys() == {
        "latency/nas-bench-201/mine"
    }


def test_loading_again_renews_the_tasks(write: Write) -> None:
    for header, unit in (("loss [bit] (lower)", "bit"), ("loss [nat] (lower)", "nat"), ("loss", "")):
        table = load(write(f"network,{header}", f"{CELL},1"))
        assert list(table.values) == ["own/my/loss"]
        assert get_task("own/my/loss").unit == unit
    load(write("network,latency/phone/x", f"{CELL},1"))
    refused(
        write("network,latency/phone/x", f"{CELL},1", name="other.csv"),
        "own measurements of my.csv",
        "rename",
    )
    assert "my" not in list_tables()


def write_parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet(write: Write, tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "my.parquet",
        **{
            "network": pa.array(["nets/a.onnx", None, CELL, "no.onnx", OTHER]).dictionary_encode(),
            "top1 [%]": [71.5, 1.0, float("nan"), 1.0, None],
            "latency/phone/x": [3, 1, 5, 1, 0],
            "text": ["1.5", "x", "2.5", "3", "nan"],
            "price": [Decimal(price) for price in ("1", "2", "3.25", "4", "5")],
            "day": pa.array([0] * 5, pa.date32()),
            "a.b": pa.array([1, 2, 3, 4, 5], pa.float16()),
        },
    )
    table = load(path)
    assert table.networks == [str(tmp_path / "nets" / "a.onnx"), CELL, OTHER]
    found = {name.rpartition("/")[2]: values.tolist() for name, values in table.values.items()}
    assert str(found) == str(
        {
            "top1": [71.5, np.nan, np.nan],
            "x": [3.0, 5.0, np.nan],
            "text": [1.5, 2.5, np.nan],
            "price": [1.0, 3.25, 5.0],
            "a.b": [1.0, 3.0, 5.0],
        }
    )
    assert [note.partition(" is ")[0] for note in table.notes] == [
        'column "day"',
        "row 2",
        "row 4",
        'row 5, latency/phone/x: "0.0"',
        'row 5, text: "nan"',
    ]


def test_parquet_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my.parquet"
    path.write_bytes(b"network,top1\n")
    refused(path, "cannot be read as Parquet")
    refused(
        write_parquet(path, network=[CELL], top1=[[1.0, 2.0]]),
        'column "top1" is nested',
        "one value per cell",
    )
    refused(write_parquet(path, network=[1.5], top1=[1.0]), "no usable row", "1.5 is no network")
    refused(write_parquet(path, network=["x" * 200_000], top1=[1.0]), "131,071 characters")
    double = pa.Table.from_arrays([pa.array([CELL]), *[pa.array([1.0])] * 2], ["network", "top1", "top1"])
    pq.write_table(double, path)
    refused(path, 'two columns "top1"')
    pq.write_table(
        pa.table({"network": pa.array([b"\xff\xfe"]).cast(pa.string(), safe=False), "a": [1]}), path
    )
    refused(path)
    write_parquet(path, network=[CELL] * 3, top1=[1.0] * 3)
    monkeypatch.setattr(sheet_module, "_MOST_ROWS", 2)
    refused(path, "more than 2 rows")


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Change, cut out, repeat or insert a few bytes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 20))
        match rng.integers(4):
            case 0:
                data[at] = int(rng.integers(256))
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case _:
                data[at:at] = rng.choice([b'"', b",", b"\n", b"\0", b"\xff", b"nan", b"1e999", b";", b"\r"])
        data = data or bytearray(b"x")
    return bytes(data)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_damaged_tables_give_tables_or_one_line(write: Write, tmp_path: Path, kind: str) -> None:
    lines = ["network,top1 [%],latency/phone/x,remark", "nets/a.onnx,71.25,35,a", f'{CELL},68,,"b, c"']
    path = write(*lines, f'"{BRANCHES}",,2,')
    if kind == "parquet":
        path = write_parquet(
            tmp_path / "my.parquet", network=["nets/a.onnx", CELL], top1=[1.0, None], text=["a", "b"]
        )
    content, rng = path.read_bytes(), np.random.default_rng(0)
    refusals = []
    for _ in range(400):
        path.write_bytes(damaged(content, rng))
        try:
            table = load(path)
        except AiopError as error:
            refusals.append(str(error))
        else:
            assert len(table) > 0
            assert all(np.isfinite(values).any() for values in table.values.values())
    assert 0 < len(refusals) < 400
    assert not any("\n" in refusal for refusal in refusals)
