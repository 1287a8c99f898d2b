"""Tile files: what a drawn one holds, in which words a wrong one is refused, and the linear model of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sandbox.tiles import (
    Tiles,
    check_tiles,
    check_trainable,
    described,
    read_tiles,
)
from sandbox.tiles_demo import BANDS, CLASSES, Demonstration, demonstration, layout, write_demonstration
from sandbox.tiles_model import TileModel, band_facts, fit_linear

h5py = pytest.importorskip("h5py")
SMALL = Demonstration(count=6, side=16)


def put(path: Path, tiles: Any, name: str = "data") -> Path:
    """Write an array as a training file."""
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=tiles)
    return path


def changed(**fields: Any) -> Any:
    """Return the small demonstration with other types for some fields, or without those that are None."""
    tiles = demonstration(SMALL)
    kept = [(name, fields.get(name, tiles.dtype[name])) for name in tiles.dtype.names]
    other = np.zeros(len(tiles), np.dtype([(name, kind) for name, kind in kept if kind is not None]))
    for name in other.dtype.names:
        if other.dtype[name].shape == tiles.dtype[name].shape:
            other[name] = tiles[name]
    other["bands"] = tiles["bands"]
    return other


def with_value(name: str, row: int, value: Any) -> Any:
    """Return the small demonstration with one value changed."""
    tiles = demonstration(SMALL)
    tiles[name][row] = value
    return tiles


def words_of(attempt: Callable[[], object]) -> str:
    """Return the error of an attempt as a job would say it, or nothing."""
    try:
        attempt()
    except Exception as error:
        return described(error)
    return ""


def refusal(path: Path) -> str:
    """Return what a job on this file would say, which is the same before its pixels are read."""
    words = words_of(lambda: read_tiles(path))
    assert words_of(lambda: check_tiles(path)) == words
    return words


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_what_is_drawn_is_read_back(tmp_path: Path, task: Any) -> None:
    """Names, satellite, pixels and labels come back; every class is there, as often as the summary says."""
    said = write_demonstration(tmp_path / "made" / "tiles.h5", Demonstration(task, 9, 16, seed=4))
    tiles = read_tiles(tmp_path / "made" / "tiles.h5")
    assert (tiles.bands, tiles.platform) == (BANDS, "sentinel-2-l2a")
    assert (tiles.pixels.shape, tiles.pixels.dtype) == ((9, 4, 16, 16), np.float32)
    assert tiles.labels.shape == ((9,) if task == "classification" else (9, 16, 16))
    assert said["labels"] == {name: int((tiles.labels == index).sum()) for index, name in enumerate(CLASSES)}
    check_trainable(tiles, task, {"num_classes": 3})


def test_a_seed_is_a_file(tmp_path: Path) -> None:
    """The same seed gives the same bytes, another one other tiles."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_demonstration(tmp_path / name, Demonstration(count=3, side=8, seed=seed))
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other


@pytest.mark.parametrize(("count", "side"), [(0, 32), (3, 0), (3, 12), (-1, 8)])
def test_tiles_nobody_could_train_are_not_drawn(tmp_path: Path, count: int, side: int) -> None:
    """A count below one and a side that is no multiple of eight are refused, and nothing is written."""
    with pytest.raises(ValueError, match="multiple of 8"):
        write_demonstration(tmp_path / "x", Demonstration(count=count, side=side))
    assert not (tmp_path / "x").exists()


