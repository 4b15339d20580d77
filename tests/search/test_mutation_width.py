"""Fewer channels of networks as PyTorch exports them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from aiop.errors import AiopError
from aiop.search.editing.network import EditableNetwork
from aiop.search.mutations.base import Decision, Edit, NotApplicableError, Refusal, get_mutation
from aiop.search.mutations.width import Width, left, prune


class Residual(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.norm = nn.BatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.expand(torch.relu(self.norm(self.reduce(x)))))


class Classifier(nn.Module):
    """Two blocks of 32 channels, the inner ones of 64, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.blocks = nn.Sequential(Residual(32, 64), Residual(32, 64))
        self.head = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Tokens of an image through attention of four heads of 8 channels as torch has it, and an MLP of 48."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 4, stride=4)
        self.qkv, self.proj = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 48), nn.Linear(48, 32)
        self.one, self.two, self.head = nn.LayerNorm(32), nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.one(x)).reshape(1, -1, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.softmax(q @ k.transpose(-2, -1) / 8**0.5, -1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(1, -1, 32))
        x = x + self.down(nn.functional.gelu(self.up(self.two(x))))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


def exported(module: nn.Module, batch: bool = False) -> EditableNetwork:
    buffer = io.BytesIO()
    torch.onnx.export(
        module.eval(),
        (torch.zeros(1, 3, 16, 16),),
        buffer,  # type: ignore[arg-type]
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}} if batch else None,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        opset_version=17,
    )
    return EditableNetwork.read(buffer.getvalue(), name=type(module).__name__)


def run(network: EditableNetwork, images: torch.Tensor) -> np.ndarray:
    session = ort.InferenceSession(network.check().SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images.numpy()})[0])


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier()


@pytest.fixture(scope="module")
def network(classifier: Classifier) -> EditableNetwork:
    return exported(classifier)


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    torch.manual_seed(0)
    return Transformer()


