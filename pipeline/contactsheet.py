"""One small picture out of many: the run's predictions at a glance, light enough to travel inside an artifact."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

TILE = 192
"""Side of one picture on the sheet, in pixels."""
COLUMNS = 3
"""Pictures in a row."""
QUALITY = 60
"""JPEG quality: about 4 kB a picture."""


def contact_sheet(pictures: Sequence[Path]) -> bytes:
    """Return the pictures side by side as one JPEG.

    Raises:
        ValueError: There is no picture.
    """
    if not pictures:
        raise ValueError("a contact sheet needs one picture or more")
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * TILE), "white")
    for number, path in enumerate(pictures):
        with Image.open(path) as picture:
            tile = picture.convert("RGB")
        tile.thumbnail((TILE, TILE))
        left = (number % columns) * TILE + (TILE - tile.width) // 2
        top = (number // columns) * TILE + (TILE - tile.height) // 2
        sheet.paste(tile, (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def data_uri(jpeg: bytes) -> str:
    """Return the JPEG as an address that carries its own content."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