WRONG: dict[str, Callable[[], Any]] = {
    "ValueError: Field 'gsd' not found in the dataset.": lambda: changed(gsd=None),
    "ValueError: Dtype mismatch for 'label': expected int64, got int32": lambda: changed(label=np.int32),
    "ValueError: Dtype mismatch for 'gsd': expected float32, got float64": lambda: changed(gsd=np.float64),
    "ValueError: Dtype mismatch for 'pixels': expected float32, got float64": lambda: changed(
        pixels=(np.float64, (4, 16, 16))
    ),
    "ValueError: Inconsistent platform in sample 1": lambda: with_value("platform", 1, b"naip"),
    "ValueError: Inconsistent gsd in sample 4": lambda: with_value("gsd", 4, 11),
    "ValueError: Inconsistent bands in sample 2": lambda: with_value("bands", 2, [b"nir", b"red", b"blue", b"green"]),
    "ValueError: Pixel shape mismatch in sample 0": lambda: changed(pixels=(np.float32, (3, 16, 16))),
    "ValueError: Height != Width in sample 0: 16 != 24": lambda: changed(pixels=(np.float32, (4, 16, 24))),
    "ValueError: Height (and Width) not divisible by 8 in sample 0: 12": lambda: changed(
        pixels=(np.float32, (4, 12, 12))
    ),
    "IndexError: Index (0) out of range for empty dimension": lambda: demonstration(SMALL)[:0],
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_file_is_refused_in_the_vendors_words(tmp_path: Path, words: str) -> None:
    """Each check has its text, and checking without reading the pixels says the same."""
    assert refusal(put(tmp_path / "x.h5", WRONG[words]())) == words


def test_files_that_are_no_tiles_are_refused(tmp_path: Path) -> None:
    """Other bytes, half a file and a file without the dataset fail in the library's words and the vendor's."""
    (tmp_path / "text").write_text("no tiles here, " * 100)
    no_tiles = "OSError: Unable to synchronously open file (file signature not found)"
    assert refusal(tmp_path / "text") == no_tiles
    whole = put(tmp_path / "whole", demonstration(SMALL)).read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    assert refusal(tmp_path / "half").startswith("OSError: Unable to synchronously open file (truncated file")
    missing = "ValueError: Dataset 'data' not found in the file."
    assert refusal(put(tmp_path / "other", demonstration(SMALL), "tiles")) == missing
    assert refusal(put(tmp_path / "group", demonstration(SMALL), "data/tiles")) == missing


def test_any_width_of_text_passes(tmp_path: Path) -> None:
    """Bands in S16 are the same bands."""
    tiles = read_tiles(put(tmp_path / "x", changed(bands=("S16", (4,)))))
    assert tiles.bands == BANDS


def declared(path: Path, count: int, **options: Any) -> Path:
    """Write a file that declares so many tiles and holds none of them."""
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (count,), layout("classification", 64), **options)
    return path


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """Neither what it declares, nor a chunk of it, is larger than what is read; what was not written is not zeros."""
    many = refusal(declared(tmp_path / "many", 40_000, chunks=(1,)))
    assert many == "ValueError: Dataset 'data' takes 2624960000 bytes unpacked: the sandbox reads 512000000."
    assert (tmp_path / "many").stat().st_size < 10_000
    assert "has chunks of 2624" in refusal(declared(tmp_path / "chunk", 9, chunks=(40_000,), maxshape=(None,)))
    for name, options in (("plain", {}), ("chunked", {"chunks": (2,)})):
        words = refusal(declared(tmp_path / name, 9, **options))
        assert words == "ValueError: Dataset 'data' declares 9 tiles, not all were written."
    with h5py.File(tmp_path / "chunked", "r+") as file:
        file["data"][:3] = demonstration(Demonstration(count=3, side=64))
    assert "not all were written" in refusal(tmp_path / "chunked")
    with h5py.File(tmp_path / "chunked", "r+") as file:
        file["data"][:] = demonstration(Demonstration(count=9, side=64))
    assert len(read_tiles(tmp_path / "chunked").pixels) == 9


def test_tiles_of_other_files_are_not_read(tmp_path: Path) -> None:
    """A link, external storage and a virtual dataset are refused, whatever they lead to; a second name is none."""
    tiles = demonstration(SMALL)
    secret = put(tmp_path / "secret", tiles)
    (tmp_path / "raw").write_bytes(tiles.tobytes())
    with h5py.File(tmp_path / "linked", "w") as file:
        file["data"] = h5py.ExternalLink(str(secret), "data")
    with h5py.File(tmp_path / "soft", "w") as file:
        file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
        file["data"] = h5py.SoftLink("/elsewhere/data")
    with h5py.File(tmp_path / "external", "w") as file:
        file.create_dataset("data", (6,), tiles.dtype, external=[(str(tmp_path / "raw"), 0, tiles.nbytes)])
    with h5py.File(tmp_path / "virtual", "w") as file:
        virtual = h5py.VirtualLayout((6,), tiles.dtype)
        virtual[:] = h5py.VirtualSource(str(secret), "data", (6,), tiles.dtype)
        file.create_virtual_dataset("data", virtual)
    for name in ("linked", "soft"):
        assert "is a link to another place" in refusal(tmp_path / name)
    for name in ("external", "virtual"):
        assert "keeps its tiles in other files" in refusal(tmp_path / name)
    with h5py.File(tmp_path / "named", "w") as file:
        file["tiles"] = tiles
        file["data"] = file["tiles"]
    assert refusal(tmp_path / "named") == ""


