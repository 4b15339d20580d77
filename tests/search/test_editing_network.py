from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from aiop.errors import AiopError
from aiop.search.editing.network import EditableNetwork


def chain(batch: int | str = 1, shared_bias: bool = False) -> onnx.ModelProto:
    """Image -> 3x3 convolution -> ReLU -> 1x1 convolution -> view through a computed shape -> logits."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    weights = [weight("w1", 4, 3, 3, 3), weight("b1", 4), weight("w2", 4, 4, 1, 1)]
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b1" if shared_bias else ""], ["c2"]),
        helper.make_node("Shape", ["c2"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array([0]))),
        helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(np.array([-1]))),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["c2", "target"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 144])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(message: onnx.ModelProto, batch: int = 1) -> np.ndarray:
    image = np.random.default_rng(1).standard_normal((batch, 3, 6, 6)).astype(np.float32)
    return np.asarray(ReferenceEvaluator(message).run(None, {"image": image})[0])


@pytest.mark.parametrize("batch", [1, "N"])
def test_reading_keeps_what_the_network_computes(batch: int | str) -> None:
    network = EditableNetwork.read(chain(batch))
    message = network.check()
    np.testing.assert_array_equal(run(message), run(chain(batch)))
    # Shape, Gather, Concat and the constants are folded into the target of the view
    assert [node.op_type for node in network.graph] == ["Conv", "Relu", "Conv", "Reshape"]
    assert network.macs == 4 * 3 * 9 * 36 + 4 * 4 * 36
    if batch == "N":
        np.testing.assert_array_equal(run(message, 3), run(chain(batch), 3))


def test_every_node_has_a_name_of_its_own() -> None:
    names = [node.name for node in EditableNetwork.read(chain()).graph]
    assert names == ["first", "relu", "conv", "reshape"]


def test_vectors_that_an_exporter_joined_are_separated() -> None:
    network = EditableNetwork.read(chain(shared_bias=True))
    first, second = (network.node(name) for name in ("first", "conv"))
    assert first is not None
    assert second is not None
    assert first.inputs[2] is not second.inputs[2]
    np.testing.assert_array_equal(run(network.check()), run(chain(shared_bias=True)))


def test_a_clone_is_changed_alone() -> None:
    network = EditableNetwork.read(chain())
    before = network.proto().SerializeToString()
    other = network.clone()
    relu, second = other.node("relu"), other.node("conv")
    assert relu is not None
    assert second is not None
    source = relu.inputs[0]
    assert source is not None
    other.replace_uses(relu.outputs[0], source)
    other.remove(relu)
    other.infer()
    assert [node.op_type for node in other.graph] == ["Conv", "Conv", "Reshape"]
    assert network.proto().SerializeToString() == before
    assert other.clone().macs == network.macs


def test_weights_are_computed_when_the_network_is_written() -> None:
    network = EditableNetwork.read(chain())
    calls = []

    def half(array: np.ndarray) -> np.ndarray:
        calls.append(array.shape)
        return array[:2]

    changes: list[tuple[str, tuple[int, ...]]] = [("w1", (2, 3, 3, 3)), ("b1", (2,))]
    for name, shape in changes:
        value = network.value(name)
        assert value is not None
        network.derive(value, shape, half)
    second = network.value("w2")
    assert second is not None
    network.derive(second, (4, 2, 1, 1), lambda array: array[:, :2])
    network.infer()
    assert network.macs == 2 * 3 * 9 * 36 + 4 * 2 * 36
    assert calls == []
    message = network.check()
    assert sorted(calls) == [(4,), (4, 3, 3, 3)]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in message.graph.initializer}
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in chain().graph.initializer}
    np.testing.assert_array_equal(stored["w1"], original["w1"][:2])
    np.testing.assert_array_equal(stored["w2"], original["w2"][:, :2])


def test_shapes_that_do_not_fit_are_refused() -> None:
    network = EditableNetwork.read(chain())
    value = network.value("w2")
    assert value is not None
    network.derive(value, (4, 3, 1, 1), lambda array: array[:, :3])
    network.infer()
    with pytest.raises(AiopError, match=r"'conv' \(Conv\) weights \[4, 3, 1, 1\]"):
        network.check()
    network = EditableNetwork.read(chain())
    value = network.value("w2")
    assert value is not None
    network.derive(value, (4, 4), lambda array: array[:, :, 0, 0])
    with pytest.raises(AiopError, match="shapes do not fit together"):
        network.infer()


def test_an_output_keeps_its_name_when_its_maker_is_replaced() -> None:
    network = EditableNetwork.read(chain())
    view = network.node("reshape")
    assert view is not None
    flat = network.insert(ir.node("Flatten", [view.inputs[0]], name="flat"), before=view)
    network.replace_uses(view.outputs[0], flat.outputs[0])
    network.remove(view)
    network.infer()
    message = network.check(like=EditableNetwork.read(chain()))
    assert [output.name for output in message.graph.output] == ["logits"]
    np.testing.assert_array_equal(run(message), run(chain()))


def test_check_compares_inputs_and_outputs() -> None:
    network, other = EditableNetwork.read(chain()), EditableNetwork.read(chain())
    other.graph.outputs[0].name = "scores"
    with pytest.raises(AiopError, match="inputs or outputs"):
        network.check(like=other)


def test_names_are_made_unique() -> None:
    network = EditableNetwork.read(chain())
    relu = network.node("relu")
    assert relu is not None
    node = network.insert(ir.node("Relu", [relu.outputs[0]], name="relu"), after=relu)
    assert node.name == "relu/2"
    assert network.add_initializer("w1", np.zeros(3, np.float32)).name == "w1/2"


def stored_outside(folder: Path, location: str) -> Path:
    message = chain()
    path = folder / "network.onnx"
    onnx.save(message, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    changed = onnx.load(path, load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(changed.SerializeToString())
    return path


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    network = EditableNetwork.read(stored_outside(tmp_path, "weights.bin"))
    network.save(tmp_path / "other.onnx")
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "other.onnx")), run(chain()))


def test_a_file_outside_the_folder_is_never_read(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = stored_outside(inner, "../weights.bin")
    (inner / "weights.bin").rename(tmp_path / "weights.bin")
    with pytest.raises(AiopError, match=r"weights \"../weights.bin\" are missing"):
        EditableNetwork.read(path)


def test_weights_that_are_missing_can_be_drawn(tmp_path: Path) -> None:
    path = stored_outside(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(AiopError, match="put the file into the folder"):
        EditableNetwork.read(path)
    first, again, other = (run(EditableNetwork.read(path, fill=seed).check()) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.isfinite(first).all()


def test_weights_cut_short_are_reported(tmp_path: Path) -> None:
    path = stored_outside(tmp_path, "weights.bin")
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:100])
    with pytest.raises(AiopError, match="incomplete"):
        EditableNetwork.read(path)


def test_sizes_left_open_are_asked_for() -> None:
    message = chain()
    message.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(AiopError, match=r"axis 2 of input \"image\".*--shape image="):
        EditableNetwork.read(message)
    network = EditableNetwork.read(message, shapes={"image": (1, 3, 6, 6)})
    assert network.macs == 4 * 3 * 9 * 36 + 4 * 4 * 36
    with pytest.raises(AiopError, match='there is no input "picture": the inputs are image'):
        EditableNetwork.read(message, shapes={"picture": (1, 3, 6, 6)})


@pytest.mark.parametrize("data", [b"not a network", b""])
def test_what_is_no_network_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(data)
    with pytest.raises(AiopError, match="not an ONNX network"):
        EditableNetwork.read(path)


def test_older_operator_sets_are_converted() -> None:
    message = chain()
    message.opset_import[0].version = 11
    network = EditableNetwork.read(message)
    assert network.model.opset_imports[""] >= 13
    np.testing.assert_allclose(run(network.check()), run(chain()), rtol=1e-6)


def test_large_constants_made_by_operators_are_weights() -> None:
    """`aiop build` writes large weights as a ConstantOfShape."""
    from aiop.tasks import build

    message = build("nats-size:64:64:64:64:64", weights="shapes")
    network = EditableNetwork.read(message)
    assert not [node for node in network.graph if node.op_type in ("ConstantOfShape", "Expand", "Constant")]
    assert network.macs == EditableNetwork.read("nats-size:64:64:64:64:64").macs
    network.check()


def test_reshapes_of_an_open_batch_get_constant_targets():
    """What torch computes from sizes that are known, beside a batch that is open, is a constant after reading."""

    class Shuffle(torch.nn.Module):
        def forward(self, x):
            batch, channels, height, width = x.shape
            x = x.reshape(batch, 2, channels // 2, height, width).transpose(1, 2)
            return x.reshape(-1, channels, height, width)

    written = io.BytesIO()
    torch.onnx.export(
        Shuffle(), (torch.zeros(2, 6, 4, 4),), written, dynamo=False, opset_version=17,
        input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}},
    )  # fmt: skip
    network = EditableNetwork.read(written.getvalue())
    targets = [
        network.constant(node.inputs[1]).tolist() for node in network.graph if node.op_type == "Reshape"
    ]
    assert [target[1:] for target in targets] == [[2, 3, 4, 4], [6, 4, 4]]
    session = onnxruntime.InferenceSession(
        network.proto().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.arange(3 * 96, dtype=np.float32).reshape(3, 6, 4, 4)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], Shuffle()(torch.from_numpy(x)).numpy())
