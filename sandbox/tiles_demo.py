"""Demonstration tiles: drawn water, forest and fields as a satellite would see them, with answers to be learned.

Each surface has a spectrum of its own in four bands and a texture: forest is dark in red and bright in near infrared,
water is dark in both, fields lie between and have furrows. Light, haze and noise differ from tile to tile. The same
arguments give the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.tiles import DATASET, SIDE_STEP, Task, hdf5

CLASSES = ("water", "forest", "field")
"""What the labels 0, 1 and 2 stand for."""
BANDS = ("blue", "green", "red", "nir")
PLATFORM = "sentinel-2-l2a"
GSD_M = 10.0
_SPECTRA = np.array([[820, 700, 480, 260], [340, 560, 300, 3100], [760, 1080, 1250, 2300]], np.float32)
_NOISE = np.array([60, 60, 60, 160], np.float32)
_FURROWS = 0.18
_TREES = 0.25
_FIRST_DAY_S, _DAYS = 1_672_531_200, 365  # 2023

Cover = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Demonstration:
    """What tiles to draw."""

    task: Task = "classification"
    """Whether a label is a number or a map."""
    count: int = 60
    """Tiles."""
    side: int = 32
    """Pixels, a multiple of eight."""
    seed: int = 0
    """Where the drawing begins."""


def write_demonstration(path: Path, wanted: Demonstration) -> dict[str, Any]:
    """Draw tiles into an HDF5 file and return what it holds.

    Raises:
        ValueError: There is nothing to draw, or the side is no multiple of eight.
        ModuleNotFoundError: h5py is not installed.
    """
    if wanted.count < 1 or wanted.side < SIDE_STEP or wanted.side % SIDE_STEP:
        raise ValueError(
            f"cannot draw {wanted.count} tiles of {wanted.side} px: ask for one or more, of a multiple of {SIDE_STEP}"
        )
    tiles = demonstration(wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    with hdf5().File(path, "w") as file:
        file.create_dataset(DATASET, data=tiles, compression="gzip", compression_opts=4)
    found, counts = np.unique(tiles["label"], return_counts=True)
    labels = {CLASSES[index]: int(count) for index, count in zip(found, counts, strict=True)}
    about = {"path": str(path), "task": wanted.task, "tiles": wanted.count, "side": wanted.side}
    return {**about, "bands": list(BANDS), "classes": list(CLASSES), "labels": labels}


def demonstration(wanted: Demonstration) -> NDArray[Any]:
    """Return the tiles as the (N,) structured array a training file holds."""
    rng = np.random.default_rng(wanted.seed)
    tiles = np.zeros(wanted.count, layout(wanted.task, wanted.side))
    kinds = rng.permutation(np.arange(wanted.count) % len(CLASSES))
    for tile, kind in zip(tiles, kinds, strict=True):
        is_map = wanted.task == "segmentation"
        cover = _landscape(rng, wanted.side) if is_map else np.full((wanted.side, wanted.side), kind)
        tile["bands"], tile["gsd"], tile["platform"] = [name.encode() for name in BANDS], GSD_M, PLATFORM.encode()
        tile["pixels"] = _seen(rng, cover)
        tile["point"] = rng.uniform((-60, -180), (70, 180))
        tile["timestamp"] = _FIRST_DAY_S + int(rng.integers(_DAYS)) * 86_400
        tile["label"] = cover if is_map else kind
    return tiles


def layout(task: Task, side: int, bands: int = len(BANDS)) -> np.dtype[Any]:
    """Return the compound type of one tile."""
    label = (np.int64, (side, side)) if task == "segmentation" else np.int64
    return np.dtype(
        [
            ("bands", "S10", (bands,)),
            ("gsd", np.float32),
            ("pixels", np.float32, (bands, side, side)),
            ("platform", "S20"),
            ("point", np.float32, (2,)),
            ("timestamp", np.int64),
            ("label", label),
        ]
    )


def _landscape(rng: np.random.Generator, side: int) -> Cover:
    """Return (side, side) class numbers: the nearest of a few seeds decides, every class has at least one."""
    seeds = rng.uniform(0, side, (2 * len(CLASSES), 2))
    kinds = rng.permutation(np.arange(len(seeds)) % len(CLASSES))
    rows, columns = np.mgrid[:side, :side]
    distances = (rows[..., None] - seeds[:, 0]) ** 2 + (columns[..., None] - seeds[:, 1]) ** 2
    return np.asarray(kinds[distances.argmin(-1)], np.int64)


def _seen(rng: np.random.Generator, cover: Cover) -> Floats:
    """Return (bands, side, side) reflectances of a landscape, in the ten-thousandths satellites report."""
    side = len(cover)
    light = _SPECTRA[cover].transpose(2, 0, 1) * rng.uniform(0.85, 1.15)
    rows, columns = np.mgrid[:side, :side]
    angle, width = rng.uniform(0, np.pi), rng.uniform(3, 6)
    furrows = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / width)
    light *= 1 + _FURROWS * np.where(cover == CLASSES.index("field"), furrows, 0)
    trees = rng.normal(0, _TREES, (side, side)).clip(-0.6, 0.6)
    light *= 1 + np.where(cover == CLASSES.index("forest"), trees, 0)
    haze = rng.uniform(0, 150) * np.array([1.0, 0.7, 0.5, 0.2])
    light = light + haze[:, None, None] + rng.normal(size=light.shape) * _NOISE[:, None, None]
    return np.asarray(light.clip(1, 10_000), np.float32)
