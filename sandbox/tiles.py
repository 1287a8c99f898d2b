"""Satellite tiles in an HDF5 file: what is read, what is checked, and in which words it is refused.

One root dataset `data` of shape (N,), each entry a tile with its bands, pixels and label. The errors are Python's own
classes with the vendor's texts, because its jobs answer `<class>: <text>`.
"""

import math
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["classification", "segmentation"]
PLATFORMS = frozenset({"sentinel-2-l2a", "landsat-c2l1", "landsat-c2l2-sr", "naip", "linz", "sentinel-1-rtc"})
BANDS = frozenset(
    {"blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22", "vv", "vh"}
)
DATASET = "data"
SIDE_STEP = 8
"""Tiles have a side that is a multiple of this, in pixels."""
MAX_BYTES = 512_000_000
"""Largest file read, unpacked; also its largest chunk, because HDF5 unpacks chunks whole."""
_FIELDS = {
    "bands": "bytes",
    "gsd": "float32",
    "pixels": "float32",
    "platform": "bytes",
    "point": "float32",
    "timestamp": "int64",
    "label": "int64",
}

Pixels = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Tiles:
    """What a training file holds."""

    bands: tuple[str, ...]
    """Names, in the order of the pixels."""
    platform: str
    """The satellite, or nothing."""
    pixels: Pixels
    """(N, bands, H, W) float32, as the file has them."""
    labels: Labels
    """(N,) for classification, (N, H, W) for segmentation."""


def hdf5() -> Any:
    """Return the library that reads HDF5.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to.
    """
    try:
        return import_module("h5py")
    except ModuleNotFoundError as error:
        message = "h5py is not installed where the sandbox runs: pip install 'train-pipeline[bluesight]'"
        raise ModuleNotFoundError(message) from error


def described(error: BaseException) -> str:
    """Return an error in the words of a failed job."""
    return f"{type(error).__name__}: {error}"


def read_tiles(path: Path) -> Tiles:
    """Read a file that passes the checks.

    Raises:
        OSError: It is no HDF5 file, or not all of one.
        ValueError: A check failed.
        IndexError: It holds no tile.
        ModuleNotFoundError: h5py is not installed.
    """
    with _opened(path) as data:
        bands, platform = _check(data)
        return Tiles(bands, platform, _column(data, "pixels"), _column(data, "label"))


def check_tiles(path: Path) -> None:
    """Check a file without reading its pixels; raises what `read_tiles` does."""
    with _opened(path) as data:
        _check(data)


def check_trainable(tiles: Tiles, task: Task, hyperparameters: Mapping[str, Any] | None) -> None:
    """Check what nobody looks at before the training begins.

    Raises:
        ValueError: The order or the labels do not fit the task.
        KeyError: The satellite or a band is none of the known ones.
        RuntimeError: The labels are no maps of the tiles.
        IndexError: A label is outside of the classes asked for.
    """
    if tiles.platform and tiles.platform not in PLATFORMS:
        raise KeyError(tiles.platform)
    for band in tiles.bands:
        if band not in BANDS:
            raise KeyError(band)
    if task == "classification":
        _check_tile_labels(tiles.labels)
    else:
        _check_maps(tiles, hyperparameters)


def _check_tile_labels(labels: Labels) -> None:
    if labels.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {labels.shape} instead.")
    count = len(np.unique(labels))
    if count < 2:
        raise ValueError(f"The number of classes has to be greater than one; got {count} class")


def _check_maps(tiles: Tiles, hyperparameters: Mapping[str, Any] | None) -> None:
    if hyperparameters is None:
        raise ValueError("Hyperparameters must be specified for segmentation task!")
    count = hyperparameters.get("num_classes")
    if count is None:
        raise ValueError("The number of classes must be specified in the hyperparameters for segmentation task!")
    labels, maps = tiles.labels, (len(tiles.pixels), *tiles.pixels.shape[2:])
    if labels.shape != maps:
        raise RuntimeError(f"input and target sizes don't match: target {labels.shape}, input {maps}")
    outside = labels[(labels < 0) | (labels >= count)]
    if outside.size:
        raise IndexError(f"Target {outside[0]} is out of bounds.")


