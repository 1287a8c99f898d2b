"""Turn a model's raw outputs into predictions, family by family.

Pure numpy. Source: the provider's published decoder, checked 2026-11-20. Where that decoder is silent about an output
that cannot be right (a class column too few, scores that are not probabilities), this one refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pictures import (
    Size,
    bounded_size,
    letterbox,
    letterbox_ratio,
    resize_bilinear,
    stretch_normalised,
)
from pipeline.errors import ErrorContext, OutputCheckError
from pipeline.models import ModelTask, Prediction
from pipeline.smoke.regions import connected_regions

Array = NDArray[np.float32]

STRIDES = (8, 16, 32)
YOLOX_NMS_IOU = 0.45
RFDETR_NMS_IOU = 0.5
TOP_QUERIES = 300
PROBABILITY_SLACK = 1e-4
MASK_SIDE = 640
"""Longest side at which masks are worked out, in pixels; larger pictures are scaled to it."""


class Family(StrEnum):
    """Models whose outputs are read the same way."""

    YOLOX = "yolox"
    RFDETR_DETECTION = "rfdetr_detection"
    RFDETR_SEGMENTATION = "rfdetr_segmentation"
    SM_PYTORCH = "sm_pytorch"
    CLASSIFICATION = "classification"


@dataclass(frozen=True)
class Reading:
    """What is needed to read one picture's outputs."""

    family: Family
    """How to read them."""
    classes: tuple[str, ...]
    """Class names in label order."""
    input_size: Size
    """Height and width the model was fed."""
    picture_size: Size
    """Height and width of the original picture."""
    confidence: float = 0.5
    """Least confidence of a prediction; a classifier's best class is kept in any case."""


@dataclass(frozen=True)
class Detection:
    """A prediction and, where the model gives one, its mask."""

    prediction: Prediction
    mask: NDArray[np.bool_] | None = None
    """(h, w) over the whole picture, at most ``MASK_SIDE`` long."""


@dataclass(frozen=True)
class _Candidates:
    """Scored boxes: (N, 4) x1 y1 x2 y2 in pixels, (N,) scores, (N,) class numbers, (N,) rows they came from."""

    boxes: Array
    scores: Array
    class_ids: NDArray[np.intp]
    rows: NDArray[np.intp]

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> _Candidates:
        """Return the chosen ones, in the order chosen."""
        return _Candidates(self.boxes[chosen], self.scores[chosen], self.class_ids[chosen], self.rows[chosen])


def family_of(task: ModelTask, architecture: str | None) -> Family:
    """Choose how a model's outputs are read; instance segmentation has one contract for every architecture."""
    if task is ModelTask.OBJECT_DETECTION:
        is_yolox = (architecture or "").lower().startswith("yolox")
        return Family.YOLOX if is_yolox else Family.RFDETR_DETECTION
    return {
        ModelTask.INSTANCE_SEGMENTATION: Family.RFDETR_SEGMENTATION,
        ModelTask.SEMANTIC_SEGMENTATION: Family.SM_PYTORCH,
        ModelTask.CLASSIFICATION: Family.CLASSIFICATION,
    }[task]


def preprocess(family: Family, picture: NDArray[np.uint8], size: Size) -> Array:
    """Turn a (H, W, 3) uint8 RGB picture into the family's (1, 3, H, W) float32 input."""
    if family is Family.YOLOX:
        return letterbox(picture, size)
    return stretch_normalised(picture, size)


def decode(outputs: Sequence[NDArray[np.generic]], reading: Reading) -> tuple[Detection, ...]:
    """Read one picture's outputs, best prediction first, in pixels of the original picture.

    Raises:
        OutputCheckError: Shapes, class count or values do not fit the family.
    """
    if not outputs:
        raise _misfit(reading, "at least one output", "none")
    arrays = [_require_finite(output, number, reading) for number, output in enumerate(outputs)]
    return _DECODERS[reading.family](arrays, reading)


