"""Small networks of many kinds for 64 x 64 images: what is compressed here. One constructor per kind, in `NETWORKS`.

Each follows the paper that is named with it in its blocks, not in its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["NETWORKS", "make"]

CLASSES = 10


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if act is None else [act()]))


class Classifier(nn.Module):
    """Features, global average pool, one linear layer: images ``(n, 3, H, W)`` -> logits ``(n, 10)``."""

    def __init__(self, features: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.features(images).mean(dim=(2, 3)))
        return logits


class Residual(nn.Module):
    """``act(branch(x) + shortcut(x))``."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.act = branch, shortcut, act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.branch(x) + self.shortcut(x))
        return out


class SqueezeExcite(nn.Module):
    """Channels scaled by what their means say (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.sigmoid(self.up(torch.relu(self.down(x.mean(dim=(2, 3), keepdim=True)))))
        return x * scale


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Identity() if inputs == outputs and stride == 1 else conv(inputs, outputs, 1, stride, act=None)


def vgg() -> nn.Module:
    """Simonyan & Zisserman, ICLR 2015, with batch norm."""
    features: list[nn.Module] = [conv(3, 16, stride=2), nn.MaxPool2d(2)]
    channels = 16
    for width in (32, 64, 96):
        features += [conv(channels, width), conv(width, width), nn.MaxPool2d(2)]
        channels = width
    return Classifier(features, channels)


def resnet() -> nn.Module:
    """Basic blocks of He et al., CVPR 2016."""
    features: list[nn.Module] = [conv(3, 16, stride=2)]
    channels = 16
    for width, stride in ((24, 2), (24, 1), (48, 2), (48, 1), (80, 2), (80, 1)):
        branch = nn.Sequential(conv(channels, width, stride=stride), conv(width, width, act=None))
        features.append(Residual(branch, _shortcut(channels, width, stride), nn.ReLU()))
        channels = width
    return Classifier(features, channels)


def _bottlenecks(plan: Sequence[tuple[int, int, int]], groups: Callable[[int], int], se: bool) -> nn.Module:
    """Bottlenecks of ``plan``: inner width, outer width, stride."""
    features: list[nn.Module] = [conv(3, 16, stride=2)]
    channels = 16
    for inner, outer, stride in plan:
        layers = [conv(channels, inner, 1), conv(inner, inner, 3, stride, groups(inner))]
        layers += [SqueezeExcite(inner, max(8, channels // 4))] if se else []
        branch = nn.Sequential(*layers, conv(inner, outer, 1, act=None))
        features.append(Residual(branch, _shortcut(channels, outer, stride), nn.ReLU()))
        channels = outer
    return Classifier(features, channels)


def bottleneck() -> nn.Module:
    """Bottleneck blocks of He et al., CVPR 2016."""
    plan = ((12, 48, 2), (12, 48, 1), (24, 80, 2), (24, 80, 1), (40, 144, 2), (40, 144, 1))
    return _bottlenecks(plan, lambda width: 1, se=False)


def resnext() -> nn.Module:
    """Grouped bottlenecks of Xie et al., CVPR 2017: 8 groups."""
    plan = ((32, 48, 2), (32, 48, 1), (48, 96, 2), (48, 96, 1), (80, 144, 2), (80, 144, 1))
    return _bottlenecks(plan, lambda width: 8, se=False)


def regnet() -> nn.Module:
    """RegNetY of Radosavovic et al., CVPR 2020: groups of 8 channels, squeeze-excite, no inverted width."""
    plan = ((24, 24, 2), (24, 24, 1), (48, 48, 2), (48, 48, 1), (96, 96, 2), (96, 96, 1))
    return _bottlenecks(plan, lambda width: width // 8, se=True)


class DenseLayer(nn.Module):
    """``concat(x, f(x))``, with the norms before the convolutions."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 2 * growth, 1, bias=False),
            nn.BatchNorm2d(2 * growth), nn.ReLU(), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


