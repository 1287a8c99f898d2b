"""Reading a person's own folder, and the built-in road signs."""

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sandbox.datasets import DataError, class_names, decode, image_size
from sandbox.layouts.reading import read_data
from sandbox.roadsigns import CLASSES, road_signs


def picture(width: int = 20, height: int = 10, **save: Any) -> bytes:
    """Return an image file of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(stream, save.pop("format", "PNG"), **save)
    return stream.getvalue()


def coco(**changes: Any) -> dict[str, Any]:
    """One image of 20x10 with one box; `changes` replace fields of its annotation."""
    annotation = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [2, 3, 4, 5], **changes}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "car"}],
    }


def write_coco(folder: Path, document: object, name: str = "labels.json") -> None:
    """Write the document and the image it names."""
    (folder / "a.png").write_bytes(picture())
    (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))


def test_coco_boxes_and_the_largest_polygon_ring_are_read(tmp_path: Path) -> None:
    """A COCO file gives boxes as they are and one ring: the largest."""
    rings = [[0, 0, 1, 0, 1, 1], [2, 3, 6, 3, 6, 8, 2, 8]]
    write_coco(tmp_path, coco(segmentation=rings))
    (image,) = read_data(tmp_path).images
    (shape,) = image.shapes
    assert (image.name, image.width, image.height, image.split) == ("a.png", 20, 10, None)
    assert (shape.name, shape.box) == ("car", (2.0, 3.0, 4.0, 5.0))
    assert shape.polygon == ((2.0, 3.0), (6.0, 3.0), (6.0, 8.0), (2.0, 8.0))


def test_a_polygon_without_a_box_gives_its_bounds(tmp_path: Path) -> None:
    """The bbox may be left out where there is a polygon."""
    write_coco(tmp_path, coco(bbox=None, segmentation=[[2, 3, 6, 3, 6, 8]]))
    assert read_data(tmp_path).images[0].shapes[0].box == (2.0, 3.0, 4.0, 5.0)


def test_boxes_are_cut_at_the_image_border_and_crowds_are_no_objects(tmp_path: Path) -> None:
    """A box that sticks out is cut; an ignored region is not an object."""
    document = coco(bbox=[-2, 8, 10, 10])
    document["annotations"].append({"id": 8, "image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    write_coco(tmp_path, document)
    (shape,) = read_data(tmp_path).images[0].shapes
    assert shape.box == (0.0, 8.0, 8.0, 2.0)


def test_annotations_folder_and_file_name_give_the_split(tmp_path: Path) -> None:
    """`annotations/instances_val.json` with images in `images/` is the validation split."""
    for name in ("images", "annotations"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "a.png").write_bytes(picture())
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(coco()))
    (image,) = read_data(tmp_path).images
    assert image.split == "val"


def test_images_of_the_same_name_in_two_splits_are_kept_apart(tmp_path: Path) -> None:
    """A second `a.png` is numbered instead of replacing the first."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_coco(tmp_path / split, coco(), "_annotations.coco.json")
    assert [(image.name, image.split) for image in read_data(tmp_path).images] == [
        ("a-1.png", "test"),
        ("a-2.png", "train"),
    ]


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        ('{"images": [],\n oops}', ("labels.json", "line 2", "not JSON")),
        (coco(image_id=9), ("annotation 7", "image_id 9")),
        (coco(category_id=9), ("annotation 7", "category_id 9")),
        (coco(bbox=[2, 3, 0, 5]), ("annotation 7", "no area")),
        (coco(bbox=[2, 3, 4]), ("annotation 7", "four numbers")),
        (json.dumps(coco()).replace("[2, 3, 4, 5]", "[2, 3, NaN, 5]"), ("annotation 7", "four numbers")),
        (coco(bbox=[30, 3, 4, 5]), ("image 1", "outside the 20x10 image")),
        (coco(segmentation=[[1, 2, 3]]), ("annotation 7", "rings")),
        ({**coco(), "categories": [{"id": 3}]}, ("category 3", "name")),
        ({**coco(), "images": [{"id": 1, "file_name": "b.png"}]}, ("image 1", "'b.png' is not in the folder")),
        ({**coco(), "images": [{"id": 1, "file_name": "../b.png"}]}, ("image 1", "not in the folder")),
        ({**coco(), "images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 20}]}, ("10x20", "20x10")),
        ({**coco(), "images": coco()["images"] * 2}, ("id 1 occurs twice",)),
        ({"images": [], "annotations": []}, ("no labelled images",)),
    ],
)
def test_bad_coco_is_refused_by_place_and_reason(tmp_path: Path, document: object, parts: tuple[str, ...]) -> None:
    """Every message names where the mistake is and what it is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "b.png").write_bytes(picture())  # reachable only by leaving the folder
    write_coco(tmp_path / "data", document)
    with pytest.raises(DataError) as caught:
        read_data(tmp_path / "data")
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_one_folder_a_class_gives_tags(tmp_path: Path) -> None:
    """Folder names become tags; other files and hidden folders are passed over."""
    for name in ("cat", "dog", ".cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture())
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    images = read_data(tmp_path).images
    assert [(image.name, image.tags) for image in images] == [("1-1.png", ("cat",)), ("1-2.png", ("dog",))]
    assert class_names(images) == ("cat", "dog")


def test_class_folders_below_split_folders_keep_the_split(tmp_path: Path) -> None:
    """`valid/cat/1.png` is a validation image of class cat."""
    (tmp_path / "valid" / "cat").mkdir(parents=True)
    (tmp_path / "valid" / "cat" / "1.png").write_bytes(picture())
    (image,) = read_data(tmp_path).images
    assert (image.tags, image.split) == (("cat",), "val")


def test_an_empty_or_missing_folder_says_what_to_put_there(tmp_path: Path) -> None:
    """Neither layout: the message names both."""
    with pytest.raises(DataError, match=r"COCO annotations .* one folder a class"):
        read_data(tmp_path)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "gone"))):
        read_data(tmp_path / "gone")


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    """Half a file decodes to an error with its name, and so do no bytes and other bytes."""
    content = picture(200, 200, format="JPEG")
    for broken in (content[: len(content) // 2], b"", b"GIF89a"):
        with pytest.raises(DataError, match=r"'bad\.jpg'"):
            decode("bad.jpg", broken)


def test_a_turned_photo_is_upright() -> None:
    """EXIF orientation changes the size that labels refer to, and the pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = picture(20, 10, format="JPEG", exif=exif)
    assert image_size("a.jpg", content) == (10, 20) == decode("a.jpg", content).size


