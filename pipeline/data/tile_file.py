"""Read HDF5 files of samples in blocks; the only module of the core that knows h5py.

A file need not fit into memory, and nothing outside it is ever opened: links to other files, external storage and
virtual datasets are refused unread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.data.tile_format import FIELDS, DType, shortened
from pipeline.data.tile_rules import Block

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What an HDF5 file starts with, or holds at byte 512, 1024, 2048 and so on behind a user block."""
BLOCK_BYTES = 16 * 1024**2
"""Samples read at once take about this much, and at least one sample."""
MAX_CHUNK_BYTES = 512 * 1024**2
"""Largest chunk read: HDF5 unpacks chunks whole."""
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
"""Packings every installation of h5py reads."""
_CACHE_SLOTS = 521
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError,
           AssertionError, EOFError, SystemError)  # fmt: skip
# What h5py lets through of a damaged or hostile file.


class RefusedFileError(Exception):
    """The file cannot be read, or must not be."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Tiles:
    """The dataset ``data`` of an open file."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.dtype: DType = dataset.dtype
        """Type of one record, with every field there is."""
        self.shape: tuple[int, ...] = tuple(dataset.shape or ())
        """Shape of the dataset; (N,) when it is as it should be."""

    def check_written(self) -> None:
        """Refuse a dataset that was declared but not written: what is missing would be read as zeros.

        Raises:
            RefusedFileError: Samples are missing.
        """
        with _reading("'data' cannot be read"):
            stored, chunks = self._dataset.id.get_storage_size(), self._dataset.chunks
            wanted = -(-self.shape[0] // chunks[0]) if chunks else 0
            there = self._dataset.id.get_num_chunks() if chunks else 0
        if (self.shape[0] and not stored) or there < wanted:
            text = f"'data' declares {self.shape[0]} samples, but not all were written; write the file again to its end"
            raise RefusedFileError("incomplete", text)

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """Yield the samples in order as (number of the first, (n,) records with the fields of ``FIELDS``).

        Raises:
            RefusedFileError: They cannot be read.
        """
        rows = max(1, BLOCK_BYTES // max(1, self.dtype.itemsize))
        for start in range(0, self.shape[0], rows):
            yield start, self._read(start, min(start + rows, self.shape[0]))

    def sample(self, index: int) -> np.void:
        """Read one sample.

        Raises:
            RefusedFileError: It cannot be read.
        """
        record: np.void = self._read(index, index + 1)[0]
        return record

    def _read(self, start: int, end: int) -> Block:
        with _reading(f"samples {start} to {end - 1} of 'data' cannot be read"):
            block: Block = self._dataset.fields(list(FIELDS))[start:end]
        return block


def has_signature(opened: BinaryIO, size_bytes: int) -> bool:
    """Tell whether the file says that it is HDF5."""
    at = 0
    while at + len(SIGNATURE) <= size_bytes:
        opened.seek(at)
        if opened.read(len(SIGNATURE)) == SIGNATURE:
            return True
        at = at * 2 or 512
    return False


def has_h5py() -> bool:
    """Tell whether the optional reader is installed."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn whatever the HDF5 library raises into a refusal."""
    try:
        yield
    except _DAMAGE as error:
        text = f"{what} ({shortened(error) or type(error).__name__}); write the file again"
        raise RefusedFileError("unreadable", text) from error


@contextmanager
def opened_tiles(path: Path) -> Iterator[Tiles]:
    """Open a training file and its dataset ``data``.

    Raises:
        RefusedFileError: It cannot be read, or part of it lies elsewhere.
    """
    import h5py

    with _reading(f"{path.name!r} cannot be opened as HDF5"):
        file = h5py.File(path, "r")
    try:
        with _reading(f"'data' of {path.name!r} cannot be opened"):
            tiles = Tiles(_find(h5py, file))
        yield tiles
    finally:
        with suppress(*_DAMAGE):
            file.close()


def _find(h5py: Any, file: Any) -> Any:
    """Open ``data`` when all of it lies in this file; asking a virtual dataset for its shape would open others."""
    links = file.id.links
    if not links.exists(b"data"):
        there = shortened(sorted(name for name, _ in zip(file, range(8), strict=False)))
        raise RefusedFileError("data_missing", f"the file holds no dataset 'data' at its root, but {there}; name it so")
    elsewhere = "what is uploaded must hold the samples itself: copy them into a dataset 'data'"
    if links.get_info(b"data").type != h5py.h5l.TYPE_HARD:
        raise RefusedFileError("data_elsewhere", f"'data' is a link to another place; {elsewhere}")
    if h5py.h5o.get_info(file.id, b"data").type != h5py.h5o.TYPE_DATASET:
        raise RefusedFileError(
            "not_a_dataset", "'data' is a group or a type; make it a dataset with one record a sample"
        )
    dataset = h5py.h5d.open(file.id, b"data")
    made = dataset.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL:
        raise RefusedFileError("data_elsewhere", f"'data' is a virtual dataset made of other files; {elsewhere}")
    if made.get_external_count():
        raise RefusedFileError("data_elsewhere", f"'data' keeps its bytes in another file; {elsewhere}")
    _check_packing(made)
    return _with_cache(h5py, file, dataset, made)


def _check_packing(made: Any) -> None:
    """Refuse what only an additional filter unpacks; looking for one would load code from elsewhere."""
    for place in range(made.get_nfilters()):
        number = made.get_filter(place)[0]
        if number not in _FILTERS:
            text = f"'data' is packed with filter {number}, which the provider may not have; write it with gzip"
            raise RefusedFileError("unknown_filter", text)


def _with_cache(h5py: Any, file: Any, dataset: Any, made: Any) -> Any:
    """Open ``data`` again with room for one chunk, so that each is unpacked once."""
    if made.get_layout() != h5py.h5d.CHUNKED:
        return h5py.Dataset(dataset)
    chunk_bytes = math.prod(made.get_chunk()) * dataset.get_type().get_size()
    if chunk_bytes > MAX_CHUNK_BYTES:
        text = f"'data' is stored in chunks of {chunk_bytes} bytes, the limit is {MAX_CHUNK_BYTES}; write smaller ones"
        raise RefusedFileError("chunk_too_large", text)
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(_CACHE_SLOTS, max(chunk_bytes, BLOCK_BYTES), 1.0)
    # As long as the first handle is open, the second one would share its cache.
    dataset.close()
    return h5py.Dataset(h5py.h5d.open(file.id, b"data", access))
