"""The stand-in for a generated image: the model's own pictures, blended, with a note that says what it is."""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sandbox.photogpt.pictures import decoded, encoded

NOTE = "sandbox stand-in"
_COLUMNS = 3
_BLEND = 0.45
_MAX_PIXELS = 4096 * 4096
_BLANK = (96, 96, 96)
_BAND, _INK = (0, 0, 0), (255, 255, 255)

Source = bytes | Path
"""A picture, or the file it is read from when its turn comes."""


def stand_in(pictures: Sequence[Source], size: tuple[int, int], seed: int, ground: Source | None = None) -> bytes:
    """Return a PNG of this size (width, height) made from the pictures; the same seed gives the same bytes.

    The ground is the first of the pictures in the seed's order, unless there is one of its own. Pictures that cannot
    be decoded are left out; without any, the ground is plain.
    """
    shuffled = list(pictures)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 -- which picture goes where is no secret
    readable = list(islice(_readable(shuffled, size), _COLUMNS**2))
    below = next(_readable([ground or b""], size), readable[0] if readable else Image.new("RGB", (1, 1), _BLANK))
    whole = ImageOps.fit(below, size)
    return encoded(_noted(Image.blend(whole, _tiles(readable, size), _BLEND) if readable else whole))


def enlarged(content: bytes, factor: int) -> bytes | None:
    """Return a picture enlarged in both directions as PNG, or None when it cannot be decoded or is too large."""
    picture = decoded(content)
    if picture is None or picture.width * picture.height * factor**2 > _MAX_PIXELS:
        return None
    return encoded(ImageOps.scale(picture, factor))


def _readable(sources: Iterable[Source], size: tuple[int, int]) -> Iterator[Image.Image]:
    """Yield the pictures that can be decoded, none with more pixels than a composition of this size has."""
    for source in sources:
        picture = decoded(source if isinstance(source, bytes) else source.read_bytes(), near=size)
        if picture is not None:
            is_large = picture.width * picture.height > size[0] * size[1]
            yield ImageOps.fit(picture, size) if is_large else picture


def _tiles(pictures: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Return the pictures side by side; the last row and column take what a division leaves over."""
    width, height = size
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", size, _BLANK)
    for cell in range(columns * rows):
        left, right = (width * edge // columns for edge in (cell % columns, cell % columns + 1))
        top, bottom = (height * edge // rows for edge in (cell // columns, cell // columns + 1))
        tile = ImageOps.fit(pictures[cell % len(pictures)], (max(1, right - left), max(1, bottom - top)))
        sheet.paste(tile, (left, top))
    return sheet


def _noted(picture: Image.Image) -> Image.Image:
    """Draw the note on a band along the lower edge."""
    band = max(14, picture.height // 12)
    top = max(0, picture.height - band)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, top, picture.width, picture.height), fill=_BAND)
    font = ImageFont.load_default(size=max(8, min(band * 2 // 3, picture.width * 3 // (2 * len(NOTE)))))
    draw.text((picture.width // 2, top + band // 2), NOTE, fill=_INK, font=font, anchor="mm")
    return picture
