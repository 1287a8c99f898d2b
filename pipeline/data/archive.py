"""What an export's archive holds: its pictures, its labels, and how much of it was read."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.data.pairing import Label, base_name, pair_labels
from pipeline.models import ClassCount, LabelledBox

MAX_SIDE_FILE_BYTES = 16 * 1024**2
"""Largest annotation file read; a larger one is not an annotation."""
MAX_ANNOTATION_BYTES = 512 * 1024**2
"""Most bytes of annotation files read of one archive, unpacked."""
MAX_ANNOTATION_FILES = 2_000_000
"""Most annotation files read of one archive."""
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
"""What marks a picture that no annotation names."""


@dataclass(frozen=True)
class Content:
    """What the archive holds; pictures are keyed by their full path in it."""

    pictures: dict[str, zipfile.ZipInfo]
    labels: tuple[Label, ...]
    ambiguous: tuple[str, ...]
    """Annotation files that fit several pictures equally well; theirs is none."""
    unreadable: tuple[str, ...]
    """Annotation files that are none, or are damaged."""
    unread: int
    """Annotation files left out because there are too many of them."""

    def fingerprint(self, classes: tuple[ClassCount, ...]) -> str:
        """Return a SHA-256 over pictures, labels and class names, independent of their order in the archive."""
        digest = hashlib.sha256()
        for name, info in sorted(self.pictures.items()):
            digest.update(f"{name}:{info.file_size}:{info.CRC:08x}\n".encode())
        for label in sorted(self.labels, key=lambda label: label.source):
            boxes = sorted((box.name, *box.box) for box in label.boxes)
            digest.update(json.dumps([label.source, label.file_name, boxes, sorted(label.tags)]).encode())
        digest.update(json.dumps(sorted(count.name for count in classes)).encode())
        return digest.hexdigest()


def read_content(opened: zipfile.ZipFile) -> Content:
    """Read the annotations of an archive and find the picture of each."""
    annotations: list[zipfile.ZipInfo] = []
    others: list[zipfile.ZipInfo] = []
    for info in opened.infolist():
        path = PurePosixPath(info.filename)
        is_annotation = path.suffix == ".json" and "annotations" in path.parts[:-1]
        if not info.is_dir():
            (annotations if is_annotation else others).append(info)
    # In the order of their names, so that what is read of a huge archive does not depend on how it was packed.
    annotations.sort(key=lambda info: info.filename)
    within = _within_limits(annotations)
    read = [(info.filename, _read_label(opened, info)) for info in within]
    labels = [label for _, label in read if label is not None]
    pictures = _pictures(others, labels)
    paired = pair_labels(labels, pictures)
    return Content(
        pictures=pictures,
        labels=paired.labels,
        ambiguous=paired.ambiguous,
        unreadable=tuple(name for name, label in read if label is None),
        unread=len(annotations) - len(within),
    )


def _within_limits(annotations: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    total = 0
    for number, info in enumerate(annotations[:MAX_ANNOTATION_FILES]):
        total += info.file_size if info.file_size <= MAX_SIDE_FILE_BYTES else 0
        if total > MAX_ANNOTATION_BYTES:
            return annotations[:number]
    return annotations[:MAX_ANNOTATION_FILES]


def _pictures(others: list[zipfile.ZipInfo], labels: list[Label]) -> dict[str, zipfile.ZipInfo]:
    """Return what looks like a picture, and whatever an annotation says is one."""
    named = {base_name(label.file_name) for label in labels}
    return {
        info.filename: info
        for info in others
        if PurePosixPath(info.filename).suffix.lower() in PICTURE_SUFFIXES or base_name(info.filename) in named
    }


def _read_label(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Label | None:
    if info.file_size > MAX_SIDE_FILE_BYTES:
        return None
    try:
        document = json.loads(opened.read(info))
        image = document["image"]
        split = image.get("split")
        return Label(
            source=info.filename,
            file_name=str(image["file_name"]),
            split=split if isinstance(split, str) else None,
            boxes=tuple(_boxes(document.get("annotations") or [])),
            tags=tuple(str(tag) for tag in document.get("tags") or []),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _boxes(annotations: list[dict[str, Any]]) -> Iterable[LabelledBox]:
    for annotation in annotations:
        corner = _corner(annotation)
        if corner is None:
            continue
        if not all(map(math.isfinite, corner)):
            raise ValueError(f"a box of {annotation['name']!r} is not finite")
        yield LabelledBox(name=str(annotation["name"]), box=corner)


def _corner(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """Return an annotation's box as x, y, width, height; a polygon without one is given its own."""
    if box := annotation.get("bounding_box"):
        return float(box["x"]), float(box["y"]), float(box["w"]), float(box["h"])
    points = [point for path in (annotation.get("polygon") or {}).get("paths", []) for point in path]
    if not points:
        return None
    xs, ys = [float(point["x"]) for point in points], [float(point["y"]) for point in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
