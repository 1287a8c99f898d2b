"""The `rfdetr_segmentation` task: the detector plus a mask for each query, mixed from shared prototypes."""

# mypy: disable-error-code="misc"
# (torch is checked without its types here, so every nn.Module is a subclass of Any)

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sandbox.datasets import LabelledImage
from sandbox.training import mask_scores, outlines, pixels, rfdetr
from sandbox.training.boxes import Assignment
from sandbox.training.nets import conv_block, scaled
from sandbox.training.queries import BestQueries, Layout, QueryNetwork
from sandbox.training.task import Metrics

Tensor = Any
PROTOTYPES = 16
_CHANNELS = 32  # of the map the prototypes are made from
_STRIDE = 4
_OUTSIDE = -12.0  # a decoder takes every positive blob for a part of the object
_MARGIN = 0.5  # cells kept around a box, so that its border does not cut the mask
_MOST_MASKS = 96  # positives of a batch that are looked at for their masks


class Network(QueryNetwork):
    """Rows as the detector's with mask coefficients, and prototypes (N, K, H / 4, W / 4)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        channels = scaled(_CHANNELS, layout.channel_factor)
        self.fine, self.wide = conv_block(layout.widths[1], channels, 1), conv_block(layout.channels, channels, 1)
        self.prototypes = nn.Sequential(conv_block(channels, channels), nn.Conv2d(channels, PROTOTYPES, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows and prototypes."""
        fine, levels = self.features(images)
        wide = functional.interpolate(self.wide(levels[0]), scale_factor=2.0, mode="nearest")
        return self.rows(levels), self.prototypes(self.fine(fine) + wide)


class _Shipped(nn.Module):
    """The exported graph: boxes, logits and masks of the best queries."""

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.network, self.best = network, BestQueries(layout)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, prototypes = self.network(images)
        queries = self.best.chosen(rows)
        boxes, labels = self.best(queries)
        height, width = prototypes.shape[2:]
        masks = _mixed(queries.coefficients, prototypes.flatten(2)).unflatten(2, (height, width))
        inside = _inside(queries.boxes, height, width)
        return boxes, labels, torch.where(inside, masks, torch.full_like(masks, _OUTSIDE))


def _mixed(coefficients: Tensor, prototypes: Tensor) -> Tensor:
    """Return mask logits (N, Q, cells) from coefficients (N, Q, K + 1), the last one a bias, and (N, K, cells)."""
    return coefficients[..., :-1] @ prototypes + coefficients[..., -1:]


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return (..., height, width) bool: cells whose middle lies in the (..., 4) box, or just outside."""
    counts = (torch.arange(count, dtype=torch.float32, device=boxes.device) for count in (width, height))
    x, y = ((count + 0.5) * _STRIDE for count in counts)
    left, top, right, bottom = (boxes[..., None, side].unsqueeze(-1) for side in range(4))
    margin = _MARGIN * _STRIDE
    across = (x > left - margin) & (x < right + margin)
    down = (y.unsqueeze(1) > top - margin) & (y.unsqueeze(1) < bottom + margin)
    return across & down


@dataclass(frozen=True)
class _Samples(rfdetr.Samples):
    rings: tuple[tuple[outlines.Ring, ...], ...]  # by image, then as the boxes


class RfdetrSegmentation(rfdetr.RfdetrDetection):
    """Data, loss, evaluation and export graph of the instance segmenter."""

    output_names = ("dets", "labels", "masks")
    attention: ClassVar[bool] = True
    """Whether the network has the transformer encoder."""

    def _layout(self) -> Layout:
        return replace(super()._layout(), coefficients=PROTOTYPES + 1, attention=self.attention)

    def network(self) -> nn.Module:
        """Return the untrained network."""
        return Network(self.layout)

    def samples(self, images: Sequence[LabelledImage]) -> _Samples:
        """Decode and resize the images once."""
        plain = super().samples(images)
        size = self.settings.height, self.settings.width
        rings = tuple(outlines.fitted_rings(image, *size) for image in images)
        return _Samples(plain.images, plain.pixels, plain.boxes, plain.labels, rings)

    def batch(self, samples: Any, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Any]:
        """Return augmented, normalised images and their boxes, labels and masks (N, G, H / 4, W / 4) in [0, 1]."""
        size = self.settings.height, self.settings.width
        motion = pixels.draw(rng, len(rows), pixels.Augmentation())
        images = pixels.warp(pixels.recolour(samples.pixels[rows].float(), rng), motion, pixels.imagenet_grey())
        boxes, labels = pixels.move_boxes(samples.boxes[rows], samples.labels[rows], motion, *size)
        masks = np.zeros((*labels.shape, size[0] // _STRIDE, size[1] // _STRIDE), np.float32)
        for row, column in (labels >= 0).nonzero().tolist():
            ring = outlines.moved(samples.rings[int(rows[row])][column], motion, row, *size)
            masks[row, column] = outlines.coverage(ring, *size, _STRIDE)
        return pixels.imagenet_normalised(images), (boxes, labels, torch.from_numpy(masks))

    def loss(self, network: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the detector's loss plus 2 * (BCE + dice) of the masks inside their boxes."""
        boxes, labels, masks = targets
        rows, prototypes = network(images)
        box_loss, given = self._box_loss(rows, boxes, labels)
        return box_loss + 2 * _mask_loss(rows[..., 4 + len(self.classes) :], prototypes, given, boxes, masks)

    def evaluate(self, network: nn.Module, samples: Any) -> Metrics:
        """Return COCO precision and recall of the masks on the images' own pixels, and mAP50 of the boxes."""
        found, masks = [], []
        for image, (boxes, labels, logits) in self._answers(network, samples):
            one = self._found(image, boxes, labels)
            found.append(one)
            masks.append(mask_scores.encoded(image, logits[torch.from_numpy(one.rows)]))
        return mask_scores.score_masks(samples.images, found, masks, self.classes)

    def shipped(self, network: nn.Module) -> nn.Module:
        """Return the graph to export."""
        return _Shipped(network, self.layout).eval()


def _mask_loss(coefficients: Tensor, prototypes: Tensor, given: Assignment, boxes: Tensor, masks: Tensor) -> Tensor:
    """Return BCE + dice, averaged over at most 96 positives drawn from the batch."""
    image, cell = given.positive.nonzero().unbind(1)
    if not len(image):
        return prototypes.sum() * 0
    drawn = torch.randperm(len(image))[:_MOST_MASKS].to(image.device)
    image, cell = image[drawn], cell[drawn]
    owner = given.target[image, cell]
    wanted = masks[image, owner].flatten(1)
    height, width = masks.shape[2:]
    inside = _inside(boxes[image, owner], height, width).flatten(1).float()
    flat = prototypes.flatten(2)[image]  # (P, K, cells)
    logits = _mixed(coefficients[image, cell].unsqueeze(1), flat).squeeze(1)
    area = inside.sum(1).clamp(min=1)
    wrong = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    chance, wanted = logits.sigmoid() * inside, wanted * inside
    dice = 1 - (2 * (chance * wanted).sum(1) + 1) / (chance.sum(1) + wanted.sum(1) + 1)
    return ((wrong * inside).sum(1) / area + dice).mean()


task = RfdetrSegmentation
