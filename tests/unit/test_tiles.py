"""The checks of a Bluesight training file before it is uploaded."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.data import tile_file, tile_format, tile_rules
from pipeline.data.remarks import MOST_OF_A_KIND
from pipeline.data.tiles import TilesReport, inspect_tiles
from pipeline.errors import ConfigurationError
from pipeline.models import Severity
from tests.unit.tile_files import BANDS, make_dtype, make_tiles, write_tiles


def _inspect(path: Path, task: Any = "classification", num_classes: int | None = 3) -> TilesReport:
    return inspect_tiles(path, task=task, num_classes=num_classes)


def _codes(report: TilesReport) -> list[tuple[str, str]]:
    return [(finding.severity.value, finding.code) for finding in report.findings]


def _judge(tmp_path: Path, tiles: Any, task: str = "classification", num_classes: int | None = 3) -> TilesReport:
    return _inspect(write_tiles(tmp_path / "tiles.h5", tiles), task, num_classes)


def test_a_right_file_is_told_in_full(tmp_path: Path) -> None:
    """Count, labels, bands, sizes and digests are those of the file, and nothing is remarked."""
    path = write_tiles(tmp_path / "tiles.h5", make_tiles(7), compression="gzip")
    report = _inspect(path)
    assert report.findings == ()
    assert (report.count, report.height, report.width) == (7, 8, 8)
    assert report.classes == report.shown == {0: 3, 1: 2, 2: 2}
    assert (report.bands, report.gsd, report.platform) == (("blue", "green", "red"), 10.0, "sentinel-2-l2a")
    assert (report.size_bytes, report.sha256) == (
        path.stat().st_size,
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    assert TilesReport.model_validate_json(report.model_dump_json()) == report


def test_pixels_and_tiles_of_each_class_are_counted(tmp_path: Path) -> None:
    """For segmentation a class has pixels, and tiles that show it."""
    tiles = make_tiles(2, "segmentation")
    tiles["label"] = 0
    tiles["label"][1, :2] = 2
    report = _judge(tmp_path, tiles, "segmentation")
    assert report.findings == ()
    assert report.classes == {0: 112, 2: 16}
    assert report.shown == {0: 2, 2: 1}


def test_an_empty_platform_is_none(tmp_path: Path) -> None:
    """It may be left empty, and radar and optical bands are both known then."""
    tiles = make_tiles()
    tiles["platform"] = b""
    tiles["bands"] = (b"vv", b"vh", b"red")
    report = _judge(tmp_path, tiles)
    assert (report.platform, report.findings) == (None, ())


_FORMAT: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("no gsd", {"gsd": None}, "field_missing", ["'gsd'", "float32"]),
    ("int32 labels", {"label": "<i4"}, "field_dtype", ["'label'", "int32", "int64"]),
    ("float64 gsd", {"gsd": "<f8"}, "field_dtype", ["'gsd'", "float64", "float32"]),
    ("foreign byte order", {"pixels": (">f4", (3, 8, 8))}, "field_dtype", ["'pixels'", ">f4"]),
    ("numbers as platform", {"platform": "<i8"}, "field_dtype", ["'platform'", "byte string"]),
    ("one place instead of two numbers", {"point": "<f4"}, "field_shape", ["'point'", "(2)"]),
    ("three numbers for a place", {"point": ("<f4", (3,))}, "field_shape", ["'point'", "(3,)"]),
    ("pixels without bands", {"pixels": ("<f4", (8, 8))}, "field_shape", ["'pixels'", "(8, 8)"]),
    ("a mask for classification", {"label": ("<i8", (8, 8))}, "label_shape", ["'label'", "classification"]),
    ("too few names", {"bands": ("S10", (2,))}, "band_count", ["2", "3"]),
    ("not square", {"pixels": ("<f4", (3, 16, 24))}, "not_square", ["16", "24"]),
    ("side of 12", {"pixels": ("<f4", (3, 12, 12))}, "side_multiple", ["12x12", "8"]),
]


@pytest.mark.parametrize(("changes", "code", "words"), [case[1:] for case in _FORMAT], ids=[c[0] for c in _FORMAT])
def test_a_wrong_field_is_an_error(tmp_path: Path, changes: dict[str, Any], code: str, words: list[str]) -> None:
    """The finding names the field, what it is and what it should be."""
    tiles = np.zeros(4, make_dtype(**changes))
    found = [f for f in _judge(tmp_path, tiles).findings if f.code == code]
    assert [finding.severity for finding in found] == [Severity.ERROR]
    assert [word for word in words if word not in found[0].message] == []


@pytest.mark.parametrize(
    ("label", "message"),
    [("<i8", "for segmentation"), (("<i8", (8, 16)), "(8, 16) in each sample, 'pixels' is (8, 8)")],
)
def test_a_mask_must_fit_the_tile(tmp_path: Path, label: Any, message: str) -> None:
    """The server would not see this before it trains."""
    report = _judge(tmp_path, np.zeros(4, make_dtype("segmentation", label=label)), "segmentation")
    assert [message in finding.message for finding in report.findings if finding.code == "label_shape"] == [True]


def test_every_field_is_judged(tmp_path: Path) -> None:
    """The first fault does not hide the others."""
    report = _judge(tmp_path, np.zeros(4, make_dtype(gsd=None, label="<i4", timestamp="<f8")))
    assert sorted(_codes(report)) == [("error", "field_dtype")] * 2 + [("error", "field_missing")]


def test_fields_of_ones_own_are_remarked_only(tmp_path: Path) -> None:
    """They cost an upload, no more."""
    report = _judge(tmp_path, make_tiles(note="S4"))
    assert _codes(report) == [("info", "extra_fields")]
    assert report.count == 6


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (np.zeros(0, make_dtype()), "no_samples"),
        (np.zeros((2, 3), make_dtype()), "data_shape"),
        (np.zeros((), make_dtype()), "data_shape"),
        (h5py.Empty("f4"), "data_shape"),
        (np.zeros(5), "not_compound"),
    ],
    ids=["empty", "two axes", "one record", "null", "plain numbers"],
)
def test_data_must_be_a_list_of_samples(tmp_path: Path, data: Any, code: str) -> None:
    """Anything else under the right name is an error."""
    assert _codes(_judge(tmp_path, data)) == [("error", code)]


def _changed(field: str, value: Any, sample: int = 3, task: str = "classification") -> Any:
    tiles = make_tiles(6, task)
    if sample < 0:
        tiles[field] = value
    else:
        tiles[field][sample] = value
    return tiles


_SAMPLES: list[tuple[str, Any, str, list[str]]] = [
    ("bands", _changed("bands", (b"red", b"green", b"blue")), "error bands_differs", ["sample 3", "'red'", "'blue'"]),
    ("gsd", _changed("gsd", 20), "error gsd_differs", ["sample 3", "20.0", "10.0"]),
    ("platform", _changed("platform", b"naip"), "error platform_differs", ["sample 3", "'naip'", "'sentinel-2-l2a'"]),
    (
        "unknown platform",
        _changed("platform", b"S2", -1),
        "error unknown_platform",
        ["'S2'", "sentinel-2-l2a"],
    ),
    ("unknown band", _changed("bands", (b"B02", b"green", b"red"), -1), "error unknown_band", ["'B02'", "blue"]),
    ("radar band", _changed("bands", (b"vv", b"green", b"red"), -1), "error unknown_band", ["'vv'", "swir16"]),
    ("repeated band", _changed("bands", (b"red", b"green", b"red"), -1), "warning repeated_band", ["'red'"]),
    ("no gsd", _changed("gsd", np.nan, -1), "error bad_gsd", ["nan", "metres"]),
    ("gsd of zero", _changed("gsd", 0, -1), "warning bad_gsd", ["0.0", "metres"]),
    ("label too high", _changed("label", 3), "error label_out_of_range", ["sample 3", "is 3", "0 to 2"]),
    ("label below zero", _changed("label", -1), "error label_out_of_range", ["sample 3", "is -1", "0 to 2"]),
    ("NaN", _changed("pixels", np.nan), "warning pixels_not_finite", ["sample 3", "192 values"]),
    ("infinity", _changed("pixels", np.inf, -1), "warning pixels_not_finite", ["sample 0"]),
    ("longitude first", _changed("point", (113, 52)), "warning bad_point", ["sample 3", "113.0", "latitude"]),
    ("beyond the date line", _changed("point", (52, 181)), "warning bad_point", ["sample 3", "181.0"]),
    ("no place", _changed("point", np.nan), "warning bad_point", ["sample 3"]),
    ("milliseconds", _changed("timestamp", 1_700_000_000_000), "warning bad_timestamp", ["1700000000000"]),
    ("one label", _changed("label", 1, -1), "error single_label", ["is 1", "two values"]),
]


@pytest.mark.parametrize(("tiles", "found", "words"), [case[1:] for case in _SAMPLES], ids=[c[0] for c in _SAMPLES])
def test_a_wrong_sample_is_found(tmp_path: Path, tiles: Any, found: str, words: list[str]) -> None:
    """The finding names sample, value and what to do; it is the only one of its file."""
    report = _judge(tmp_path, tiles)
    assert {" ".join(pair) for pair in _codes(report)} == {found}
    assert [word for word in words if word not in report.findings[0].message] == []


def test_radar_has_bands_of_its_own(tmp_path: Path) -> None:
    """Only they are right for the radar platform."""
    tiles = make_tiles()
    tiles["platform"] = b"sentinel-1-rtc"
    assert [finding.code for finding in _judge(tmp_path, tiles).findings] == ["unknown_band"] * len(BANDS)


@pytest.mark.parametrize("value", [-1, 3])
def test_every_pixel_is_within_the_classes(tmp_path: Path, value: int) -> None:
    """One pixel outside is one sample at fault, with the value named."""
    tiles = make_tiles(6, "segmentation")
    tiles["label"][4, 5, 5] = value
    report = _judge(tmp_path, tiles, "segmentation")
    assert _codes(report) == [("error", "label_out_of_range")]
    assert f"sample 4 is {value}" in report.findings[0].message


def test_a_classifier_without_num_classes_takes_any_whole_number(tmp_path: Path) -> None:
    """A negative one is remarked, no more."""
    assert _codes(_judge(tmp_path, _changed("label", -5), num_classes=None)) == [("warning", "label_out_of_range")]
    assert _codes(_judge(tmp_path, _changed("label", 900), num_classes=None)) == []


@pytest.mark.parametrize(("num_classes", "code"), [(None, "num_classes_missing"), (0, "num_classes_invalid")])
def test_segmentation_needs_the_number_of_classes(tmp_path: Path, num_classes: int | None, code: str) -> None:
    """Without it the job would fail after the upload."""
    codes = _codes(_judge(tmp_path, make_tiles(task="segmentation"), "segmentation", num_classes))
    assert codes[0] == ("error", code)


def test_segmentation_into_one_class_is_remarked(tmp_path: Path) -> None:
    """It trains, and learns nothing."""
    report = _judge(tmp_path, _changed("label", 1, -1, "segmentation"), "segmentation")
    assert _codes(report) == [("warning", "single_label")]


def test_labels_that_are_measurements_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting stops, so that a mask of millions of values does not fill the memory."""
    monkeypatch.setattr(tile_rules, "MAX_LABELS", 4)
    tiles = make_tiles(6, "segmentation")
    tiles["label"] = np.arange(6 * 64).reshape(6, 8, 8)
    report = _judge(tmp_path, tiles, "segmentation", 1000)
    assert _codes(report) == [("error", "too_many_labels")]
    assert len(report.classes) <= 5


