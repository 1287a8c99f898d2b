"""Found masks and their score against the labelled outlines, with pycocotools."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from sandbox.datasets import LabelledImage
from sandbox.training.detections import Found, coco_precision, score_boxes, summary
from sandbox.training.outlines import ring_of

Tensor = Any
Encoded = Any  # pycocotools' run-length encoding of one mask
_LONGEST_SIDE = 640  # larger images are scored scaled down to it


def scored_size(image: LabelledImage) -> tuple[int, int]:
    """Return the (height, width) at which an image's masks are compared."""
    scale = min(1.0, _LONGEST_SIDE / max(image.height, image.width))
    return max(1, round(image.height * scale)), max(1, round(image.width * scale))


def encoded(image: LabelledImage, logits: Tensor) -> list[Encoded]:
    """Resize mask logits (K, h, w) to the image as the vendor's decoder does and keep what is above 0."""
    from pycocotools import mask

    if not len(logits):
        return []
    wide = functional.interpolate(logits.unsqueeze(0), scored_size(image), mode="bilinear", align_corners=False)[0]
    flags = np.asfortranarray((wide > 0).permute(1, 2, 0).numpy().astype(np.uint8))
    return list(mask.encode(flags))


def score_masks(
    images: Sequence[LabelledImage], found: Sequence[Found], masks: Sequence[list[Encoded]], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the metrics of `score_boxes` measured on masks, and `box_mAP50`."""
    truth = [_outlines(image) for image in images]
    precision = coco_precision(_coco_truth(images, truth, classes), _coco_rows(found, masks), "segm")
    overlaps = [_overlaps(one, other) for one, other in zip(masks, truth, strict=True)]
    metrics = summary(precision, overlaps, images, found, classes)
    return {**metrics, "box_mAP50": score_boxes(images, found, classes)["mAP50"]}


def _outlines(image: LabelledImage) -> list[Encoded]:
    from pycocotools import mask

    height, width = scored_size(image)
    rings = [ring_of(shape, width / image.width, height / image.height).ravel().tolist() for shape in image.shapes]
    return list(mask.frPyObjects(rings, height, width)) if rings else []


def _overlaps(found: list[Encoded], labelled: list[Encoded]) -> NDArray[np.float64]:
    from pycocotools import mask

    if not found or not labelled:
        return np.zeros((len(found), len(labelled)))
    return np.asarray(mask.iou(found, labelled, [0] * len(labelled)))


def _coco_truth(
    images: Sequence[LabelledImage], truth: Sequence[list[Encoded]], classes: Sequence[str]
) -> dict[str, Any]:
    from pycocotools import mask

    pairs = [
        (number, shape.name, outline)
        for number, (image, outlines) in enumerate(zip(images, truth, strict=True))
        for shape, outline in zip(image.shapes, outlines, strict=True)
    ]
    sizes = [scored_size(image) for image in images]
    return {
        "info": {},
        "images": [{"id": n, "width": width, "height": height} for n, (height, width) in enumerate(sizes)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes)],
        "annotations": [
            {
                "id": key,
                "image_id": number,
                "category_id": classes.index(name),
                "segmentation": outline,
                "area": float(mask.area(outline)),
                "bbox": [float(value) for value in mask.toBbox(outline)],
                "iscrowd": 0,
            }
            for key, (number, name, outline) in enumerate(pairs, 1)
        ],
    }


def _coco_rows(found: Sequence[Found], masks: Sequence[list[Encoded]]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(label), "segmentation": outline, "score": float(score)}
        for number, (one, outlines) in enumerate(zip(found, masks, strict=True))
        for score, label, outline in zip(one.scores, one.labels, outlines, strict=True)
    ]
