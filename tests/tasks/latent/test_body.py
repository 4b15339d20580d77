"""Bodies in torch: against the space's own files, saved and loaded, calibrated and exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import aiop
from aiop.errors import AiopError
from aiop.graph_ir.hashing import content_hash
from aiop.tasks import get_space
from aiop.tasks.latent.body import Body, export, recalibrate

SPACE = get_space("digits-ofa")
CODE = "24-k3e2-k5e4/40-k3e4/80-k5e4-k3e2-k7e3"


class Classifier(nn.Module):
    """A body and a linear layer over its pooled coarsest features."""

    def __init__(self, code: str, classes: int = 10) -> None:
        super().__init__()
        self.body = Body(code)
        self.linear = nn.Linear(80, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.body(images)[-1].mean(dim=(2, 3)))
        return logits


def trained(code: str, classes: int = 10) -> Classifier:
    """A classifier whose norms have statistics, scales and shifts of their own."""
    torch.manual_seed(0)
    network = Classifier(code, classes)
    recalibrate(network.body, torch.randn(64, 3, 64, 64), batches=2, batch=32)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.3)
    return network.eval()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_body_computes_what_the_file_of_its_code_does(
    compare_with_torch: Callable[..., None], seed: int
) -> None:
    code = SPACE.sample(np.random.default_rng(seed))
    compare_with_torch(SPACE.build(code, weights="random", seed=seed), Classifier(code))


@pytest.mark.parametrize("code", [CODE, "16-k3e2/24-k3e2/48-k3e2"])
def test_features_have_the_announced_channels_and_strides(code: str) -> None:
    body = Body(code)
    features = body(torch.zeros(2, 3, 96, 64))
    expected = [
        (2, channels, 96 // stride, 64 // stride)
        for channels, stride in zip(body.channels, body.strides, strict=True)
    ]
    assert [tuple(feature.shape) for feature in features] == expected
    assert body.code == code


def test_codes_outside_the_grammar_are_refused() -> None:
    with pytest.raises(AiopError, match="is not a digits-ofa code"):
        Body("24-k3e2")


def test_the_exported_file_answers_as_torch_does_and_is_the_network_of_the_code(tmp_path: Path) -> None:
    network = trained(CODE)
    export(network.body, network.linear, tmp_path / "body.onnx")
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(tmp_path / "body.onnx")
    answers = np.concatenate([session.run(None, {"image": image[None].numpy()})[0] for image in images])
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.std(expected, axis=0).min() > 1e-3  # the answers depend on the image
    graph, named = aiop.read(str(tmp_path / "body.onnx")), aiop.read(f"digits-ofa:{CODE}")
    assert content_hash(graph) == content_hash(named)
    assert (graph.macs, graph.params) == (named.macs, named.params)


def test_a_body_without_head_exports_its_features(tmp_path: Path) -> None:
    body = trained(CODE).body
    export(body, None, tmp_path / "body.onnx")
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    answers = onnxruntime.InferenceSession(tmp_path / "body.onnx").run(None, {"image": image.numpy()})
    with torch.no_grad():
        for answer, expected in zip(answers, body(image), strict=True):
            np.testing.assert_allclose(answer, expected.numpy(), rtol=1e-4, atol=1e-4)
    stages = aiop.read(f"digits-ofa@stages:{CODE}")
    assert content_hash(aiop.read(str(tmp_path / "body.onnx"))) == content_hash(stages)


def test_a_head_of_other_classes_exports_too(tmp_path: Path) -> None:
    network = trained(CODE, classes=4)
    onnx.checker.check_model(export(network.body, network.linear, tmp_path / "body.onnx"), full_check=True)
    (answer,) = onnxruntime.InferenceSession(tmp_path / "body.onnx").run(
        None, {"image": np.ones((1, 3, 64, 64), np.float32)}
    )
    with torch.no_grad():
        expected = network(torch.ones(1, 3, 64, 64)).numpy()
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)


def test_calibrating_takes_the_mean_of_the_batches_statistics() -> None:
    body = Body(CODE)
    body.stem.norm.running_mean.fill_(7.0)  # type: ignore[union-attr]
    body.eval()
    images = torch.randint(
        256, (10, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    recalibrate(body, images, batches=2, batch=4)
    with torch.no_grad():
        parts = [body.stem.conv(part / 127.5 - 1) for part in (images[:4], images[4:8])]
    means = torch.stack([part.mean(dim=(0, 2, 3)) for part in parts]).mean(dim=0)
    variances = torch.stack([part.var(dim=(0, 2, 3)) for part in parts]).mean(dim=0)
    torch.testing.assert_close(body.stem.norm.running_mean, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(body.stem.norm.running_var, variances, rtol=1e-4, atol=1e-5)
    assert not body.training
    assert body.stem.norm.momentum == 0.1  # training goes on as ever


def test_calibrating_without_images_is_refused() -> None:
    with pytest.raises(AiopError, match="no image"):
        recalibrate(Body(CODE), torch.zeros(0, 3, 64, 64))


def test_a_saved_body_comes_back(tmp_path: Path) -> None:
    body = trained(CODE).body
    body.save(tmp_path / "body.safetensors")
    back = Body.load(tmp_path / "body.safetensors").eval()
    assert back.code == CODE
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(one, other) for one, other in zip(body(images), back(images), strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["body.safetensors"]


def test_files_that_hold_no_body_are_refused(tmp_path: Path) -> None:
    from aiop.graph_ir.checkpoint import save_checkpoint

    path = tmp_path / "body.safetensors"
    with pytest.raises(AiopError, match="does not exist"):
        Body.load(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(AiopError, match="safetensors"):
        Body.load(path)
    save_checkpoint(path, {"stem": torch.zeros(2)}, {"phase": 1})
    with pytest.raises(AiopError, match="holds no body"):
        Body.load(path)
    save_checkpoint(path, {"stem": torch.zeros(2)}, {"body": CODE})
    with pytest.raises(AiopError, match="does not hold the weights of body 24-"):
        Body.load(path)
