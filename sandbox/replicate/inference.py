"""Runs a trained version on one picture: numpy and ONNX Runtime, no torch in the server."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sandbox.datasets import decode
from sandbox.training.detections import non_maximum_suppression

Floats = NDArray[np.floating[Any]]
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_GREY, _STRIDES, _NMS_IOU, _LOWEST = 114, (8, 16, 32), 0.45, 0.01


def predict(model: Path, config: Path, content: bytes, confidence: float) -> dict[str, Any]:
    """Return what a model says of a picture: `detections`, `classes`, or the `shares` of it that classes cover.

    A detection's box is x1, y1, x2, y2 in the picture's pixels.

    Raises:
        DataError: The content is no picture that can be read.
    """
    import onnxruntime

    facts = json.loads(config.read_text(encoding="utf-8"))
    picture, pipeline, names = decode("image", content), facts["pipeline"], facts["classes"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    height, width = facts["input_size"]
    given = _letterboxed(picture, height, width) if pipeline == "yolox" else _stretched(picture, height, width)
    outputs = session.run(None, {session.get_inputs()[0].name: given})
    if pipeline == "classification":
        return {"classes": _named(names, _softmax(outputs[0][0]))}
    if pipeline == "sm_pytorch":
        return {"shares": _named(names, _shares(outputs[0][0]))}
    boxes, scores = _grid(outputs[0][0], picture, height, width) if pipeline == "yolox" else _queries(outputs, picture)
    return {"detections": _detections(names, np.clip(boxes, 0, [*picture.size] * 2), scores, confidence)}


def _letterboxed(picture: Image.Image, height: int, width: int) -> NDArray[np.float32]:
    """Return (1, 3, H, W) float32, BGR, [0, 255], the picture at the top left of a grey canvas."""
    ratio = min(height / picture.height, width / picture.width)
    fitted = max(1, int(picture.width * ratio)), max(1, int(picture.height * ratio))
    canvas = np.full((height, width, 3), _GREY, np.float32)
    canvas[: fitted[1], : fitted[0]] = np.asarray(picture.resize(fitted, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1)[None])


def _stretched(picture: Image.Image, height: int, width: int) -> NDArray[np.float32]:
    """Return (1, 3, H, W) float32, RGB, ImageNet mean and deviation."""
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray(((pixels / 255 - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max())
    shares: Floats = powers / powers.sum()
    return shares


def _shares(answer: Floats) -> Floats:
    """Return the share of the picture that each class covers, from scores (C, H, W) or (1 + C, H, W)."""
    if len(answer) == 1:
        return np.array([float((answer > 0.5).mean())])
    counts: Floats = np.bincount(answer.argmax(0).ravel(), minlength=len(answer)) / answer[0].size
    return counts[1:]


def _named(names: Sequence[str], values: Floats) -> list[dict[str, Any]]:
    pairs = sorted(zip(values.tolist(), names, strict=False), key=lambda pair: -pair[0])
    return [{"label": name, "score": round(value, 4)} for value, name in pairs]


def _grid(rows: Floats, picture: Image.Image, height: int, width: int) -> tuple[Floats, Floats]:
    """Return boxes (N, 4) in the picture's pixels and scores (N, C) of YOLOX's cells."""
    cells = [(x, y, stride) for stride in _STRIDES for y in range(height // stride) for x in range(width // stride)]
    grid = np.array(cells, np.float32)
    centres, halves = (rows[:, :2] + grid[:, :2]) * grid[:, 2:], np.exp(np.minimum(rows[:, 2:4], 20)) * grid[:, 2:] / 2
    ratio = min(height / picture.height, width / picture.width)
    return np.concatenate([centres - halves, centres + halves], 1) / ratio, rows[:, 4:5] * rows[:, 5:]


def _queries(outputs: Sequence[Floats], picture: Image.Image) -> tuple[Floats, Floats]:
    """Return boxes (N, 4) in the picture's pixels and scores (N, C) of RF-DETR's queries, no class last."""
    dets, logits = outputs[0][0], outputs[1][0]
    corners = np.concatenate([dets[:, :2] - dets[:, 2:] / 2, dets[:, :2] + dets[:, 2:] / 2], 1)
    return corners * np.array([*picture.size] * 2), 1 / (1 + np.exp(-logits[:, :-1]))


def _detections(names: Sequence[str], boxes: Floats, scores: Floats, confidence: float) -> list[dict[str, Any]]:
    found = non_maximum_suppression(boxes, scores, _NMS_IOU, _LOWEST)
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [
        {"label": names[label], "score": round(score, 4), "box": [round(edge, 1) for edge in box]}
        for box, score, label in rows
        if score >= confidence
    ]
