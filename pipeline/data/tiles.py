"""Check a Bluesight training file (HDF5) before it is uploaded: is it one, what is in it, will the training take it?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.data.remarks import Remarks
from pipeline.data.tile_file import RefusedFileError, Tiles, has_h5py, has_signature, opened_tiles
from pipeline.data.tile_format import TileShape, TileTask, check_format
from pipeline.data.tile_rules import TileCheck
from pipeline.data.tile_samples import SampleTile, TileChoice, store_tile
from pipeline.download.collection import check_output_dir
from pipeline.errors import ConfigurationError, ErrorContext, ExportRejectedError
from pipeline.models import Finding, Severity
from pipeline.value import Value


class TilesReport(Value):
    """What a training file of tiles holds and what is wrong with it."""

    role: str
    """The request's field that names the file."""
    task: TileTask
    """What is to be trained on it."""
    count: int | None = None
    """Samples inside; none when the content was not read."""
    classes: dict[int, int] = Field(default_factory=dict)
    """Label and how many tiles (classification) or pixels (segmentation) carry it."""
    shown: dict[int, int] = Field(default_factory=dict)
    """Label and how many tiles show it."""
    bands: tuple[str, ...] = ()
    """Names of the bands."""
    gsd: float | None = None
    """Metres a pixel covers."""
    platform: str | None = None
    """What took the tiles; none when the file does not say."""
    height: int | None = None
    """Height of every tile in pixels."""
    width: int | None = None
    """Width of every tile in pixels."""
    findings: tuple[Finding, ...]
    """Remarks; with an error among them the file cannot be trained on."""
    content_fingerprint: str
    """SHA-256 over the fields' bytes, independent of packing and times; over the file where it could not be read."""
    size_bytes: int
    """Size of the file."""
    sha256: str
    """SHA-256 of the file."""


def inspect_tiles(path: Path, *, task: TileTask, num_classes: int | None, role: str = "dataset") -> TilesReport:
    """Check a training file against every rule the provider has, and count its labels.

    Without h5py only the file's signature is checked, and a warning says so.

    Raises:
        ConfigurationError: There is no such file, or it cannot be read.
    """
    size_bytes, sha256, is_hdf5 = _file_facts(path, role)
    remarks = Remarks()
    _check_num_classes(task, num_classes, remarks)
    facts: dict[str, Any] = {}
    if not is_hdf5:
        text = f"{path.name!r} is not an HDF5 file; write the tiles with h5py into one dataset 'data'"
        remarks.add(Severity.ERROR, "not_hdf5", text)
    elif not has_h5py():
        text = (
            f"only the first bytes of {path.name!r} were checked, not its fields, tiles and labels: h5py is not "
            f"installed; install it with: pip install 'train-pipeline[bluesight]'"
        )
        remarks.add(Severity.WARNING, "content_unchecked", text)
    else:
        try:
            facts = _read_content(path, TileCheck(task, num_classes, remarks), task, remarks)
        except RefusedFileError as error:
            remarks.add(Severity.ERROR, error.code, error.message)
    facts = {"content_fingerprint": sha256, **facts}
    return TilesReport(role=role, task=task, findings=remarks.findings(), size_bytes=size_bytes, sha256=sha256, **facts)


def keep_tiles(path: Path, count: int, target: Path, *, role: str = "dataset") -> tuple[SampleTile, ...]:
    """Store up to ``count`` labelled tiles below ``target``, spread over the labels; the same file gives the same.

    Without h5py there are none.

    Raises:
        ConfigurationError: There is no such file, or it cannot be read.
        ExportRejectedError: The file cannot be trained on.
        OutputPathError: They cannot be written.
    """
    _, _, is_hdf5 = _file_facts(path, role)
    if not is_hdf5:
        raise _rejected(path, role, "it is not an HDF5 file")
    if count < 1 or not has_h5py():
        return ()
    check_output_dir(target)
    choice = TileChoice(count)
    try:
        with opened_tiles(path) as tiles:
            _check_readable(tiles, path, role)
            for start, block in tiles.blocks():
                choice.look(start, block)
            return tuple(
                store_tile(tiles.sample(index), index, target, number) for number, index in enumerate(choice.chosen())
            )
    except RefusedFileError as error:
        raise _rejected(path, role, error.message) from error


def _read_content(path: Path, check: TileCheck, task: TileTask, remarks: Remarks) -> dict[str, Any]:
    """Judge type, shape and every sample; return what the report says about them."""
    with opened_tiles(path) as tiles:
        shape = check_format(tiles.dtype, tiles.shape, task, remarks)
        facts: dict[str, Any] = {"count": tiles.shape[0] if len(tiles.shape) == 1 else None}
        if shape is None:
            return facts
        tiles.check_written()
        for start, block in tiles.blocks():
            check.look(start, block)
        check.finish()
    return {**facts, **_content_facts(check, shape)}


def _check_readable(tiles: Tiles, path: Path, role: str) -> None:
    """Refuse a file whose samples are not tiles with labels of one kind or the other."""
    remarks = Remarks()
    label = tiles.dtype["label"] if "label" in (tiles.dtype.names or ()) else None
    task: TileTask = "segmentation" if label is not None and label.shape else "classification"
    check_format(tiles.dtype, tiles.shape, task, remarks)
    errors = [finding.message for finding in remarks.findings() if finding.severity is Severity.ERROR]
    if errors:
        raise _rejected(path, role, "; ".join(errors))
    tiles.check_written()


def _content_facts(check: TileCheck, shape: TileShape) -> dict[str, Any]:
    found = check.facts
    return {
        "classes": dict(sorted(check.labelled.items())),
        "shown": dict(sorted(check.shown.items())),
        "bands": found.bands if found else (),
        "gsd": found.gsd if found else None,
        "platform": found.platform if found else None,
        "height": shape.height,
        "width": shape.width,
        "content_fingerprint": check.fingerprint(),
    }


def _check_num_classes(task: TileTask, num_classes: int | None, remarks: Remarks) -> None:
    if num_classes is None:
        if task == "segmentation":
            text = "segmentation needs num_classes: set it to the number of classes, which are labelled 0, 1, 2 ..."
            remarks.add(Severity.ERROR, "num_classes_missing", text)
    elif num_classes < 1:
        text = f"num_classes is {num_classes}; set it to the number of classes, 1 or more"
        remarks.add(Severity.ERROR, "num_classes_invalid", text)


def _file_facts(path: Path, role: str) -> tuple[int, str, bool]:
    """Return the file's size, its SHA-256, and whether it looks like HDF5."""
    context = ErrorContext(operation="local_data.inspect", field=role)
    if not path.is_file():
        raise ConfigurationError(f"{role} {str(path)!r} is not a file; name an HDF5 file of labelled tiles", context)
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            size_bytes = opened.tell()
            return size_bytes, digest, has_signature(opened, size_bytes)
    except OSError as error:
        text = f"{role} {str(path)!r} cannot be read ({error.strerror or error}); check its permissions and its disk"
        raise ConfigurationError(text, context) from error


def _rejected(path: Path, role: str, reason: str) -> ExportRejectedError:
    context = ErrorContext(operation="local_data.inspect", field=role)
    return ExportRejectedError(f"{role} {path.name!r} cannot be trained on: {reason}", context)
