"""Train the small network that labels satellite tiles."""

# mypy: disable-error-code="misc"
# (torch is checked without its types here, so every nn.Module is a subclass of Any)

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sandbox.tiles import Task, Tiles
from sandbox.tiles_model import TileModel, band_facts, standardised

Tensor = Any
EPOCHS = 10
"""What the vendor's server trains; here a small file is gone through more often."""
_FEWEST_STEPS, _MOST_STEPS = 150, 1000
_BATCH = 16
_CROP = 64  # pixels of a larger tile that a step sees
_CHANNELS = 12
_RATE = 0.01


class Network(nn.Module):
    """Standardised tiles (N, bands, H, W) to logits (N, classes), or (N, classes, H, W) for maps."""

    def __init__(self, bands: int, classes: int, task: Task) -> None:
        super().__init__()
        self.task = task
        self.first = nn.Conv2d(bands, _CHANNELS, 3, padding=1)
        self.second = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
        self.head = nn.Linear(_CHANNELS if task == "segmentation" else 2 * _CHANNELS, classes)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return the logits."""
        hidden = functional.relu(self.second(functional.relu(self.first(tiles))))
        if self.task == "segmentation":
            return self.head(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        spread = (hidden.var((2, 3), unbiased=False) + 1e-12).sqrt()
        return self.head(torch.cat([hidden.mean((2, 3)), spread], 1))


@dataclass(frozen=True)
class Trained:
    """A model and how often it is right on the tiles it was trained on."""

    model: TileModel
    accuracy: float
    steps: int


def train(tiles: Tiles, task: Task, *, seed: int = 0, report: Callable[[int, int], None] | None = None) -> Trained:
    """Train on all tiles, calling `report(step, steps)` now and then."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    mean, spread = band_facts(tiles.pixels)
    inputs = torch.from_numpy(standardised(tiles.pixels, mean, spread))
    known = np.unique(tiles.labels)
    targets = torch.from_numpy(np.searchsorted(known, tiles.labels))
    network = Network(len(tiles.bands), len(known), task)
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, EPOCHS * math.ceil(len(inputs) / _BATCH)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        rows = torch.from_numpy(rng.integers(len(inputs), size=min(_BATCH, len(inputs))))
        loss = functional.cross_entropy(*_cropped(network, inputs[rows], targets[rows], rng))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if report is not None and (step % 10 == 0 or step == steps - 1):
            report(step + 1, steps)
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    model = TileModel(
        task, "network", tiles.bands, np.asarray(known, np.int64), {"mean": mean, "spread": spread, **weights}
    )
    return Trained(model, _accuracy(network, inputs, targets), steps)


def _cropped(network: Network, tiles: Tensor, targets: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return logits and targets of the tiles, of a part of them where they are large."""
    side = tiles.shape[-1]
    if side > _CROP:
        top, left = (int(rng.integers(side - _CROP + 1)) for _ in range(2))
        tiles = tiles[..., top : top + _CROP, left : left + _CROP]
        if network.task == "segmentation":
            targets = targets[..., top : top + _CROP, left : left + _CROP]
    return network(tiles), targets


def _accuracy(network: Network, tiles: Tensor, targets: Tensor) -> float:
    right = 0
    with torch.no_grad():
        for begin in range(0, len(tiles), _BATCH):
            found = network(tiles[begin : begin + _BATCH]).argmax(1)
            right += int((found == targets[begin : begin + _BATCH]).sum())
    return right / max(1, int(targets.numel()))
