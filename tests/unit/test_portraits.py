"""The checks of a folder of pictures of a person before any is uploaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.data import portrait_files, portraits
from pipeline.data.portraits import PortraitsReport, inspect_portraits
from pipeline.errors import ConfigurationError
from tests.unit.portrait_folders import fill, heic, picture, place_notes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of twelve right pictures."""
    return fill(tmp_path / "anna")


def _codes(report: PortraitsReport) -> list[tuple[str, str]]:
    return [(finding.severity.value, finding.code) for finding in report.findings]


def _with(folder: Path, content: bytes, name: str = "anna-05.jpg") -> PortraitsReport:
    """Put a file into the folder, in place of the fifth picture unless it is given another name."""
    (folder / name).write_bytes(content)
    return inspect_portraits(folder)


def test_a_right_folder_is_told_in_full(folder: Path) -> None:
    """Order, count, sizes and digests are those of the files, and nothing is remarked."""
    report = inspect_portraits(folder)
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert report.findings == ()
    assert report.paths == tuple(sorted(folder.iterdir()))
    assert report.count == 12
    assert report.total_bytes == sum(map(len, contents))
    assert report.sizes_bytes == tuple(map(len, contents))
    assert report.digests == tuple(hashlib.sha256(content).hexdigest() for content in contents)
    assert report.formats == ("jpg",) * 12


@pytest.mark.parametrize(
    ("count", "codes"),
    [
        (0, [("error", "too_few_pictures")]),
        (11, [("error", "too_few_pictures")]),
        (12, []),
        (20, []),
        (21, [("error", "too_many_pictures")]),
    ],
)
def test_twelve_to_twenty_pictures(tmp_path: Path, count: int, codes: list[tuple[str, str]]) -> None:
    """What the provider would refuse after the upload is refused before."""
    report = inspect_portraits(fill(tmp_path / "anna", count))
    assert _codes(report) == codes
    assert [str(count) in finding.message for finding in report.findings] == [True] * len(codes)


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("anna-05.jpeg", picture(99), "jpg"),
        ("anna-05.webp", picture(99, "WEBP"), "webp"),
        ("anna-05.png", picture(99, "PNG"), "png"),
        ("anna-05", picture(99, "PNG"), "png"),
        ("anna-05.jpg", picture(99, "PNG"), "png"),
        ("anna-05.heic", heic(), "heic"),
        ("anna-05.heic", heic(brand=b"mif1"), "heic"),
    ],
)
def test_formats_are_told_by_the_content(folder: Path, name: str, content: bytes, format_: str) -> None:
    """The name of a file promises nothing."""
    (folder / "anna-05.jpg").unlink()
    report = _with(folder, content, name)
    assert report.count == 12
    assert report.formats[4] == format_
    assert [finding.severity.value for finding in report.findings] == ["info"] * (format_ == "heic")


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (picture(99, "GIF"), "gif"),
        (picture(99, "BMP"), "bmp"),
        (picture(99, "TIFF"), "tiff"),
        (heic(brand=b"avif", compatible=(b"mif1", b"avif")), "avif"),
        (heic(brand=b"mif1", compatible=(b"mif1",)), "heif"),
        (b"no picture at all", "unknown"),
        (b"", "unknown"),
    ],
)
def test_other_formats_are_refused(folder: Path, content: bytes, format_: str) -> None:
    """The finding says which picture it is and what it is."""
    report = _with(folder, content)
    assert _codes(report) == [("error", "unknown_format")]
    assert f"picture 5 (in the order of names) is {format_};" in report.findings[0].message


@pytest.mark.parametrize(
    "content",
    [
        picture(99)[:-200],
        picture(99, "PNG")[:-30],
        picture(99, "WEBP")[:-60],
        heic()[:-1],
        heic()[:24],
        heic()[:24] + b"\0\0\0\1meta" + bytes(8),
        b"\x89PNG\r\n\x1a\n",
        b"\x00\x00\x00\x04ftypheic\x00\x00\x00\x00heic",
    ],
    ids=[
        "jpg",
        "png",
        "webp",
        "heic",
        "heic without a picture",
        "heic with a box of no length",
        "start of a png",
        "heic of impossible boxes",
    ],
)
def test_damaged_pictures_are_refused(folder: Path, content: bytes) -> None:
    """A picture is opened to its last pixel, a HEIC file followed to its end."""
    report = _with(folder, content)
    assert _codes(report) == [("error", "unreadable_picture")]
    assert "picture 5 (in the order of names)" in report.findings[0].message


def test_a_picture_as_large_as_a_request_is_refused(folder: Path) -> None:
    """The framing of a request counts, so the limit lies below 20 MB."""
    size = 19_500_000 - len(heic())
    assert _codes(_with(folder, heic(bytes(size)))) == [("info", "picture_unopened")]
    report = _with(folder, heic(bytes(size + 1)))
    assert _codes(report) == [("error", "picture_too_large")]
    assert "picture 5 (in the order of names) takes 19500001 bytes" in report.findings[0].message


def test_the_same_file_twice_is_refused(folder: Path) -> None:
    """Both are named by their numbers; the same picture in other bytes is another one."""
    for name in ("anna-07.jpg", "anna-11.jpg"):
        (folder / name).write_bytes((folder / "anna-02.jpg").read_bytes())
    report = inspect_portraits(folder)
    assert _codes(report) == [("error", "duplicate_pictures")]
    assert report.findings[0].message.startswith("pictures 2, 7 and 11 (in the order of names) are the same file")