def test_other_colour_modes_become_rgb() -> None:
    """A palette image with transparency is as good as any."""
    stream = io.BytesIO()
    Image.new("LA", (4, 4), (9, 100)).save(stream, "PNG")
    assert decode("a.png", stream.getvalue()).mode == "RGB"


def test_road_signs_are_the_same_bytes_for_the_same_seed() -> None:
    """Determinism by seed, and different pictures for another one."""
    first, again, other = (
        [hashlib.sha256(image.content).hexdigest() for image in road_signs(6, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert not set(first) & set(other)


def test_road_signs_are_labelled_inside_the_image() -> None:
    """Boxes hold their polygons, lie inside the image and do not overlap; tags are the classes shown."""
    images = road_signs(30, seed=3)
    assert class_names(images) == CLASSES
    for image in images:
        assert (image.width, image.height) == image_size(image.name, image.content) == (128, 128)
        assert image.tags == tuple(sorted({shape.name for shape in image.shapes}))
        for shape in image.shapes:
            x, y, w, h = shape.box
            assert min(x, y) >= 0
            assert max(x + w, y + h) <= 128
            assert all(
                x - 0.01 <= px <= x + w + 0.01 and y - 0.01 <= py <= y + h + 0.01 for px, py in shape.polygon or ()
            )


def test_single_road_signs_have_one_tag_each() -> None:
    """The classification variant shows exactly one sign; the classes take turns."""
    images = road_signs(6, single=True, size=64)
    assert [image.tags for image in images] == [(CLASSES[k % 3],) for k in range(6)]
    assert all(len(image.shapes) == 1 for image in images)