def non_maximum_suppression(
    boxes: Array, scores: Array, class_ids: NDArray[np.intp], iou_limit: float
) -> NDArray[np.intp]:
    """Return the rows that survive, best first; (N, 4) boxes suppress only boxes of their own class."""
    areas = np.maximum(0, boxes[:, 2] - boxes[:, 0]) * np.maximum(0, boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for class_id in np.unique(class_ids):
        rivals = np.flatnonzero(class_ids == class_id)
        rivals = rivals[np.argsort(-scores[rivals], kind="stable")]
        while rivals.size:
            best, rivals = int(rivals[0]), rivals[1:]
            kept.append(best)
            corner = np.maximum(boxes[best, :2], boxes[rivals, :2])
            overlap = np.maximum(0, np.minimum(boxes[best, 2:], boxes[rivals, 2:]) - corner).prod(axis=1)
            # Two boxes without any area would divide by zero.
            union = np.maximum(areas[best] + areas[rivals] - overlap, 1e-9)
            rivals = rivals[overlap / union <= iou_limit]
    survivors = np.array(kept, dtype=np.intp)
    return survivors[np.argsort(-scores[survivors], kind="stable")]


def _decode_yolox(outputs: list[Array], reading: Reading) -> tuple[Detection, ...]:
    rows = _require_rank(outputs[0], 3, "(1, anchors, 5 + classes)", reading)[0]
    _require_classes(rows.shape[1] - 5, f"{rows.shape[1]} columns", reading)
    grid, stride = _anchor_grid(reading.input_size)
    if len(rows) != len(grid):
        height, width = reading.input_size
        raise _misfit(reading, f"{len(grid)} anchors for an input of {height}x{width}", f"{len(rows)} anchors")
    if rows[:, 4:].min() < -PROBABILITY_SLACK or rows[:, 4:].max() > 1 + PROBABILITY_SLACK:
        span = f"{rows[:, 4:].min():.3g} to {rows[:, 4:].max():.3g}"
        raise _misfit(reading, "objectness and class scores already between 0 and 1", f"values from {span}")
    scores = np.clip(rows[:, 4:5] * rows[:, 5:], 0, 1)
    class_ids = scores.argmax(axis=1)
    best = scores[np.arange(len(rows)), class_ids]
    chosen = np.flatnonzero(best >= reading.confidence)
    with np.errstate(over="ignore"):
        halves = np.exp(rows[chosen, 2:4]) * stride[chosen] / 2
    centres = (rows[chosen, :2] + grid[chosen]) * stride[chosen]
    ratio = letterbox_ratio(reading.picture_size, reading.input_size)
    boxes = np.asarray(np.concatenate([centres - halves, centres + halves], axis=1) / ratio, dtype=np.float32)
    if not np.isfinite(boxes).all():
        raise _misfit(reading, "box sizes that are logarithms of pixels", "a box of infinite size")
    found = _Candidates(boxes, best[chosen], class_ids[chosen], chosen)
    kept = found.take(non_maximum_suppression(found.boxes, found.scores, found.class_ids, YOLOX_NMS_IOU))
    return tuple(Detection(prediction) for prediction in _to_predictions(kept, reading))


def _decode_rfdetr(outputs: list[Array], reading: Reading) -> tuple[Detection, ...]:
    kept = _read_queries(outputs, reading)
    return tuple(Detection(prediction) for prediction in _to_predictions(kept, reading))


def _decode_rfdetr_masks(outputs: list[Array], reading: Reading) -> tuple[Detection, ...]:
    kept = _read_queries(outputs, reading)
    stacks = [output for output in outputs if output.ndim == 4]
    queries = next(output for output in outputs if output.ndim == 3).shape[1]
    if not stacks or stacks[0].shape[:2] != (1, queries):
        came = str(stacks[0].shape) if stacks else "no output of rank 4"
        raise _misfit(reading, f"masks of shape (1, {queries}, h, w)", came)
    size = bounded_size(reading.picture_size, MASK_SIDE)
    masks = [resize_bilinear(stacks[0][0, row], size) > 0 for row in kept.rows]
    predictions = _to_predictions(kept, reading)
    return tuple(Detection(seen, mask) for seen, mask in zip(predictions, masks, strict=True))


def _read_queries(outputs: list[Array], reading: Reading) -> _Candidates:
    """Read boxes and logits, which are told apart by shape: the first output four wide holds the boxes."""
    tables = [output for output in outputs if output.ndim == 3]
    at = next((number for number, table in enumerate(tables) if table.shape[2] == 4), None)
    if at is None or len(tables) < 2:
        shapes = ", ".join(str(output.shape) for output in outputs)
        raise _misfit(reading, "boxes (1, queries, 4) and logits (1, queries, classes + 1)", shapes)
    boxes, logits = tables.pop(at), tables[0]
    if boxes.shape[0] != 1 or logits.shape[:2] != boxes.shape[:2]:
        raise _misfit(reading, f"logits for the {boxes.shape[1]} boxes of one picture", str(logits.shape))
    # The last column is the background; without it the last class would silently be lost.
    _require_classes(logits.shape[2] - 1, f"{logits.shape[2]} logit columns", reading)
    if np.median(np.abs(boxes[0, :, :2] - 0.5)) > 1.5:
        raise _misfit(reading, "box centres as shares of the picture, 0 to 1", f"centres up to {boxes.max():.3g}")
    found = _best_queries(boxes[0], _sigmoid(logits[0, :, :-1]), reading)
    return found.take(non_maximum_suppression(found.boxes, found.scores, found.class_ids, RFDETR_NMS_IOU))


def _best_queries(boxes: Array, scores: Array, reading: Reading) -> _Candidates:
    """Return the best queries above the threshold; boxes become corners in picture pixels."""
    class_ids = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), class_ids]
    rows = np.argsort(-best, kind="stable")[:TOP_QUERIES]
    rows = rows[best[rows] >= reading.confidence]
    height, width = reading.picture_size
    limits = np.array([width, height, width, height], dtype=np.float32)
    centres, halves = boxes[rows, :2], boxes[rows, 2:] / 2
    corners = np.concatenate([centres - halves, centres + halves], axis=1) * limits
    return _Candidates(np.minimum(np.maximum(corners, np.float32(0)), limits), best[rows], class_ids[rows], rows)


