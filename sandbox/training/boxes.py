"""Box arithmetic and label assignment for the detectors, on batches padded to the same number of objects.

Shapes: B images, G objects (label -1 is padding), A cells. Boxes are corners x1, y1, x2, y2 in network pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sandbox.datasets import LabelledImage

Tensor = Any
_FAR = 1e6  # cost of a cell that may not be assigned
_CENTRE_RADIUS = 1.5  # in strides
_MOST_CELLS = 10


def padded_targets(
    images: Sequence[LabelledImage], classes: Sequence[str], scales: Sequence[tuple[float, float]]
) -> tuple[Tensor, Tensor]:
    """Return boxes (B, G, 4) float32, multiplied by each image's (x, y) scale, and labels (B, G) int64."""
    most = max((len(image.shapes) for image in images), default=0)
    boxes = torch.zeros(len(images), max(1, most), 4)
    labels = torch.full(boxes.shape[:2], -1, dtype=torch.int64)
    for row, (image, (scale_x, scale_y)) in enumerate(zip(images, scales, strict=True)):
        for column, shape in enumerate(image.shapes):
            x, y, w, h = shape.box
            corners = (x * scale_x, y * scale_y, (x + w) * scale_x, (y + h) * scale_y)
            boxes[row, column] = torch.tensor(corners)
            labels[row, column] = classes.index(shape.name)
    return boxes, labels


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU of broadcastable (..., 4) corner boxes."""
    inner = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    outer = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    area, other = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (first, second))
    common, hull = inner.prod(-1), outer.prod(-1)
    union = (area + other - common).clamp(min=1e-6)
    iou = common / union
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


@dataclass(frozen=True)
class Assignment:
    """Which cells answer for which object: (B, A) mask, object index and IoU with it."""

    positive: Tensor
    target: Tensor
    iou: Tensor


def assign(predicted: Tensor, class_cost: Tensor, cells: Tensor, boxes: Tensor, labels: Tensor) -> Assignment:
    """Assign cells by optimal transport, simplified (SimOTA).

    A cell within 1.5 strides of an object's centre is a candidate; each object takes its k cheapest, k being the sum
    of its ten best IoUs; a cell wanted twice goes to the cheaper object.

    Args:
        predicted: (B, A, 4) decoded boxes.
        class_cost: (B, G, A) classification cost of every pair.
        cells: (A, 3) from `grid_cells`, on the device of the rest.
        boxes: (B, G, 4) objects.
        labels: (B, G) classes, -1 for padding.
    """
    with torch.no_grad():
        iou, _ = overlap(predicted.unsqueeze(1), boxes.unsqueeze(2))
        points = (cells[:, :2] + 0.5) * cells[:, 2:]
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        distance = (points - centres.unsqueeze(2)).abs().amax(-1)
        allowed = (distance < _CENTRE_RADIUS * cells[:, 2]) & (labels >= 0).unsqueeze(2)
        iou = torch.where(allowed, iou, torch.zeros_like(iou))
        cost = class_cost - 3 * torch.log(iou + 1e-8) + _FAR * ~allowed
        most = min(_MOST_CELLS, cost.shape[2])
        wanted = iou.topk(most, dim=2).values.sum(2).int().clamp(min=1)
        price, cheapest = cost.topk(most, dim=2, largest=False)
        taken = (torch.arange(most, device=wanted.device) < wanted.unsqueeze(2)) & (price < _FAR / 2)
        matched = torch.zeros_like(cost, dtype=torch.bool).scatter_(2, cheapest, taken)
        target = torch.where(matched, cost, torch.full_like(cost, 2 * _FAR)).argmin(1)
        own = iou.gather(1, target.unsqueeze(1)).squeeze(1)
        return Assignment(matched.any(1), target, own)
