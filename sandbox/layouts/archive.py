"""An export's layout, as `sandbox/exportzip.py` writes it: splits, statuses, tags and outlines are kept."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from sandbox.datasets import DataError, LabelledImage, Shape, image_size
from sandbox.exportzip import HEAD, read_unpacked
from sandbox.layouts.geometry import cut
from sandbox.layouts.places import Notices, Recognised, some

LAYOUT = "export"


def recognise(root: Path) -> Recognised | None:
    """Return the layout if there is a dataset.json that is an export's, and annotations beside it."""
    head = root / HEAD
    if not head.is_file() or not (root / "annotations").is_dir():
        return None
    try:
        document = json.loads(head.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None  # whoever looks at JSON files says where it is wrong
    if not isinstance(document, dict) or "annotations" in document:  # that would be COCO
        return None
    return Recognised(LAYOUT, HEAD, partial(_read, root))


def _read(root: Path, notices: Notices) -> Iterator[LabelledImage]:
    images = read_unpacked(root)
    gone = [image.name for image in images if not image.content]
    if gone and len(gone) == len(images):
        raise DataError("the export holds no image files: create it again with include_images=true")
    if gone:
        notices.append(f"file not in the export, left out: {len(gone)} of {len(images)} images ({some(gone)})")
    yield from (_checked(image) for image in images if image.content)


def _checked(image: LabelledImage) -> LabelledImage:
    size = image_size(image.name, image.content)
    if size != (image.width, image.height):
        raise DataError(
            f"export entry 'annotations/{image.name}.json' says {image.width}x{image.height} pixels, the image is "
            f"{size[0]}x{size[1]}: create the export again"
        )
    return replace(image, shapes=tuple(_inside(image, number, shape) for number, shape in enumerate(image.shapes)))


def _inside(image: LabelledImage, number: int, shape: Shape) -> Shape:
    inside = cut(shape, image.width, image.height)
    if inside is None:
        raise DataError(
            f"export entry 'annotations/{image.name}.json', annotation {number}: the {shape.name!r} has no area in "
            "the image; correct or remove it"
        )
    return inside
