"""Read sample pictures and turn them into the arrays a model takes.

Resampling follows the provider's decoder: bilinear between pixel centres, no smoothing when shrinking. Pillow smooths,
which would feed the model other values than it is fed in production.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""Height and width in pixels."""

LETTERBOX_GREY = 114
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


MAX_PIXELS = 80_000_000
"""Largest picture read: what is opened before paying must also fit into the model's process later."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
"""Formats opened, whatever a file is called; others would start foreign programs (EPS) or are no pictures."""
DAMAGE = (OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError, AttributeError, ArithmeticError,
          RuntimeError, MemoryError, struct.error, zlib.error)  # fmt: skip
"""What Pillow's decoders let through of a damaged file."""


class PictureError(Exception):
    """A sample picture cannot be read; the sentence names it, ``reason`` says why."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message, reason)
        self.reason = reason or message

    def __str__(self) -> str:
        """Return the sentence alone."""
        return str(self.args[0])


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8, RGB, turned upright.

    Raises:
        PictureError: The file is missing, damaged, too large or not a picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise _unreadable(path, f"{opened.width}x{opened.height} pixels, the limit is {MAX_PIXELS} in all")
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I;16") or (upright.mode == "I" and opened.format == "PNG"):
                return _from_16_bits(np.asarray(upright))
            # Pillow warns when it drops a palette's transparency and converts in one step.
            plain = upright.convert("RGBA") if upright.mode in {"P", "PA"} else upright
            return np.asarray(plain.convert("RGB"), dtype=np.uint8)
    except UnidentifiedImageError as error:
        raise _unreadable(path, "no picture of a known format") from error
    except (*DAMAGE, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _unreadable(path, str(error) or type(error).__name__) from error


def _from_16_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale (H, W) grey of 16 bits to (H, W, 3) of 8; converting it by cutting would make most of it white."""
    scaled = ((grey.astype(np.uint32) + 128) // 257).clip(0, 255).astype(np.uint8)
    return np.repeat(scaled[:, :, None], 3, axis=2)


def _unreadable(path: Path, reason: str) -> PictureError:
    return PictureError(f"sample picture {path.name!r} cannot be read: {reason}", reason)


def resize_bilinear(array: NDArray[np.generic], size: Size) -> NDArray[np.float32]:
    """Resize (H, W) or (H, W, C) to ``size``; bilinear, edges repeated, no smoothing; float32."""
    low_y, high_y, share_y = _source_rows(array.shape[0], size[0])
    low_x, high_x, share_x = _source_rows(array.shape[1], size[1])
    tail = (1,) * (array.ndim - 2)
    weight_y = share_y.reshape(-1, 1, *tail)
    weight_x = share_x.reshape(1, -1, *tail)
    # The lower row is taken first so that a large picture is only ever held at the target height.
    rows = array[low_y].astype(np.float32) * (1 - weight_y) + array[high_y].astype(np.float32) * weight_y
    return np.asarray(rows[:, low_x] * (1 - weight_x) + rows[:, high_x] * weight_x, dtype=np.float32)


def letterbox_ratio(picture: Size, canvas: Size) -> float:
    """Return the factor that fits ``picture`` into ``canvas`` without distortion."""
    return min(canvas[0] / picture[0], canvas[1] / picture[1])


def letterbox(picture: NDArray[np.uint8], canvas: Size) -> NDArray[np.float32]:
    """Fit a (H, W, 3) RGB picture at the top left of a grey canvas: (1, 3, H, W) float32, BGR, [0, 255]."""
    height, width = picture.shape[:2]
    ratio = letterbox_ratio((height, width), canvas)
    fitted = max(1, int(height * ratio)), max(1, int(width * ratio))
    filled = np.full((*canvas, 3), LETTERBOX_GREY, dtype=np.float32)
    filled[: fitted[0], : fitted[1]] = _resize_pixels(picture, fitted)
    return np.ascontiguousarray(filled[:, :, ::-1].transpose(2, 0, 1)[None])


def stretch_normalised(picture: NDArray[np.uint8], size: Size) -> NDArray[np.float32]:
    """Stretch a (H, W, 3) RGB picture to ``size``: (1, 3, H, W) float32, RGB, ImageNet mean and deviation."""
    scaled = (_resize_pixels(picture, size) / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def bounded_size(size: Size, longest: int) -> Size:
    """Shrink a size in proportion until its longer side is at most ``longest``; never enlarge."""
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resize_pixels(picture: NDArray[np.uint8], size: Size) -> NDArray[np.float32]:
    """Resize in whole grey levels, as the decoder does on uint8 pictures."""
    return np.rint(resize_bilinear(picture, size))


def _source_rows(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return for each target position the two source positions it lies between and the share of the second."""
    centres = (np.arange(target) + 0.5) * (source / target) - 0.5
    centres = np.clip(centres, 0, source - 1)
    low = centres.astype(np.intp)
    high = np.minimum(low + 1, source - 1)
    return low, high, (centres - low).astype(np.float32)
