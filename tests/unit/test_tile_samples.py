"""Which tiles are kept for the smoke test, and how."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import tile_file
from pipeline.data.tile_samples import SampleTile
from pipeline.data.tiles import keep_tiles
from pipeline.errors import ConfigurationError, ExportRejectedError, OutputPathError
from tests.unit.tile_files import make_dtype, make_tiles, write_tiles


def test_tiles_are_kept_with_what_inference_asks_for(tmp_path: Path) -> None:
    """Pixels, bands, gsd, platform, place, time and label are those of the sample."""
    tiles = make_tiles()
    path = write_tiles(tmp_path / "tiles.h5", tiles)
    kept = keep_tiles(path, 2, tmp_path / "kept")
    assert [(tile.index, tile.label) for tile in kept] == [(0, 0), (1, 1)]
    first = kept[0]
    assert (first.bands, first.gsd, first.platform) == (("blue", "green", "red"), 10.0, "sentinel-2-l2a")
    assert (first.point, first.timestamp_s) == ((52.5, pytest.approx(13.4)), 1_700_000_000)
    pixels = np.load(first.path, allow_pickle=False)
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, tiles["pixels"][0])
    assert SampleTile.model_validate_json(first.model_dump_json()) == first
    facts = json.loads((tmp_path / "kept" / "tile-00.json").read_text())
    assert (facts["path"], facts["label"], facts["platform"]) == ("tile-00.npy", 0, "sentinel-2-l2a")


def test_masks_are_kept_beside_their_tile(tmp_path: Path) -> None:
    """The label of a segmentation tile is a file of one number a pixel."""
    tiles = make_tiles(4, "segmentation")
    kept = keep_tiles(write_tiles(tmp_path / "tiles.h5", tiles), 1, tmp_path / "kept")
    assert isinstance(kept[0].label, Path)
    assert np.array_equal(np.load(kept[0].label), tiles["label"][0])
    assert SampleTile.model_validate_json(kept[0].model_dump_json()) == kept[0]
    assert json.loads((tmp_path / "kept" / "tile-00.json").read_text())["label"] == "tile-00.label.npy"


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    """Zeros and an empty name stand for nothing."""
    tiles = make_tiles()
    for field in ("point", "timestamp"):
        tiles[field] = 0
    tiles["platform"] = b""
    tiles["point"][1] = np.nan
    kept = keep_tiles(write_tiles(tmp_path / "tiles.h5", tiles), 2, tmp_path / "kept")
    assert [(tile.point, tile.timestamp_s, tile.platform) for tile in kept] == [(None, None, None)] * 2


def test_rare_labels_are_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file sorted by label gives every label its turn, and the same tiles each time, however it is read."""
    tiles = make_tiles(40)
    tiles["label"] = [0] * 30 + [4] * 9 + [7]
    path = write_tiles(tmp_path / "tiles.h5", tiles)
    kept = keep_tiles(path, 5, tmp_path / "kept")
    assert [(tile.index, tile.label) for tile in kept] == [(0, 0), (30, 4), (39, 7), (1, 0), (31, 4)]
    monkeypatch.setattr(tile_file, "BLOCK_BYTES", 3 * tiles.dtype.itemsize)
    assert keep_tiles(path, 5, tmp_path / "kept") == kept


def test_a_tile_of_many_labels_counts_for_each(tmp_path: Path) -> None:
    """What the first tile shows already need not be shown by the second."""
    tiles = make_tiles(4, "segmentation")
    tiles["label"] = 0
    tiles["label"][0, 0, :2] = (1, 2)
    tiles["label"][3, 0, 0] = 5
    kept = keep_tiles(write_tiles(tmp_path / "tiles.h5", tiles), 2, tmp_path / "kept")
    assert [tile.index for tile in kept] == [0, 3]


def test_fewer_tiles_than_asked_for_are_all_kept_once(tmp_path: Path) -> None:
    """Asking for more than there are is no error."""
    tiles = make_tiles(3, "segmentation")
    tiles["label"][:, 0] = 9
    kept = keep_tiles(write_tiles(tmp_path / "tiles.h5", tiles), 10, tmp_path / "kept")
    assert sorted(tile.index for tile in kept) == [0, 1, 2]


def test_tiles_that_cannot_be_sent_are_passed_over(tmp_path: Path) -> None:
    """JSON has no NaN."""
    tiles = make_tiles(6)
    tiles["pixels"][0, 0, 0, 0] = np.nan
    kept = keep_tiles(write_tiles(tmp_path / "tiles.h5", tiles), 3, tmp_path / "kept")
    assert [(tile.index, tile.label) for tile in kept] == [(3, 0), (1, 1), (2, 2)]


def test_nothing_is_kept_without_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke test then has no tiles; nothing is written either."""
    path = write_tiles(tmp_path / "tiles.h5", make_tiles())
    assert keep_tiles(path, 0, tmp_path / "kept") == ()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert keep_tiles(path, 3, tmp_path / "kept") == ()
    assert not (tmp_path / "kept").exists()


def test_a_file_that_was_not_checked_is_refused(tmp_path: Path) -> None:
    """Whatever is wrong with it is named, with the field of the request."""
    write_tiles(tmp_path / "tiles.h5", np.zeros(4, make_dtype(gsd=None)))
    with pytest.raises(ExportRejectedError, match="field 'gsd' is missing") as caught:
        keep_tiles(tmp_path / "tiles.h5", 2, tmp_path / "kept", role="validation")
    assert caught.value.context.field == "validation"
    (tmp_path / "tiles.h5").write_bytes(b"no tiles")
    with pytest.raises(ExportRejectedError, match="not an HDF5 file"):
        keep_tiles(tmp_path / "tiles.h5", 2, tmp_path / "kept")
    with pytest.raises(ConfigurationError, match="is not a file"):
        keep_tiles(tmp_path / "missing.h5", 2, tmp_path / "kept")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before the file is read, and when the disk is at fault in between."""
    path = write_tiles(tmp_path / "tiles.h5", make_tiles())
    with pytest.raises(OutputPathError):
        keep_tiles(path, 2, path / "kept")
    (tmp_path / "kept" / "tile-00.npy").mkdir(parents=True)
    with pytest.raises(OutputPathError, match=r"tile-00\.npy"):
        keep_tiles(path, 2, tmp_path / "kept")
