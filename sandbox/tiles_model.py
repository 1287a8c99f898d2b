"""A trained tile model: plain arrays in an .npz file, and its answers, computed without torch.

`network` is what training gives: two convolutions, then a class for each pixel or for the mean and spread of the whole
tile. `linear` is what a scripted job gives: least squares on band values, found in one step.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.tiles import Labels, Pixels, Task, Tiles

Floats = NDArray[np.float32]
_SPREAD = 1e-6  # below it a band is constant
_MOST_SAMPLES = 20_000
_RIDGE = 1e-3


@dataclass(frozen=True)
class TileModel:
    """Everything needed to label tiles."""

    task: Task
    kind: str
    """network or linear."""
    bands: tuple[str, ...]
    """In the order the weights expect them."""
    classes: Labels
    """The label of each output: those that were shown, however many classes were asked for."""
    weights: dict[str, Floats]
    """`mean` and `spread` of each band, and the layers."""

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        about = {"task": self.task, "kind": self.kind, "bands": list(self.bands)}
        stream = io.BytesIO()
        named: dict[str, Any] = {**self.weights, "classes": self.classes, "about": np.array(json.dumps(about))}
        np.savez(stream, **named)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "TileModel":
        """Read a model back; nothing in the file is executed."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(str(arrays.pop("about")))
        return cls(about["task"], about["kind"], tuple(about["bands"]), arrays.pop("classes"), arrays)

    def predict(self, pixels: Pixels, bands: Sequence[str]) -> Labels:
        """Return the label of each tile, or of each of its pixels; pixels are (N, bands, H, W) in any order of bands.

        Raises:
            ValueError: A band it was trained on is missing.
        """
        missing = [band for band in self.bands if band not in bands]
        if missing:
            raise ValueError(f"the model was trained on bands the images lack: {', '.join(missing)}")
        order = [list(bands).index(band) for band in self.bands]
        answers = [self._scores(tile[order]).argmax(0) for tile in pixels]
        return np.asarray(self.classes[np.stack(answers)], np.int64)

    def _scores(self, tile: Pixels) -> Floats:
        """Return (classes,) or (classes, H, W) for one (bands, H, W)."""
        values = standardised(tile[None], self.weights["mean"], self.weights["spread"])[0]
        if self.kind == "linear":
            return _linear_scores(self.task, values, self.weights["matrix"])
        hidden = values
        for layer in ("first", "second"):
            hidden = _convolved(hidden, self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]).clip(min=0)
        weight, bias = self.weights["head.weight"], self.weights["head.bias"]
        if self.task == "segmentation":
            return np.asarray(np.tensordot(weight, hidden, (1, 0)) + bias[:, None, None])
        return np.asarray(weight @ np.concatenate([hidden.mean((1, 2)), hidden.std((1, 2))]) + bias)


def band_facts(pixels: Pixels) -> tuple[Floats, Floats]:
    """Return mean and spread of each band, both (bands,)."""
    mean = pixels.mean((0, 2, 3), dtype=np.float64)
    # One tile at a time: of all of them numpy would make a copy of twice their size.
    square = np.mean([((tile - mean[:, None, None]) ** 2).mean((1, 2)) for tile in pixels], 0)
    spread = np.sqrt(square)
    return mean.astype(np.float32), np.where(spread > _SPREAD, spread, 1).astype(np.float32)


def standardised(pixels: Pixels, mean: Floats, spread: Floats) -> Floats:
    """Return (N, bands, H, W) with each band around zero."""
    return np.asarray((pixels - mean[:, None, None]) / spread[:, None, None], np.float32)


def fit_linear(tiles: Tiles, task: Task) -> TileModel:
    """Return the least-squares model of these tiles."""
    mean, spread = band_facts(tiles.pixels)
    targets = tiles.labels.reshape(-1)
    labels, chosen = np.unique(targets), np.arange(0, len(targets), max(1, len(targets) // _MOST_SAMPLES))
    if task == "classification":
        values = (standardised(tiles.pixels[index, None], mean, spread)[0] for index in chosen)
        inputs = np.stack([_tile_inputs(tile) for tile in values]).astype(np.float64)
    else:
        tile, pixel = np.divmod(chosen, tiles.pixels[0, 0].size)
        bands = tiles.pixels.reshape(*tiles.pixels.shape[:2], -1)[tile, :, pixel]
        inputs = _pixel_inputs(standardised(bands[..., None, None], mean, spread)[..., 0, 0].T).astype(np.float64)
    targets = targets[chosen]
    wanted = (targets[:, None] == labels[None]).astype(np.float64)
    square = inputs.T @ inputs + _RIDGE * len(inputs) * np.eye(inputs.shape[1])
    matrix = np.linalg.solve(square, inputs.T @ wanted).astype(np.float32)
    weights: dict[str, Floats] = {"mean": mean, "spread": spread, "matrix": matrix}
    return TileModel(task, "linear", tiles.bands, np.asarray(labels, np.int64), weights)


def _linear_scores(task: Task, values: Floats, matrix: Floats) -> Floats:
    if task == "classification":
        return np.asarray(_tile_inputs(values) @ matrix)
    return np.asarray(np.moveaxis(_pixel_inputs(values) @ matrix, -1, 0))


def _tile_inputs(tile: Floats) -> Floats:
    """Return (2 x bands + 1,) of one tile: means, spreads and a one."""
    return np.concatenate([tile.mean((1, 2)), tile.std((1, 2)), np.ones(1, np.float32)])


def _pixel_inputs(values: Floats) -> Floats:
    """Return (..., 2 x bands + 1) of (bands, ...): values, squares and a one."""
    inputs = np.concatenate([values, values**2, np.ones_like(values[:1])])
    return np.moveaxis(inputs, 0, -1)


def _convolved(values: Floats, weight: Floats, bias: Floats) -> Floats:
    """Return (out, H, W) of (in, H, W): a 3 x 3 convolution with an edge of zeros."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))  # (in, H, W, 3, 3)
    return np.asarray(np.tensordot(weight, windows, ((1, 2, 3), (0, 3, 4))) + bias[:, None, None])