def densenet() -> nn.Module:
    """DenseNet-BC of Huang et al., CVPR 2017."""
    features: list[nn.Module] = [conv(3, 24, stride=2), nn.MaxPool2d(2)]
    channels = 24
    for block in range(3):
        for _ in range(3):
            features.append(DenseLayer(channels, 16))
            channels += 16
        if block < 2:
            features += [
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2),
            ]  # fmt: skip
            channels //= 2
    return Classifier([*features, nn.BatchNorm2d(channels), nn.ReLU()], channels)


def _inverted(
    plan: Sequence[tuple[int, int, int, int]], act: type[nn.Module], se: bool, last: int
) -> nn.Module:
    """Inverted residuals of ``plan``: expansion, outer width, stride, kernel."""
    features: list[nn.Module] = [conv(3, 16, stride=2, act=act)]
    channels = 16
    for expansion, outer, stride, kernel in plan:
        inner = channels * expansion
        layers = [conv(channels, inner, 1, act=act), conv(inner, inner, kernel, stride, inner, act=act)]
        layers += [SqueezeExcite(inner, max(8, inner // 4))] if se else []
        branch = nn.Sequential(*layers, conv(inner, outer, 1, act=None))
        whole = Residual(branch, nn.Identity(), nn.Identity())
        features.append(whole if channels == outer and stride == 1 else branch)
        channels = outer
    return Classifier([*features, conv(channels, last, 1, act=act)], last)


def mobilenet_v2() -> nn.Module:
    """Inverted residuals of Sandler et al., CVPR 2018."""
    plan = ((2, 24, 2, 3), (4, 24, 1, 3), (4, 40, 2, 3), (4, 40, 1, 3), (4, 64, 2, 3), (4, 64, 1, 3))
    return _inverted(plan, nn.ReLU6, se=False, last=128)


def mobilenet_v3() -> nn.Module:
    """MobileNetV3 of Howard et al., ICCV 2019: squeeze-excite, hard swish, kernels of 5."""
    plan = ((2, 24, 2, 3), (3, 24, 1, 3), (4, 40, 2, 5), (3, 40, 1, 5), (4, 64, 2, 5), (3, 64, 1, 5))
    return _inverted(plan, nn.Hardswish, se=True, last=128)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7 x 7, layer norm over channels, two linear layers with GELU, layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(nn.functional.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``(n, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Liu et al., CVPR 2022."""
    features: list[nn.Module] = [
        nn.Conv2d(3, 24, 4, 4),
        ChannelNorm(24),
        ConvNeXtBlock(24),
        ConvNeXtBlock(24),
    ]
    for inputs, outputs in ((24, 48), (48, 80)):
        features += [ChannelNorm(inputs), nn.Conv2d(inputs, outputs, 2, 2)]
        features += [ConvNeXtBlock(outputs), ConvNeXtBlock(outputs)]
    return Classifier([*features, ChannelNorm(80)], 80)


class Encoder(nn.Module):
    """Self-attention and a two-layer network, each behind a layer norm and beside a shortcut; tokens ``(n, T, C)``."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, channels // heads
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.out = nn.Linear(channels, channels)
        self.up, self.down = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.before(tokens)
        shape = (-1, tokens.shape[1], self.heads, self.size)
        query, key, value = (
            part(x).reshape(shape).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.size**-0.5, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(-1, tokens.shape[1], self.heads * self.size)
        tokens = tokens + self.out(mixed)
        return tokens + self.down(nn.functional.gelu(self.up(self.between(tokens))))


class HybridTransformer(nn.Module):
    """A transformer on the tokens of a convolutional stem."""

    def __init__(self, channels: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv(3, 16, stride=2), conv(16, 32, stride=2), conv(32, 32),
            conv(32, channels, stride=2), conv(channels, channels),
        )  # fmt: skip
        self.position = nn.Parameter(0.02 * torch.randn(1, 64, channels))
        self.blocks = nn.Sequential(*(Encoder(channels, heads) for _ in range(depth)))
        self.norm, self.linear = nn.LayerNorm(channels), nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.linear(self.norm(self.blocks(tokens)).mean(dim=1))
        return logits


def transformer() -> nn.Module:
    """Dosovitskiy et al., ICLR 2021, with the early convolutions of Xiao et al., NeurIPS 2021."""
    return HybridTransformer()


class ShuffleUnit(nn.Module):
    """Half of the channels through a branch, then both halves interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.branch = nn.Sequential(
            conv(self.half, self.half, 1),
            conv(self.half, self.half, 3, groups=self.half, act=None),
            conv(self.half, self.half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        return _shuffled(torch.cat([left, self.branch(right)], dim=1))


class ShuffleDown(nn.Module):
    """Two branches of stride 2, interleaved."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(conv(inputs, inputs, 3, 2, inputs, act=None), conv(inputs, half, 1))
        self.right = nn.Sequential(
            conv(inputs, half, 1), conv(half, half, 3, 2, half, act=None), conv(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(torch.cat([self.left(x), self.right(x)], dim=1))


def _shuffled(x: Tensor) -> Tensor:
    _, channels, height, width = x.shape
    return x.reshape(-1, 2, channels // 2, height, width).transpose(1, 2).reshape(-1, channels, height, width)


def shufflenet() -> nn.Module:
    """ShuffleNetV2 of Ma et al., ECCV 2018."""
    features: list[nn.Module] = [conv(3, 24, stride=2)]
    channels = 24
    for width, repeats in ((48, 2), (96, 2), (160, 1)):
        features += [ShuffleDown(channels, width), *(ShuffleUnit(width) for _ in range(repeats))]
        channels = width
    return Classifier([*features, conv(channels, 160, 1)], 160)


class CrossStage(nn.Module):
    """Half of the channels around the blocks of a stage, half through them."""

    def __init__(self, channels: int, repeats: int) -> None:
        super().__init__()
        half = channels // 2
        self.around, self.into = conv(channels, half, 1, act=nn.SiLU), conv(channels, half, 1, act=nn.SiLU)
        self.blocks = nn.Sequential(
            *(
                Residual(
                    nn.Sequential(conv(half, half, 1, act=nn.SiLU), conv(half, half, act=nn.SiLU)),
                    nn.Identity(),
                    nn.Identity(),
                )
                for _ in range(repeats)
            )
        )
        self.out = conv(2 * half, channels, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.cat([self.around(x), self.blocks(self.into(x))], dim=1))
        return out


def csp() -> nn.Module:
    """Cross-stage partial blocks of Wang et al., CVPRW 2020."""
    features: list[nn.Module] = [conv(3, 16, stride=2, act=nn.SiLU)]
    channels = 16
    for width in (32, 64, 96):
        features += [conv(channels, width, stride=2, act=nn.SiLU), CrossStage(width, 2)]
        channels = width
    return Classifier(features, channels)


class Branches(nn.Module):
    """1 x 1, 3 x 3, two 3 x 3, and pooling, side by side."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, three, five, pool = widths
        self.one = conv(inputs, one, 1)
        self.three = nn.Sequential(conv(inputs, three // 2, 1), conv(three // 2, three))
        self.five = nn.Sequential(conv(inputs, five // 2, 1), conv(five // 2, five), conv(five, five))
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(inputs, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1)


def inception() -> nn.Module:
    """Inception of Szegedy et al., CVPR 2015 and 2016."""
    features: list[nn.Module] = [conv(3, 16, stride=2), conv(16, 24), nn.MaxPool2d(2)]
    channels = 24
    for place, widths in enumerate(((16, 32, 16, 16), (16, 32, 16, 16), (24, 48, 24, 24), (24, 64, 32, 24))):
        features.append(Branches(channels, widths))
        channels = sum(widths)
        features += [nn.MaxPool2d(2)] if place == 1 else []
    return Classifier(features, channels)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": vgg,
    "resnet": resnet,
    "bottleneck": bottleneck,
    "resnext": resnext,
    "regnet": regnet,
    "densenet": densenet,
    "inception": inception,
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3": mobilenet_v3,
    "shufflenet": shufflenet,
    "csp": csp,
    "convnext": convnext,
    "transformer": transformer,
}
"""Kind -> constructor."""


def make(kind: str, seed: int) -> nn.Module:
    """Return a network of a kind, its weights drawn by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[kind]()
