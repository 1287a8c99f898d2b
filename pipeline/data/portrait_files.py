"""Look at one picture of a person: its format by its bytes, whether it opens, and whether it says where it was taken.

Nothing here returns or raises a file's name: pictures of people are known by their numbers alone.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.data.pictures import DAMAGE, MAX_PIXELS

HEAD_BYTES = 4096
"""Bytes read to recognise a format."""
MAX_BYTES = 19_500_000
"""Largest picture: a request may hold 20 MB, and its framing counts."""
FORMATS = frozenset({"jpg", "png", "webp", "heic"})
"""Formats the provider takes."""
PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".dng"}
)
"""File names that promise a picture, whatever is inside."""
_PILLOW = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_STARTS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
}
_GPS_IFD = 0x8825
_GPS_TAGS = frozenset({2, 4, 20, 22, 28})
"""Latitude and longitude, those of the destination, and the name of the area."""
_MAX_NOTES = 16
_MAX_NOTES_BYTES = 1024**2
_EXIF_START = re.compile(rb"Exif\0\0(?=II\*\0|MM\0\*)|II\*\0\x08\0\0\0|MM\0\*\0\0\0\x08")
"""Notes inside a HEIC file, with or without their heading."""
_XMP_PLACE = re.compile(rb"exif:GPSL(?:at|ong)itude")


@dataclass(frozen=True)
class Look:
    """What was found out about one picture."""

    format: str
    """``jpg``, ``png``, ``webp``, ``heic``; another format's name, or ``unknown``."""
    size_bytes: int
    sha256: str = ""
    """SHA-256 of its bytes; empty where it could not be read."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; none where it was not opened."""
    fault: str | None = None
    """Why it is of no use."""
    unopened: str | None = None
    """Why it was not opened although nothing is known to be wrong with it."""
    located: bool = False
    """True when it says where it was taken."""


def sniff(head: bytes) -> str | None:
    """Return the picture format of a file's first bytes; none for anything else."""
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "bmp"
    return _sniff_boxes(head) if head[4:8] == b"ftyp" else None


def look_at(path: Path) -> Look:
    """Read a picture whole and judge it; never raises for what is in the file."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as opened:
            if size_bytes > MAX_BYTES:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
                opened.seek(0)
                name = sniff(opened.read(HEAD_BYTES)) or "unknown"
                return Look(name, size_bytes, digest)
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        return Look("unknown", 0, fault=error.strerror or "an error of the disk")
    name = sniff(content[:HEAD_BYTES]) or "unknown"
    facts: dict[str, Any] = {}
    with warnings.catch_warnings():
        # Pillow warns about damaged notes of pictures that are fine themselves.
        warnings.simplefilter("ignore")
        if name in _PILLOW:
            facts = _open(content, _PILLOW[name])
        elif name == "heic":
            facts = _walk(content)
    located = facts.pop("located", False) or _XMP_PLACE.search(content) is not None
    return Look(name, len(content), hashlib.sha256(content).hexdigest(), located=located, **facts)


def _sniff_boxes(head: bytes) -> str | None:
    """Tell HEIC from its relatives by the brands of its first box."""
    length = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)) - 3, 4))}
    if head[8:12] in {b"avif", b"avis"}:
        return "avif"
    if brands & _HEIC_BRANDS:
        return "heic"
    return "heif" if brands & {b"mif1", b"msf1"} else None


def _open(content: bytes, name: str) -> dict[str, Any]:
    """Open a picture with Pillow, to its last pixel; its own sentences are not passed on, they may name the file."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=[name]) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return {"size": opened.size, "unopened": f"more than {MAX_PIXELS} pixels", "located": _located(opened)}
            opened.load()
            return {"size": opened.size, "located": _located(opened)}
    except Image.DecompressionBombError:
        return {"unopened": f"more than {MAX_PIXELS} pixels"}
    except DAMAGE:
        return {"fault": "it is damaged or cut short"}


def _located(opened: Any) -> bool:
    """Tell whether the EXIF notes of an open picture give a place; damaged notes give none."""
    try:
        return bool(_GPS_TAGS & set(opened.getexif().get_ifd(_GPS_IFD)))
    except DAMAGE:
        return False


def _walk(content: bytes) -> dict[str, Any]:
    """Follow a HEIC file's boxes to its end; the picture itself cannot be opened here."""
    at, seen = 0, set()
    while at < len(content):
        length, kind = _box(content, at)
        if length < 8 or at + length > len(content):
            return {"fault": "it is damaged or cut short"}
        seen.add(kind)
        at += length
    if not {b"meta", b"mdat"} <= seen:
        return {"fault": "it holds no picture"}
    return {"unopened": "HEIC is not opened on this machine", "located": _heic_located(content)}


def _box(content: bytes, at: int) -> tuple[int, bytes]:
    """Return a box's length, 0 for an impossible one, and its kind."""
    head = content[at : at + 16]
    length, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if length == 1:
        return int.from_bytes(head[8:16], "big"), kind
    return (len(content) - at if length == 0 else length), kind


def _heic_located(content: bytes) -> bool:
    from PIL import Image

    for match in islice(_EXIF_START.finditer(content), _MAX_NOTES):
        exif = Image.Exif()
        try:
            exif.load(content[match.start() : match.start() + _MAX_NOTES_BYTES])
            if _GPS_TAGS & set(exif.get_ifd(_GPS_IFD)):
                return True
        except DAMAGE:
            continue
    return False