def tiles_of(labels: Any, *, bands: tuple[str, ...] = BANDS, platform: str = "") -> Tiles:
    """Return tiles of 8 px with these labels."""
    array = np.asarray(labels, np.int64)
    return Tiles(bands, platform, np.zeros((len(array), len(bands), 8, 8), np.float32), array)


MAPS = np.zeros((2, 8, 8), np.int64)


@pytest.mark.parametrize(
    ("tiles", "task", "hyperparameters", "words"),
    [
        (tiles_of([4, 4]), "classification", None, "ValueError: The number of classes has to be greater than one"),
        (tiles_of(MAPS), "classification", None, "ValueError: y should be a 1d array, got an array of shape (2, 8, 8)"),
        (tiles_of(MAPS), "segmentation", None, "ValueError: Hyperparameters must be specified for segmentation task!"),
        (tiles_of(MAPS), "segmentation", {"num_classes": None}, "ValueError: The number of classes must be specified"),
        (tiles_of([0, 1]), "segmentation", {"num_classes": 2}, "RuntimeError: input and target sizes don't match"),
        (tiles_of(MAPS[:, :4]), "segmentation", {"num_classes": 2}, "RuntimeError: input and target sizes"),
        (tiles_of(MAPS + 2), "segmentation", {"num_classes": 2}, "IndexError: Target 2 is out of bounds."),
        (tiles_of(MAPS - 1), "segmentation", {"num_classes": 2}, "IndexError: Target -1 is out of bounds."),
        (tiles_of([0, 1], platform="spot-6"), "classification", None, "KeyError: 'spot-6'"),
        (tiles_of([0, 1], bands=("red", "pink")), "classification", None, "KeyError: 'pink'"),
    ],
)
def test_what_passes_the_checks_may_still_not_train(tiles: Tiles, task: Any, hyperparameters: Any, words: str) -> None:
    """Labels, classes, satellite and bands are looked at when the training begins."""
    assert words_of(lambda: check_trainable(tiles, task, hyperparameters)).startswith(words)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_the_linear_model_learns_the_demonstration(tmp_path: Path, task: Any) -> None:
    """Tiles of another seed are labelled right, after the model was written and read, whatever order bands are in."""
    seen, unseen = (Demonstration(task, 24, 16, seed) for seed in (0, 1))
    for name, wanted in (("seen", seen), ("unseen", unseen)):
        write_demonstration(tmp_path / name, wanted)
    model = TileModel.from_bytes(fit_linear(read_tiles(tmp_path / "seen"), task).to_bytes())
    tiles = read_tiles(tmp_path / "unseen")
    assert np.mean(model.predict(tiles.pixels, tiles.bands) == tiles.labels) > 0.95
    turned = model.predict(tiles.pixels[:, ::-1], tiles.bands[::-1])
    assert np.array_equal(turned, model.predict(tiles.pixels, tiles.bands))
    with pytest.raises(ValueError, match="lack: nir"):
        model.predict(tiles.pixels[:, :3], tiles.bands[:3])


def test_the_linear_model_knows_its_bands() -> None:
    """Mean and spread, found tile by tile, are those of all pixels."""
    pixels = demonstration(Demonstration(count=7, side=16))["pixels"]
    mean, spread = band_facts(pixels)
    assert mean == pytest.approx(pixels.astype(np.float64).mean((0, 2, 3)))
    assert spread == pytest.approx(pixels.astype(np.float64).std((0, 2, 3)))


def test_labels_need_not_count_from_zero(tmp_path: Path) -> None:
    """A classification answers the labels of the file, not their numbers."""
    array = demonstration(Demonstration(count=12, side=8))
    array["label"] = array["label"] * 10 + 7
    tiles = read_tiles(put(tmp_path / "x", array))
    found = fit_linear(tiles, "classification").predict(tiles.pixels, tiles.bands)
    assert np.array_equal(found, tiles.labels)
    assert set(found.tolist()) == {7, 17, 27}


def test_without_the_library_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and drawing name the extra to install."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    for attempt in (lambda: read_tiles(tmp_path / "x"), lambda: write_demonstration(tmp_path / "x", SMALL)):
        with pytest.raises(ModuleNotFoundError, match=r"train-pipeline\[bluesight\]"):
            attempt()


def test_the_layout_is_the_documented_one() -> None:
    """Field names and types of a drawn tile are those of the vendor's format."""
    assert str(layout("segmentation", 16)["label"].base) == "int64"
    assert layout("segmentation", 16)["label"].shape == (16, 16)
    assert layout("classification", 16)["label"].shape == ()
    assert layout("classification", 16).names == ("bands", "gsd", "pixels", "platform", "point", "timestamp", "label")
