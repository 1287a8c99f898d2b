"""HDF5 files of small tiles, right unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

SIDE = 8
BANDS = (b"blue", b"green", b"red")


def make_dtype(task: str = "classification", side: int = SIDE, **changes: Any) -> np.dtype[Any]:
    """Return the type of one sample; a change of None leaves the field out."""
    fields: dict[str, Any] = {
        "bands": ("S10", (len(BANDS),)),
        "gsd": "<f4",
        "pixels": ("<f4", (len(BANDS), side, side)),
        "platform": "S20",
        "point": ("<f4", (2,)),
        "timestamp": "<i8",
        "label": "<i8" if task == "classification" else ("<i8", (side, side)),
    }
    merged = {name: kind for name, kind in {**fields, **changes}.items() if kind is not None}
    return np.dtype([(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in merged.items()])


def make_tiles(count: int = 6, task: str = "classification", **changes: Any) -> NDArray[np.void]:
    """Return samples whose pixels all differ, labelled 0, 1, 2 in turn."""
    tiles = np.zeros(count, make_dtype(task, **changes))
    rng = np.random.default_rng(7)
    for name, value in (("bands", BANDS), ("gsd", 10.0), ("platform", b"sentinel-2-l2a"), ("timestamp", 1_700_000_000)):
        if name in changes:
            continue
        tiles[name] = value
    if "point" not in changes:
        tiles["point"] = (52.5, 13.4)
    if "pixels" not in changes:
        tiles["pixels"] = rng.random(tiles["pixels"].shape, dtype=np.float32)
    if "label" not in changes:
        numbers = np.arange(count) % 3
        tiles["label"] = numbers if task == "classification" else numbers[:, None, None]
    return tiles


def write_tiles(path: Path, tiles: Any, **options: Any) -> Path:
    """Write samples the way the provider wants them."""
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=tiles, **options)
    return path
