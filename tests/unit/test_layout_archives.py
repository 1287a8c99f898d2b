"""Exports read back, packed data of every layout, ZIPs nobody should unpack, and the choice among layouts."""

import json
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.datasets import LabelledImage, Shape
from sandbox.exportzip import write_export
from sandbox.layouts import unpacking
from sandbox.layouts.reading import read_data
from tests.unit.own_data import grey, picture, refusal, write, zipped

IMAGES = [
    LabelledImage("a.png", picture(), 20, 10, (Shape("car", (1, 2, 3, 4)),), ("day", "dry"), "val", "review"),
    LabelledImage("b.png", picture(8, 9), 8, 9, (Shape("bus", (0, 0, 4, 4.5), ((0, 0), (4, 0), (4, 4.5))),)),
    LabelledImage("c.png", picture(), 20, 10, split="test"),
]
YOLO: dict[str, bytes | str] = {
    "images/train/a.png": picture(),
    "labels/train/a.txt": "0 0.5 0.5 0.5 0.4",
    "data.yaml": "names: [car]",
}
MASKS: dict[str, bytes | str] = {"images/a.png": picture(), "masks/a.png": grey([[1] * 20] * 10)}
CLASSES: dict[str, bytes | str] = {"cat/a.png": picture(), "dog/b.png": picture()}
COCO: dict[str, bytes | str] = {
    "annotations/instances_train2017.json": json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
            "categories": [{"id": 1, "name": "car"}],
        }
    ),
    "train2017/a.png": picture(),
}


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that ZIPs are unpacked in: nothing is left there, whatever was in them."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def export(path: Path, images: list[LabelledImage] = IMAGES, *, include_images: bool = True) -> Path:
    """Write an export."""
    write_export(path, dataset="d", export="e", images=images, include_images=include_images)
    return path


def unpacked(path: Path) -> Path:
    """Unpack an export beside it."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.with_suffix(""))
    return path.with_suffix("")


@pytest.mark.parametrize("form", [lambda path: path, unpacked, lambda path: zipped(path, unpacked(path), "deep/er/")])
def test_an_export_comes_back_as_it_was_written(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    """As a file, as a folder, and packed once more: splits, statuses, tags, outlines and bytes are kept."""
    read = read_data(form(export(tmp_path / "e.zip")))
    assert (read.layout, read.notices, list(read.images)) == ("export", (), IMAGES)


def test_images_whose_files_are_gone_are_left_out_and_named(tmp_path: Path) -> None:
    """The annotation alone is nothing to learn from; an export made without its images is refused."""
    folder = unpacked(export(tmp_path / "e.zip"))
    (folder / "images" / "b.png").unlink()
    read = read_data(folder)
    assert [image.name for image in read.images] == ["a.png", "c.png"]
    assert read.notices == ("file not in the export, left out: 1 of 3 images ('b.png')",)
    assert "create it again with include_images=true" in refusal(export(tmp_path / "f.zip", include_images=False))


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        (replace(IMAGES[0], width=10, height=20), ("annotations/a.png.json", "10x20", "20x10")),
        (replace(IMAGES[0], shapes=(Shape("car", (1, 2, 0, 4)),)), ("annotations/a.png.json", "annotation 0", "'car'")),
        (replace(IMAGES[0], shapes=(Shape("car", (30, 2, 3, 4)),)), ("annotations/a.png.json", "no area")),
        (replace(IMAGES[0], shapes=(Shape("car", (1, float("nan"), 3, 4)),)), ("annotations/a.png.json", "finite")),
        (
            replace(IMAGES[2], content=picture(200, 200)[:-60], width=200, height=200),
            ("'c.png'", "truncated or damaged"),
        ),
    ],
)
def test_entries_that_do_not_fit_are_named(tmp_path: Path, image: LabelledImage, parts: tuple[str, ...]) -> None:
    """A document of another picture's size, an object without area, a number that is none, half a picture."""
    said = refusal(export(tmp_path / "e.zip", [image, IMAGES[1]]))
    assert all(part in said for part in parts), said


def test_a_document_cannot_fetch_another_file_of_the_machine(tmp_path: Path) -> None:
    """A file name that leaves the export finds no bytes."""
    (tmp_path / "secret.png").write_bytes(picture())
    folder = unpacked(export(tmp_path / "e.zip"))
    document = folder / "annotations" / "a.png.json"
    document.write_text(document.read_text().replace('"file_name":"a.png"', '"file_name":"../../secret.png"'))
    read = read_data(folder)
    assert [image.name for image in read.images] == ["b.png", "c.png"]
    assert "'../../secret.png'" in read.notices[0]


@pytest.mark.parametrize("below", ["", "my data/"])
@pytest.mark.parametrize(
    ("files", "layout"), [(YOLO, "YOLO"), (MASKS, "masks"), (CLASSES, "class folders"), (COCO, "COCO")]
)
def test_every_layout_may_be_packed(tmp_path: Path, files: dict[str, bytes | str], layout: str, below: str) -> None:
    """Flat or below one folder, with what archivers and desktops leave behind."""
    root = write(tmp_path / "data", {**files, ".DS_Store": b"x", "__MACOSX/._a.png": b"x", "._a.png": b"x"})
    read, plain = read_data(zipped(tmp_path / "d.zip", root, below)), read_data(root)
    assert read.layout == plain.layout == layout
    assert read.images == plain.images
    assert read.notices == ()


