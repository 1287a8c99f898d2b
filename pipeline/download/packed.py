"""List and read the members of an archive that nobody vouches for, without unpacking it.

Nothing is written here and no member's name becomes a path. What an archive may cost is bounded while it is read: its
members, what its headers say, what it unpacks to, and the memory of its decompressor.
"""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.download.bounded_reads import CHUNK_BYTES, Form, ForwardReads, SmallReads, inflated
from pipeline.errors import ArtifactTooLargeError, ErrorContext, UnpackError

MAX_MEMBERS = 10_000
"""Most members of one archive."""
MAX_RATIO = 200
"""An archive that unpacks to more than this many times its size is an attack; weights hardly shrink at all."""
FREE_BYTES = 64 * 1024**2
"""What any archive may unpack to, whatever the ratio."""
_BLOCK_BYTES = tarfile.BLOCKSIZE
_STARTS: tuple[tuple[bytes, Form], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    LookupError,
    MemoryError,
    TypeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)
"""What the archive modules let through of a file that is damaged, or made to break them."""


@dataclass(frozen=True)
class Member:
    """One member of an archive, by its place in it: names may repeat."""

    index: int
    name: str
    size_bytes: int
    obstacle: str | None = None
    """Why it cannot be taken; None when it can."""

    @property
    def path(self) -> PurePosixPath:
        """Its name as a path, to be compared and shown, never to be opened."""
        return PurePosixPath(self.name)

    @property
    def shown(self) -> str:
        """Its name as it may stand in a message or a report: printable and of bearable length."""
        return "".join(letter if letter.isprintable() else "?" for letter in self.name[:200])


@dataclass(frozen=True)
class Packed:
    """An archive on disk; every read starts at its beginning."""

    path: Path
    form: Form
    max_bytes: int

    def members(self) -> list[Member]:
        """Return all members that are no folders.

        Raises:
            UnpackError: The archive is damaged, or holds too many of them.
            ArtifactTooLargeError: It unpacks to too much.
        """
        with self._readable():
            return list(self._zip_members() if self.form == "zip" else self._tar_members())

    def chunks(self, wanted: Member) -> Iterator[bytes]:
        """Yield the bytes of a member.

        Raises:
            UnpackError: The archive is damaged.
            ArtifactTooLargeError: It unpacks to too much.
        """
        source = self._zip_chunks(wanted) if self.form == "zip" else self._tar_chunks(wanted)
        while True:
            with self._readable():  # not around the yield: what the caller's disk does is not the archive's fault
                chunk = next(source, b"")
            if not chunk:
                return
            yield chunk

    def plain_start(self) -> bytes | None:
        """Return the first bytes of a compressed file that is no tar; None of an archive.

        Raises:
            UnpackError: It is damaged.
        """
        if self.form in {"zip", "tar"}:
            return None
        with self._readable(), self._stream() as stream:
            start = stream.take(4096)
        return None if is_tar(start) else start

    def plain_chunks(self) -> Iterator[bytes]:
        """Yield what a compressed file that is no tar unpacks to.

        Raises:
            UnpackError: It is damaged.
            ArtifactTooLargeError: It unpacks to too much.
        """
        with self._stream() as stream:
            while True:
                with self._readable():
                    chunk = stream.take(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def check(self, size_bytes: int) -> None:
        """Refuse an amount of unpacked bytes that is over the limits.

        Raises:
            ArtifactTooLargeError: Over what the caller allows.
            UnpackError: Too many times what the archive itself has.
        """
        if size_bytes > self.max_bytes:
            raise ArtifactTooLargeError(
                f"{self.path.name!r} unpacks to {size_bytes} bytes or more, over the limit of {self.max_bytes}; raise "
                f"max_model_bytes if that is expected",
                ErrorContext(field="max_model_bytes"),
            )
        if size_bytes > FREE_BYTES and size_bytes > MAX_RATIO * self.path.stat().st_size:
            raise UnpackError(
                f"{self.path.name!r} unpacks to more than {MAX_RATIO} times its own size, which no model "
                f"does; have the trainer return the .onnx file itself"
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise UnpackError(
                f"{self.path.name!r} is no {self.form} archive that can be read to its end "
                f"({type(error).__name__}: {str(error)[:200]!r}); have the trainer return it again"
            ) from error

    def _zip_members(self) -> Iterator[Member]:
        with self.path.open("rb") as file, zipfile.ZipFile(SmallReads(file)) as archive:
            entries = archive.infolist()
            self._check_count(len(entries))
            for index, entry in enumerate(entries):
                if not entry.is_dir():
                    yield Member(index, entry.orig_filename, entry.file_size, _zip_obstacle(entry))

    def _zip_chunks(self, wanted: Member) -> Iterator[bytes]:
        self.check(wanted.size_bytes)  # the module reads no further, whatever the data would unpack to
        with (
            self.path.open("rb") as file,
            zipfile.ZipFile(SmallReads(file)) as archive,
            archive.open(archive.infolist()[wanted.index]) as source,
        ):
            while chunk := source.read(CHUNK_BYTES):
                yield chunk

    def _tar_members(self) -> Iterator[Member]:
        with self._stream() as stream:
            for index, entry in enumerate(_tar_entries(stream)):
                self._check_count(index + 1)
                if not entry.isdir():
                    yield Member(index, entry.name, entry.size, _tar_obstacle(entry))
            while stream.take(CHUNK_BYTES):  # to the compressed file's own checksum
                pass

    def _tar_chunks(self, wanted: Member) -> Iterator[bytes]:
        with self._stream() as stream:
            for index, entry in enumerate(_tar_entries(stream)):
                if index == wanted.index:
                    yield from stream.exactly(entry.size)
                    return

    def _check_count(self, count: int) -> None:
        if count > MAX_MEMBERS:
            raise UnpackError(
                f"{self.path.name!r} holds more than {MAX_MEMBERS} members; have the trainer return the model alone"
            )

    @contextmanager
    def _stream(self) -> Iterator[ForwardReads]:
        with self.path.open("rb") as file:
            yield ForwardReads(inflated(file, self.form), self.check)


def form_of(head: bytes) -> Form | None:
    """Tell by a file's first 512 bytes whether it is packed, and how."""
    for start, form in _STARTS:
        if head.startswith(start):
            return form
    return "tar" if is_tar(head) else None


def is_tar(head: bytes) -> bool:
    """Tell whether the bytes begin with a tar header, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK_BYTES], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def _tar_entries(stream: ForwardReads) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
        while (entry := archive.next()) is not None:
            yield entry
    # The module takes a damaged header for the end, which could hide a member.
    if stream.last != bytes(_BLOCK_BYTES):
        raise EOFError("it ends without an end mark, or a header is damaged")


def _tar_obstacle(entry: tarfile.TarInfo) -> str | None:
    if entry.issym() or entry.islnk():
        return "a link, not a file"
    if entry.issparse():
        return "a sparse file"
    if not entry.isreg():
        return "a device or something else that is no file"
    return _name_obstacle(entry.name)


def _zip_obstacle(entry: zipfile.ZipInfo) -> str | None:
    if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG}:
        return "a link or a device, not a file"
    if entry.flag_bits & 0x1:
        return "encrypted"
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return f"packed by method {entry.compress_type}, which is not read here"
    return _name_obstacle(entry.orig_filename)


def _name_obstacle(name: str) -> str | None:
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or ":" in name[:2] or "\\" in name or "\0" in name
    return "under a name that leaves the archive's folder" if outside else None
