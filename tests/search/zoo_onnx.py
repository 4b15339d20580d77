"""Small networks of many kinds as ONNX files, for tests of what changes networks."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ZOO", "export", "network"]

logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Return convolution, norm and activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([act()] if act is not None else []))


class Pooled(nn.Module):
    """Global average and a linear layer."""

    def __init__(self, width: int, classes: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Skip(nn.Module):
    """A branch beside a skip, and an activation after their sum."""

    def __init__(self, branch: nn.Module, short: nn.Module | None = None, act: bool = True) -> None:
        super().__init__()
        self.branch, self.short, self.act = (
            branch,
            short or nn.Identity(),
            nn.ReLU() if act else nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.short(x) + self.branch(x))


def vgg() -> nn.Module:
    return nn.Sequential(
        conv(3, 16), conv(16, 16), nn.MaxPool2d(2), conv(16, 32), conv(32, 32), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(),
        nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5),
    )  # fmt: skip


def basic() -> nn.Module:
    def block(inputs: int, outputs: int, stride: int) -> Skip:
        branch = nn.Sequential(conv(inputs, outputs, 3, stride), conv(outputs, outputs, act=None))
        short = conv(inputs, outputs, 1, stride, act=None) if stride > 1 else None
        return Skip(branch, short)

    return nn.Sequential(
        conv(3, 16, 7, 2),
        nn.MaxPool2d(3, 2, 1),
        block(16, 16, 1),
        block(16, 24, 2),
        block(24, 24, 1),
        Pooled(24),
    )


def bottleneck(groups: int = 1, width: int = 8) -> nn.Module:
    def block(inputs: int, middle: int, outputs: int, stride: int) -> Skip:
        branch = nn.Sequential(
            conv(inputs, middle, 1),
            conv(middle, middle, 3, stride, groups),
            conv(middle, outputs, 1, act=None),
        )
        return Skip(branch, conv(inputs, outputs, 1, stride, act=None) if inputs != outputs else None)

    return nn.Sequential(
        conv(3, 16, 3, 2),
        block(16, width, 32, 1),
        block(32, width, 32, 1),
        block(32, width, 48, 2),
        Pooled(48),
    )


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 32, 1), nn.ReLU(), nn.Conv2d(32, 8, 3, padding=1)
            )
            for w in (16, 24, 32)
        )
        self.transition, self.head = conv(40, 20, 1), Pooled(20)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(functional.avg_pool2d(self.transition(x), 2))


class Squeeze(nn.Module):
    def __init__(self, width: int, inner: int = 8) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


def mobile() -> nn.Module:
    def block(inputs: int, middle: int, outputs: int, kernel: int, stride: int) -> nn.Module:
        branch = nn.Sequential(
            conv(inputs, middle, 1, act=nn.Hardswish),
            conv(middle, middle, kernel, stride, middle, act=nn.Hardswish),
            Squeeze(middle),
            conv(middle, outputs, 1, act=None),
        )
        return Skip(branch, act=False) if inputs == outputs and stride == 1 else branch

    return nn.Sequential(
        conv(3, 16, 3, 2, act=nn.SiLU), block(16, 32, 16, 3, 1), block(16, 32, 24, 5, 2), block(24, 48, 24, 5, 1),
        Pooled(24),
    )  # fmt: skip


class LayerNorm(nn.LayerNorm):
    """Of channels that come first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.expand, self.reduce = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.reduce(functional.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4),
        LayerNorm(16),
        ConvNextBlock(16),
        nn.Conv2d(16, 24, 2, 2),
        ConvNextBlock(24),
        Pooled(24),
    )


class VitBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.one, self.two = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.reduce = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            self.qkv(self.one(x))
            .reshape(batch, length, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        mixed = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, -1) @ v
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.reduce(functional.gelu(self.expand(self.two(x)), approximate="tanh"))


class Vit(nn.Module):
    def __init__(self, positions: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, 16, 32) * 0.1) if positions else None
        self.blocks = nn.Sequential(VitBlock(32, 4), VitBlock(32, 4))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        if self.positions is not None:
            x = x + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


