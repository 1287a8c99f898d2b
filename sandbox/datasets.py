"""Labelled images as values, and reading them from a person's own folder.

Two layouts are read, the two most annotation tools can write:

    COCO            any `*.json` in the folder, its `annotations/` or its `train|val|test/` folders; images beside it
    class folders   `<class>/<image>`, or `train|val|test/<class>/<image>`: one folder a class

`DataError` is raised for everything a person can put right in the data; its text says where and how.
"""

import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageOps, UnidentifiedImageError

Split = Literal["train", "val", "test"]
Status = Literal["new", "annotate", "review", "complete"]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 100_000_000
SPLIT_WORDS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_ORIENTATION_TAG = 0x0112


class DataError(ValueError):
    """Bad user data: the message names the file, line or id, the reason, and what to do."""


@dataclass(frozen=True)
class Shape:
    """One labelled object; coordinates are pixels of the upright image, origin top left."""

    name: str
    box: Box  # x, y, width, height
    polygon: tuple[Point, ...] | None = None


@dataclass(frozen=True)
class LabelledImage:
    """One image file with its labels: `shapes` for detection and segmentation, `tags` for classification."""

    name: str
    content: bytes
    width: int
    height: int
    shapes: tuple[Shape, ...] = ()
    tags: tuple[str, ...] = ()
    split: Split | None = None
    status: Status = "complete"


def class_names(images: Iterable[LabelledImage]) -> tuple[str, ...]:
    """Return every class used by a shape or a tag, sorted."""
    return tuple(sorted({name for image in images for name in (*image.tags, *(shape.name for shape in image.shapes))}))


def image_size(name: str, content: bytes) -> tuple[int, int]:
    """Return (width, height) of the upright image, reading only the file's header.

    Raises:
        DataError: The bytes are no image that can be read, or it is larger than MAX_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION_TAG, 1) in range(5, 9)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"image {name!r} cannot be read ({error}): replace or remove the file") from error
    if width * height > MAX_PIXELS:
        raise DataError(f"image {name!r} is {width}x{height} pixels, more than {MAX_PIXELS}: resize it first")
    return (height, width) if turned else (width, height)


def decode(name: str, content: bytes) -> Image.Image:
    """Decode an image to upright RGB.

    Raises:
        DataError: The file is empty, truncated, too large or no image.
    """
    if not content:
        raise DataError(f"image {name!r} has no bytes: create the export with include_images=true")
    image_size(name, content)
    try:
        with Image.open(io.BytesIO(content)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"image {name!r} is truncated or damaged ({error}): replace or remove the file") from error


def read_folder(folder: Path) -> list[LabelledImage]:
    """Read a folder of labelled images in COCO or class-folder layout, in the order of their names.

    Raises:
        DataError: The folder is missing, holds neither layout, or something in it cannot be used.
    """
    if not folder.is_dir():
        raise DataError(f"data folder {str(folder)!r} does not exist: give a folder of labelled images")
    documents = [(path, document) for path in _json_files(folder) if (document := _coco_document(path)) is not None]
    if documents:
        images = [image for path, document in documents for image in _CocoFile(folder, path, document).images()]
    else:
        images = list(_class_folders(folder))
    if not images:
        raise DataError(
            f"data folder {str(folder)!r} holds no labelled images: put COCO annotations (.json) beside the images, "
            "or sort the images into one folder a class"
        )
    return sorted(_uniquely_named(images), key=lambda image: image.name)


def _json_files(folder: Path) -> list[Path]:
    places = [folder, folder / "annotations", *(folder / word for word in SPLIT_WORDS)]
    return sorted(path for place in places if place.is_dir() for path in place.glob("*.json"))


def _coco_document(path: Path) -> dict[str, Any] | None:
    """Return the document if it has COCO's two lists; other JSON files may lie beside the images."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path.name!r} line {error.lineno} column {error.colno} is not JSON ({error.msg}): correct or remove it"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path.name!r} is not UTF-8 JSON ({error}): save it as UTF-8 or remove it") from error
    is_coco = isinstance(document, dict) and all(isinstance(document.get(k), list) for k in ("images", "annotations"))
    return document if is_coco else None


def _uniquely_named(images: list[LabelledImage]) -> Iterator[LabelledImage]:
    """Number the images whose bare file name occurs in more than one folder: an export is flat."""
    total = Counter(image.name for image in images)
    taken = {name for name, count in total.items() if count == 1}
    for image in images:
        name, number = image.name, 0
        while total[image.name] > 1 and (number == 0 or name in taken):
            number += 1
            name = f"{Path(image.name).stem}-{number}{Path(image.name).suffix}"
        taken.add(name)
        yield replace(image, name=name)


