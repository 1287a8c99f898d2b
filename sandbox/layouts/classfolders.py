"""Class folders: `<class>/<image>`, or `train|val|test/<class>/<image>`; the folder's name becomes the tag."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sandbox.datasets import DataError, LabelledImage, Split
from sandbox.layouts.places import (
    IMAGES,
    Notices,
    Recognised,
    files_below,
    is_picture,
    listed,
    load,
    pictures_in,
    shown,
    some,
    split_of,
)

LAYOUT = "class folders"
_NO_CLASS = frozenset({IMAGES, "labels", "masks", "annotations"})


@dataclass(frozen=True)
class _Class:
    folder: Path
    split: Split | None


def recognise(root: Path) -> Recognised | None:
    """Return the layout if any folder holds pictures."""
    classes = [found for found in _classes(root) if pictures_in(found.folder)]
    if not classes:
        return None
    return Recognised(LAYOUT, f"{shown(root, classes[0].folder)}/", partial(_read, root, classes))


def _classes(root: Path, split: Split | None = None) -> Iterator[_Class]:
    unlabelled = _unlabelled(root) if split is None else []
    for folder in filter(Path.is_dir, listed(root)):
        inner = split_of(folder.name) if split is None else None
        if inner is not None and any(map(Path.is_dir, listed(folder))):
            yield from _classes(folder, inner)
        elif folder not in unlabelled:
            yield _Class(folder, split)


def _unlabelled(root: Path) -> list[Path]:
    """Return the split folders without class folders, where another split has some: pictures nobody has sorted."""
    splits = [folder for folder in listed(root) if folder.is_dir() and split_of(folder.name)]
    flat = [folder for folder in splits if not any(map(Path.is_dir, listed(folder)))]
    return flat if len(flat) < len(splits) else []


def _read(root: Path, classes: list[_Class], notices: Notices) -> Iterator[LabelledImage]:
    names = sorted({found.folder.name for found in classes})
    if all(name.lower() in _NO_CLASS or split_of(name) for name in names):
        folders = " and ".join(f"{name}/" for name in names)
        raise DataError(
            f"{folders} hold pictures, but nothing says what they show: add labels (YOLO labels/, masks/, COCO .json) "
            "or sort the pictures into one folder a class"
        )
    _report(root, classes, notices)
    for found in classes:
        for path in pictures_in(found.folder):
            content, width, height = load(root, path)
            yield LabelledImage(path.name, content, width, height, tags=(found.folder.name,), split=found.split)


def _report(root: Path, classes: list[_Class], notices: Notices) -> None:
    """Name the pictures that are not read, wherever below the root they lie."""
    read = {path for found in classes for path in pictures_in(found.folder)}
    for folder in _unlabelled(root):
        pictures = pictures_in(folder)
        read.update(pictures)
        if pictures:
            notices.append(
                f"{shown(root, folder)}/ holds no class folders, passed over: {len(pictures)} pictures "
                f"({some(shown(root, path) for path in pictures)})"
            )
    rest = [shown(root, path) for path in files_below(root) if is_picture(path) and path not in read]
    if rest:
        notices.append(f"not directly in a class folder, passed over: {len(rest)} pictures ({some(rest)})")
