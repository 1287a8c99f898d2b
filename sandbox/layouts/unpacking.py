"""Unpacking a person's ZIP: bounded, and nothing of it lands outside its folder."""

import lzma
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sandbox.datasets import DataError

MAX_ENTRIES = 200_000
MAX_ENTRY_BYTES = 1 << 30
MAX_TOTAL_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 20
_KEPT = frozenset({0, stat.S_IFREG, stat.S_IFDIR})
_UNREADABLE = (
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
)
"""What the ZIP module lets through of a damaged or encrypted file."""


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a folder with what a ZIP holds; it is removed afterwards.

    Raises:
        DataError: The file is no ZIP, is damaged or encrypted, leaves its folder, holds links or is too large.
    """
    with tempfile.TemporaryDirectory(prefix="sandbox-import-") as scratch:
        folder = Path(scratch).resolve()
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, path.name, folder)
        except DataError:
            raise
        except _UNREADABLE as error:
            raise DataError(f"{path.name!r} is no ZIP file that can be read ({error}): pack it again") from error
        yield folder


def _unpack(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    entries = [entry for entry in archive.infolist() if not entry.filename.startswith("__MACOSX/")]
    if len(entries) > MAX_ENTRIES:
        raise DataError(
            f"{name!r} holds {len(entries)} entries, more than {MAX_ENTRIES}: unpack it and give its folder"
        )
    for entry in entries:
        reason = _refusal(entry)
        if reason is not None:
            raise DataError(f"{name!r}, entry {entry.filename[:200]!r}: {reason}; pack it again without it")
    total_bytes = sum(entry.file_size for entry in entries)
    _check_total(name, total_bytes, folder)
    for entry in entries:
        place = folder / entry.filename
        if entry.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, place.open("xb") as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)  # never more than file_size: zipfile stops there


def _check_total(name: str, total_bytes: int, folder: Path) -> None:
    if total_bytes > MAX_TOTAL_BYTES:
        raise DataError(
            f"{name!r} unpacks to {total_bytes} bytes, more than {MAX_TOTAL_BYTES}: unpack it and give its folder"
        )
    free_bytes = shutil.disk_usage(folder).free
    if total_bytes > free_bytes:
        raise DataError(
            f"{name!r} unpacks to {total_bytes} bytes, {free_bytes} are free here: make room, or set TMPDIR"
        )


def _refusal(entry: zipfile.ZipInfo) -> str | None:
    """Return why an entry is not unpacked, or None."""
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.orig_filename or "\0" in entry.orig_filename:
        return "its path leaves the folder"
    if not path.parts or path.parts[0].endswith(":"):
        return "it has no path in the folder"
    if stat.S_IFMT(entry.external_attr >> 16) not in _KEPT:
        return "it is a link or a device, not a file"
    if entry.flag_bits & 0x1:
        return "it is encrypted"
    if entry.file_size > MAX_ENTRY_BYTES:
        return f"it unpacks to {entry.file_size} bytes, more than {MAX_ENTRY_BYTES}"
    return None