def test_faults_beyond_the_first_few_are_counted(tmp_path: Path) -> None:
    """Forty samples at fault make a readable list."""
    tiles = make_tiles(41)
    tiles["gsd"][1:] = 20
    findings = _judge(tmp_path, tiles).findings
    assert [finding.code for finding in findings] == ["gsd_differs"] * (MOST_OF_A_KIND + 1)
    assert findings[-1].message.startswith(f"{40 - MOST_OF_A_KIND} more")


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    """Packing, chunks, further fields and the size of the blocks read do not count; each field's content does."""
    tiles = make_tiles()
    plain = _inspect(write_tiles(tmp_path / "a.h5", tiles)).content_fingerprint
    packed = _inspect(write_tiles(tmp_path / "b.h5", tiles, compression="gzip", chunks=(2,)))
    assert packed.content_fingerprint == plain != packed.sha256
    assert _judge(tmp_path, make_tiles(note="S4")).content_fingerprint == plain
    for field, value in (("gsd", 20), ("label", 2), ("timestamp", 5), ("point", 1), ("platform", b"naip")):
        changed = make_tiles()
        changed[field][0] = value
        assert _judge(tmp_path, changed).content_fingerprint != plain, field
    assert _judge(tmp_path, make_tiles()[::-1]).content_fingerprint != plain


