"""A feature pyramid (Lin et al. 2017): every level of one width, the coarse ones added to the fine ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Pyramid", "block", "enlarged"]


def block(fed: int, width: int, kernel: int) -> nn.Sequential:
    """Convolution that keeps the size, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(fed, width, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def enlarged(feature: Tensor, like: Tensor) -> Tensor:
    """A map ``(n, C, h, w)`` repeated to the height and width of another."""
    return functional.interpolate(feature, size=like.shape[2:], mode="nearest")


class Pyramid(nn.Module):
    """Feature maps ``(n, C_i, H_i, W_i)``, finest first -> as many ``(n, width, H_i, W_i)``.

    Lateral 1x1 convolutions are normalised, so that features of any scale may enter.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fed, width, 1, bias=False), nn.BatchNorm2d(width)) for fed in channels
        )
        self.smooth = nn.ModuleList(block(width, width, 3) for _ in channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        levels = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for fine in range(len(levels) - 2, -1, -1):
            levels[fine] = levels[fine] + enlarged(levels[fine + 1], levels[fine])
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
