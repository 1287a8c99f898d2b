"""The `rfdetr_detection` task: a small detector with the vendor's RF-DETR output contract."""

# mypy: disable-error-code="misc"
# (torch is checked without its types here, so every nn.Module is a subclass of Any)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sandbox.datasets import LabelledImage
from sandbox.training import pixels
from sandbox.training.boxes import Assignment, assign, overlap, padded_targets
from sandbox.training.detections import Found, non_maximum_suppression, score_boxes
from sandbox.training.nets import grid_cells
from sandbox.training.queries import STRIDES, BestQueries, Layout, QueryNetwork, as_ranked, corners
from sandbox.training.recipes import Settings
from sandbox.training.task import Metrics, Task

Tensor = Any
_NMS_IOU = 0.5
_LOWEST_SCORE = 0.01
_EVALUATED_AT_ONCE = 32


class _Shipped(nn.Module):
    """The exported graph: boxes and logits of the best queries."""

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.network, self.best = network, BestQueries(layout)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, labels = self.best(self.best.chosen(self.network(images)))
        return boxes, labels


@dataclass(frozen=True)
class Samples:
    """Prepared images of one split."""

    images: tuple[LabelledImage, ...]
    pixels: Tensor  # (N, 3, H, W) uint8, RGB
    boxes: Tensor  # (N, G, 4) network pixels
    labels: Tensor  # (N, G)


class RfdetrDetection(Task):
    """Data, loss, evaluation and export graph of the detector."""

    input_names = ("input",)
    output_names: ClassVar[tuple[str, ...]] = ("dets", "labels")
    key_metric = "mAP50"

    def __init__(self, classes: Sequence[str], settings: Settings) -> None:
        super().__init__(classes, settings)
        self.layout = self._layout()
        self._cells = grid_cells(settings.height, settings.width, STRIDES)

    def _layout(self) -> Layout:
        settings = self.settings
        factor = settings.size.channel_factor
        return Layout(settings.height, settings.width, len(self.classes), channel_factor=factor)

    def network(self) -> nn.Module:
        """Return the untrained network."""
        return QueryNetwork(self.layout)

    def samples(self, images: Sequence[LabelledImage]) -> Samples:
        """Decode and resize the images once."""
        height, width = self.settings.height, self.settings.width
        scales = [(width / image.width, height / image.height) for image in images]
        boxes, labels = padded_targets(images, self.classes, scales)
        return Samples(tuple(images), pixels.stretched(images, height, width), boxes, labels)

    def batch(self, samples: Samples, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Any]:
        """Return augmented, normalised images and their boxes and labels."""
        motion = pixels.draw(rng, len(rows), pixels.Augmentation())
        images = pixels.warp(pixels.recolour(samples.pixels[rows].float(), rng), motion, pixels.imagenet_grey())
        boxes, labels = samples.boxes[rows], samples.labels[rows]
        moved = pixels.move_boxes(boxes, labels, motion, self.settings.height, self.settings.width)
        return pixels.imagenet_normalised(images), moved

    def loss(self, network: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return 5 * (1 - GIoU) + 2.5 * varifocal, by positive cell."""
        return self._box_loss(network(images), *targets)[0]

    def _box_loss(self, rows: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Assignment]:
        logits = rows[..., 4 : 4 + len(self.classes)]
        cells = self._cells.to(rows.device)
        predicted = corners(rows, cells)
        given = assign(predicted, _class_cost(logits, labels), cells, boxes, labels)
        chosen, image = given.positive, given.positive.nonzero()[:, 0]
        owner = given.target[chosen]
        _, giou = overlap(predicted[chosen], boxes[image, owner])
        wanted = torch.zeros_like(logits)
        wanted[chosen] = functional.one_hot(labels[image, owner], len(self.classes)) * given.iou[chosen].unsqueeze(1)
        return (5 * (1 - giou).sum() + 2.5 * _varifocal(logits, wanted)) / max(1, len(image)), given

    def evaluate(self, network: nn.Module, samples: Samples) -> Metrics:
        """Return COCO precision and recall on the images' own pixels."""
        found = [self._found(image, *outputs) for image, outputs in self._answers(network, samples)]
        return score_boxes(samples.images, found, self.classes)

    def _answers(self, network: nn.Module, samples: Samples) -> Iterator[tuple[LabelledImage, list[Tensor]]]:
        """Yield every image with its row of each output of the exported graph."""
        shipped = self.shipped(network)
        for start in range(0, len(samples.images), _EVALUATED_AT_ONCE):
            end = start + _EVALUATED_AT_ONCE
            with torch.no_grad():
                outputs = shipped(pixels.imagenet_normalised(samples.pixels[start:end]))
            for row, image in enumerate(samples.images[start:end]):
                yield image, [output[row] for output in outputs]

    def _found(self, image: LabelledImage, boxes: Tensor, labels: Tensor) -> Found:
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        size = torch.tensor([image.width, image.height] * 2, dtype=torch.float32)
        edges = torch.minimum((torch.cat([middle - half, middle + half], 1) * size).clamp(min=0), size)
        return non_maximum_suppression(edges.numpy(), labels[:, :-1].sigmoid().numpy(), _NMS_IOU, _LOWEST_SCORE)

    def shipped(self, network: nn.Module) -> nn.Module:
        """Return the graph to export."""
        return _Shipped(network, self.layout).eval()

    def in_same_order(self, expected: Sequence[Any], actual: Sequence[Any]) -> Sequence[Any]:
        """Return the file's queries in the order of the network's."""
        return as_ranked(list(expected), list(actual))

    def example(self, samples: Samples) -> Tensor:
        """Return one real input of the exported graph."""
        return pixels.imagenet_normalised(samples.pixels[:1])


def _varifocal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the summed BCE towards IoU-aware targets; background weighs the less the surer it is."""
    with torch.no_grad():
        weight = torch.where(wanted > 0, wanted, logits.sigmoid() ** 1.5)
    return (functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight).sum()


def _class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the BCE (B, G, A) of every cell's class probabilities against every object's class."""
    with torch.no_grad():
        absent = functional.softplus(logits).sum(-1).unsqueeze(1)  # what it costs to ask for no class
        chosen = labels.clamp(min=0).unsqueeze(2).expand(-1, -1, logits.shape[1])
        return absent - logits.transpose(1, 2).gather(1, chosen)


task = RfdetrDetection
