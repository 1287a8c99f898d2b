"""The `sm_pytorch` task: semantic segmentation with a small U-Net; one label a pixel."""

# mypy: disable-error-code="misc"
# (torch is checked without its types here, so every nn.Module is a subclass of Any)

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sandbox.datasets import LabelledImage
from sandbox.training import outlines, pixels
from sandbox.training.mask_scores import scored_size
from sandbox.training.nets import conv_block, scaled
from sandbox.training.task import Metrics, Task

Tensor = Any
_WIDTHS = (16, 32, 64, 96)
_EVALUATED_AT_ONCE = 32


class Network(nn.Module):
    """Images (N, 3, H, W), ImageNet-normalised RGB, to logits (N, K, H, W)."""

    def __init__(self, channels: int, channel_factor: float = 1.0) -> None:
        super().__init__()
        widths = [scaled(width, channel_factor) for width in _WIDTHS]
        inputs = (3, *widths)
        self.down = nn.ModuleList(
            [
                nn.Sequential(conv_block(before, width, stride=2), conv_block(width, width))
                for before, width in zip(inputs, widths, strict=False)
            ]
        )
        self.up = nn.ModuleList([conv_block(coarse + fine, fine) for fine, coarse in pairwise(widths)])
        self.last = nn.Conv2d(widths[0], channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        stages = []
        for stage in self.down:
            images = stage(images)
            stages.append(images)
        merged = stages[-1]
        for block, fine in zip(reversed(self.up), reversed(stages[:-1]), strict=True):
            wide = functional.interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = block(torch.cat([wide, fine], 1))
        return functional.interpolate(self.last(merged), scale_factor=2.0, mode="bilinear", align_corners=False)


class _Shipped(nn.Module):
    """The exported graph: a probability for one class; logits, background first, for several."""

    def __init__(self, network: nn.Module, *, single: bool) -> None:
        super().__init__()
        self.network, self.single = network, single

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        if self.single:
            return logits.sigmoid()
        # Decoders take values that all lie in [0, 1] for probabilities. The same shift everywhere changes no softmax.
        return logits - logits.amax((1, 2, 3), keepdim=True) - 1


@dataclass(frozen=True)
class _Samples:
    images: tuple[LabelledImage, ...]
    pixels: Tensor  # (N, 3, H, W) uint8, RGB
    rings: tuple[tuple[tuple[outlines.Ring, int], ...], ...]  # by image: outlines in network pixels, and their values


class Semantic(Task):
    """Data, loss, evaluation and export graph of the semantic segmenter."""

    input_names, output_names = ("input",), ("output",)
    key_metric = "mIoU"

    def network(self) -> nn.Module:
        """Return the untrained network."""
        channels = 1 if len(self.classes) == 1 else len(self.classes) + 1
        return Network(channels, self.settings.size.channel_factor)

    def samples(self, images: Sequence[LabelledImage]) -> _Samples:
        """Decode and resize the images once."""
        size = self.settings.height, self.settings.width
        rings = tuple(self._rings(image, *size) for image in images)
        return _Samples(tuple(images), pixels.stretched(images, *size), rings)

    def _rings(self, image: LabelledImage, height: int, width: int) -> tuple[tuple[outlines.Ring, int], ...]:
        values = [self.classes.index(shape.name) + 1 for shape in image.shapes]
        return tuple(zip(outlines.fitted_rings(image, height, width), values, strict=True))

    def batch(self, samples: _Samples, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented, normalised images and their label maps (N, H, W), 0 is background."""
        size = self.settings.height, self.settings.width
        motion = pixels.draw(rng, len(rows), pixels.Augmentation())
        images = pixels.warp(pixels.recolour(samples.pixels[rows].float(), rng), motion, pixels.imagenet_grey())
        maps = []
        for row, number in enumerate(rows.tolist()):
            rings = [(outlines.moved(ring, motion, row, *size), value) for ring, value in samples.rings[number]]
            maps.append(outlines.label_map(rings, *size))
        return pixels.imagenet_normalised(images), torch.from_numpy(np.stack(maps))

    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return cross entropy + dice over the classes, background left out of the dice."""
        logits = network(images)
        if len(self.classes) == 1:
            wanted = targets.unsqueeze(1).float()
            return functional.binary_cross_entropy_with_logits(logits, wanted) + _dice(logits.sigmoid(), wanted)
        wanted = functional.one_hot(targets, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].float()
        return functional.cross_entropy(logits, targets) + _dice(logits.softmax(1)[:, 1:], wanted)

    def evaluate(self, network: nn.Module, samples: _Samples) -> Metrics:
        """Return mIoU and its parts from the confusion matrix (rows: label, columns: answer) of the images' pixels."""
        count = len(self.classes) + 1
        confusion = np.zeros((count, count), np.int64)
        for start in range(0, len(samples.images), _EVALUATED_AT_ONCE):
            end = start + _EVALUATED_AT_ONCE
            with torch.no_grad():
                logits = network(pixels.imagenet_normalised(samples.pixels[start:end]))
            for image, one in zip(samples.images[start:end], logits, strict=True):
                confusion += self._confusion(image, one.unsqueeze(0))
        return scores(confusion, self.classes, len(samples.images))

    def _confusion(self, image: LabelledImage, logits: Tensor) -> Any:
        size = scored_size(image)
        chances = logits.sigmoid() if len(self.classes) == 1 else logits.softmax(1)
        wide = functional.interpolate(chances, size, mode="bilinear", align_corners=False)[0]
        answer = ((wide[0] > 0.5).long() if len(self.classes) == 1 else wide.argmax(0)).numpy()
        count = len(self.classes) + 1
        pairs = outlines.label_map(self._rings(image, *size), *size) * count + answer
        return np.bincount(pairs.ravel(), minlength=count * count).reshape(count, count)

    def shipped(self, network: nn.Module) -> nn.Module:
        """Return the graph to export."""
        return _Shipped(network, single=len(self.classes) == 1).eval()

    def example(self, samples: _Samples) -> Tensor:
        """Return one real input of the exported graph."""
        return pixels.imagenet_normalised(samples.pixels[:1])


def _dice(chances: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean over the classes of 1 - dice, each measured over the whole batch."""
    common, both = (chances * wanted).sum((0, 2, 3)), (chances + wanted).sum((0, 2, 3))
    return (1 - (2 * common + 1) / (both + 1)).mean()


def scores(confusion: Any, classes: Sequence[str], images: int) -> Metrics:
    """Return the metrics of a confusion matrix (classes + 1, classes + 1), background first."""
    common, labelled, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    iou = common / np.maximum(1, labelled + answered - common)
    # A class that no image shows has nothing to be measured on.
    per_class = {name: float(iou[k]) if labelled[k] else None for k, name in enumerate(classes, 1)}
    measured = [value for value in per_class.values() if value is not None]
    return {
        "mIoU": float(np.mean(measured)) if measured else None,
        "background_IoU": float(iou[0]),
        "pixel_accuracy": float(common.sum() / confusion.sum()),
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
        "evaluated_images": images,
    }


task = Semantic
