"""What a picture is: its format by content, never by its name, and reading it without trusting it."""

import io
import warnings
from typing import Literal

from PIL import Image, UnidentifiedImageError

Format = Literal["jpeg", "png", "webp", "heic"]
MEDIA_TYPES: dict[Format, str] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "heic": "image/heic",
}
SUFFIXES: dict[Format, str] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "heic": ".heic"}
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
MAX_PIXELS = 40_000_000
"""Largest picture that is kept or decoded: 160 MB unpacked."""


class NoPictureError(ValueError):
    """Bytes that are no picture of a known format."""


def picture_format(content: bytes) -> Format:
    """Return the format of a picture; its header must be readable, except HEIC's, which nothing here decodes.

    Raises:
        NoPictureError: The bytes are of no known format, or break off in the header.
    """
    found = _signature(content)
    if found is None:
        raise NoPictureError("unsupported image format: send jpg, jpeg, webp, png or heic")
    if found != "heic":
        with _opened(content, found) as picture:
            _check_size(picture)
    return found


def decoded(content: bytes, near: tuple[int, int] | None = None) -> Image.Image | None:
    """Return a picture in RGB, or None for one that cannot be decoded here.

    With `near`, a JPEG much larger than this size is read at a fraction of its own, which takes a fraction of the time.
    """
    found = _signature(content)
    if found is None or found == "heic":
        return None
    try:
        with _opened(content, found) as picture:
            _check_size(picture)
            if near is not None:
                picture.draft("RGB", near)
            picture.load()
            return picture if picture.mode == "RGB" else picture.convert("RGB")
    except (NoPictureError, OSError, SyntaxError, ValueError):
        return None


def encoded(picture: Image.Image) -> bytes:
    """Return a picture as PNG, the same bytes for the same pixels."""
    kept = io.BytesIO()
    picture.save(kept, "PNG")
    return kept.getvalue()


def _signature(content: bytes) -> Format | None:
    """Return what the first bytes say."""
    if content.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS:
        return "heic"
    return None


def _check_size(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        about = f"{picture.width}x{picture.height} pixels"
        raise NoPictureError(f"the picture has {about}: send one of no more than {MAX_PIXELS // 1_000_000} megapixels")


def _opened(content: bytes, found: Format) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the caller has its own limit
            return Image.open(io.BytesIO(content), formats=[found.upper()])
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise NoPictureError(f"the file cannot be read as {found}: send an undamaged picture") from error
