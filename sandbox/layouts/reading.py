"""Read a person's labelled images from a folder or a ZIP, in whatever layout they come.

Where a folder could be read in several ways the first of this order is taken, and a notice says so: an export, COCO,
YOLO, masks. Class folders are what is left when none of these is there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox.datasets import DataError, LabelledImage, count_frames
from sandbox.layouts import archive, classfolders, coco, maskfolders, yolo
from sandbox.layouts.places import Notices, Recognised, files_below, listed, shown, some
from sandbox.layouts.unpacking import unpacked

_UNREAD_PICTURES = frozenset({".gif", ".heic", ".heif", ".avif", ".jp2", ".svg", ".pdf", ".dng", ".cr2", ".nef"})
_MAX_SHOWN_FAULTS = 5
_MAX_NOTICES = 20
_WRAPPINGS = 3


@dataclass(frozen=True)
class ReadData:
    """Labelled images in the order of their names, and how they were read."""

    layout: str
    images: tuple[LabelledImage, ...]
    notices: tuple[str, ...]
    """What was passed over or chosen, a sentence each."""


def read_data(source: Path) -> ReadData:
    """Read a folder or ZIP file of labelled images.

    Raises:
        DataError: It is missing, has no layout that is known, or something in it cannot be used.
    """
    try:
        if source.is_file():
            with unpacked(source) as folder:
                return _read(folder, str(source))
        if not source.is_dir():
            raise DataError(f"data folder {str(source)!r} does not exist: give a folder or ZIP of labelled images")
        return _read(source, str(source))
    except OSError as error:
        place = error.filename or str(source)
        raise DataError(f"{str(place)!r} cannot be read or unpacked ({error.strerror or error})") from error


def _read(folder: Path, source: str) -> ReadData:
    notices: Notices = []
    root, found = _located(folder)
    images = list(_uniquely_named(list(found[0].read(notices)))) if found else []
    if not images:
        raise DataError(
            f"data folder {source!r} holds no labelled images: give COCO annotations (.json), YOLO labels/ with "
            "data.yaml or classes.txt, masks/ beside images/, an export, or one folder a class"
        )
    if len(found) > 1:
        others = " and as ".join(f"{other.layout} ({other.seen})" for other in found[1:])
        notices.append(
            f"read as {found[0].layout} ({found[0].seen}); the folder could be read as {others} too: to have that, "
            f"move {found[0].seen} out of it"
        )
    _check_pictures(images, notices)
    _report_unread(root, notices)
    return ReadData(found[0].layout, tuple(sorted(images, key=lambda image: image.name)), _shortened(notices))


def _located(folder: Path) -> tuple[Path, list[Recognised]]:
    """Return the folder whose layout is known: this one, or the only one in it, as a packed folder has it."""
    root = folder
    for _ in range(_WRAPPINGS):
        found = _recognised(root)
        inner = listed(root)
        if found or len(inner) != 1 or not inner[0].is_dir():
            return root, found
        root = inner[0]
    return root, _recognised(root)


def _recognised(root: Path) -> list[Recognised]:
    # An export's own annotations are JSON files: COCO is not looked for among them.
    first = archive if archive.recognise(root) is not None else coco
    found = [layout for module in (first, yolo, maskfolders) if (layout := module.recognise(root)) is not None]
    if found:
        return found
    rest = classfolders.recognise(root)
    return [] if rest is None else [rest]


def _uniquely_named(images: list[LabelledImage]) -> Iterator[LabelledImage]:
    """Number the images whose bare file name occurs in more than one folder: an export is flat."""
    total = Counter(image.name for image in images)
    taken = {name for name, count in total.items() if count == 1}
    for image in images:
        name, number = image.name, 0
        while total[image.name] > 1 and (number == 0 or name in taken):
            number += 1
            name = f"{Path(image.name).stem}-{number}{Path(image.name).suffix}"
        taken.add(name)
        yield replace(image, name=name)


def _check_pictures(images: Iterable[LabelledImage], notices: Notices) -> None:
    """Read every picture in full once, here, where a damaged one costs no training."""
    faults, several = [], []
    for image in images:
        try:
            if count_frames(image.name, image.content) > 1:
                several.append(image.name)
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - _MAX_SHOWN_FAULTS} more" if len(faults) > _MAX_SHOWN_FAULTS else ""
        raise DataError("; ".join(faults[:_MAX_SHOWN_FAULTS]) + more)
    if several:
        notices.append(f"several frames, of which the first is used: {len(several)} images ({some(several)})")


def _report_unread(root: Path, notices: Notices) -> None:
    unread = [shown(root, path) for path in files_below(root) if path.suffix.lower() in _UNREAD_PICTURES]
    if unread:
        notices.append(
            f"picture formats that are not read, passed over: {len(unread)} files ({some(unread)}); save them as PNG"
        )


def _shortened(notices: Notices) -> tuple[str, ...]:
    """Return the first notices as texts that can be sent: names of files and entries may hold anything."""
    more = len(notices) - _MAX_NOTICES
    kept = [notice.encode(errors="backslashreplace").decode() for notice in notices[:_MAX_NOTICES]]
    return (*kept, f"and {more} more of these") if more > 0 else tuple(kept)
