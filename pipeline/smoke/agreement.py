"""Count how many of a picture's labels the model found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.models import LabelledBox, ModelTask, Prediction, SamplePicture

MIN_IOU = 0.5
"""Least overlap at which a predicted box counts as the labelled one."""
MIN_COVER = 0.5
"""Least share of a region on labels, and of a label under regions, for semantic models."""
CANVAS_SIDE = 256
"""Side of the canvas on which regions are compared, in cells."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Tally:
    """Labels on a picture and how many of them were found."""

    expected: int
    found: int


def count_found(task: ModelTask, sample: SamplePicture, predictions: Sequence[Prediction]) -> Tally:
    """Compare predictions, best first, with a picture's labels.

    Boxes count when class and place agree, each prediction for one label at most. A semantic model sees touching
    objects as one region and split ones as several, so there a label counts when regions that lie on labels cover it.
    A classifier is right when its best class is one of the picture's tags.
    """
    if task is ModelTask.CLASSIFICATION:
        right = bool(predictions) and predictions[0].name in sample.tags
        return Tally(min(1, len(sample.tags)), int(right))
    if task is ModelTask.SEMANTIC_SEGMENTATION:
        names = {label.name for label in sample.boxes}
        found = sum(_count_covered(name, sample.boxes, predictions) for name in sorted(names))
        return Tally(len(sample.boxes), found)
    return Tally(len(sample.boxes), _count_matched(sample.boxes, predictions))


def box_iou(one: Box, other: Box) -> float:
    """Return intersection over union of two x, y, width, height boxes."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def _count_matched(labels: Sequence[LabelledBox], predictions: Sequence[Prediction]) -> int:
    """Give each prediction, best first, the free label of its class it overlaps most."""
    free = list(labels)
    for prediction in predictions:
        if prediction.box is None:
            continue
        rivals = [(box_iou(prediction.box, label.box), label) for label in free if label.name == prediction.name]
        best = max(rivals, key=lambda rival: rival[0], default=None)
        if best is not None and best[0] >= MIN_IOU:
            free.remove(best[1])
    return len(labels) - len(free)


def _count_covered(name: str, labels: Sequence[LabelledBox], predictions: Sequence[Prediction]) -> int:
    boxes = [label.box for label in labels if label.name == name]
    regions = [seen.box for seen in predictions if seen.name == name and seen.box is not None]
    extent = max(max(x + width, y + height) for x, y, width, height in [*boxes, *regions])
    scale = CANVAS_SIDE / max(extent, 1.0)
    labelled = _paint(boxes, scale)
    trusted = [box for box in regions if _share(box, labelled, scale) >= MIN_COVER]
    seen = _paint(trusted, scale)
    return sum(_share(box, seen, scale) >= MIN_COVER for box in boxes)


def _paint(boxes: Sequence[Box], scale: float) -> NDArray[np.bool_]:
    canvas = np.zeros((CANVAS_SIDE, CANVAS_SIDE), dtype=np.bool_)
    for box in boxes:
        canvas[_cells(box, scale)] = True
    return canvas


def _share(box: Box, canvas: NDArray[np.bool_], scale: float) -> float:
    """Return the share of the box's cells that are set."""
    return float(canvas[_cells(box, scale)].mean())


def _cells(box: Box, scale: float) -> tuple[slice, slice]:
    """Return rows and columns of a box on the canvas, at least one cell."""
    x, y, width, height = (value * scale for value in box)
    left, top = (min(max(0, int(value)), CANVAS_SIDE - 1) for value in (x, y))
    right, bottom = round(x + width), round(y + height)
    return slice(top, max(top + 1, bottom)), slice(left, max(left + 1, right))
