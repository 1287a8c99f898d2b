"""The prediction entry point of a version that the trainer made: one picture in, what is on it out."""

import io
import json
import tarfile
import urllib.request
from pathlib import Path as LocalPath
from typing import Any

import numpy as np
import onnxruntime
import torch

from sandbox.datasets import LabelledImage, image_size
from sandbox.training import pixels
from sandbox.training.detections import Found, non_maximum_suppression
from sandbox.training.nets import grid_cells
from sandbox.training.queries import STRIDES, boxes_around

try:
    from cog import BasePredictor, Path
except ImportError:
    from pathlib import Path

    BasePredictor = object

_NMS_IOU, _LOWEST_SCORE = 0.45, 0.01
_DOWNLOAD_TIMEOUT_S = 120


class Predictor(BasePredictor):  # type: ignore[misc]
    """Runs the trained model."""

    def setup(self, weights: Path | str | None = None) -> None:
        """Open the weights of this version: a file, or its URL, as the service passes it.

        Raises:
            ValueError: There are none: this is the trainer itself, which has yet to train anything.
        """
        if not weights:
            raise ValueError("no weights: run a version that a training made, or set COG_WEIGHTS")
        with tarfile.open(fileobj=io.BytesIO(_content(str(weights)))) as archive:
            parts = {name: archive.extractfile(name) for name in ("model.onnx", "config.json")}
            model, config = (part.read() if part else b"" for part in parts.values())
        self._config: dict[str, Any] = json.loads(config)
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def predict(self, image: Path, confidence: float = 0.5) -> dict[str, Any]:
        """Return what is on a picture: `detections`, `classes`, or the `shares` of it that classes cover.

        A detection's box is x1, y1, x2, y2 in the picture's pixels.

        Raises:
            DataError: The file is no picture that can be read.
        """
        content = LocalPath(image).read_bytes()
        picture = LabelledImage(LocalPath(image).name, content, *image_size(LocalPath(image).name, content))
        pipeline, names = self._config["pipeline"], self._config["classes"]
        outputs = [torch.from_numpy(array) for array in self._run(picture, letterbox=pipeline == "yolox")]
        if pipeline == "classification":
            return {"classes": _named(names, outputs[0][0].softmax(0))}
        if pipeline == "sm_pytorch":
            return {"shares": _named(names, _shares(outputs[0][0]))}
        found = self._grid_boxes(picture, outputs[0][0]) if pipeline == "yolox" else _query_boxes(picture, outputs)
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        return {
            "detections": [
                {"label": names[label], "score": round(score, 4), "box": [round(edge, 1) for edge in box]}
                for box, score, label in rows
                if score >= confidence
            ]
        }

    def _run(self, picture: LabelledImage, *, letterbox: bool) -> list[Any]:
        height, width = self._config["input_size"]
        if letterbox:
            given = pixels.letterboxed([picture], height, width).flip(1).float()
        else:
            given = pixels.imagenet_normalised(pixels.stretched([picture], height, width))
        answers: list[Any] = self._session.run(None, {self._session.get_inputs()[0].name: given.numpy()})
        return answers

    def _grid_boxes(self, picture: LabelledImage, rows: Any) -> Found:
        height, width = self._config["input_size"]
        cells = grid_cells(height, width, STRIDES)
        stride = cells[:, 2:]
        corners = boxes_around((rows[:, :2] + cells[:, :2]) * stride, rows, stride)
        boxes = (corners / pixels.letterbox_ratio(picture, height, width)).numpy()
        return _inside(picture, boxes, (rows[:, 4:5] * rows[:, 5:]).numpy())


def _query_boxes(picture: LabelledImage, outputs: list[Any]) -> Found:
    """Return what the `dets` (centre and sides as shares) and `labels` (logits, none last) of RF-DETR say."""
    dets, logits = outputs[0][0], outputs[1][0]
    edges = torch.cat([dets[:, :2] - dets[:, 2:] / 2, dets[:, :2] + dets[:, 2:] / 2], 1)
    boxes = (edges * torch.tensor([picture.width, picture.height] * 2)).numpy()
    return _inside(picture, boxes, logits[:, :-1].sigmoid().numpy())


def _inside(picture: LabelledImage, boxes: Any, scores: Any) -> Found:
    limits = [picture.width, picture.height] * 2
    return non_maximum_suppression(np.clip(boxes, 0, limits), scores, _NMS_IOU, _LOWEST_SCORE)


def _shares(answer: Any) -> Any:
    """Return the share of the picture that each class covers, from scores (C, H, W) or (1 + C, H, W)."""
    if len(answer) == 1:
        return (answer > 0.5).float().mean((1, 2))
    counts = torch.bincount(answer.argmax(0).flatten(), minlength=len(answer))
    return counts[1:] / counts.sum()


def _named(names: list[str], values: Any) -> list[dict[str, Any]]:
    """Return names and values, the largest first."""
    pairs = sorted(zip(values.tolist(), names, strict=True), key=lambda pair: -pair[0])
    return [{"label": name, "score": round(value, 4)} for value, name in pairs]


def _content(weights: str) -> bytes:
    if weights.startswith("https://"):
        with urllib.request.urlopen(weights, timeout=_DOWNLOAD_TIMEOUT_S) as answer:  # noqa: S310 - https, see above
            content: bytes = answer.read()
            return content
    return LocalPath(weights).read_bytes()
