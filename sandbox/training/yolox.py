"""The `yolox` task: a small anchor-free detector with the vendor's YOLOX output contract."""

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
from sandbox.training.boxes import assign, overlap, padded_targets
from sandbox.training.detections import Found, non_maximum_suppression, score_boxes
from sandbox.training.nets import Backbone, Pyramid, conv_block, grid_cells, scaled
from sandbox.training.queries import CHANNELS, RARE, RESIDUALS, STRIDES, WIDTHS, boxes_around
from sandbox.training.recipes import Settings
from sandbox.training.task import Metrics, Task

Tensor = Any
_NMS_IOU = 0.45
_LOWEST_SCORE = 0.01


class _Head(nn.Module):
    """Decoupled head of one level: boxes and objectness from one branch, classes from another."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.box_branch, self.class_branch = conv_block(channels, channels), conv_block(channels, channels)
        self.box = nn.Conv2d(channels, 5, 1)
        self.classes = nn.Conv2d(channels, classes, 1)
        nn.init.constant_(self.box.bias[4:], RARE)
        nn.init.constant_(self.classes.bias, RARE)

    def forward(self, level: Tensor) -> Tensor:
        """Return (N, 5 + C, h, w)."""
        return torch.cat([self.box(self.box_branch(level)), self.classes(self.class_branch(level))], 1)


class Network(nn.Module):
    """Images (N, 3, H, W), BGR, [0, 255] to logits (N, cells, 5 + C): dx, dy, log w, log h, objectness, classes."""

    def __init__(self, classes: int, channel_factor: float = 1.0) -> None:
        super().__init__()
        widths, channels = [scaled(width, channel_factor) for width in WIDTHS], scaled(CHANNELS, channel_factor)
        self.backbone = Backbone(widths, RESIDUALS)
        self.pyramid = Pyramid(widths[2:], channels)
        # One head a level: shared batch statistics would mix levels and cost half the precision.
        self.heads = nn.ModuleList([_Head(classes, channels) for _ in STRIDES])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every cell, by stride, then row, then column."""
        levels = self.pyramid(self.backbone((images - pixels.LETTERBOX_GREY) / 64)[2:])
        outputs = [head(level).flatten(2) for head, level in zip(self.heads, levels, strict=True)]
        return torch.cat(outputs, 2).permute(0, 2, 1)


class _Shipped(nn.Module):
    """The exported graph: objectness and class scores leave it as probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return torch.cat([logits[..., :4], logits[..., 4:].sigmoid()], -1)


@dataclass(frozen=True)
class _Samples:
    images: tuple[LabelledImage, ...]
    pixels: Tensor  # (N, 3, H, W) uint8, RGB
    boxes: Tensor  # (N, G, 4) network pixels
    labels: Tensor  # (N, G)


class Yolox(Task):
    """Data, loss, evaluation and export graph of the detector."""

    input_names, output_names = ("images",), ("output",)
    key_metric = "mAP50"

    def __init__(self, classes: Sequence[str], settings: Settings) -> None:
        super().__init__(classes, settings)
        self._cells = grid_cells(settings.height, settings.width, STRIDES)

    def network(self) -> nn.Module:
        """Return the untrained network."""
        return Network(len(self.classes), self.settings.size.channel_factor)

    def samples(self, images: Sequence[LabelledImage]) -> _Samples:
        """Decode and letterbox the images once."""
        size = self.settings.height, self.settings.width
        ratios = [pixels.letterbox_ratio(image, *size) for image in images]
        boxes, labels = padded_targets(images, self.classes, [(ratio, ratio) for ratio in ratios])
        return _Samples(tuple(images), pixels.letterboxed(images, *size), boxes, labels)

    def batch(self, samples: _Samples, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return augmented images (BGR, [0, 255]) and their boxes and labels."""
        motion = pixels.draw(rng, len(rows), pixels.Augmentation())
        grey = torch.tensor(pixels.LETTERBOX_GREY)
        images = pixels.warp(pixels.recolour(samples.pixels[rows].float(), rng), motion, grey)
        boxes, labels = samples.boxes[rows], samples.labels[rows]
        return images.flip(1), pixels.move_boxes(boxes, labels, motion, self.settings.height, self.settings.width)

    def loss(self, network: nn.Module, images: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Return 5 * (1 - GIoU) + objectness BCE + IoU-weighted class BCE, by positive cell."""
        boxes, labels = targets
        logits = network(images)
        predicted = self._corners(logits)
        cells = self._cells.to(logits.device)
        given = assign(predicted, self._class_cost(logits, labels), cells, boxes, labels)
        rows = given.positive.nonzero()[:, 0]
        owner = given.target[given.positive]
        _, giou = overlap(predicted[given.positive], boxes[rows, owner])
        wanted = functional.one_hot(labels[rows, owner], len(self.classes)).float()
        wanted = wanted * given.iou[given.positive].unsqueeze(1)
        class_loss = functional.binary_cross_entropy_with_logits(logits[given.positive][:, 5:], wanted, reduction="sum")
        object_loss = functional.binary_cross_entropy_with_logits(
            logits[..., 4], given.positive.float(), reduction="sum"
        )
        return (5 * (1 - giou).sum() + object_loss + class_loss) / max(1, len(rows))

    def evaluate(self, network: nn.Module, samples: _Samples) -> Metrics:
        """Return COCO precision and recall on the images' own pixels."""
        shipped = self.shipped(network)
        found: list[Found] = []
        with torch.no_grad():
            for start in range(0, len(samples.images), 32):
                images = samples.pixels[start : start + 32].flip(1).float()
                outputs = shipped(images)
                corners = self._corners(outputs).numpy()
                scores = (outputs[..., 4:5] * outputs[..., 5:]).numpy()
                for image, box, score in zip(samples.images[start : start + 32], corners, scores, strict=True):
                    ratio = pixels.letterbox_ratio(image, self.settings.height, self.settings.width)
                    found.append(non_maximum_suppression(box / ratio, score, _NMS_IOU, _LOWEST_SCORE))
        return score_boxes(samples.images, found, self.classes)

    def shipped(self, network: nn.Module) -> nn.Module:
        """Return the graph to export."""
        return _Shipped(network).eval()

    def example(self, samples: _Samples) -> Tensor:
        """Return one real input of the exported graph."""
        return samples.pixels[:1].flip(1).float()

    def _corners(self, logits: Tensor) -> Tensor:
        """Decode (N, A, 5 + C) logits to (N, A, 4) corner boxes in network pixels."""
        cells = self._cells.to(logits.device)
        stride = cells[:, 2:]
        return boxes_around((logits[..., :2] + cells[:, :2]) * stride, logits, stride)

    def _class_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the BCE (B, G, A) of every cell's joint probability against every object's class."""
        with torch.no_grad():
            chance = (logits[..., 5:].sigmoid() * logits[..., 4:5].sigmoid()).sqrt().clamp(1e-7, 1 - 1e-7)
            absent = -torch.log1p(-chance)
            change = (-chance.log() - absent).transpose(1, 2)  # (B, C, A): what asking for this class changes
            chosen = labels.clamp(min=0).unsqueeze(2).expand(-1, -1, change.shape[2])
            return absent.sum(-1).unsqueeze(1) + change.gather(1, chosen)


task = Yolox