class Csp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = conv(3, 16, 3, 2, act=nn.SiLU), conv(16, 32, 1, act=nn.SiLU)
        self.inner = Skip(nn.Sequential(conv(16, 16, act=nn.SiLU), conv(16, 16, act=nn.Mish)), act=False)
        self.join, self.head = conv(48, 24, 1, act=nn.ELU), Pooled(24)

    def forward(self, image: Tensor) -> Tensor:
        one, two = self.wide(self.stem(image)).chunk(2, 1)
        return self.head(self.join(torch.cat([one, two, self.inner(two)], 1)))


class Pyramid(nn.Module):
    """Two maps, the coarse one added to the fine one; a map for every pixel, and boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv(3, 16, 3, 2), conv(16, 24, 3, 2), conv(24, 32, 3, 2)
        self.fine, self.coarse = nn.Conv2d(24, 16, 1), nn.Conv2d(32, 16, 1)
        self.smooth, self.shared = conv(16, 16), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        two = self.two(self.one(image))
        coarse = self.coarse(self.three(two))
        fine = self.fine(two) + functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = self.smooth(fine)
        dense = functional.interpolate(
            self.shared(fine), size=image.shape[2:], mode="bilinear", align_corners=False
        )
        return dense, torch.sigmoid(self.shared(coarse)).flatten(2)


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 24, 3, 2)
        self.branch = nn.Sequential(conv(12, 12, 1), conv(12, 12, 3, 1, 12, act=None), conv(12, 12, 1))
        self.last, self.head = conv(24, 32, 1), Pooled(32)

    def forward(self, image: Tensor) -> Tensor:
        one, two = self.stem(image).chunk(2, 1)
        x = torch.cat([one, self.branch(two)], 1)
        batch, width, high, wide = x.shape
        x = x.reshape(batch, 2, width // 2, high, wide).transpose(1, 2).reshape(batch, width, high, wide)
        return self.head(self.last(x))


def mlp() -> nn.Module:
    layers = [
        nn.Linear(20, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.SELU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 5),
    ]
    return nn.Sequential(*layers)


_IMAGE = (1, 3, 32, 32)

ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "vgg": (vgg, _IMAGE, False),
    "basic": (basic, (1, 3, 64, 64), False),
    "bottleneck": (bottleneck, _IMAGE, False),
    "resnext": (lambda: bottleneck(4, 16), _IMAGE, False),
    "dense": (Dense, _IMAGE, False),
    "mobile": (mobile, _IMAGE, False),
    "convnext": (convnext, (1, 3, 64, 64), False),
    "vit": (Vit, _IMAGE, False),
    "vit-without-positions": (lambda: Vit(positions=False), _IMAGE, False),
    "csp": (Csp, _IMAGE, False),
    "pyramid": (Pyramid, _IMAGE, False),
    "shuffle": (Shuffle, _IMAGE, False),
    "mlp": (mlp, (1, 20), False),
    "dynamic": (bottleneck, _IMAGE, True),
}
"""Name -> how to make it, the shape of its input, and whether its batch is left open."""


def export(
    module: nn.Module, shape: Sequence[int], dynamic: bool = False, opset: int = 17
) -> onnx.ModelProto:
    """Return a module as ONNX, its norms not folded into convolutions."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(tuple(shape)),),
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            dynamic_axes={"image": {0: "batch"}} if dynamic else None,
            do_constant_folding=True,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return onnx.load_from_string(stream.getvalue())


@cache
def network(name: str) -> onnx.ModelProto:
    """Return a network of the zoo, with weights that are the same every time; not to be changed."""
    make, shape, dynamic = ZOO[name]
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        module = make()
        for layer in module.modules():
            if (
                isinstance(layer, nn.BatchNorm2d)
                and layer.running_mean is not None
                and layer.running_var is not None
            ):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
        return export(module, shape, dynamic)
    finally:
        torch.random.set_rng_state(state)