def hostile(path: Path, name: str, *, mode: int = 0, content: bytes = b"x") -> Path:
    """Write a ZIP of good data and one bad entry."""
    with zipfile.ZipFile(path, "w") as archive:
        for good, data in CLASSES.items():
            archive.writestr(good, data)
        entry = zipfile.ZipInfo("placeholder")
        entry.filename, entry.external_attr = name, mode << 16
        archive.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("../evil.png", 0, "leaves the folder"),
        ("cat/../../evil.png", 0, "leaves the folder"),
        ("/evil.png", 0, "leaves the folder"),
        ("cat\\..\\..\\evil.png", 0, "leaves the folder"),
        ("C:/evil.png", 0, "no path in the folder"),
        ("cat/link.png", stat.S_IFLNK | 0o777, "a link or a device"),
        ("cat/fifo.png", stat.S_IFIFO | 0o644, "a link or a device"),
    ],
)
def test_entries_that_leave_the_folder_are_refused(tmp_path: Path, name: str, mode: int, reason: str) -> None:
    """By name, before anything is unpacked."""
    (tmp_path / "in").mkdir()
    said = refusal(hostile(tmp_path / "in" / "h.zip", name, mode=mode, content=b"/etc/passwd"))
    assert "'h.zip', entry" in said
    assert reason in said
    assert not [path for path in tmp_path.rglob("*evil*")]


def test_a_bomb_is_refused_by_what_it_says_and_cannot_say_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries, their sizes and their sum are bounded; an entry that holds more than it declares is damaged."""
    path = hostile(tmp_path / "h.zip", "zeros.bin", content=bytes(1 << 20))
    for name, limit, reason in [
        ("MAX_ENTRIES", 2, "holds 3 entries, more than 2"),
        ("MAX_ENTRY_BYTES", 1000, "'zeros.bin': it unpacks to 1048576 bytes, more than 1000"),
        ("MAX_TOTAL_BYTES", 1 << 20, "more than 1048576"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(unpacking, name, limit)
            assert reason in refusal(path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))  # type: ignore[attr-defined]
        assert "0 are free here" in refusal(path)
    lying = bytearray(path.read_bytes())
    at = lying.rindex(b"PK\x01\x02")
    lying[at + 24 : at + 28] = (10).to_bytes(4, "little")
    path.write_bytes(lying)
    assert "no ZIP file that can be read" in refusal(path)


def test_files_that_are_no_zip_are_refused(tmp_path: Path) -> None:
    """Text, half a file, an encrypted one, one whose entries stand in each other's way."""
    whole = zipped(tmp_path / "d.zip", write(tmp_path / "data", CLASSES)).read_bytes()
    locked = bytearray(whole)
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        locked[locked.rindex(mark) + offset] |= 1
    for content, reason in [(b"text", "no ZIP file"), (whole[:200], "no ZIP file"), (bytes(locked), "encrypted")]:
        (tmp_path / "x.zip").write_bytes(content)
        assert reason in refusal(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", "x")
        archive.writestr("a/b.png", "x")
    assert "cannot be read or unpacked" in refusal(tmp_path / "x.zip")


def test_where_several_layouts_are_there_the_order_is_fixed_and_said(tmp_path: Path) -> None:
    """An export, COCO, YOLO, masks: the first wins, and the notice tells how to have the other."""
    everything = write(tmp_path, {**MASKS, **YOLO, **COCO})
    read = read_data(everything)
    assert read.layout == "COCO"
    seen = "annotations/instances_train2017.json"
    assert read.notices == (
        f"read as COCO ({seen}); the folder could be read as YOLO (data.yaml) and as masks (masks/a.png) too: "
        f"to have that, move {seen} out of it",
    )
    shutil.rmtree(tmp_path / "annotations")
    assert read_data(everything).layout == "YOLO"
    (tmp_path / "data.yaml").unlink()
    shutil.rmtree(tmp_path / "labels")
    assert read_data(everything).layout == "masks"
    with zipfile.ZipFile(export(tmp_path / "e.zip")) as archive:
        archive.extractall(tmp_path)
    assert read_data(everything).layout == "export"


@pytest.mark.parametrize("folders", [("images",), ("train", "val"), ("images", "labels")])
def test_pictures_without_labels_are_not_taken_for_a_class(tmp_path: Path, folders: tuple[str, ...]) -> None:
    """`images/` or `train/` is no class: what is missing is said."""
    write(tmp_path, {f"{folder}/a.png": picture() for folder in folders})
    assert "nothing says what they show" in refusal(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the file system names its file instead of breaking the server."""
    write(tmp_path, CLASSES)

    def locked(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", locked)
    said = refusal(tmp_path)
    assert "a.png' cannot be read or unpacked (Permission denied)" in said
