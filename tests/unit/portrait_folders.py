"""Folders of pictures of a person, made of random colours."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

from PIL import Image

BERLIN = {1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)}
"""GPS notes of EXIF: reference and degrees, minutes, seconds."""


def picture(seed: int, kind: str = "JPEG", side: int = 256, **options: Any) -> bytes:
    """Return a picture, another for every seed; ``located`` adds the place it was taken at."""
    colours = random.Random(seed).randbytes(16 * 16 * 3)  # noqa: S311
    image = Image.frombytes("RGB", (16, 16), colours).resize((side, side), Image.Resampling.NEAREST)
    if options.pop("located", False):
        options["exif"] = place_notes()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def place_notes() -> Image.Exif:
    """Return EXIF notes with a place."""
    notes = Image.Exif()
    notes[0x010F] = "Camera"
    notes[0x8825] = BERLIN
    return notes


def heic(payload: bytes = b"", brand: bytes = b"heic", compatible: tuple[bytes, ...] = (b"mif1", b"heic")) -> bytes:
    """Return the boxes of a HEIC file around a payload that no decoder would take."""
    kinds = ((b"ftyp", brand + bytes(4) + b"".join(compatible)), (b"meta", bytes(40)), (b"mdat", payload + bytes(64)))
    return b"".join(struct.pack(">I", len(body) + 8) + kind + body for kind, body in kinds)


def fill(folder: Path, count: int = 12) -> Path:
    """Make a folder of right pictures, ``anna-01.jpg`` and so on."""
    folder.mkdir(exist_ok=True)
    for number in range(1, count + 1):
        (folder / f"anna-{number:02d}.jpg").write_bytes(picture(number))
    return folder
