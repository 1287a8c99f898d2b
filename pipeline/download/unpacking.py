"""Find the ONNX model in a file of unknown form that a trainer returned.

The form is told by the bytes, never by a name. Of an archive only the model and a small config beside it are taken,
each under a name of our own.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.download.bounded_reads import CHUNK_BYTES
from pipeline.download.model_bytes import is_onnx, is_onnx_file, name_other_format
from pipeline.download.packed import Member, Packed, form_of
from pipeline.download.trained_config import TrainedConfig, read_config
from pipeline.errors import ArtifactTooLargeError, ErrorContext, OutputPathError, UnpackError

UNPACKED_NAME = "unpacked.onnx"
"""The model taken out of an archive."""
UNPACKED_CONFIG_NAME = "unpacked.json"
"""The config that lay beside it."""
MAX_CONFIG_BYTES = 1024**2
"""Largest config read."""
_HEAD_BYTES = 4096
_MODEL = "model.onnx"
_CONFIGS = ("config.json", "classes.json")
_MOST_LISTED = 10
_OTHER_ARCHIVES: tuple[tuple[bytes, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
)


@dataclass(frozen=True)
class UnpackedModel:
    """An ONNX file that was found, with what its trainer says of it; ``unpack_model`` makes it."""

    path: Path
    """Where it is: the downloaded file itself when that is the model."""
    size_bytes: int
    """Its size."""
    md5: str
    """MD5, lowercase hex."""
    sha256: str
    """SHA-256, lowercase hex."""
    member: str | None = None
    """Its name in the archive; None when it was in none."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the model's outputs, as its config says; empty when none can be believed."""
    architecture: str | None = None
    """As its config says."""
    task: str | None = None
    """As its config says."""
    input_size: tuple[int, int] | None = None
    """Height and width in pixels, as its config says."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Held-out figures, as its config says."""


def unpack_model(downloaded: Path, folder: Path, *, max_bytes: int) -> UnpackedModel | None:
    """Find the model in a downloaded file; None when there is no ONNX in it.

    Args:
        downloaded: A bare ONNX file, that file compressed, or a tar (plain, gzip, bzip2, xz) or ZIP archive.
        folder: Where a model that is in an archive goes, as ``unpacked.onnx``.
        max_bytes: Most bytes the model may have, and most an archive may unpack to.

    Raises:
        UnpackError: It is a damaged or hostile archive, one of a kind not read here, or has several models.
        ArtifactTooLargeError: Over ``max_bytes``.
        OutputPathError: ``folder`` cannot be written.
    """
    with downloaded.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    form = form_of(head)
    if form is None:
        _refuse_other_archive(downloaded, head)
        return _bare(downloaded, max_bytes) if is_onnx_file(downloaded) else None
    packed = Packed(downloaded, form, max_bytes)
    start = packed.plain_start()
    if start is not None:
        _refuse_other_archive(downloaded, start)
        return _unpacked(packed, folder) if is_onnx(memoryview(start)) else None
    members = packed.members()
    chosen = _choose(downloaded.name, members)
    return None if chosen is None else _take(packed, chosen, _config(packed, chosen, members, folder), folder)


def _bare(downloaded: Path, max_bytes: int) -> UnpackedModel:
    if (size := downloaded.stat().st_size) > max_bytes:
        raise ArtifactTooLargeError(
            f"{downloaded.name!r} has {size} bytes, over the limit of {max_bytes}; raise max_model_bytes if that is "
            f"expected",
            ErrorContext(field="max_model_bytes"),
        )
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with downloaded.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
    return UnpackedModel(downloaded, size, md5.hexdigest(), sha256.hexdigest())


def _unpacked(packed: Packed, folder: Path) -> UnpackedModel | None:
    """Unpack a compressed file that begins as a model does; None when it goes on as something else."""
    taken = _take(packed, None, TrainedConfig(), folder)
    if is_onnx_file(taken.path):
        return taken
    taken.path.unlink()
    return None


