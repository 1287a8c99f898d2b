"""Pictures and names that a layout does not use: nothing disappears without a word, and none is used twice."""

import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sandbox.datasets import DataError, LabelledImage, Shape
from sandbox.exportzip import write_export
from sandbox.layouts.reading import read_data
from tests.unit.own_data import grey, picture, refusal, write

CLASSES: dict[str, bytes | str] = {"cat/a.png": picture(), "dog/b.png": picture()}
BY_SPLIT: dict[str, bytes | str] = {f"train/{name}": content for name, content in CLASSES.items()}


def coco(file_name: str = "a.png", category: str = "car") -> str:
    """Return a COCO document of one picture with one box."""
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": file_name}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
            "categories": [{"id": 1, "name": category}],
        }
    )


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        (CLASSES, "dog/indoor/c.png"),
        (CLASSES, "c.png"),
        (CLASSES, "bird/wild/c.png"),
        (BY_SPLIT, "testing/cat/c.png"),
        (BY_SPLIT, "train/c.png"),
    ],
)
def test_pictures_outside_the_class_folders_are_named(tmp_path: Path, files: dict[str, bytes | str], lost: str) -> None:
    """A folder too deep, no folder at all, a split's name that is none: the rest is read and these are told."""
    read = read_data(write(tmp_path, {**files, lost: picture()}))
    assert [(image.name, image.tags) for image in read.images] == [("a.png", ("cat",)), ("b.png", ("dog",))]
    assert read.notices == (f"not directly in a class folder, passed over: 1 pictures ({lost!r})",)


def test_an_unlabelled_test_set_is_no_class(tmp_path: Path) -> None:
    """`test/*.png` beside `train/<class>/` is passed over with a notice of its own."""
    read = read_data(write(tmp_path, {**BY_SPLIT, "test/1.png": picture(), "test/2.png": picture()}))
    assert {(image.tags, image.split) for image in read.images} == {(("cat",), "train"), (("dog",), "train")}
    assert read.notices == ("test/ holds no class folders, passed over: 2 pictures ('test/1.png', 'test/2.png')",)


@pytest.mark.parametrize("suffix", [".jfif", ".JPE"])
def test_jpegs_by_their_rarer_names_are_read(tmp_path: Path, suffix: str) -> None:
    """What some browsers and cameras call a JPEG is one."""
    read = read_data(write(tmp_path, {"cat/a.png": picture(), f"dog/b{suffix}": picture(kind="JPEG")}))
    assert ([image.name for image in read.images], read.notices) == (["a.png", f"b{suffix}"], ())


@pytest.mark.parametrize(
    ("files", "split", "name"),
    [
        (("labels.json", "instances_test.json"), "test", "a"),
        (("all.json", "labels.json"), None, "a"),
        (("instances_test.json", "instances_train.json"), "test", "a"),
    ],
)
def test_a_picture_in_two_coco_files_is_one_picture(
    tmp_path: Path, files: tuple[str, str], split: str | None, name: str
) -> None:
    """It is used once, in the split that one of them gives: no held-out picture is trained on under another name."""
    write(tmp_path, {"a.png": picture(), **{f"annotations/{file}": coco() for file in files}})
    read = read_data(tmp_path)
    assert [(image.name, image.split) for image in read.images] == [(f"{name}.png", split)]
    assert [notice for notice in read.notices if "listed more than once" in notice and "1 pictures ('a.png')" in notice]


def test_a_second_entry_of_a_picture_is_found_behind_a_link(tmp_path: Path) -> None:
    """Two paths of one file are one picture; two files of one name stay two."""
    write(tmp_path, {"images/a.png": picture(), "train/a.png": picture(), "train/x.json": coco(), "x.json": coco()})
    assert len(read_data(tmp_path).images) == 2
    (tmp_path / "train/a.png").unlink()
    (tmp_path / "train/a.png").symlink_to("../images/a.png")
    assert [image.split for image in read_data(tmp_path).images] == ["train"]


def test_the_imported_folder_s_own_name_is_no_split(tmp_path: Path) -> None:
    """`import data/test` does not make everything test; a split's folder in it still counts."""
    root = write(tmp_path / "test", {"labels.json": coco("a.png"), "a.png": picture()})
    assert [image.split for image in read_data(root).images] == [None]
    write(root, {"val/labels.json": coco("b.png"), "val/b.png": picture()})
    assert [image.split for image in read_data(root).images] == [None, "val"]


@pytest.mark.parametrize(
    ("file", "content", "parts"),
    [
        ("classes.json", '{"1": "road", "255": "sign"}', ("value 255 'sign'", "carries no label", "1 to 254")),
        ("classes.json", '{"0": "road", "1": "sign"}', ("value 0 'road'", "is the background")),
        ("classes.txt", "\n".join(f"c{k}" for k in range(1, 256)), ("value 255 'c255'",)),
    ],
)
def test_a_class_that_no_mask_could_show_is_refused(
    tmp_path: Path, file: str, content: str, parts: tuple[str, ...]
) -> None:
    """0 is background and 255 no label: a class of that value would never be seen."""
    write(tmp_path, {"images/a.png": picture(), "masks/a.png": grey([[1] * 20] * 10), file: content})
    said = refusal(tmp_path)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize("more", [{"data.yaml": "names: [car]"}, {"labels/a.txt": "0 0.5 0.5 0.5 0.4"}])
def test_an_export_that_could_be_read_otherwise_says_so(tmp_path: Path, more: dict[str, bytes | str]) -> None:
    """Labels added to an unpacked export are not used, and the notice tells how they would be."""
    images = [LabelledImage("a.png", picture(), 20, 10, (Shape("car", (1, 2, 3, 4)),))]
    write_export(tmp_path / "e.zip", dataset="d", export="e", images=images, include_images=True)
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        archive.extractall(tmp_path / "e")
    assert read_data(tmp_path / "e").notices == ()
    read = read_data(write(tmp_path / "e", more))
    assert (read.layout, list(read.images)) == ("export", images)
    (notice,) = read.notices
    assert notice.startswith(f"read as export (dataset.json); the folder could be read as YOLO ({next(iter(more))})")


def test_a_damaged_lzma_entry_is_a_damaged_zip(tmp_path: Path) -> None:
    """Its decoder has an error of its own, which is told like the others."""
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/a.png", picture(200, 200))
    content = bytearray((tmp_path / "d.zip").read_bytes())
    at = content.index(b"cat/a.png") + len(b"cat/a.png") + 4
    content[at : at + 5] = b"\xff" * 5  # the properties that every LZMA entry begins with
    (tmp_path / "d.zip").write_bytes(content)
    said = refusal(tmp_path / "d.zip")
    assert "'d.zip' is no ZIP file that can be read" in said
    with pytest.raises(lzma.LZMAError), zipfile.ZipFile(tmp_path / "d.zip") as archive:
        archive.read("cat/a.png")


@pytest.mark.parametrize(
    "fields", [{"name": "a\udcff.png"}, {"tags": ("\udcff",)}, {"shapes": (Shape("\udcff", (1, 2, 3, 4)),)}]
)
def test_names_that_are_no_text_are_refused_by_name(tmp_path: Path, fields: dict[str, Any]) -> None:
    """A file name of another encoding, or half a character from JSON: said before anything is written."""
    image = LabelledImage(**{"name": "a.png", "content": picture(), "width": 20, "height": 10, **fields})
    with pytest.raises(DataError, match=r"name '.*\\udcff.*' cannot be written as UTF-8 .*: rename it"):
        write_export(tmp_path / "e.zip", dataset="d", export="e", images=[image], include_images=True)
    assert list(tmp_path.iterdir()) == []
