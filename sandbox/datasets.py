"""Labelled images as values, and their pictures as bytes; `sandbox/layouts` reads them from a person's own data.

`DataError` is raised for everything a person can put right in the data; its text says where and how.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Split = Literal["train", "val", "test"]
Status = Literal["new", "annotate", "review", "complete"]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 89_000_000  # just under what Pillow takes for an attack and warns of
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")  # others run programs or mean something else
_ORIENTATION_TAG = 0x0112
_UNREADABLE = (
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)
"""What the decoders let through of damaged files."""


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
    """Return (width, height) of the upright image, reading no more than the file's header where that is enough.

    Raises:
        DataError: The bytes are no image that can be read, or it is larger than MAX_PIXELS.
    """
    with _opened(name, content) as image:
        width, height = image.size
        if image.format == "TIFF":  # depending on its version, Pillow gives the size before or after turning
            return ImageOps.exif_transpose(image).size if image.getexif().get(_ORIENTATION_TAG, 1) != 1 else image.size
        turned = image.getexif().get(_ORIENTATION_TAG, 1) in range(5, 9)
    return (height, width) if turned else (width, height)


def count_frames(name: str, content: bytes) -> int:
    """Read all of an image's pixels, to be sure of them, and return the number of its frames; the first one is used.

    Raises:
        DataError: The file is empty, truncated, too large or no image, or has pixels that cannot be scaled to 8 bits.
    """
    with _opened(name, content) as image:
        _check_depth(name, image)
        # A phone's JPEG may carry its own preview (MPO): no frames of anything.
        frames = 1 if image.format in {"JPEG", "MPO"} else int(getattr(image, "n_frames", 1))
        small = max(1, image.width // 8), max(1, image.height // 8)
        image.draft("L", small)  # JPEG alone: every byte is read, few pixels are made
        image.load()
    return frames


def decode(name: str, content: bytes) -> Image.Image:
    """Decode an image, or the first of its frames, to upright 8-bit RGB.

    16-bit grey is scaled to 8 bits. Transparency is dropped: the colours stored under it show, as inference sees them.

    Raises:
        DataError: The file is empty, truncated, too large or no image, or has pixels that cannot be scaled to 8 bits.
    """
    with _opened(name, content) as image:
        _check_depth(name, image)
        upright = ImageOps.exif_transpose(image)
        if _has_16_bits(image):
            scaled = (np.asarray(upright).astype(np.uint32) + 128) // 257  # 65535 becomes 255
            return Image.fromarray(scaled.clip(0, 255).astype(np.uint8)).convert("RGB")
        # Pillow warns when it drops a palette's transparency and converts in one step.
        return (upright.convert("RGBA") if upright.mode in {"P", "PA"} else upright).convert("RGB")


@contextmanager
def _opened(name: str, content: bytes) -> Iterator[Image.Image]:
    """Yield the image with its header read; whatever is wrong with it, then or later, becomes a DataError."""
    if not content:
        raise DataError(f"image {name!r} is empty (0 bytes): replace or remove the file")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(name, image)
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        reason = "it is no JPEG, PNG, BMP, WebP, TIFF or GIF"
        raise DataError(f"image {name!r} cannot be read ({reason}): replace or remove the file") from error
    except _UNREADABLE as error:
        raise DataError(f"image {name!r} is truncated or damaged ({error}): replace or remove the file") from error


def _check_size(name: str, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"image {name!r} is {width}x{height} pixels, more than {MAX_PIXELS}: resize it first")


def _has_16_bits(image: Image.Image) -> bool:
    """Tell 16-bit grey; older versions of Pillow open such a PNG as 32-bit integers."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _check_depth(name: str, image: Image.Image) -> None:
    if image.mode in {"I", "F"} and not _has_16_bits(image):
        raise DataError(f"image {name!r} has 32-bit pixels of unknown range: save it with 8 or 16 bits a channel")
