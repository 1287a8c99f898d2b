"""Building blocks of the small networks: convolution blocks, backbone, feature pyramid."""

# mypy: disable-error-code="misc"
# (torch is checked without its types here, so every nn.Module is a subclass of Any)

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensor = Any


def scaled(channels: int, factor: float) -> int:
    """Return channels times a factor as a multiple of 8, at least 8: every block here can divide that."""
    return max(8, 8 * round(channels * factor / 8))


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and SiLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
        nn.SiLU(inplace=True),
    )


class Bottleneck(nn.Module):
    """Residual block: 1x1 to half the channels, 3x3 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_block(channels, channels // 2, 1), conv_block(channels // 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus its residual."""
        return x + self.body(x)


class Backbone(nn.Module):
    """Stride-2 stages with bottleneck residuals; `forward` returns the features of every stage."""

    def __init__(self, widths: Sequence[int], residuals: Sequence[int]) -> None:
        super().__init__()
        stages, inputs = [], 3
        for width, count in zip(widths, residuals, strict=True):
            stages.append(
                nn.Sequential(conv_block(inputs, width, stride=2), *(Bottleneck(width) for _ in range(count)))
            )
            inputs = width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one (N, width, H / 2^k, W / 2^k) feature map for each stage k."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Pyramid(nn.Module):
    """Top-down feature pyramid: every level sees the context of the coarser ones."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([conv_block(width, channels, 1) for width in widths])
        self.smooth = nn.ModuleList([conv_block(channels, channels) for _ in widths])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map a level, finest first."""
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for index in range(len(levels) - 2, -1, -1):
            levels[index] = levels[index] + functional.interpolate(levels[index + 1], scale_factor=2.0, mode="nearest")
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]


def grid_cells(height: int, width: int, strides: Sequence[int]) -> Tensor:
    """Return (cells, 3) float32 of cell x, cell y and stride: by stride, then row, then column."""
    parts = []
    for stride in strides:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        parts.append(torch.stack([x, y, torch.full_like(x, stride)], -1).reshape(-1, 3))
    return torch.cat(parts).float()