@pytest.mark.parametrize(("side", "codes"), [(255, [("warning", "tiny_picture")]), (256, [])])
def test_a_tiny_picture_is_remarked(folder: Path, side: int, codes: list[tuple[str, str]]) -> None:
    """It teaches the model little."""
    report = _with(folder, picture(99, side=side))
    assert _codes(report) == codes
    assert all("picture 5 " in finding.message for finding in report.findings)


@pytest.mark.parametrize(
    "content",
    [
        picture(99, located=True),
        picture(99, "PNG", located=True),
        picture(99, "WEBP", located=True),
        heic(place_notes().tobytes()),
        heic(place_notes().tobytes().removeprefix(b"Exif\0\0")),
        picture(99, xmp=b"<x:xmpmeta><rdf exif:GPSLatitude='52,30N'/></x:xmpmeta>"),
    ],
    ids=["jpg", "png", "webp", "heic", "heic without heading", "xmp"],
)
def test_a_place_inside_is_remarked(folder: Path, content: bytes) -> None:
    """Whoever gets the picture gets to know where the person was."""
    warnings = [finding for finding in _with(folder, content).findings if finding.severity.value == "warning"]
    assert [finding.code for finding in warnings] == ["location_inside"]
    assert "picture 5 " in warnings[0].message


def test_notes_without_a_place_are_not_remarked(folder: Path) -> None:
    """Nor are damaged ones; the camera's name is no place."""
    notes = Image.Exif()
    notes[0x010F] = "Camera"
    for exif in (
        notes,
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x25\x88\x04\0\x01\0\0\0\xff\xff\xff\0",
    ):
        assert _codes(_with(folder, picture(99, exif=exif))) == []
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\0\xff"
    assert _codes(_with(folder, heic(damaged * 40))) == [("info", "picture_unopened")]


def test_a_picture_too_large_to_open_is_remarked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a right one; that it was not opened is said."""
    monkeypatch.setattr(portrait_files, "MAX_PIXELS", 256 * 256)
    report = _with(folder, picture(99, side=257))
    assert _codes(report) == [("info", "picture_unopened")]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert _codes(inspect_portraits(folder)) == [("info", "picture_unopened")]


def test_other_files_are_left_out(folder: Path) -> None:
    """Hidden files, folders, pipes and texts are counted and not touched."""
    (folder / ".hidden.jpg").write_bytes(picture(50))
    (folder / "notes.txt").write_text("about the pictures")
    (folder / "more").mkdir()
    (folder / "more" / "inner.jpg").write_bytes(picture(51))
    os.mkfifo(folder / "pipe.jpg")
    report = inspect_portraits(folder)
    assert _codes(report) == [("info", "ignored_files")]
    assert report.findings[0].message.startswith("4 other entries")
    assert report.count == 12


def test_a_picture_that_cannot_be_read_is_known_by_its_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk brings the file's name with it; the finding does not."""
    read = Path.open

    def fail(path: Path, *arguments: Any) -> Any:
        if path.name == "anna-05.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments)

    monkeypatch.setattr(Path, "open", fail)
    report = inspect_portraits(folder)
    assert _codes(report) == [("error", "unreadable_picture")]
    assert "picture 5 (in the order of names) cannot be used: Permission denied" in report.findings[0].message
    assert report.digests[4] == ""


def test_no_name_of_a_picture_is_told(folder: Path) -> None:
    """Whatever is found, neither findings nor the report, shown or stored, hold a name; the paths stay usable."""
    for number, content in enumerate(
        [b"", b"\xff\xd8\xff broken", heic(), picture(1), picture(9, side=9, located=True)]
    ):
        (folder / f"anna-{number + 2:02d}.jpg").write_bytes(content)
    (folder / "anna.txt").write_text("hidden")
    report = inspect_portraits(folder)
    assert len({finding.code for finding in report.findings}) >= 7
    assert "anna" not in repr(report) + str(report) + report.model_dump_json() + repr(report.model_dump())
    assert len(report.paths) == 12
    assert PortraitsReport.model_validate_json(report.model_dump_json()).findings == report.findings


def test_the_fingerprint_is_that_of_the_pictures(folder: Path) -> None:
    """Names, order and file times do not count; a picture more or other does."""
    before = inspect_portraits(folder).content_fingerprint
    (folder / "anna-01.jpg").rename(folder / "zoe.jpg")
    os.utime(folder / "zoe.jpg", (1, 1))
    assert inspect_portraits(folder).content_fingerprint == before
    (folder / "anna-13.jpg").write_bytes(picture(60))
    assert inspect_portraits(folder).content_fingerprint != before


def test_the_wrong_folder_is_not_read_through(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of thousands of pictures is named as too many at once."""
    monkeypatch.setattr(portraits, "MAX_LOOKED", 3)
    monkeypatch.setattr(portraits, "MAX_PICTURES", 3)
    report = inspect_portraits(folder)
    assert _codes(report) == [("error", "too_many_pictures"), ("info", "pictures_unread")]
    assert (report.count, len(report.digests)) == (12, 3)


def test_a_missing_folder_is_a_matter_of_the_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the field to change, also when the folder may not be read."""
    for wrong in (folder / "missing", folder / "anna-01.jpg"):
        with pytest.raises(ConfigurationError, match="is not a folder") as caught:
            inspect_portraits(wrong)
        assert caught.value.context.field == "dataset"

    def fail(_: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        inspect_portraits(folder)