def _decode_semantic(outputs: list[Array], reading: Reading) -> tuple[Detection, ...]:
    maps = _require_rank(outputs[0], 4, "(1, channels, h, w)", reading)[0]
    channels, count = len(maps), len(reading.classes)
    if not (channels == count == 1 or channels == count + 1):
        _require_classes(1 if channels == 1 else channels - 1, f"{channels} channels", reading)
    size = bounded_size(reading.picture_size, MASK_SIDE)
    scores = _to_probabilities(np.stack([resize_bilinear(channel, size) for channel in maps]))
    winner = scores.argmax(axis=0)
    found: list[Detection] = []
    for number, name in enumerate(reading.classes):
        channel = number if channels == 1 else number + 1
        mask = (winner == channel) & (scores[channel] >= reading.confidence)
        found += _region_detections(name, mask, scores[channel], reading.picture_size)
    return tuple(sorted(found, key=lambda seen: -seen.prediction.confidence))


def _region_detections(name: str, mask: NDArray[np.bool_], scores: Array, picture: Size) -> list[Detection]:
    scale_y, scale_x = picture[0] / mask.shape[0], picture[1] / mask.shape[1]
    found = []
    for region in connected_regions(mask, scores):
        x, y, width, height = region.box
        box = (x * scale_x, y * scale_y, width * scale_x, height * scale_y)
        confidence = min(1.0, max(0.0, region.mean_score))
        found.append(Detection(Prediction(name=name, confidence=confidence, box=box), region.mask))
    return found


def _decode_classification(outputs: list[Array], reading: Reading) -> tuple[Detection, ...]:
    logits = _require_rank(outputs[0], 2, "(1, classes)", reading)[0].astype(np.float64)
    _require_classes(len(logits), f"{len(logits)} logits", reading)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    ranked = np.argsort(-shares, kind="stable").tolist()
    kept = [number for rank, number in enumerate(ranked) if rank == 0 or shares[number] >= reading.confidence]
    return tuple(
        Detection(Prediction(name=reading.classes[number], confidence=float(shares[number]))) for number in kept
    )


_DECODERS: dict[Family, Callable[[list[Array], Reading], tuple[Detection, ...]]] = {
    Family.YOLOX: _decode_yolox,
    Family.RFDETR_DETECTION: _decode_rfdetr,
    Family.RFDETR_SEGMENTATION: _decode_rfdetr_masks,
    Family.SM_PYTORCH: _decode_semantic,
    Family.CLASSIFICATION: _decode_classification,
}


def _to_predictions(found: _Candidates, reading: Reading) -> list[Prediction]:
    predictions = []
    for (x1, y1, x2, y2), score, number in zip(
        found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
    ):
        box = (x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1))
        predictions.append(Prediction(name=reading.classes[number], confidence=score, box=box))
    return predictions


def _anchor_grid(size: Size) -> tuple[Array, Array]:
    """Return (A, 2) cell positions and (A, 1) strides: stride by stride, row by row, x fastest."""
    cells, strides = [], []
    for stride in STRIDES:
        ys, xs = np.indices((size[0] // stride, size[1] // stride))
        cells.append(np.stack([xs.ravel(), ys.ravel()], axis=1))
        strides.append(np.full((xs.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _sigmoid(logits: Array) -> Array:
    # The two halves are computed apart so that no exponent overflows.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


def _to_probabilities(maps: Array) -> Array:
    """Return (K, h, w) probabilities; values all within 0 and 1 already are."""
    if maps.min() >= -PROBABILITY_SLACK and maps.max() <= 1 + PROBABILITY_SLACK:
        return maps
    if len(maps) == 1:
        return _sigmoid(maps)
    shares = np.exp(maps - maps.max(axis=0))
    return np.asarray(shares / shares.sum(axis=0), dtype=np.float32)


def _require_finite(output: NDArray[np.generic], number: int, reading: Reading) -> Array:
    if not np.issubdtype(output.dtype, np.number) or output.size == 0:
        raise _misfit(reading, "outputs that hold numbers", f"output {number} of {output.dtype} and {output.shape}")
    array = output.astype(np.float32, copy=False)
    broken = int(array.size - np.isfinite(array).sum())
    if broken:
        raise _misfit(reading, "finite numbers", f"{broken} of {array.size} values of output {number} are not")
    return array


def _require_rank(output: Array, rank: int, shape: str, reading: Reading) -> Array:
    if output.ndim != rank or output.shape[0] != 1:
        raise _misfit(reading, f"a first output of shape {shape}", str(output.shape))
    return output


def _require_classes(supported: int, evidence: str, reading: Reading) -> None:
    declared = len(reading.classes)
    if supported != declared:
        names = ", ".join(reading.classes[:20])
        came = f"{evidence}, which is room for {max(0, supported)}"
        raise _misfit(reading, f"an output for the {declared} declared class(es) ({names})", came)


def _misfit(reading: Reading, expected: str, came: str) -> OutputCheckError:
    return OutputCheckError(
        f"the outputs do not fit a {reading.family.value} model: expected {expected}, got {came}; "
        "the file and the model's record are probably not of the same training",
        ErrorContext(operation="smoke.decode"),
    )