@contextmanager
def _opened(path: Path) -> Any:
    library = hdf5()
    with library.File(path, "r") as file:
        link = file.get(DATASET, getlink=True)
        if link is not None and not isinstance(link, library.HardLink):
            raise ValueError(f"Dataset '{DATASET}' is a link to another place: put the tiles there.")
        data = file.get(DATASET)
        if not isinstance(data, library.Dataset):
            raise ValueError(f"Dataset '{DATASET}' not found in the file.")  # noqa: TRY004 - the vendor's class
        _check_place(data)
        _check_size(data)
        yield data


def _check_place(data: Any) -> None:
    """Refuse what reads other files of this machine; asking a virtual dataset for its shape would open them."""
    if data.is_virtual or data.external:
        raise ValueError(f"Dataset '{DATASET}' keeps its tiles in other files: put them into this one.")


def _check_size(data: Any) -> None:
    """Refuse what takes far more memory than the file takes room."""
    size, one = math.prod(data.shape or ()), data.dtype.itemsize
    if size * one > MAX_BYTES:
        raise ValueError(f"Dataset '{DATASET}' takes {size * one} bytes unpacked: the sandbox reads {MAX_BYTES}.")
    if not data.chunks:
        is_whole = not size or data.id.get_storage_size() > 0
    else:
        chunk = math.prod(data.chunks) * one
        if chunk > MAX_BYTES:
            raise ValueError(f"Dataset '{DATASET}' has chunks of {chunk} bytes: the sandbox unpacks {MAX_BYTES}.")
        wanted = math.prod(-(-side // step) for side, step in zip(data.shape, data.chunks, strict=True))
        is_whole = data.id.get_num_chunks() >= wanted
    if not is_whole:
        raise ValueError(f"Dataset '{DATASET}' declares {size} tiles, not all were written.")


def _column(data: Any, name: str) -> Any:
    return data.fields(name)[:]


def _check(data: Any) -> tuple[tuple[str, ...], str]:
    """Return the bands and the platform all samples share."""
    for name, wanted in _FIELDS.items():
        _check_field(data.dtype, name, wanted)
    data[0]  # of an empty file: IndexError, in the library's own words
    for name in ("bands", "gsd"):
        _check_same(name, _column(data, name))
    shape = data.dtype["pixels"].shape
    bands = _column(data, "bands")[0]
    if len(shape) != 3 or shape[0] != len(np.atleast_1d(bands)):
        raise ValueError("Pixel shape mismatch in sample 0")
    if shape[1] != shape[2]:
        raise ValueError(f"Height != Width in sample 0: {shape[1]} != {shape[2]}")
    if shape[1] % SIDE_STEP:
        raise ValueError(f"Height (and Width) not divisible by {SIDE_STEP} in sample 0: {shape[1]}")
    platforms = _column(data, "platform")
    _check_same("platform", platforms)
    return tuple(_text(band) for band in np.atleast_1d(bands)), _text(platforms[0])


def _check_field(dtype: Any, name: str, wanted: str) -> None:
    if name not in (dtype.names or ()):
        raise ValueError(f"Field '{name}' not found in the dataset.")
    found = dtype[name].base
    if wanted == "bytes":
        if found.kind != "S":
            raise ValueError(f"Dtype mismatch for '{name}': expected S{10 if name == 'bands' else 20}, got {found}")
    elif found != np.dtype(wanted):
        raise ValueError(f"Dtype mismatch for '{name}': expected {wanted}, got {found}")


def _check_same(name: str, values: Any) -> None:
    rows = values.reshape(len(values), -1)
    different = np.flatnonzero((rows != rows[0]).any(axis=1))
    if different.size:
        raise ValueError(f"Inconsistent {name} in sample {different[0]}")


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").rstrip("\0")