def test_a_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many samples there are, few are in memory; the report is the same, and samples keep their numbers."""
    tiles = _changed("gsd", 20, 5)
    whole = _judge(tmp_path, tiles)
    sizes: list[int] = []
    look = tile_rules.TileCheck.look

    def counted(check: tile_rules.TileCheck, start: int, block: Any) -> None:
        sizes.append(len(block))
        look(check, start, block)

    monkeypatch.setattr(tile_rules.TileCheck, "look", counted)
    monkeypatch.setattr(tile_file, "BLOCK_BYTES", 2 * tiles.dtype.itemsize)
    assert _inspect(tmp_path / "tiles.h5") == whole
    assert sizes == [2, 2, 2]
    assert "sample 5" in whole.findings[0].message


@pytest.mark.parametrize("name", ["missing.h5", "."])
def test_a_missing_file_is_a_matter_of_the_request(tmp_path: Path, name: str) -> None:
    """The error names the field to change."""
    with pytest.raises(ConfigurationError, match="is not a file") as caught:
        inspect_tiles(tmp_path / name, task="classification", num_classes=None, role="validation")
    assert caught.value.context.field == "validation"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 something else", b"\x89HDF"])
def test_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    """The server would take it and fail later."""
    (tmp_path / "tiles.h5").write_bytes(content)
    assert _codes(_inspect(tmp_path / "tiles.h5")) == [("error", "not_hdf5")]


def test_a_file_behind_a_user_block_is_hdf5(tmp_path: Path) -> None:
    """The signature may stand at byte 512 as well."""
    with h5py.File(tmp_path / "tiles.h5", "w", userblock_size=1024) as file:
        file.create_dataset("data", data=make_tiles())
    assert _codes(_inspect(tmp_path / "tiles.h5")) == []


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    """A cut upload or a full disk is told from a training file, and the file is fingerprinted as it is."""
    path = write_tiles(tmp_path / "tiles.h5", make_tiles())
    path.write_bytes(path.read_bytes()[:3000])
    report = _inspect(path)
    assert _codes(report) == [("error", "unreadable")]
    assert (report.count, report.content_fingerprint) == (None, report.sha256)


def test_damaged_samples_are_refused(tmp_path: Path) -> None:
    """A checksum that does not match ends the reading, and says which samples."""
    path = write_tiles(tmp_path / "tiles.h5", make_tiles(), chunks=(1,), fletcher32=True)
    content = bytearray(path.read_bytes())
    content[-200] ^= 0xFF
    path.write_bytes(content)
    report = _inspect(path)
    assert _codes(report) == [("error", "unreadable")]
    assert "samples 0 to 5" in report.findings[0].message


def test_without_the_reader_only_the_signature_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning says what was not checked and how to get it checked; another format is refused all the same."""
    path = write_tiles(tmp_path / "tiles.h5", np.zeros(3))
    monkeypatch.setitem(sys.modules, "h5py", None)
    report = _inspect(path)
    assert _codes(report) == [("warning", "content_unchecked")]
    assert "pip install 'train-pipeline[bluesight]'" in report.findings[0].message
    assert (report.count, report.content_fingerprint) == (None, report.sha256)
    (tmp_path / "other.h5").write_bytes(b"nothing of the kind")
    assert _codes(_inspect(tmp_path / "other.h5")) == [("error", "not_hdf5")]
    assert ("error", "num_classes_missing") in _codes(_inspect(path, "segmentation", None))


@pytest.mark.parametrize(
    ("limit", "code"), [("MAX_SAMPLE_BYTES", "sample_too_large"), ("MAX_CONTENT_BYTES", "content_too_large")]
)
def test_what_is_declared_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, code: str
) -> None:
    """A few bytes can declare any size."""
    monkeypatch.setattr(tile_format, limit, 1000 if code == "content_too_large" else 100)
    report = _judge(tmp_path, make_tiles())
    assert _codes(report) == [("error", code)]
    assert report.classes == {}
