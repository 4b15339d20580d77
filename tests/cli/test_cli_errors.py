"""Bad input: one line that names thing, cause and next step; exit status 1; nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_cases import CODE, RESNET18

import aiop

READERS = pytest.mark.parametrize("command", ["inspect", "predict"])


@READERS
def test_missing_file(aiop_cli, command):
    aiop_cli(command, "nowhere.onnx").is_user_error("nowhere.onnx", "does not exist")


@READERS
def test_directory_without_networks(aiop_cli, command, tmp_path):
    aiop_cli(command, tmp_path).is_user_error(str(tmp_path), "no network")


@READERS
def test_glob_without_matches(aiop_cli, command, tmp_path):
    aiop_cli(command, tmp_path / "*.onnx").is_user_error("*.onnx")


@READERS
@pytest.mark.parametrize("content", [b"", b"MZ\x90\x00", b"hello, this is a text\n", bytes(range(256)) * 64])
def test_not_onnx(aiop_cli, command, tmp_path, content):
    path = tmp_path / "fake.onnx"
    path.write_bytes(content)
    aiop_cli(command, path).is_user_error(str(path), "ONNX")


@READERS
def test_truncated_onnx(aiop_cli, command, tmp_path):
    path = tmp_path / "half.onnx"
    whole = Path(RESNET18).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    aiop_cli(command, path).is_user_error(str(path))


@READERS
def test_unknown_space_suggests_the_nearest(aiop_cli, command):
    aiop_cli(command, "nas-bench-202:|x|").is_user_error('did you mean "nas-bench-201"?')


@READERS
def test_code_outside_its_grammar(aiop_cli, command):
    code = CODE.replace("skip_connect~0", "skip_conect~0")
    aiop_cli(command, code).is_user_error("skip_conect", "skip_connect")


def test_graph_without_inputs(aiop_cli, write_network):
    path = write_network("closed.onnx", [1, 3, 8, 8], inputs=False)
    assert "does not depend on the inputs" in aiop_cli("inspect", path).out
    aiop_cli("predict", path).is_user_error(str(path), "no inputs")


@READERS
def test_dynamic_spatial_size_says_how_to_give_it(aiop_cli, command, write_network):
    path = write_network("dynamic.onnx", ["batch", 3, "height", "width"])
    aiop_cli(command, path).is_user_error(str(path), "--shape image=1,3,224,224")


@READERS
def test_shape_of_an_input_that_is_not_there(aiop_cli, command):
    aiop_cli(command, RESNET18, "--shape", "imag=1,3,64,64").is_user_error("'imag'", "image")


@READERS
@pytest.mark.parametrize(
    "option", ["image", "1,3,8,8", "=1,3,8,8", "image=", "image=1,3,x,8", "image=1,-3,8,8"]
)
def test_shape_that_is_none(aiop_cli, command, option):
    aiop_cli(command, RESNET18, f"--shape={option}").is_user_error(option, "image=1,3,224,224")


@READERS
def test_one_bad_network_does_not_stop_the_others(aiop_cli, command, stub_predictor, tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_text("no network")
    run = aiop_cli(command, bad, RESNET18, "nowhere.onnx", CODE, "--json")
    assert run.status == 1
    assert [report["network"] for report in run.objects()] == [RESNET18, CODE]
    errors = run.err.splitlines()
    assert len(errors) == 2
    assert str(bad) in errors[0]
    assert "nowhere.onnx" in errors[1]


def test_bad_network_in_a_folder_does_not_stop_the_others(aiop_cli, write_network, tmp_path):
    good = write_network("b.onnx", [1, 3, 8, 8])
    (tmp_path / "a.onnx").write_text("no network")
    run = aiop_cli("inspect", tmp_path, "--json")
    assert (run.status, [report["network"] for report in run.objects()]) == (1, [str(good)])
    assert run.err.count("\n") == 1


def test_unknown_task(aiop_cli, stub_predictor):
    aiop_cli("predict", RESNET18, "--task", "nonsense").is_user_error("nonsense", "aiop tasks")


def test_tasks_suggests_the_nearest(aiop_cli):
    aiop_cli("tasks", "latency/nas-bench-201/1080ti-bach1").is_user_error("1080ti-batch1")
    aiop_cli("tasks", "latncy/*").is_user_error('"latncy/*"', 'did you mean "latency/*"?')


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("nas-bench-202:x", ["nas-bench-202", "nas-bench-201"]),
        ("nas-bench-201:x", ['"x"', "valid code"]),
        ("resnet18.onnx", ["resnet18.onnx", "space:code"]),
    ],
)
def test_build_refuses_codes(aiop_cli, tmp_path, code, parts):
    aiop_cli("build", code, "-o", tmp_path / "out.onnx").is_user_error(*parts)
    assert list(tmp_path.iterdir()) == []


def test_build_refuses_unknown_weights(aiop_cli, tmp_path):
    run = aiop_cli("build", CODE, "-o", tmp_path / "out.onnx", "--weights", "trained")
    run.is_user_error("trained", "random")
    assert list(tmp_path.iterdir()) == []


def test_build_keeps_a_file_where_it_fails(aiop_cli, tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_text("precious")
    aiop_cli("build", CODE.replace("nor_conv_3x3", "nor_conv_9x9"), "-o", path).is_user_error("nor_conv_9x9")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("target", ["missing/out.onnx", "."])
def test_build_to_where_no_file_can_be(aiop_cli, tmp_path, target):
    aiop_cli("build", CODE, "-o", tmp_path / target).is_user_error(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_pretrain_without_its_configuration(aiop_cli, tmp_path):
    aiop_cli("pretrain", tmp_path / "none.yaml").is_user_error("none.yaml")


@pytest.mark.parametrize("command", ["predict", "tasks"])
def test_weights_that_are_not_there(aiop_cli, tmp_path, command):
    networks = [RESNET18] if command == "predict" else []
    aiop_cli(command, *networks, "--weights", tmp_path / "none").is_user_error(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["inspct"], "inspect"),
        (["inspect"], "NET"),
        (["inspect", "--jsn", RESNET18], "--jsn"),
        (["predict", RESNET18, "--task"], "--task"),
        (["build", CODE], "--output"),
        (["build", CODE, "-o", "x.onnx", "--seed", "one"], "--seed"),
        (["pretrain"], "CONFIG.yaml"),
        (["tasks", "a", "b"], "b"),
    ],
)
def test_usage(aiop_cli, arguments, part):
    aiop_cli(*arguments).is_user_error(part, "--help")


def test_error_of_the_operating_system(aiop_cli, monkeypatch):
    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device", "out.onnx")

    monkeypatch.setitem(vars(aiop), "build", full)
    aiop_cli("build", CODE, "-o", "out.onnx").is_user_error("out.onnx: No space left on device")


def test_error_in_a_process_of_its_own():
    run = subprocess.run([sys.executable, "-m", "aiop", "inspect", "no.onnx"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_interrupt_is_one_line_and_130():
    program = (
        "import aiop.inspection, time\n"
        "def wait(graph):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "aiop.inspection.inspect = wait\n"
        "from aiop.cli.main import main\nmain()\n"
    )
    command = [sys.executable, "-c", program, "inspect", RESNET18]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "error: interrupted\n")


def test_closed_pipe_is_quiet():
    command = [sys.executable, "-m", "aiop", "inspect", "--json", "--per-op", *[RESNET18] * 50]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("{")
        process.stdout.close()
        err = process.stderr.read()
    assert err == ""
