from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from aiop.search.compression.outputs import Reference, noise_inputs, with_batch_statistics
from aiop.search.editing.network import EditableNetwork


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.linear, self.last = nn.Linear(6, 5), nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.conv(x)))
        return self.last(self.linear(maps.mean((2, 3))))  # type: ignore[no-any-return]


def exported(module: nn.Module, *, open_batch: bool) -> EditableNetwork:
    import io

    file = io.BytesIO()
    torch.onnx.export(
        module.eval(), (torch.zeros(2 if open_batch else 1, 3, 8, 8),), file, dynamo=False, opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["image"], output_names=["y"],
        dynamic_axes={"image": {0: "n"}, "y": {0: "n"}} if open_batch else None,
    )  # fmt: skip
    return EditableNetwork.read(file.getvalue())


def unfit(module: Normed) -> Normed:
    """The same function once its statistics are those of its inputs; with those it has, another one."""
    other = Normed()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        other.conv.weight *= 3.0
        other.conv.bias += 5.0  # type: ignore[operator]
    return other


def test_batch_statistics_are_those_of_training() -> None:
    import onnxruntime

    torch.manual_seed(0)
    module = Normed()
    module.norm.weight.data.uniform_(0.5, 2)
    module.norm.bias.data.uniform_(-1, 1)
    network = exported(module, open_batch=True)
    message = network.proto()
    ranks = {value.name or "": len(network.shape(value) or ()) for value in network.values()}
    with_batch_statistics(message, ranks)
    onnx.checker.check_model(message, full_check=True)
    image = torch.randn(16, 3, 8, 8) * 2 + 1
    found = onnxruntime.InferenceSession(message.SerializeToString()).run(None, {"image": image.numpy()})[0]
    with torch.no_grad():
        wanted = module.train()(image).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("open_batch", [True, False])
def test_statistics_that_no_longer_fit_count_only_where_they_cannot_be_renewed(open_batch: bool) -> None:
    torch.manual_seed(0)
    module = Normed()
    inputs = noise_inputs(exported(module, open_batch=open_batch), 16, 0)
    module.train()
    with torch.no_grad():
        for _ in range(100):
            module(torch.tensor(np.concatenate([feed["image"] for feed in inputs])))
    reference = Reference(exported(module, open_batch=open_batch), inputs)
    assert len(reference) == 16
    similarity = reference.similarity(exported(unfit(module), open_batch=open_batch))
    assert similarity is not None
    assert (similarity > 0.99) == open_batch
