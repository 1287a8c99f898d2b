"""The network of the RF-DETR-like tasks: dense queries over a pyramid, of which the exported graph keeps the best.

A transformer decoder with learned queries does not converge in a few hundred steps; every cell of the pyramid is a
query here, and TopK in the graph gives the contract its fixed number of them.
"""

# mypy: disable-error-code="misc"
# (torch is checked without its types here, so every nn.Module is a subclass of Any)

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sandbox.training.nets import Backbone, Pyramid, conv_block, grid_cells, scaled

Tensor = Any
STRIDES = (8, 16, 32)
CHANNELS = 48
WIDTHS, RESIDUALS = (16, 24, 48, 64, 96), (0, 1, 2, 2, 1)
RARE = -math.log(99)  # the bias of a probability of one in a hundred: most cells hold nothing
_LARGEST_LOG_SIDE = 8.0  # stops exp from overflowing before the loss is looked at
_MOST_QUERIES = 50


@dataclass(frozen=True)
class Layout:
    """What a network's rows are: image size, classes, and how many mask coefficients follow the class logits."""

    height: int
    width: int
    classes: int
    coefficients: int = 0
    attention: bool = True
    channel_factor: float = 1.0

    @property
    def widths(self) -> list[int]:
        """Channels of every stage of the backbone."""
        return [scaled(width, self.channel_factor) for width in WIDTHS]

    @property
    def channels(self) -> int:
        """Channels of every level of the pyramid."""
        return scaled(CHANNELS, self.channel_factor)