def _refuse_other_archive(downloaded: Path, head: bytes) -> None:
    """Refuse an archive that cannot be looked into."""
    for start, name in _OTHER_ARCHIVES:
        if head.startswith(start):
            raise UnpackError(
                f"{downloaded.name!r} is a {name} archive, which is not read here; have the trainer return the .onnx "
                f"file, a tar or a ZIP"
            )


def _choose(archive: str, members: Sequence[Member]) -> Member | None:
    """Return the one model of an archive."""
    models = [member for member in members if _is_named_model(member)]
    taken = [member for member in models if member.obstacle is None]
    if not taken and models:
        reasons = _listed(f"{member.shown!r} is {member.obstacle}" for member in models)
        raise UnpackError(f"no model can be taken from {archive!r}: {reasons}; have the trainer return the .onnx file")
    named = [member for member in taken if member.path.name == _MODEL]
    depth = min((len(member.path.parts) for member in named), default=0)
    best = [member for member in named if len(member.path.parts) == depth] or taken
    if len(best) > 1:
        names = _listed(repr(member.shown) for member in best)
        raise UnpackError(
            f"{archive!r} has {len(best)} models: {names}; have the trainer return one, or name it {_MODEL!r}"
        )
    return best[0] if best else None


def _is_named_model(member: Member) -> bool:
    """Tell a model by its name; what macOS puts beside every file is none."""
    name = member.path.name
    return name.lower().endswith(".onnx") and not name.startswith("._")


def _listed(parts: Iterable[str]) -> str:
    every = list(parts)
    more = f" and {len(every) - _MOST_LISTED} more" if len(every) > _MOST_LISTED else ""
    return ", ".join(every[:_MOST_LISTED]) + more


def _config(packed: Packed, chosen: Member, members: Sequence[Member], folder: Path) -> TrainedConfig:
    """Read and keep the config beside the model; one that is large, a link or there twice is as good as none."""
    for name in _CONFIGS:
        found = [member for member in members if member.path == chosen.path.with_name(name)]
        if len(found) == 1 and found[0].obstacle is None and found[0].size_bytes <= MAX_CONFIG_BYTES:
            content = b"".join(packed.chunks(found[0]))
            _write([content], folder / UNPACKED_CONFIG_NAME, packed.path.name)
            return read_config(content)
    return TrainedConfig()


def _take(packed: Packed, chosen: Member | None, config: TrainedConfig, folder: Path) -> UnpackedModel:
    chunks = packed.plain_chunks() if chosen is None else packed.chunks(chosen)
    label = packed.path.name if chosen is None else f"{packed.path.name}:{chosen.shown}"
    path = folder / UNPACKED_NAME
    size, md5, sha256 = _write(_of_onnx(chunks, label), path, label)
    return UnpackedModel(
        path,
        size,
        md5,
        sha256,
        None if chosen is None else chosen.shown,
        config.classes,
        config.architecture,
        config.task,
        config.input_size,
        config.metrics,
    )


def _of_onnx(chunks: Iterator[bytes], label: str) -> Iterator[bytes]:
    """Pass chunks on after a look at the first one."""
    first = next(chunks, b"")
    other = name_other_format(first[:_HEAD_BYTES])
    if other is not None:
        raise UnpackError(f"{label!r} is {other}, not an ONNX model; have the trainer put the model there")
    yield first
    yield from chunks


def _write(chunks: Iterable[bytes], target: Path, label: str) -> tuple[int, str, str]:
    """Write a file in one step; return its size, MD5 and SHA-256."""
    part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    size = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
                size += len(chunk)
                md5.update(chunk)
                sha256.update(chunk)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise OutputPathError(
            f"unpacking {label!r} into {str(target.parent)!r} failed ({error.strerror or error}); make room or choose "
            f"another output_dir",
            ErrorContext(field="output_dir"),
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before says more
            part.unlink(missing_ok=True)
    return size, md5.hexdigest(), sha256.hexdigest()
