"""Where layouts keep things: split folders, pictures, and the files that lie in a folder beside them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.datasets import IMAGE_SUFFIXES, DataError, LabelledImage, Split, image_size

SPLIT_WORDS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IMAGES = "images"
Notices = list[str]
"""What a person should know about data that was read: each entry is a sentence."""


@dataclass(frozen=True)
class Recognised:
    """A layout that a folder seems to have."""

    layout: str
    seen: str
    """What speaks for it, to be shown."""
    read: Callable[[Notices], Iterable[LabelledImage]]


@dataclass(frozen=True)
class Pair:
    """A picture and the file its labels should be in, whatever that file's suffix."""

    picture: Path
    partner: Path
    split: Split | None

    def file(self, suffix: str) -> Path:
        """Return the partner with a suffix; a dot in its stem stays."""
        return self.partner.parent / (self.partner.name + suffix)


def split_of(word: str) -> Split | None:
    """Return the split a folder or file word stands for: `valid`, `train2017`."""
    return SPLIT_WORDS.get(word.lower().rstrip("0123456789"))


def listed(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted; hidden files and what archivers leave behind are passed over."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its folders, sorted; a link back to a folder above is not followed."""
    for path in listed(folder):
        if not path.is_dir():
            yield path
        elif not (path.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
            yield from files_below(path)


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures directly in a folder."""
    return [path for path in listed(folder) if is_picture(path) and path.is_file()]


def is_picture(path: Path) -> bool:
    """Tell a picture by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def split_folders(root: Path) -> list[tuple[Path, Split | None]]:
    """Return the folder itself, without a split, and those of its folders that are named for one."""
    found = [(path, split_of(path.name)) for path in listed(root) if path.is_dir()]
    return [(root, None), *((path, split) for path, split in found if split is not None)]


def pairs(root: Path, partner: str) -> Iterator[Pair]:
    """Yield the pictures below `images` with their partners below `partner`; a split may be above or below these."""
    for base, split in split_folders(root):
        for path in filter(is_picture, files_below(base / IMAGES)):
            below = path.relative_to(base / IMAGES)
            inner = split_of(below.parts[0]) if len(below.parts) > 1 else None
            yield Pair(path, (base / partner / below).with_suffix(""), split or inner)


def partner_files(root: Path, partner: str, suffix: str) -> list[Path]:
    """Return the files with a suffix below every folder in which partners are looked for."""
    return [
        path
        for base, _ in split_folders(root)
        for path in files_below(base / partner)
        if path.suffix.lower() == suffix and path.name != "classes.txt"
    ]


def shown(root: Path, path: Path) -> str:
    """Return a path as messages show it: relative to the folder that is read."""
    return path.relative_to(root).as_posix()


def load(root: Path, path: Path) -> tuple[bytes, int, int]:
    """Return a picture's bytes and its upright width and height.

    Raises:
        DataError: It is no picture that can be read.
    """
    content = path.read_bytes()
    return content, *image_size(shown(root, path), content)


def read_text(root: Path, path: Path) -> str:
    """Return a text file's content.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(root, path)!r} is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def read_names(root: Path, path: Path) -> tuple[str, ...]:
    """Return the class names of a text file with one name a line; empty lines at the end do not count.

    Raises:
        DataError: A line is empty, a name occurs twice, or there is none.
    """
    names = tuple(line.strip() for line in read_text(root, path).rstrip().splitlines())
    check_names(names, shown(root, path))
    return names


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse class names that are missing or occur twice.

    Raises:
        DataError: One of these, naming it.
    """
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name or name in seen:
            what = f"the name {name!r} occurs twice" if name else f"name {number + 1} is empty"
            raise DataError(f"{where!r}: {what}; give every class a name of its own")
        seen.add(name)
    if not seen:
        raise DataError(f"{where!r} names no class: write the names of the classes in it")


def some(paths: Iterable[str]) -> str:
    """Return a few names for a sentence."""
    names = list(paths)
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
