"""Networks back in torch: the same outputs as onnxruntime, every weight trained, exported again."""

from __future__ import annotations

import importlib.util
import io
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from aiop import AiopError
from aiop.search.editing.network import EditableNetwork
from aiop.search.way_back import to_torch

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("onnx2torch") is None, reason="onnx2torch is not installed"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning"),
]


class Mixed(nn.Module):
    """Batch norm, depthwise convolution, two layer scales of equal values, layer norm, tokens and their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.first, self.second = nn.Parameter(torch.full((8,), 0.1)), nn.Parameter(torch.full((8,), 0.1))
        self.between, self.project = nn.LayerNorm(8), nn.Linear(8, 8)
        self.position = nn.Parameter(torch.randn(1, 64, 8))
        self.linear = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(image)))
        tokens = (x + self.deep(x)).flatten(2).transpose(1, 2) + self.position
        tokens = tokens + self.first * nn.functional.gelu(self.project(self.between(tokens)))
        weights = torch.softmax(tokens @ tokens.transpose(1, 2) * 8**-0.5, dim=-1)
        return self.linear((tokens + self.second * (weights @ tokens)).mean(dim=1))


def exported(module: nn.Module, opset: int = 17) -> onnx.ModelProto:
    written = io.BytesIO()
    torch.onnx.export(
        module, (torch.zeros(2, 3, 16, 16),), written, dynamo=False, opset_version=opset,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip
    return onnx.load_from_string(written.getvalue())


@pytest.fixture(scope="module")
def mixed():
    torch.manual_seed(0)
    module = Mixed()
    module(torch.randn(16, 3, 16, 16))  # running statistics that are not the first ones
    return module.eval()


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)


def run(network: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


@pytest.mark.parametrize("opset", [17, 18])
def test_outputs_are_those_of_onnxruntime(mixed, images, opset):
    network = exported(mixed, opset)
    back = to_torch(network)
    assert not any(part.training for part in back.modules())
    with torch.no_grad():
        found = back(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, run(network, images), atol=1e-5)


def test_weights_are_parameters_one_each(mixed):
    back = to_torch(EditableNetwork.read(exported(mixed)))
    expected = sorted(tuple(value.shape) for value in mixed.parameters())
    # the matrix of a linear layer on tokens is stored transposed
    assert sorted(tuple(value.shape) for value in back.parameters()) == expected


def test_every_weight_is_trained_and_goes_back_into_a_file(mixed, images):
    back = to_torch(exported(mixed))
    before = {name: value.detach().clone() for name, value in back.named_parameters()}
    statistics = {name: value.clone() for name, value in back.named_buffers() if "running_mean" in name}
    optimiser = torch.optim.SGD(back.parameters(), lr=0.1)
    back.train()
    nn.functional.cross_entropy(back(torch.from_numpy(images)), torch.tensor([0, 1, 2])).backward()
    optimiser.step()
    back.eval()
    unchanged = [name for name, value in back.named_parameters() if torch.equal(value, before[name])]
    assert unchanged == []
    assert statistics
    assert all(not torch.equal(dict(back.named_buffers())[name], value) for name, value in statistics.items())
    again = exported(back)
    onnx.checker.check_model(again, full_check=True)
    with torch.no_grad():
        expected = back(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(run(again, images), expected, atol=1e-5)


def network_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """``image`` (batch, 4) -> ``logits`` of the same shape."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_matrix_that_is_read_twice_is_one_parameter():
    nodes = [
        helper.make_node("MatMul", ["image", "matrix"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "matrix"], ["logits"], name="two"),
    ]
    back = to_torch(network_of(nodes, {"matrix": 2 * np.eye(4, dtype=np.float32)}))
    (value,) = back.parameters()
    back(torch.ones(1, 4)).sum().backward()
    assert value.grad.tolist() == [[4.0] * 4] * 4  # x' (M 1)' + (x M)' 1'


def test_masks_and_settings_are_not_trained():
    mask = np.array([0, 0, -100, -100], dtype=np.float32)
    nodes = [
        helper.make_node("Add", ["image", "mask"], ["a"], name="one"),
        helper.make_node("Mul", ["a", "half"], ["logits"], name="two"),
    ]
    back = to_torch(network_of(nodes, {"mask": mask, "half": np.float32(0.5)}))
    assert list(back.parameters()) == []
    assert back(torch.ones(1, 4)).tolist() == [[0.5, 0.5, -49.5, -49.5]]


def test_unknown_operators_are_an_error_of_one_line():
    nodes = [helper.make_node("Hardmax", ["image"], ["logits"], name="odd")]
    with pytest.raises(AiopError, match=r"onnx2torch cannot convert it .*Hardmax.*; export"):
        to_torch(network_of(nodes, {}))


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    nodes = [helper.make_node("Relu", ["image"], ["logits"], name="r")]
    with pytest.raises(AiopError, match=r"pip install 'aiop\[tuning\]'"):
        to_torch(network_of(nodes, {}))


def test_no_stand_in_is_left_behind(mixed):
    to_torch(exported(mixed))
    package = sys.modules.get("torchvision")
    assert package is None or hasattr(package, "models")