def _class_folders(folder: Path, split: Split | None = None) -> Iterator[LabelledImage]:
    for entry in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if split is None and entry.name.lower() in SPLIT_WORDS and any(p.is_dir() for p in entry.iterdir()):
            yield from _class_folders(entry, SPLIT_WORDS[entry.name.lower()])
            continue
        for path in sorted(p for p in entry.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
            content = path.read_bytes()
            width, height = image_size(f"{entry.name}/{path.name}", content)
            yield LabelledImage(path.name, content, width, height, tags=(entry.name,), split=split)


class _CocoFile:
    """One COCO document; every complaint names the file and the id."""

    def __init__(self, folder: Path, path: Path, document: dict[str, Any]) -> None:
        self._folder, self._path, self._document = folder, path, document
        words = (*path.stem.lower().replace("-", "_").split("_"), path.parent.name.lower())
        self._split: Split | None = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)

    def images(self) -> Iterator[LabelledImage]:
        """Yield the images with their shapes."""
        rows = self._by_id("images")
        classes = {key: self._text(row, "name", f"category {key}") for key, row in self._by_id("categories").items()}
        shapes: dict[object, list[Shape]] = {key: [] for key in rows}
        for row in self._document["annotations"]:
            if not isinstance(row, dict):
                raise self._bad("annotations", f"entry {row!r} is not an object")
            what = f"annotation {row.get('id')!r}"
            if row.get("image_id") not in shapes:
                raise self._bad(what, f"image_id {row.get('image_id')!r} is not among the images")
            if row.get("category_id") not in classes:
                raise self._bad(what, f"category_id {row.get('category_id')!r} is not among the categories")
            if not row.get("iscrowd"):  # a crowd marks an area to ignore, not an object
                image = rows[row["image_id"]]
                shapes[row["image_id"]].append(self._shape(row, classes[row["category_id"]], image, what))
        for key, row in rows.items():
            yield self._image(row, f"image {key!r}", tuple(shapes[key]))

    def _bad(self, what: str, reason: str) -> DataError:
        return DataError(f"{self._path.name!r}, {what}: {reason}; correct this entry or remove it")

    def _by_id(self, key: str) -> dict[object, dict[str, Any]]:
        rows: dict[object, dict[str, Any]] = {}
        for row in self._document.get(key) or []:
            if not isinstance(row, dict) or not isinstance(row.get("id"), int | str):
                raise self._bad(key, f"entry {str(row)[:80]!r} has no id")
            if row["id"] in rows:
                raise self._bad(key, f"id {row['id']!r} occurs twice")
            rows[row["id"]] = row
        return rows

    def _text(self, row: dict[str, Any], key: str, what: str) -> str:
        value = row.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self._bad(what, f"{key} is {value!r}, not a text")
        return value

    def _image(self, row: dict[str, Any], what: str, shapes: tuple[Shape, ...]) -> LabelledImage:
        path = self._find(self._text(row, "file_name", what), what)
        content = path.read_bytes()
        width, height = image_size(path.name, content)
        declared = (row.get("width", width), row.get("height", height))
        if declared != (width, height):
            raise self._bad(what, f"declared {declared[0]}x{declared[1]} pixels, but {path.name!r} is {width}x{height}")
        inside = tuple(self._inside(shape, width, height, what) for shape in shapes)
        return LabelledImage(path.name, content, width, height, inside, split=self._split)

    def _find(self, file_name: str, what: str) -> Path:
        root = self._folder.resolve()
        for place in (self._path.parent, self._path.parent / "images", root, root / "images", self._path.parent.parent):
            path = (place / file_name).resolve()
            if path.is_relative_to(root) and path.is_file():
                return path
        raise self._bad(what, f"file {file_name!r} is not in the folder")

    def _shape(self, row: dict[str, Any], name: str, image: dict[str, Any], what: str) -> Shape:
        polygon = self._polygon(row.get("segmentation"), what)
        box = row.get("bbox")
        if box is None and polygon is not None:
            xs, ys = zip(*polygon, strict=True)
            box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            raise self._bad(what, f"bbox is {box!r}, not four numbers x, y, width, height")
        if box[2] <= 0 or box[3] <= 0:
            raise self._bad(what, f"bbox {box!r} of image {image['id']!r} has no area")
        return Shape(name, (float(box[0]), float(box[1]), float(box[2]), float(box[3])), polygon)

    def _polygon(self, rings: object, what: str) -> tuple[Point, ...] | None:
        """Return the largest ring; run-length masks have none, and their box is used."""
        if not isinstance(rings, list) or not rings:
            return None
        points: list[tuple[Point, ...]] = []
        for ring in rings:
            usable = isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0
            if not usable or not all(_is_number(value) for value in ring):
                raise self._bad(what, "segmentation is not a list of rings x1, y1, x2, y2, ... of 3 points or more")
            points.append(tuple(zip(map(float, ring[::2]), map(float, ring[1::2]), strict=True)))
        return max(points, key=ring_area)

    def _inside(self, shape: Shape, width: int, height: int, what: str) -> Shape:
        x, y, w, h = shape.box
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
        if right <= left or bottom <= top:
            raise self._bad(what, f"the box {shape.box} of a {shape.name!r} lies outside the {width}x{height} image")
        ring = shape.polygon
        if ring is not None:
            ring = tuple((min(max(px, 0.0), float(width)), min(max(py, 0.0), float(height))) for px, py in ring)
        return Shape(shape.name, (left, top, right - left, bottom - top), ring)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def ring_area(ring: tuple[Point, ...]) -> float:
    """Return the area of a closed ring of points, in square pixels."""
    following = (*ring[1:], ring[0])
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, following, strict=True))) / 2
