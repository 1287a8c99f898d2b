"""Check a folder of pictures of one person before any of them is uploaded to PhotoGPT.

The pictures show a real person: findings, reports and fingerprints know them by their numbers in the order of their
names, from 1, by counts and by sizes, never by their names.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from pipeline.data.portrait_files import FORMATS, HEAD_BYTES, MAX_BYTES, PICTURE_SUFFIXES, Look, look_at, sniff
from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.models import Finding, Severity
from pipeline.value import Value

MIN_PICTURES = 12
"""Least pictures the provider trains on."""
MAX_PICTURES = 20
"""Most pictures the provider trains on."""
MIN_SIDE = 256
"""Shorter side below which a picture teaches little, in pixels."""
MAX_LOOKED = 100
"""Pictures looked at one by one; a folder with more is the wrong folder."""


class PortraitsReport(Value):
    """What a folder of pictures of a person holds and what is wrong with it; it names none of them."""

    paths: tuple[Path, ...] = Field(default=(), exclude=True, repr=False)
    """The pictures in the order of their names; never shown and never stored."""
    count: int
    """Pictures found."""
    total_bytes: int
    """Size of all of them."""
    formats: tuple[str, ...]
    """Format of each by its content: ``jpg``, ``png``, ``webp``, ``heic``, another one's name, or ``unknown``."""
    sizes_bytes: tuple[int, ...]
    """Size of each."""
    digests: tuple[str, ...]
    """SHA-256 of each; empty for one that could not be read."""
    findings: tuple[Finding, ...]
    """Remarks; with an error among them the pictures cannot be trained on."""
    content_fingerprint: str
    """SHA-256 over the sorted digests: names, order and file times do not count."""


def inspect_portraits(folder: Path) -> PortraitsReport:
    """Check that a folder holds 12 to 20 different, readable pictures of the formats and sizes the provider takes.

    Raises:
        ConfigurationError: There is no such folder, or it cannot be read.
    """
    paths, ignored = _pictures(folder)
    looks = [look_at(path) for path in paths[:MAX_LOOKED]]
    digests = tuple(look.sha256 for look in looks)
    findings = [*_count_findings(len(paths)), *_error_findings(looks), *_duplicates(digests), *_remarks(looks)]
    if ignored:
        text = f"{ignored} other entries of the folder (hidden files, folders, no pictures) were left out"
        findings.append(Finding(severity=Severity.INFO, code="ignored_files", message=text))
    return PortraitsReport(
        paths=paths,
        count=len(paths),
        total_bytes=sum(look.size_bytes for look in looks),
        formats=tuple(look.format for look in looks),
        sizes_bytes=tuple(look.size_bytes for look in looks),
        digests=digests,
        findings=tuple(findings),
        content_fingerprint=hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest(),
    )


def _pictures(folder: Path) -> tuple[tuple[Path, ...], int]:
    """Return the pictures in the order of their names, and how many other entries there are."""
    context = ErrorContext(operation="local_data.inspect", field="dataset")
    if not folder.is_dir():
        text = f"dataset {str(folder)!r} is not a folder; name the folder that holds the pictures of the person"
        raise ConfigurationError(text, context)
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        text = f"dataset {str(folder)!r} cannot be read ({error.strerror or 'an error of the disk'}); check its rights"
        raise ConfigurationError(text, context) from None
    pictures = tuple(path for path in entries if _is_picture(path))
    return pictures, len(entries) - len(pictures)


def _is_picture(path: Path) -> bool:
    """Tell a picture by its content, or by a name that promises one."""
    promised = path.suffix.lower() in PICTURE_SUFFIXES
    try:
        if path.name.startswith(".") or not path.is_file():
            return False
        if promised:
            return True
        with path.open("rb") as opened:
            return sniff(opened.read(HEAD_BYTES)) is not None
    except OSError:
        return promised


def _count_findings(count: int) -> Iterable[Finding]:
    if count < MIN_PICTURES:
        text = f"the folder holds {count} pictures, the provider needs at least {MIN_PICTURES}; add some"
        yield Finding(severity=Severity.ERROR, code="too_few_pictures", message=text)
    if count > MAX_PICTURES:
        text = f"the folder holds {count} pictures, the provider takes at most {MAX_PICTURES}; keep the best"
        yield Finding(severity=Severity.ERROR, code="too_many_pictures", message=text)
    if count > MAX_LOOKED:
        text = f"only the first {MAX_LOOKED} pictures were looked at"
        yield Finding(severity=Severity.INFO, code="pictures_unread", message=text)


def _error_findings(looks: list[Look]) -> Iterable[Finding]:
    """Say which pictures cannot be used, each with its own reason."""
    for number, look in enumerate(looks, start=1):
        if look.fault is not None:
            text = f"picture {number} (in the order of names) cannot be used: {look.fault}; replace it"
            yield Finding(severity=Severity.ERROR, code="unreadable_picture", message=text)
        elif look.format not in FORMATS:
            text = f"picture {number} (in the order of names) is {look.format}; convert it to jpg, png, webp or heic"
            yield Finding(severity=Severity.ERROR, code="unknown_format", message=text)
        elif look.size_bytes > MAX_BYTES:
            text = (
                f"picture {number} (in the order of names) takes {look.size_bytes} bytes, the limit is {MAX_BYTES}; "
                f"save it smaller"
            )
            yield Finding(severity=Severity.ERROR, code="picture_too_large", message=text)


def _duplicates(digests: tuple[str, ...]) -> Iterable[Finding]:
    same: dict[str, list[int]] = defaultdict(list)
    for number, digest in enumerate(digests, start=1):
        if digest:
            same[digest].append(number)
    for numbers in same.values():
        if len(numbers) > 1:
            text = f"{_named(numbers)} are the same file; keep one of them"
            yield Finding(severity=Severity.ERROR, code="duplicate_pictures", message=text)


def _remarks(looks: list[Look]) -> Iterable[Finding]:
    """Say what is worth knowing about pictures that can be used."""
    numbered = [(number, look) for number, look in enumerate(looks, start=1)]
    tiny = [number for number, look in numbered if look.size and min(look.size) < MIN_SIDE]
    if tiny:
        text = f"{_named(tiny)}: the shorter side is below {MIN_SIDE} pixels; expect the likeness to suffer"
        yield Finding(severity=Severity.WARNING, code="tiny_picture", message=text)
    located = [number for number, look in numbered if look.located]
    if located:
        text = f"{_named(located)}: the file says where it was taken, and that is uploaded too; remove the location"
        yield Finding(severity=Severity.WARNING, code="location_inside", message=text)
    for reason in sorted({look.unopened for look in looks if look.unopened}):
        unopened = [number for number, look in numbered if look.unopened == reason]
        text = f"{_named(unopened)}: {reason}; it was not checked that the whole picture can be read"
        yield Finding(severity=Severity.INFO, code="picture_unopened", message=text)


def _named(numbers: list[int]) -> str:
    """Return ``pictures 1, 2 and 5 (in the order of names)``."""
    if len(numbers) == 1:
        return f"picture {numbers[0]} (in the order of names)"
    return f"pictures {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} (in the order of names)"
