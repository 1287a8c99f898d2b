"""Training files that are made to harm: they point elsewhere, claim to be huge, or need foreign code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.data import tile_file
from pipeline.data.tiles import inspect_tiles, keep_tiles
from pipeline.errors import ExportRejectedError
from pipeline.models import Severity
from tests.unit.tile_files import make_dtype, make_tiles, write_tiles


def _only_error(path: Path) -> str:
    report = inspect_tiles(path, task="classification", num_classes=3)
    assert [finding.severity for finding in report.findings] == [Severity.ERROR], report.findings
    return report.findings[0].code


def _external_link(file: Any, secret: Path) -> None:
    file["data"] = h5py.ExternalLink(secret, "data")


def _link_through_a_link(file: Any, secret: Path) -> None:
    file["far"] = h5py.ExternalLink(secret, "/")
    file["data"] = h5py.SoftLink("/far/data")


def _external_storage(file: Any, secret: Path) -> None:
    tiles = make_tiles()
    file.create_dataset("data", tiles.shape, tiles.dtype, external=[(str(secret), 0, tiles.nbytes)])


def _virtual(file: Any, secret: Path) -> None:
    tiles = make_tiles()
    source = h5py.VirtualSource(secret, "data", tiles.shape, tiles.dtype, maxshape=(None,))
    layout = h5py.VirtualLayout(tiles.shape, tiles.dtype, maxshape=(None,))
    layout[0 : h5py.UNLIMITED] = source[0 : h5py.UNLIMITED]
    file.create_virtual_dataset("data", layout)


@pytest.mark.parametrize("make", [_external_link, _link_through_a_link, _external_storage, _virtual])
def test_nothing_outside_the_file_is_opened(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a file would upload nothing of it, and reading it here must not touch what it points to.

    A file that could be opened would be found open here, and its samples are right ones: without the rule the
    training file would pass.
    """
    secret = write_tiles(tmp_path / "secret.h5", make_tiles(), maxshape=(None,))
    path = tmp_path / "tiles.h5"
    with h5py.File(path, "w") as file:
        make(file, secret)
    opened: list[str] = []
    find = tile_file._find

    def watched(*args: Any) -> Any:
        try:
            return find(*args)
        finally:
            opened.extend(os.path.realpath(handle) for handle in Path("/proc/self/fd").glob("*"))

    monkeypatch.setattr(tile_file, "_find", watched)
    assert _only_error(path) == "data_elsewhere"
    assert str(secret) not in opened
    if sys.platform == "linux":
        assert str(path) in opened
    with pytest.raises(ExportRejectedError, match="copy them into a dataset"):
        keep_tiles(path, 2, tmp_path / "kept")


def test_a_group_or_nothing_in_place_of_the_dataset(tmp_path: Path) -> None:
    """The finding says what is there instead."""
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("data")
    assert _only_error(tmp_path / "group.h5") == "not_a_dataset"
    with h5py.File(tmp_path / "type.h5", "w") as file:
        file["data"] = np.dtype("f4")
    assert _only_error(tmp_path / "type.h5") == "not_a_dataset"
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["tiles"] = np.zeros(3)
    report = inspect_tiles(tmp_path / "none.h5", task="classification", num_classes=3)
    assert [finding.code for finding in report.findings] == ["data_missing"]
    assert "'tiles'" in report.findings[0].message


@pytest.mark.parametrize("options", [{}, {"chunks": (2,), "compression": "gzip"}], ids=["contiguous", "chunked"])
def test_samples_that_were_never_written_are_not_read_as_zeros(tmp_path: Path, options: dict[str, Any]) -> None:
    """A few kilobytes can declare a million samples."""
    path = tmp_path / "tiles.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("data", (1_000_000,), make_dtype(), **options)
        if options:
            made[:2] = make_tiles(2)
    assert path.stat().st_size < 100_000
    assert _only_error(path) == "incomplete"


@pytest.mark.parametrize("count", [10**9, 2**62])
def test_a_size_nobody_has_is_not_read(tmp_path: Path, count: int) -> None:
    """The declared size alone is the error."""
    with h5py.File(tmp_path / "tiles.h5", "w") as file:
        file.create_dataset("data", (count,), make_dtype(), chunks=(2,), maxshape=(None,))
    assert _only_error(tmp_path / "tiles.h5") == "content_too_large"


def test_a_huge_sample_is_not_read(tmp_path: Path) -> None:
    """A sample of 300 MB is no tile."""
    with h5py.File(tmp_path / "tiles.h5", "w") as file:
        file.create_dataset("data", (2,), make_dtype(pixels=("<f4", (3, 5000, 5000))))
    assert _only_error(tmp_path / "tiles.h5") == "sample_too_large"


def test_a_huge_chunk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 unpacks chunks whole, whatever is asked of them."""
    monkeypatch.setattr(tile_file, "MAX_CHUNK_BYTES", 4000)
    path = write_tiles(tmp_path / "tiles.h5", make_tiles(), chunks=(6,), compression="gzip")
    assert _only_error(path) == "chunk_too_large"
    write_tiles(path, make_tiles(), chunks=(2,), compression="gzip")
    assert inspect_tiles(path, task="classification", num_classes=3).findings == ()


def test_no_foreign_code_is_loaded_to_unpack(tmp_path: Path) -> None:
    """A filter that is not part of HDF5 would be looked for in a folder of plug-ins."""
    with h5py.File(tmp_path / "tiles.h5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((2,))
        made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((6,))
        kind = h5py.h5t.py_create(make_dtype())
        written = h5py.h5d.create(file.id, b"data", kind, space, dcpl=made)
        written.write(h5py.h5s.ALL, h5py.h5s.ALL, make_tiles())
    assert _only_error(tmp_path / "tiles.h5") == "unknown_filter"


def test_texts_of_any_length_are_shown_short(tmp_path: Path) -> None:
    """A platform of a million letters does not fill the report."""
    tiles = make_tiles(platform="S100000")
    tiles["platform"] = b"x" * 100_000
    report = inspect_tiles(write_tiles(tmp_path / "tiles.h5", tiles), task="classification", num_classes=3)
    assert [finding.code for finding in report.findings] == ["unknown_platform"]
    assert len(report.findings[0].message) < 500


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyError, TypeError, MemoryError, OverflowError])
def test_whatever_the_library_raises_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A damaged file shows itself in many ways."""
    path = write_tiles(tmp_path / "tiles.h5", make_tiles())

    def fail(*_: Any) -> Any:
        raise error("from the depths")

    monkeypatch.setattr(h5py.Dataset, "fields", fail)
    assert _only_error(path) == "unreadable"


def test_damaged_files_crash_nothing(tmp_path: Path) -> None:
    """Bytes changed anywhere lead to a report, whatever it says."""
    rng = np.random.default_rng(3)
    path = tmp_path / "tiles.h5"
    right = write_tiles(path, make_tiles(3), compression="gzip", chunks=(2,)).read_bytes()
    faulty = 0
    for _ in range(200):
        content = np.frombuffer(right, np.uint8).copy()
        content[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(content.tobytes())
        faulty += bool(inspect_tiles(path, task="classification", num_classes=3).findings)
    assert 20 < faulty < 200
