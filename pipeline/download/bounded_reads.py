"""Read compressed and packed data so that whoever made it cannot choose what reading costs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal

Form = Literal["zip", "tar", "gzip", "bzip2", "xz"]
"""How an archive is packed."""

CHUNK_BYTES = 256 * 1024
"""Most bytes handed on, or taken in by a reader of tar headers, at once."""
MAX_HEADER_BYTES = 16 * 1024**2
"""Most bytes of a tar that say something about its members instead of being theirs."""
MAX_DIRECTORY_BYTES = 4 * 1024**2
"""Most bytes of a ZIP's directory; an entry has about a hundred."""
_XZ_MEMORY_BYTES = 256 * 1024**2


class SmallReads:
    """A file of which no reader gets a huge piece: the ZIP module reads a whole directory of any size at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""
        if size > MAX_DIRECTORY_BYTES:
            raise ValueError(f"its directory claims {size} bytes")
        return self._file.read(size if size >= 0 else MAX_DIRECTORY_BYTES)

    def seekable(self) -> bool:
        """Return True."""
        return True


class ForwardReads:
    """A stream that is read once, forwards, and counted: by the tar module for headers, by us for what members hold."""

    def __init__(self, source: IO[bytes], check: Callable[[int], None]) -> None:
        self.last = b""
        """What the last read of a header gave."""
        self._source, self._check = source, check
        self._at = self._header_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Return bytes of a header; the tar module would take one of any size, and as many as there are."""
        self._header_bytes += size
        if not 0 <= size <= CHUNK_BYTES or self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"its headers have {self._header_bytes} bytes or more")
        self.last = self.take(size)
        return self.last

    def tell(self) -> int:
        """Return how far it was read."""
        return self._at

    def seek(self, offset: int) -> None:
        """Pass over what lies before ``offset``; there is no way back, where a negative size would lead."""
        if offset < self._at:
            raise ValueError("a header leads backwards")
        for _ in self.exactly(offset - self._at):
            pass

    def exactly(self, size: int) -> Iterator[bytes]:
        """Yield the next ``size`` bytes."""
        while size:
            chunk = self.take(min(size, CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"it ends {size} bytes early")
            size -= len(chunk)
            yield chunk

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        parts = []
        while size and (part := self._source.read(size)):
            size -= len(part)
            self._at += len(part)
            self._check(self._at)
            parts.append(part)
        return b"".join(parts)


def inflated(file: IO[bytes], form: Form) -> IO[bytes]:
    """Return a file as it is unpacked; one that is not compressed as it is."""
    if form == "gzip":
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if form == "bzip2":
        return io.BufferedReader(_Inflating(file, bz2.BZ2Decompressor))
    if form == "xz":
        return io.BufferedReader(_Inflating(file, _xz_decompressor))
    return file


def _xz_decompressor() -> lzma.LZMADecompressor:
    """Return one that does not take the memory that a file says it needs, which may be gigabytes."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


class _Inflating(io.RawIOBase):
    """The unpacked side of a compressed file, made no faster than it is read."""

    def __init__(self, file: IO[bytes], new: Callable[[], Any]) -> None:
        self._file, self._new, self._decoder = file, new, new()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer's beginning; 0 at the end.

        Raises:
            EOFError: The file ends in the middle.
        """
        while True:
            if self._decoder.eof:  # several packed files in a row count as one; xz fills up with zeros
                given = (self._decoder.unused_data or self._file.read(CHUNK_BYTES)).lstrip(b"\0")
                if not given:
                    return 0
                self._decoder = self._new()
            elif self._decoder.needs_input:
                given = self._file.read(CHUNK_BYTES)
                if not given:
                    raise EOFError("it ends in the middle")
            else:
                given = b""
            made = self._decoder.decompress(given, len(buffer))
            if made:
                buffer[: len(made)] = made
                return len(made)
