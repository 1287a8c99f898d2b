"""The `classification` task: a small residual network; one label an image."""

# mypy: disable-error-code="misc"
# (torch is checked without its types here, so every nn.Module is a subclass of Any)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sandbox.datasets import LabelledImage
from sandbox.training import pixels
from sandbox.training.nets import conv_block, scaled
from sandbox.training.task import Metrics, Task

Tensor = Any
_WIDTHS = (16, 32, 64, 128)


class _Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_block(channels, channels // 2), conv_block(channels // 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Network(nn.Module):
    """Images (N, 3, H, W), ImageNet-normalised RGB, to logits (N, C)."""

    def __init__(self, classes: int, channel_factor: float = 1.0) -> None:
        super().__init__()
        layers, inputs = [], 3
        for width in (scaled(width, channel_factor) for width in _WIDTHS):
            layers += [conv_block(inputs, width, stride=2), _Residual(width)]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(2 * inputs, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        features = self.features(images)
        # The maximum keeps a small sign that the average over the whole image drowns.
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.classifier(pooled)


@dataclass(frozen=True)
class _Samples:
    pixels: Tensor  # (N, 3, H, W) uint8, RGB
    labels: Tensor  # (N,)


class Classification(Task):
    """Data, loss, evaluation and export graph of the classifier."""

    input_names, output_names = ("input",), ("output",)
    key_metric = "top1"

    def network(self) -> nn.Module:
        """Return the untrained network."""
        return Network(len(self.classes), self.settings.size.channel_factor)

    def samples(self, images: Sequence[LabelledImage]) -> _Samples:
        """Decode and resize the images once."""
        labels = torch.tensor([self.classes.index(image.tags[0]) for image in images], dtype=torch.int64)
        return _Samples(pixels.stretched(images, self.settings.height, self.settings.width), labels)

    def batch(self, samples: _Samples, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented, normalised images and their labels."""
        motion = pixels.draw(rng, len(rows), pixels.Augmentation(rotation=14))
        images = pixels.warp(pixels.recolour(samples.pixels[rows].float(), rng), motion, pixels.imagenet_grey())
        return pixels.imagenet_normalised(images), samples.labels[rows]

    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return cross entropy with smoothed labels."""
        return functional.cross_entropy(network(images), targets, label_smoothing=0.1)

    def evaluate(self, network: nn.Module, samples: _Samples) -> Metrics:
        """Return top-1 and its parts from the confusion matrix (rows: label, columns: answer)."""
        with torch.no_grad():
            parts = [network(pixels.imagenet_normalised(part)).argmax(1) for part in samples.pixels.split(32)]
        size = len(self.classes)
        confusion = np.zeros((size, size), np.int64)
        np.add.at(confusion, (samples.labels.numpy(), torch.cat(parts).numpy()), 1)
        right, labels, answers = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        recall = {name: right[k] / labels[k] for k, name in enumerate(self.classes) if labels[k]}
        precision = [right[k] / answers[k] if answers[k] else 0.0 for k in range(size) if labels[k]]
        return {
            "top1": float(right.sum() / labels.sum()),
            "precision": float(np.mean(precision)),
            "recall": float(np.mean(list(recall.values()))),
            "per_class": {name: float(value) for name, value in recall.items()},
            "confusion_matrix": confusion.tolist(),
            "evaluated_images": int(labels.sum()),
        }

    def shipped(self, network: nn.Module) -> nn.Module:
        """Return the graph to export: raw logits."""
        return network.eval()

    def example(self, samples: _Samples) -> Tensor:
        """Return one real input of the exported graph."""
        return pixels.imagenet_normalised(samples.pixels[:1])


task = Classification
