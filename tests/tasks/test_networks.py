from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from aiop.errors import AiopError
from aiop.tasks import build
from aiop.tasks.networks import expand, is_code, read

CELL = "nas-bench-201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


def test_is_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_code(CELL)
    assert is_code(CELL.replace(":", "@cifar10:", 1))
    assert is_code("unknown-space:1,2")
    assert not is_code("net.onnx")
    assert not is_code("folder/net:1.onnx")
    assert not is_code("c:net.onnx")
    (tmp_path / "ab:c").touch()
    assert not is_code("ab:c")


def test_build_writes_what_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    network = build(CELL, path)
    assert path.read_bytes() == network.SerializeToString()
    assert onnx.load(path).graph.name == CELL
    assert list(tmp_path.iterdir()) == [path]
    assert (
        build(CELL.replace(":", "@cifar10:", 1)).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 10
    )


def test_build_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(AiopError, match="No space left on device"):
        build(CELL, path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"


def test_build_refuses(tmp_path: Path) -> None:
    with pytest.raises(AiopError, match="is a directory"):
        build(CELL, tmp_path)
    with pytest.raises(AiopError, match="No such file or directory"):
        build(CELL, tmp_path / "missing" / "net.onnx")
    with pytest.raises(AiopError, match='did you mean "nas-bench-mr"'):
        build("nas-bench-mri:1,2", tmp_path / "net.onnx")
    with pytest.raises(AiopError, match="is not an architecture code"):
        build("net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_expand(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("z.onnx", "a.onnx", "b/c.onnx", "b/notes.txt"):
        (tmp_path / name).touch()
    inside = [str(tmp_path / name) for name in ("a.onnx", "b/c.onnx", "z.onnx")]
    assert expand([tmp_path]) == inside
    assert expand([CELL, tmp_path / "z.onnx"]) == [CELL, inside[2]]
    assert expand([str(tmp_path / "*.onnx")]) == [inside[0], inside[2]]
    assert expand([str(tmp_path / "**/*.onnx")]) == inside
    for missing, message in (
        (tmp_path / "no.onnx", "does not exist"),
        (tmp_path / "empty", "holds no network"),
        (tmp_path / "*.tflite", "matches no file"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(AiopError, match=message) as refusal:
            expand([tmp_path / "a.onnx", missing])
        assert str(missing) in str(refusal.value)


def test_read_gives_the_same_graph_for_code_and_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    build(CELL, path)
    from_code, from_file = read(CELL), read(path)
    assert from_code.name == CELL
    assert from_file.name == str(path)
    assert from_code.macs == from_file.macs == 7_788_800 + 35_389_440
    assert [op.op for op in from_code.operations] == [op.op for op in from_file.operations]
