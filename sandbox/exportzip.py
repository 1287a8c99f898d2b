"""The export ZIP of the sandbox: labels and, when asked for, images. Same content, same bytes.

Entries: `dataset.json` (what the export is, and its classes), `annotations/<image name>.json` (size, status, split,
tags and shapes of one image) and, with include_images, `images/<image name>`.
"""

import json
import math
import os
import struct
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, get_args

from sandbox.datasets import DataError, LabelledImage, Shape, Split, Status, class_names

HEAD = "dataset.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a ZIP can hold: no clock in the bytes
_PALETTE = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c", "#008080")
_MAX_DOCUMENT_BYTES = 64 << 20
_MAX_IMAGE_BYTES = 256 << 20
# What the ZIP module lets through of a damaged file, an encrypted entry (RuntimeError) among them.
_UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)

_Open = Callable[[str], IO[bytes]]
"""Opens an entry by its name."""


@dataclass(frozen=True)
class ExportCounts:
    """What an export holds; annotations are shapes, tags are not counted."""

    image_count: int
    annotation_count: int
    size_bytes: int


def write_export(
    path: Path, *, dataset: str, export: str, images: Sequence[LabelledImage], include_images: bool
) -> ExportCounts:
    """Write the export in one step: a reader sees the whole file or none.

    Raises:
        DataError: Two images share a name, or a name is no plain file name, or one of any kind is no Unicode text.
    """
    _check_names(images)
    ordered = sorted(images, key=lambda image: image.name)
    annotation_count = sum(len(image.shapes) for image in ordered)
    head = {
        "dataset": dataset,
        "export": export,
        "format": "pictograph",
        "classes": class_kinds(ordered),
        "image_count": len(ordered),
        "annotation_count": annotation_count,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            _add(archive, HEAD, _json(head))
            for image in ordered:
                _add(archive, f"annotations/{image.name}.json", _json(_document(dataset, image)))
                if include_images:
                    _add(archive, f"images/{image.name}", image.content, zipfile.ZIP_STORED)
        size_bytes = Path(part).stat().st_size
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return ExportCounts(len(ordered), annotation_count, size_bytes)


def read_export(path: Path) -> list[LabelledImage]:
    """Read an export back; images written without their bytes come back with empty `content`.

    Raises:
        DataError: The file is no export, or an entry of it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if HEAD not in names:
                raise DataError(f"export {path.name!r} has no {HEAD}: create the export again")
            return _read_images(archive.open, names)
    except _UNREADABLE as error:
        raise DataError(f"export {path.name!r} cannot be read ({error}): create the export again") from error


def read_unpacked(folder: Path) -> list[LabelledImage]:
    """Read an export that was unpacked into a folder, as `read_export` does.

    Raises:
        DataError: An entry of it is damaged.
    """
    places = (folder / "annotations", folder / "images")
    names = {path.relative_to(folder).as_posix() for place in places for path in place.glob("*") if path.is_file()}
    return _read_images(lambda name: (folder / name).open("rb"), names)


def _check_names(images: Sequence[LabelledImage]) -> None:
    seen: set[str] = set()
    for image in images:
        if not image.name or image.name in {".", ".."} or any(c in image.name for c in "/\\\0"):
            raise DataError(f"image name {image.name!r} is not a plain file name: rename the image")
        if image.name in seen:
            raise DataError(f"image name {image.name!r} occurs twice: rename one of the images")
        seen.add(image.name)
        _check_text("image name", image.name)
    for name in class_names(images):
        _check_text("class or tag name", name)


def _check_text(what: str, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} {name!r} cannot be written as UTF-8 ({error.reason}): rename it") from error


def class_kinds(images: Sequence[LabelledImage]) -> list[dict[str, str]]:
    """Return the classes of images as a vendor lists them: name, type (bbox, polygon or tag) and color."""
    kinds: dict[str, str] = {}
    for image in images:
        for shape in image.shapes:
            kind = "bbox" if shape.polygon is None else "polygon"
            kinds[shape.name] = "polygon" if kinds.get(shape.name) == "polygon" else kind
    return [
        {"name": name, "type": kinds.get(name, "tag"), "color": _PALETTE[index % len(_PALETTE)]}
        for index, name in enumerate(class_names(images))
    ]


def _document(dataset: str, image: LabelledImage) -> dict[str, Any]:
    return {
        "image": {
            "id": _stable_id(dataset, image.name),
            "file_name": image.name,
            "width": image.width,
            "height": image.height,
            "status": image.status,
            "split": image.split,
        },
        "tags": list(image.tags),
        "annotations": [
            {"id": _stable_id(dataset, image.name, str(number)), **_annotation(shape)}
            for number, shape in enumerate(image.shapes)
        ],
    }


def _annotation(shape: Shape) -> dict[str, Any]:
    box = dict(zip(("x", "y", "w", "h"), shape.box, strict=True))
    if shape.polygon is None:
        return {"name": shape.name, "type": "bbox", "bounding_box": box}
    ring = [{"x": x, "y": y} for x, y in shape.polygon]
    return {"name": shape.name, "type": "polygon", "polygon": {"paths": [ring]}, "bounding_box": box}


def _stable_id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(parts)))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.create_system, entry.external_attr = method, 3, 0o644 << 16
    archive.writestr(entry, content)


def _read_images(opened: _Open, names: set[str]) -> list[LabelledImage]:
    documents = sorted(name for name in names if name.startswith("annotations/") and name.endswith(".json"))
    return [_read_image(opened, name, names) for name in documents]


def _read_entry(opened: _Open, name: str, limit_bytes: int) -> bytes:
    with opened(name) as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise DataError(f"export entry {name!r} is larger than {limit_bytes} bytes: leave this image out")
    return content


def _read_image(opened: _Open, entry: str, names: set[str]) -> LabelledImage:
    try:
        document = json.loads(_read_entry(opened, entry, _MAX_DOCUMENT_BYTES))
        image = document["image"]
        name, split, status = str(image["file_name"]), image.get("split"), image.get("status", "complete")
        if split not in (None, *get_args(Split)) or status not in get_args(Status):
            raise DataError(f"export entry {entry!r} has split {split!r} and status {status!r}: create it again")
        shapes = tuple(_read_shape(annotation) for annotation in document["annotations"])
        size = int(image["width"]), int(image["height"])
        tags = tuple(str(tag) for tag in document["tags"])
    except (KeyError, TypeError, IndexError, AttributeError, ArithmeticError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"export entry {entry!r} is damaged ({error!r}): create the export again") from error
    stored = f"images/{name}"
    content = _read_entry(opened, stored, _MAX_IMAGE_BYTES) if stored in names else b""
    return LabelledImage(name, content, *size, shapes, tags, split, status)


def _read_shape(annotation: dict[str, Any]) -> Shape:
    box = annotation["bounding_box"]
    sides = float(box["x"]), float(box["y"]), float(box["w"]), float(box["h"])
    ring = None
    if annotation["type"] == "polygon":
        ring = tuple((float(point["x"]), float(point["y"])) for point in annotation["polygon"]["paths"][0])
    if not all(map(math.isfinite, (*sides, *(value for point in ring or () for value in point)))):
        raise ValueError("a coordinate is no finite number")
    return Shape(str(annotation["name"]), sides, ring)