def test_sites_are_the_stage_and_the_inner_channels(network: EditableNetwork) -> None:
    sites = {site.where: site for site in get_mutation("width").sites(network)}
    assert list(sites) == ["stem.Conv", "blocks.blocks.0.reduce.Conv", "blocks.blocks.1.reduce.Conv"]
    assert sites["stem.Conv"].amounts == (0.75, 0.5, 0.25)  # 24, 16 and 8 of 32
    assert sites["blocks.blocks.0.reduce.Conv"].amounts == (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
    assert sites["blocks.blocks.1.reduce.Conv"].convolutions == (
        "blocks.blocks.1.reduce.Conv",
        "blocks.blocks.1.expand.Conv",
    )
    assert sites["stem.Conv"].convolutions[-1] == "head.Gemm"
    assert [refusal.where for refusal in get_mutation("width").refusals(network)] == ["head.Gemm"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_torch_with_the_same_channels_silenced_computes_the_same(
    classifier: Classifier, network: EditableNetwork, seed: int
) -> None:
    """What stays is decided here, by making the weights of all else tiny, and set to zero in torch."""
    rng = np.random.default_rng(seed)
    stage, inner = torch.ones(32), torch.ones(64)
    stage[rng.choice(32, 16, replace=False)] = 0
    inner[rng.choice(64, 40, replace=False)] = 0
    silent, quiet = Classifier(), Classifier()
    for module, rest in ((silent, 0.0), (quiet, 1e-3)):
        module.load_state_dict(classifier.state_dict())
        block = module.blocks[0]
        assert isinstance(block, Residual)
        with torch.no_grad():
            small, narrow = stage + (1 - stage) * rest, inner + (1 - inner) * rest
            module.stem.weight *= small[:, None, None, None]
            assert module.stem.bias is not None
            module.stem.bias *= small
            block.reduce.weight *= narrow[:, None, None, None] * small[:, None, None]
            block.norm.weight.mul_(narrow)
            block.norm.bias.mul_(narrow)
            other = module.blocks[1]
            assert isinstance(other, Residual)
            other.reduce.weight *= small[:, None, None]
            for each in (block, other):
                each.expand.weight *= small[:, None, None, None]
                assert each.expand.bias is not None
                each.expand.bias *= small
            block.expand.weight *= narrow[:, None, None]
            module.head.weight *= small
    smaller = exported(quiet)
    prune(smaller, {"stem.Conv": 0.5, "blocks.blocks.0.reduce.Conv": 0.375})
    images = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = silent.eval()(images).numpy()
    np.testing.assert_allclose(run(smaller, images), expected, rtol=1e-4, atol=1e-6)
    # per position: 16 channels in the stage, 24 and 64 inside the blocks; the head reads 16
    assert smaller.macs == 256 * (16 * 27 + (24 + 64) * (16 + 16 * 9)) + 16 * 4


def test_heads_of_an_attention_go_whole(transformer: Transformer) -> None:
    network = exported(transformer)
    sites = {site.where: site.amounts for site in Width().sites(network)}
    assert sites["qkv.MatMul"] == (0.75, 0.5, 0.25)  # three, two and one of four heads
    weight = transformer.qkv.weight.detach().numpy().reshape(3, 4, 8, 32)
    after = transformer.proj.weight.detach().numpy().reshape(32, 4, 8)
    norms = (
        [np.linalg.norm(weight[:, head]) for head in range(4)],
        [np.linalg.norm(after[:, head]) for head in range(4)],
    )
    importance = sum(np.array(each) / np.mean(each) for each in norms)
    kept = np.sort(np.argsort(-importance)[:2])
    (edit,) = prune(network, {"qkv.MatMul": 0.5})
    assert isinstance(edit, Edit)
    assert edit.text == "qkv.MatMul: 96 -> 48 channels (4 -> 2 that go together)"
    smaller = Transformer()
    smaller.load_state_dict(transformer.state_dict())
    gone = [head for head in range(4) if head not in kept]
    with torch.no_grad():
        smaller.proj.weight.view(32, 4, 8)[:, gone] = 0
        images = torch.randn(1, 3, 16, 16)
        expected = smaller.eval()(images).numpy()
    np.testing.assert_allclose(run(network, images), expected, rtol=1e-4, atol=1e-6)


def test_an_open_batch_stays_open(transformer: Transformer, classifier: Classifier) -> None:
    network = exported(classifier, batch=True)
    assert all(isinstance(result, Edit) for result in prune(network, {"stem.Conv": 0.5}))
    assert run(network, torch.zeros(3, 3, 16, 16)).shape == (3, 4)
    network = exported(transformer, batch=False)
    assert len(prune(network, {site.where: 0.5 for site in Width().sites(network)})) == 3


def test_everything_at_once_is_one_change_and_the_order_does_not_matter(network: EditableNetwork) -> None:
    decisions = [Decision("width", site.where, 0.5) for site in Width().sites(network)]
    one, other, single = network.clone(), network.clone(), network.clone()
    list(Width().apply_all(one, decisions))
    list(Width().apply_all(other, decisions[::-1]))
    images = torch.randn(1, 3, 16, 16)
    np.testing.assert_array_equal(run(one, images), run(other, images))
    for decision in decisions:
        Width().apply(single, decision.where, decision.amount)
    assert single.macs == one.macs
    assert one.macs < network.macs / 3


@pytest.mark.parametrize("importance", ["magnitude", "random", "first", "smallest"])
def test_importances_choose_differently_and_always_the_same(
    network: EditableNetwork, importance: str
) -> None:
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def result(importance: str, seed: int = 0) -> np.ndarray:
        copy = network.clone()
        prune(copy, {"stem.Conv": 0.5}, importance=importance, seed=seed)
        return run(copy, images)

    np.testing.assert_array_equal(result(importance), result(importance))
    others = {"magnitude", "random", "first", "smallest"} - {importance}
    assert not any(np.array_equal(result(importance), result(other)) for other in others)
    assert np.array_equal(result(importance, 0), result(importance, 1)) == (importance != "random")


def test_refusals_say_why(network: EditableNetwork) -> None:
    copy = network.clone()
    results = prune(
        copy, {"stem.Conv": 0.99, "head.Gemm": 0.5, "stem.Con": 0.5, "blocks.blocks.0.reduce.Conv": 1.5}
    )
    assert [result.reason for result in results if isinstance(result, Refusal)] == [
        "stem.Conv: a share of 0.99 of 32 units takes none out",
        'head.Gemm: goes to the output "logits" of the network',
        'stem.Con: no group of channels is called so (did you mean "stem.Conv"?)',
        "blocks.blocks.0.reduce.Conv: a share of 1.5 takes nothing out; it lies between 0 and 1",
    ]
    assert copy.macs == network.macs
    with pytest.raises(NotApplicableError, match="output"):
        Width().apply(copy, "head.Gemm", 0.5)
    with pytest.raises(AiopError, match='did you mean "magnitude"'):
        prune(copy, {"stem.Conv": 0.5}, importance="magnitud")


def test_weights_are_not_read_before_they_are_asked_for(
    network: EditableNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiop.search.editing.coupling import importance

    def read(*_: object) -> None:
        raise AssertionError("weights were read")

    smaller = network.clone()
    known: Callable[..., object] = importance.magnitude
    monkeypatch.setattr(importance, "magnitude", read)
    prune(smaller, {"blocks.blocks.1.reduce.Conv": 0.5})
    assert smaller.macs < network.macs
    monkeypatch.setattr(importance, "magnitude", known)
    smaller.check(like=network)


@pytest.mark.parametrize(
    ("units", "share", "count"),
    [(64, 0.875, 56), (64, 0.3, 16), (32, 0.1, 8), (33, 0.5, 17), (3, 0.25, 1), (12, 0.75, 9), (1, 0.5, 1)],
)
def test_many_units_are_rounded_to_eights(units: int, share: float, count: int) -> None:
    assert left(units, share) == count
