"""COCO: any `*.json` with images and annotations, in the folder, its `annotations/` or a split's folder."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sandbox.datasets import DataError, LabelledImage, Point, Shape, Split
from sandbox.layouts.geometry import bounds, cut, is_number, ring_area
from sandbox.layouts.places import IMAGES, Notices, Recognised, load, shown, some, split_folders, split_of

LAYOUT = "COCO"
_Document = dict[str, Any]


def recognise(root: Path) -> Recognised | None:
    """Return the layout if a JSON file has COCO's two lists.

    Raises:
        DataError: A JSON file cannot be read.
    """
    documents = [(path, document) for path in _json_files(root) if (document := _document(root, path)) is not None]
    if not documents:
        return None
    return Recognised(LAYOUT, shown(root, documents[0][0]), partial(_read, root, documents))


def _json_files(root: Path) -> list[Path]:
    places = [*(folder for folder, _ in split_folders(root)), root / "annotations"]
    return sorted(path for place in places for path in place.glob("*.json") if not path.name.startswith("."))


def _document(root: Path, path: Path) -> _Document | None:
    """Return the document if it has COCO's two lists; other JSON files may lie beside the images."""
    name = shown(root, path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{name!r} line {error.lineno} column {error.colno} is not JSON ({error.msg}): correct or remove it"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name!r} is not UTF-8 JSON ({error}): save it as UTF-8 or remove it") from error
    except (RecursionError, ValueError) as error:  # an integer of thousands of digits among them
        raise DataError(f"{name!r} cannot be read as JSON ({error}): correct or remove it") from error
    is_coco = isinstance(document, dict) and all(isinstance(document.get(k), list) for k in ("images", "annotations"))
    return document if is_coco else None


def _read(root: Path, documents: list[tuple[Path, _Document]], notices: Notices) -> Iterator[LabelledImage]:
    found: dict[Path, LabelledImage] = {}
    repeated: dict[Path, None] = {}
    for path, document in documents:
        for picture, image in _CocoFile(root, path, document).images():
            first = found.setdefault(picture, image)
            if first is not image:
                repeated[picture] = None
            if first.split is None:
                found[picture] = image if image.split else first
    if repeated:
        names = some(shown(root, picture) for picture in repeated)
        notices.append(
            f"listed more than once, each used once, with the split and labels of one entry: {len(repeated)} pictures "
            f"({names})"
        )
    yield from found.values()


class _CocoFile:
    """One COCO document; every complaint names the file and the id."""

    def __init__(self, root: Path, path: Path, document: _Document) -> None:
        self._root, self._path, self._document = root, path, document
        words = path.stem.lower().replace("-", "_").split("_")
        if path.parent != root:  # what the imported folder itself is called says nothing of its files
            words.append(path.parent.name)
        self._word = next((word for word in words if split_of(word)), "")
        self._split: Split | None = split_of(self._word)

    def images(self) -> Iterator[tuple[Path, LabelledImage]]:
        """Yield the pictures' files, links followed, and the images with their shapes."""
        rows = self._by_id("images")
        classes = {key: self._text(row, "name", f"category {key}") for key, row in self._by_id("categories").items()}
        shapes: dict[object, list[Shape]] = {key: [] for key in rows}
        for row in self._document["annotations"]:
            if not isinstance(row, dict):
                raise self._bad("annotations", f"entry {row!r} is not an object")
            what = f"annotation {row.get('id')!r}"
            if not self._is_id(row.get("image_id")) or row["image_id"] not in shapes:
                raise self._bad(what, f"image_id {row.get('image_id')!r} is not among the images")
            if not self._is_id(row.get("category_id")) or row["category_id"] not in classes:
                raise self._bad(what, f"category_id {row.get('category_id')!r} is not among the categories")
            if not row.get("iscrowd"):  # a crowd marks an area to ignore, not an object
                image = rows[row["image_id"]]
                shapes[row["image_id"]].append(self._shape(row, classes[row["category_id"]], image, what))
        for key, row in rows.items():
            yield self._image(row, f"image {key!r}", tuple(shapes[key]))

    def _bad(self, what: str, reason: str) -> DataError:
        return DataError(f"{shown(self._root, self._path)!r}, {what}: {reason}; correct this entry or remove it")

    @staticmethod
    def _is_id(value: object) -> bool:
        return isinstance(value, int | str)

    def _by_id(self, key: str) -> dict[object, dict[str, Any]]:
        rows: dict[object, dict[str, Any]] = {}
        listed = self._document.get(key) or []
        if not isinstance(listed, list):
            raise self._bad(key, "it is not a list")
        for row in listed:
            if not isinstance(row, dict) or not self._is_id(row.get("id")):
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

    def _image(self, row: dict[str, Any], what: str, shapes: tuple[Shape, ...]) -> tuple[Path, LabelledImage]:
        path = self._find(self._text(row, "file_name", what), what)
        content, width, height = load(self._root, path)
        declared = (row.get("width", width), row.get("height", height))
        if declared != (width, height):
            raise self._bad(what, f"declared {declared[0]}x{declared[1]} pixels, but {path.name!r} is {width}x{height}")
        inside = tuple(self._inside(shape, width, height, what) for shape in shapes)
        return path, LabelledImage(path.name, content, width, height, inside, split=self._split)

    def _find(self, file_name: str, what: str) -> Path:
        root, beside = self._root.resolve(), self._path.parent
        places = [beside, beside / IMAGES, root, root / IMAGES, beside.parent]
        if self._word:  # annotations/instances_train2017.json and train2017/, or images/train2017/
            places += [root / self._word, root / IMAGES / self._word]
        for place in places:
            try:
                path = (place / file_name).resolve()
            except (ValueError, RuntimeError):  # no file has such a name; links that lead to each other
                continue
            if path.is_relative_to(root) and path.is_file():
                return self._root / path.relative_to(root)
        raise self._bad(what, f"file {file_name!r} is not in the folder")

    def _shape(self, row: dict[str, Any], name: str, image: dict[str, Any], what: str) -> Shape:
        polygon = self._polygon(row.get("segmentation"), what)
        box = row.get("bbox")
        if box is None and polygon is not None:
            box = list(bounds(polygon))
        if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
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
            if not usable or not all(is_number(value) for value in ring):
                raise self._bad(what, "segmentation is not a list of rings x1, y1, x2, y2, ... of 3 points or more")
            points.append(tuple(zip(map(float, ring[::2]), map(float, ring[1::2]), strict=True)))
        return max(points, key=ring_area)

    def _inside(self, shape: Shape, width: int, height: int, what: str) -> Shape:
        inside = cut(shape, width, height)
        if inside is None:
            raise self._bad(what, f"the box {shape.box} of a {shape.name!r} lies outside the {width}x{height} image")
        return inside