class _Encoder(nn.Module):
    """One self-attention layer over the cells of a feature map, with sine positions."""

    def __init__(self, channels: int, height: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.sharpness = heads, 1 / math.sqrt(channels // heads)
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.queries_keys, self.values = nn.Linear(channels, 2 * channels), nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.feed = nn.Sequential(nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels))
        self.register_buffer("positions", _sine_positions(channels, height, width), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, C, h, w) features that have seen the whole image."""
        shape = features.shape
        tokens = features.flatten(2).transpose(1, 2)
        tokens = tokens + self._attended(self.before(tokens))
        tokens = tokens + self.feed(self.between(tokens))
        return tokens.transpose(1, 2).reshape(shape)

    def _attended(self, tokens: Tensor) -> Tensor:
        queries, keys = self.queries_keys(tokens + self.positions).chunk(2, -1)
        queries, keys, values = (self._split(part) for part in (queries, keys, self.values(tokens)))
        weights = (queries @ keys.transpose(2, 3) * self.sharpness).softmax(-1)
        return self.out((weights @ values).transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        count, cells, channels = tokens.shape
        return tokens.reshape(count, cells, self.heads, channels // self.heads).transpose(1, 2)


def _sine_positions(channels: int, height: int, width: int) -> Tensor:
    """Return (h * w, channels): sines and cosines of the row in one half, of the column in the other."""
    steps = channels // 4
    frequencies = 1.0 / 100 ** (torch.arange(steps) / steps)
    halves = []
    for count in (height, width):
        angles = torch.arange(count).unsqueeze(1) * frequencies
        halves.append(torch.cat([angles.sin(), angles.cos()], 1))
    rows, columns = halves
    both = [rows.unsqueeze(1).expand(-1, width, -1), columns.unsqueeze(0).expand(height, -1, -1)]
    return torch.cat(both, -1).reshape(height * width, channels)


class _Head(nn.Module):
    """Head of one level: box, classes and mask coefficients from a branch each."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        widths = [width for width in (4, layout.classes, layout.coefficients) if width]
        channels = layout.channels
        self.branches = nn.ModuleList(
            [nn.Sequential(conv_block(channels, channels), nn.Conv2d(channels, width, 1)) for width in widths]
        )
        nn.init.constant_(self.branches[1][1].bias, RARE)

    def forward(self, level: Tensor) -> Tensor:
        """Return (N, 4 + C + K, h, w)."""
        return torch.cat([branch(level) for branch in self.branches], 1)


class QueryNetwork(nn.Module):
    """Images (N, 3, H, W), ImageNet-normalised RGB, to rows (N, cells, 4 + C + K).

    A row is dx, dy, log w, log h in strides, C class logits and K mask coefficients.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        widths = layout.widths
        self.backbone = Backbone(widths, RESIDUALS)
        coarsest = layout.height // STRIDES[-1], layout.width // STRIDES[-1]
        self.encoder = _Encoder(widths[-1], *coarsest) if layout.attention else nn.Identity()
        self.pyramid = Pyramid(widths[2:], layout.channels)
        # One head a level: shared batch statistics would mix levels and cost half the precision.
        self.heads = nn.ModuleList([_Head(layout) for _ in STRIDES])

    def features(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the backbone's stride-4 map and the levels of the pyramid, finest first."""
        stages = self.backbone(images)
        return stages[1], self.pyramid([*stages[2:4], self.encoder(stages[4])])

    def rows(self, levels: list[Tensor]) -> Tensor:
        """Return the rows of every cell, by stride, then row, then column."""
        outputs = [head(level).flatten(2) for head, level in zip(self.heads, levels, strict=True)]
        return torch.cat(outputs, 2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return the rows."""
        return self.rows(self.features(images)[1])


def corners(rows: Tensor, cells: Tensor) -> Tensor:
    """Decode rows at their (..., 3) cells to (..., 4) corner boxes in network pixels."""
    stride = cells[..., 2:]
    return boxes_around((rows[..., :2] + cells[..., :2] + 0.5) * stride, rows, stride)


def boxes_around(centre: Tensor, rows: Tensor, stride: Tensor) -> Tensor:
    """Return the (..., 4) corner boxes around (..., 2) centres in pixels, their sides as rows 2 and 3 have them."""
    half = rows[..., 2:4].clamp(max=_LARGEST_LOG_SIDE).exp() * stride / 2
    return torch.cat([centre - half, centre + half], -1)


@dataclass(frozen=True)
class Queries:
    """The best queries of a batch: boxes (N, Q, 4) in pixels, class logits (N, Q, C), mask coefficients (N, Q, K)."""

    boxes: Tensor
    logits: Tensor
    coefficients: Tensor


class BestQueries(nn.Module):
    """Choose the queries with the highest class logit and give them the contract's form."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        cells = grid_cells(layout.height, layout.width, STRIDES)
        self.count = min(_MOST_QUERIES, len(cells))
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("size", torch.tensor([float(layout.width), float(layout.height)] * 2), persistent=False)

    def chosen(self, rows: Tensor) -> Queries:
        """Return the best queries, best first."""
        end = 4 + self.layout.classes
        best = rows[..., 4:end].amax(-1)
        top = best.topk(self.count, dim=1).indices
        taken = rows.gather(1, top.unsqueeze(2).expand(-1, -1, 4 + self.layout.classes + self.layout.coefficients))
        return Queries(corners(taken, self.cells[top]), taken[..., 4:end], taken[..., end:])

    def forward(self, queries: Queries) -> tuple[Tensor, Tensor]:
        """Return `dets` (N, Q, 4) cx, cy, w, h in [0, 1] and `labels` (N, Q, C + 1), background last."""
        inside = (queries.boxes / self.size).clamp(0, 1)
        low, high = inside[..., :2], inside[..., 2:]
        boxes = torch.cat([(low + high) / 2, high - low], -1)
        background = -queries.logits.amax(-1, keepdim=True)
        return boxes, torch.cat([queries.logits, background], -1)


def as_ranked(expected: list[Tensor], actual: list[Tensor]) -> list[Tensor]:
    """Return `actual` with its queries where `expected` has them: almost equal scores may rank either way.

    A query at the very end of the ranking may be another one altogether; the expected one stands in for it.
    """
    keys, others = (torch.cat([part[0][0], part[1][0]], 1) for part in (expected, actual))
    nearest = (keys.unsqueeze(1) - others.unsqueeze(0)).abs().amax(-1).argmin(1)
    best = expected[1][0, :, :-1].amax(1)
    last = (best <= best.min() + 1e-4) & ((keys - others[nearest]).abs().amax(1) > 1e-4)
    aligned = []
    for ours, theirs in zip(expected, actual, strict=True):
        aligned.append(torch.where(last.view(1, -1, *(1,) * (ours.ndim - 2)), ours, theirs[:, nearest]))
    return aligned
