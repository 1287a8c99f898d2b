"""Choose a few labelled tiles of a training file and keep them for the hosted inference of the new model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.tile_rules import Block, count_labels, facts_of
from pipeline.errors import ErrorContext, OutputPathError
from pipeline.value import Value


class SampleTile(Value):
    """A labelled tile of the training data, kept for the smoke test."""

    index: int
    """Which sample of the file it is, from 0."""
    path: Path
    """The pixels: a ``.npy`` file of (bands, H, W) float32, in the order of ``bands``."""
    gsd: float
    """Metres a pixel covers."""
    bands: tuple[str, ...]
    """Name of each band."""
    platform: str | None = None
    """What took it, where the file says so."""
    point: tuple[float, float] | None = None
    """Latitude and longitude in degrees, where known."""
    timestamp_s: int | None = None
    """When it was taken, in Unix seconds, where known."""
    label: int | Path
    """Its label, or the ``.npy`` file of (H, W) int64 that gives each pixel one."""


class TileChoice:
    """Sees all samples once and remembers which ones to keep: the rarer a label among the kept, the sooner it comes.

    Tiles with pixels that are not finite are passed over: the provider's inference takes JSON numbers.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._tiles: dict[int, list[int]] = {}
        """The first tiles that show a label, as many as could be kept."""
        self._labels: dict[int, tuple[int, ...]] = {}

    def look(self, start: int, block: Block) -> None:
        """Take the samples from number ``start`` on."""
        finite = np.isfinite(block["pixels"].reshape(len(block), -1)).all(axis=1)
        for row in np.flatnonzero(finite):
            labels = tuple(count_labels(np.asarray(block["label"][row])))
            wanting = [label for label in labels if len(self._tiles.setdefault(label, [])) < self._count]
            for label in wanting:
                self._tiles[label].append(start + int(row))
            if wanting:
                self._labels[start + int(row)] = labels

    def chosen(self) -> tuple[int, ...]:
        """Return the numbers of the samples to keep, in the order they were chosen."""
        kept: list[int] = []
        seen: Counter[int] = Counter()
        waiting = {label: list(tiles) for label, tiles in self._tiles.items()}
        while waiting and len(kept) < self._count:
            label = min(waiting, key=lambda label: (seen[label], label))
            tile = waiting[label].pop(0)
            if not waiting[label]:
                del waiting[label]
            if tile not in kept:
                kept.append(tile)
                seen.update(self._labels[tile])
        return tuple(kept)


def store_tile(sample: np.void, index: int, target: Path, number: int) -> SampleTile:
    """Write a sample's pixels, mask and facts below ``target``.

    Raises:
        OutputPathError: They cannot be written.
    """
    facts = facts_of(sample)
    stem = f"tile-{number:02d}"
    point = tuple(float(value) for value in sample["point"])
    label: int | Path = target / f"{stem}.label.npy" if sample["label"].ndim else int(sample["label"])
    tile = SampleTile(
        index=index,
        path=target / f"{stem}.npy",
        gsd=facts.gsd,
        bands=facts.bands,
        platform=facts.platform,
        point=(point[0], point[1]) if any(point) and np.isfinite(point).all() else None,
        timestamp_s=int(sample["timestamp"]) or None,
        label=label,
    )
    try:
        np.save(tile.path, np.asarray(sample["pixels"]), allow_pickle=False)
        if isinstance(label, Path):
            np.save(label, np.asarray(sample["label"]), allow_pickle=False)
        (target / f"{stem}.json").write_text(json.dumps(_for_people(tile), indent=2), encoding="utf-8")
    except OSError as error:
        raise OutputPathError(
            f"sample tile {str(tile.path)!r} cannot be written ({error.strerror or error}); make room or choose "
            f"another output_dir",
            ErrorContext(field="output_dir"),
        ) from error
    return tile


def _for_people(tile: SampleTile) -> dict[str, Any]:
    """Return the tile's facts with file names instead of paths, so that the folder can be moved."""
    facts = tile.model_dump(mode="json")
    names = {key: value.name for key, value in (("path", tile.path), ("label", tile.label)) if isinstance(value, Path)}
    return {**facts, **names}
