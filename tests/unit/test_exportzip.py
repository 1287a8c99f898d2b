"""The export ZIP: same content, same bytes; whole or not at all; damage is named."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.datasets import DataError, LabelledImage, Shape
from sandbox.exportzip import ExportCounts, read_export, write_export

IMAGES = [
    LabelledImage("b.jpg", b"bytes b", 20, 10, (Shape("car", (1, 2, 3, 4)),), ("day",), "val", "review"),
    LabelledImage("a.jpg", b"bytes a", 8, 9, (Shape("bus", (0, 0, 4, 4), ((0, 0), (4, 0), (4, 4.5))),)),
]


def write(path: Path, images: list[LabelledImage] = IMAGES, *, include_images: bool = True) -> ExportCounts:
    """Write the images under fixed dataset and export names."""
    return write_export(path, dataset="roads", export="nightly", images=images, include_images=include_images)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Every field survives the round trip; the order is by name."""
    counts = write(tmp_path / "e.zip")
    assert read_export(tmp_path / "e.zip") == sorted(IMAGES, key=lambda image: image.name)
    assert counts == ExportCounts(2, 2, (tmp_path / "e.zip").stat().st_size)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """Neither the clock nor the order of the images is in the file."""
    write(tmp_path / "one.zip")
    write(tmp_path / "two.zip", IMAGES[::-1])
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_the_documents_have_the_published_layout(tmp_path: Path) -> None:
    """dataset.json counts and lists classes; annotations are boxes or polygons with pixel coordinates."""
    write(tmp_path / "e.zip")
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        head = json.loads(archive.read("dataset.json"))
        bus = json.loads(archive.read("annotations/a.jpg.json"))
        car = json.loads(archive.read("annotations/b.jpg.json"))
        assert archive.read("images/a.jpg") == b"bytes a"
    assert (head["dataset"], head["export"], head["format"]) == ("roads", "nightly", "pictograph")
    assert (head["image_count"], head["annotation_count"]) == (2, 2)
    assert [(c["name"], c["type"]) for c in head["classes"]] == [("bus", "polygon"), ("car", "bbox"), ("day", "tag")]
    assert (car["image"]["status"], car["image"]["split"], car["tags"]) == ("review", "val", ["day"])
    assert car["annotations"][0]["bounding_box"] == {"x": 1, "y": 2, "w": 3, "h": 4}
    assert bus["annotations"][0]["polygon"] == {"paths": [[{"x": 0, "y": 0}, {"x": 4, "y": 0}, {"x": 4, "y": 4.5}]]}


def test_an_export_without_images_has_labels_only(tmp_path: Path) -> None:
    """include_images=false leaves the images out; reading gives empty bytes, not an error."""
    write(tmp_path / "e.zip", include_images=False)
    assert [image.content for image in read_export(tmp_path / "e.zip")] == [b"", b""]
    assert read_export(tmp_path / "e.zip")[1].shapes == IMAGES[0].shapes


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A reader never meets half an export, and nothing is left lying about."""
    write(tmp_path / "e.zip")
    before = (tmp_path / "e.zip").read_bytes()
    nothing: Any = None
    broken = replace(IMAGES[0], content=nothing)
    with pytest.raises(TypeError):
        write(tmp_path / "e.zip", [IMAGES[1], broken])
    assert (tmp_path / "e.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["e.zip"]


@pytest.mark.parametrize("name", ["../a.jpg", "a/b.jpg", "", "..", "a\\b.jpg", "a.jpg"])
def test_names_that_leave_the_folder_or_occur_twice_are_refused(tmp_path: Path, name: str) -> None:
    """An export unpacks to one flat folder, and an image never replaces another."""
    with pytest.raises(DataError, match="rename"):
        write(tmp_path / "e.zip", [IMAGES[1], replace(IMAGES[0], name=name)])


def test_damage_is_named(tmp_path: Path) -> None:
    """Half a file, another ZIP, and a document with a field missing each give a DataError."""
    path = tmp_path / "e.zip"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"'e\.zip' cannot be read"):
        read_export(path)
    path.write_bytes(whole.replace(b"bytes a", b"bytes x"))
    with pytest.raises(DataError, match="CRC"):
        read_export(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"no dataset\.json"):
        read_export(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dataset.json", "{}")
        archive.writestr("annotations/a.jpg.json", '{"image": {"file_name": "a.jpg"}}')
    with pytest.raises(DataError, match=r"annotations/a\.jpg\.json"):
        read_export(path)
