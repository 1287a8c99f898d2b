"""One picture out of many: the run's predictions at a glance, light enough to travel inside an artifact."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

TILE = 256
"""Longest side of one picture on the sheet, in pixels."""
GAP = 4
"""Space between pictures, in pixels."""
COLUMNS = 3
"""Pictures in a row."""
MOST = 12
"""Pictures on a sheet; the first ones are taken."""
QUALITY = 70
"""JPEG quality: about 8 kB a picture."""
BACKGROUND = (24, 24, 28)


def contact_sheet(pictures: Sequence[Path]) -> bytes:
    """Return the pictures side by side as one JPEG.

    Raises:
        ValueError: There is no picture.
        OSError: A picture cannot be read.
    """
    if not pictures:
        raise ValueError("a contact sheet needs one picture or more")
    tiles = [_tile(path) for path in pictures[:MOST]]
    columns = min(COLUMNS, len(tiles))
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), BACKGROUND)
    for number, tile in enumerate(tiles):
        left = (number % columns) * (width + GAP) + (width - tile.width) // 2
        top = (number // columns) * (height + GAP) + (height - tile.height) // 2
        sheet.paste(tile, (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _tile(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        tile = picture.convert("RGB")
    tile.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    return tile
