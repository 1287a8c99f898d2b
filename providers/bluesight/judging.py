"""Do a hosted model's answers fit its task, and how far do they agree with the tiles' own labels?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.data.tile_samples import SampleTile
from pipeline.errors import ErrorContext, OutputCheckError
from pipeline.local_requests import BluesightRequest
from pipeline.models import ExportReport

_WHOLE = "iu"  # NumPy's kinds of whole numbers
_SHOWN = 5


@dataclass(frozen=True)
class Judge:
    """Knows what answers of one model may look like."""

    model_id: str
    """The model."""
    masks: bool
    """Whether it gives each pixel a label, instead of each tile."""
    allowed: frozenset[int] | None
    """Labels it can have learned; none when nobody knows them."""

    def check(self, answers: Sequence[JsonValue], tiles: Sequence[SampleTile]) -> list[NDArray[np.int64]]:
        """Return the answers as arrays, () or (H, W) int64, one for each tile.

        Raises:
            OutputCheckError: There are too many or too few, or one is no label, or no mask of the tile's size.
        """
        if len(answers) != len(tiles):
            raise self._refused(f"gave {len(answers)} answers for {len(tiles)} tiles")
        return [self._read(answer, tile) for answer, tile in zip(answers, tiles, strict=True)]

    def _read(self, answer: JsonValue, tile: SampleTile) -> NDArray[np.int64]:
        wanted = np.load(tile.path, mmap_mode="r", allow_pickle=False).shape[1:] if self.masks else ()
        try:
            labels = np.asarray(answer)
        except ValueError:  # rows of different lengths
            raise self._refused(f"answered tile {tile.index} with rows of different lengths") from None
        if labels.shape != wanted:
            raise self._refused(f"answered tile {tile.index} with the shape {labels.shape}, {wanted} was expected")
        if labels.dtype.kind not in _WHOLE:
            raise self._refused(f"answered tile {tile.index} with something else than whole numbers")
        foreign = sorted(set(np.unique(labels).tolist()) - self.allowed) if self.allowed is not None else []
        if foreign:
            raise self._refused(f"answered tile {tile.index} with labels it cannot have learned: {foreign[:_SHOWN]}")
        return labels.astype(np.int64)

    def _refused(self, what: str) -> OutputCheckError:
        message = f"model {self.model_id!r} {what}; do not use it, and train again"
        return OutputCheckError(message, ErrorContext(operation="inference.ask"))


def judge_of(model_id: str, request: BluesightRequest, export: ExportReport | None) -> Judge:
    """Return the judge of a model that was trained for a request."""
    masks = request.task == "segmentation"
    labels = frozenset(_numbers(export)) if export is not None and not masks else frozenset()
    if not labels and request.num_classes is not None:
        labels = frozenset(range(request.num_classes))
    return Judge(model_id, masks, labels or None)


def agreement(answers: Sequence[NDArray[np.int64]], tiles: Sequence[SampleTile]) -> float | None:
    """Return the share of right labels, of tiles or pixels; none when the tiles have labels of another kind."""
    shares = []
    for answer, tile in zip(answers, tiles, strict=True):
        truth = np.load(tile.label, allow_pickle=False) if isinstance(tile.label, Path) else np.asarray(tile.label)
        if truth.shape == answer.shape:
            shares.append(float(np.mean(answer == truth)))
    return float(np.mean(shares)) if shares else None


def _numbers(export: ExportReport) -> list[int]:
    """Return the labels of the training data; its classes are named by them."""
    try:
        return [int(count.name) for count in export.classes]
    except ValueError:
        return []
