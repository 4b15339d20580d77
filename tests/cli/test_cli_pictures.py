"""``aiop inspect --svg`` and ``--per-op``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from cli_cases import CODE, RESNET18


def is_picture(path):
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_one_network(aiop_cli, tmp_path):
    path = tmp_path / "graph.svg"
    run = aiop_cli("inspect", RESNET18, "--svg", path)
    assert (run.status, run.err) == (0, "")
    assert str(path) in run.out
    assert "1,814,073,344" in run.out
    is_picture(path)
    assert list(tmp_path.iterdir()) == [path]


def test_json_stays_alone(aiop_cli, tmp_path):
    path = tmp_path / "graph.svg"
    with_picture = aiop_cli("inspect", RESNET18, "--svg", path, "--json")
    assert with_picture.out == aiop_cli("inspect", RESNET18, "--json").out
    assert len(with_picture.objects()) == 1
    is_picture(path)


def test_replaces_a_picture(aiop_cli, tmp_path):
    path = tmp_path / "graph.svg"
    path.write_text("old")
    assert aiop_cli("inspect", CODE, "--svg", path).status == 0
    is_picture(path)


def test_makes_folders(aiop_cli, tmp_path):
    path = tmp_path / "some" / "where" / "graph.SVG"
    assert aiop_cli("inspect", CODE, "--svg", path).status == 0
    is_picture(path)


@pytest.mark.parametrize("nets", [(RESNET18, CODE), ("{folder}",), ("{folder}/*.onnx",)])
def test_several_networks_do_not_fit_one_file(aiop_cli, write_network, tmp_path, nets):
    for name in ("a.onnx", "b.onnx"):
        write_network(name, [1, 3, 8, 8])
    path = tmp_path / "graph.svg"
    run = aiop_cli("inspect", *(net.format(folder=tmp_path) for net in nets), "--svg", path)
    run.is_user_error(str(path), "2 networks", "graphs/")
    assert not path.exists()


def test_several_networks_into_a_folder(aiop_cli, write_network, tmp_path):
    nets = [write_network("net.onnx", [1, 3, 8, 8]), RESNET18, CODE, RESNET18]
    run = aiop_cli("inspect", *nets, "--svg", f"{tmp_path}/graphs/", "--json")
    assert (run.status, len(run.objects())) == (0, 4)
    names = sorted(path.name for path in (tmp_path / "graphs").iterdir())
    assert [name for name in names if not name.startswith("nas")] == [
        "net.svg",
        "resnet18-2.svg",
        "resnet18.svg",
    ]
    (code,) = (name for name in names if name.startswith("nas-bench-201-nor_conv_3x3-0"))
    assert re.fullmatch(r"[\w.-]+\.svg", code)
    for name in names:
        is_picture(tmp_path / "graphs" / name)


def test_a_folder_that_is_there(aiop_cli, tmp_path):
    assert aiop_cli("inspect", RESNET18, "--svg", tmp_path).status == 0
    is_picture(tmp_path / "resnet18.svg")


def test_one_bad_network_does_not_stop_the_others(aiop_cli, tmp_path):
    run = aiop_cli("inspect", "nowhere.onnx", CODE, "--svg", tmp_path / "graph.svg", "--json")
    assert (run.status, len(run.objects())) == (1, 1)
    assert "nowhere.onnx" in run.err
    is_picture(tmp_path / "graph.svg")


def test_never_overwrites_a_network(aiop_cli, write_network):
    """`--svg a.onnx b.onnx`: the name of the picture forgotten."""
    path = write_network("a.onnx", [1, 3, 8, 8])
    before = path.read_bytes()
    aiop_cli("inspect", "--svg", path, RESNET18).is_user_error(str(path), ".svg")
    assert path.read_bytes() == before


def test_where_no_file_can_be(aiop_cli, tmp_path):
    (tmp_path / "file").write_text("mine")
    aiop_cli("inspect", RESNET18, "--svg", tmp_path / "file" / "graph.svg").is_user_error(
        "graph.svg", "cannot be written"
    )
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_no_regular_file(aiop_cli, tmp_path):
    os.mkfifo(tmp_path / "pipe.svg")
    aiop_cli("inspect", RESNET18, "--svg", tmp_path / "pipe.svg").is_user_error("pipe.svg", "no regular file")


def test_what_fails_leaves_the_old_picture(aiop_cli, tmp_path, monkeypatch):
    path = tmp_path / "graph.svg"
    path.write_text("old")

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    aiop_cli("inspect", RESNET18, "--svg", path).is_user_error("graph.svg", "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_svg_needs_its_value(aiop_cli):
    aiop_cli("inspect", RESNET18, "--svg").is_user_error("--svg", "--help")


def test_per_op_is_sorted_by_cost(aiop_cli):
    lines = aiop_cli("inspect", RESNET18, "--per-op").out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Node"))
    assert lines[start].split() == "Node Operator Settings Output MACs Share Element ops Params".split()
    rows = [line for line in lines[start + 1 :] if line.strip()]
    assert len(rows) == 69
    shares = [float(match[1]) if (match := re.search(r"([\d.]+) %", row)) else 0.0 for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(share > 0 for share in shares) == 21  # 20 convolutions, one linear layer
    assert sum(shares) == pytest.approx(100, abs=0.1)
    # the stem: 7x7 over 3 channels at 112x112, of 1,814,073,344 MACs in all
    assert rows[0].split()[0] == "conv1"
    assert shares[0] == round(100 * 112 * 112 * 64 * 3 * 49 / 1_814_073_344, 2)


def test_json_per_op_carries_every_node(aiop_cli):
    (report,) = aiop_cli("inspect", RESNET18, "--json", "--per-op").objects()
    assert len(report["operations"]) == report["nodes"] == 69
    for key in ("macs", "elementwise", "params"):
        assert sum(node[key] for node in report["operations"]) == report[key]


def test_pictures_load_no_torch(tmp_path):
    program = (
        "import sys\nfrom aiop.cli.main import app\n"
        "try:\n    app(['inspect', sys.argv[1], '--svg', sys.argv[2], '--json'])\n"
        "finally:\n    print(sorted({'torch', 'dgl', 'networkx'} & set(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, RESNET18, str(tmp_path / "graph.svg")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "[]\n")
