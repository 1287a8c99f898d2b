"""Found objects: suppression of doubles, and their score against the labels. Numpy and pycocotools only.

Boxes are x1, y1, x2, y2 in pixels of the original image.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sandbox.datasets import LabelledImage

Floats = NDArray[np.floating[Any]]
_MOST_FOUND = 100
_CONFIDENCE = 0.5
_MATCH_IOU = 0.5


@dataclass(frozen=True)
class Found:
    """The detections of one image, best first: boxes (K, 4), scores (K,), labels (K,), candidate rows (K,)."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.intp]
    rows: NDArray[np.intp] | None = None


def pair_iou(first: Floats, second: Floats) -> Floats:
    """Return the IoU (N, M) of every pair."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas, others = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (first, second))
    result: Floats = common / np.maximum(areas[:, None] + others[None] - common, 1e-9)
    return result


def non_maximum_suppression(boxes: Floats, scores: Floats, iou: float, lowest: float) -> Found:
    """Keep the best of overlapping boxes of the same class; each box has its best class of scores (A, C)."""
    labels, best = scores.argmax(1), scores.max(1)
    order = np.argsort(-best, kind="stable")
    order = order[best[order] > lowest][:1000]
    boxes, best, labels = boxes[order], best[order], labels[order]
    rivals = (pair_iou(boxes, boxes) > iou) & (labels[:, None] == labels[None])
    kept: list[int] = []
    for row in range(len(boxes)):
        if not rivals[row, kept].any():
            kept.append(row)
    kept = kept[:_MOST_FOUND]
    return Found(boxes[kept], best[kept], labels[kept], order[kept])


def score_boxes(images: Sequence[LabelledImage], found: Sequence[Found], classes: Sequence[str]) -> dict[str, Any]:
    """Return mAP, mAP50, AP50 by class, and precision and recall at confidence 0.5 and IoU 0.5."""
    precision = coco_precision(_coco_truth(images, classes), _coco_rows(found), "bbox")
    overlaps = [_overlaps(image, one) for image, one in zip(images, found, strict=True)]
    return summary(precision, overlaps, images, found, classes)


def summary(
    precision: Floats,
    overlaps: Sequence[Floats],
    images: Sequence[LabelledImage],
    found: Sequence[Found],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Return the metrics of `score_boxes` from COCO's precision and each image's IoU (found, labelled).

    Where no image carries a label there is nothing to be right or wrong about: every figure is None.
    """
    matched, predicted, actual = _matches(overlaps, images, found, classes)
    return {
        "mAP50": _mean(precision[0]),
        "mAP": _mean(precision),
        "precision": matched / max(1, predicted) if actual else None,
        "recall": matched / actual if actual else None,
        "per_class": {name: _mean(precision[0, :, index]) for index, name in enumerate(classes)},
        "evaluated_images": len(images),
    }


def _mean(precision: Floats) -> float | None:
    """Average what was measured; -1 marks a class without objects, None an average of nothing."""
    measured = precision[precision > -1]
    return round(float(measured.mean()), 6) if measured.size else None


def coco_precision(labelled: dict[str, Any], rows: list[dict[str, Any]], kind: Literal["bbox", "segm"]) -> Floats:
    """Return precision (IoU thresholds, recall steps, classes) of COCO result rows on a COCO document."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, count = COCO(), len(labelled["categories"])
    truth.dataset = labelled
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if not rows:
            present = {annotation["category_id"] for annotation in labelled["annotations"]}
            return np.broadcast_to(np.array([0.0 if k in present else -1.0 for k in range(count)]), (10, 101, count))
        evaluation = COCOeval(truth, truth.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
    precision: Floats = evaluation.eval["precision"][:, :, :, 0, -1]
    return precision


def _coco_truth(images: Sequence[LabelledImage], classes: Sequence[str]) -> dict[str, Any]:
    shapes = [(number, shape) for number, image in enumerate(images) for shape in image.shapes]
    return {
        "info": {},
        "images": [{"id": n, "width": image.width, "height": image.height} for n, image in enumerate(images)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes)],
        "annotations": [
            {
                "id": key,
                "image_id": number,
                "category_id": classes.index(shape.name),
                "bbox": list(shape.box),
                "area": shape.box[2] * shape.box[3],
                "iscrowd": 0,
            }
            for key, (number, shape) in enumerate(shapes, 1)
        ],
    }


def _coco_rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": number,
            "category_id": int(label),
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(score),
        }
        for number, one in enumerate(found)
        for (x1, y1, x2, y2), score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]


def _overlaps(image: LabelledImage, found: Found) -> Floats:
    truth = np.array([(x, y, x + w, y + h) for x, y, w, h in (shape.box for shape in image.shapes)])
    return pair_iou(found.boxes, truth.reshape(-1, 4))


def _matches(
    overlaps: Sequence[Floats], images: Sequence[LabelledImage], found: Sequence[Found], classes: Sequence[str]
) -> tuple[int, int, int]:
    """Count matched, predicted and actual objects; an object is matched once, by its most confident answer."""
    matched = predicted = actual = 0
    for overlap, image, one in zip(overlaps, images, found, strict=True):
        sure = one.scores >= _CONFIDENCE
        predicted, actual = predicted + int(sure.sum()), actual + len(image.shapes)
        if not image.shapes or not sure.any():
            continue
        labels = np.array([classes.index(shape.name) for shape in image.shapes])
        iou = overlap[sure] * (one.labels[sure][:, None] == labels)
        for row in iou:
            best = int(row.argmax())
            if row[best] >= _MATCH_IOU:
                matched += 1
                iou[:, best] = 0
    return matched, predicted, actual
