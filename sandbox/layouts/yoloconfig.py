"""A YOLO folder's data.yaml: the classes it names, and the pictures of each split."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.datasets import DataError
from sandbox.layouts.places import (
    IMAGES,
    Notices,
    Pair,
    check_names,
    files_below,
    is_picture,
    listed,
    pairs,
    read_names,
    read_text,
    shown,
    split_of,
)

LABELS = "labels"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Config:
    """A YAML file that names classes."""

    path: Path
    document: dict[str, Any]


def find_configs(root: Path) -> list[Config]:
    """Return the YAML files of a folder that name classes, data.yaml first.

    Raises:
        DataError: A YAML file cannot be read.
    """
    files = [path for path in listed(root) if path.suffix.lower() in {".yaml", ".yml"}]
    files.sort(key=lambda path: (path.stem != "data", path.name))
    documents = [(path, _loaded(root, path)) for path in files]
    return [
        Config(path, document)
        for path, document in documents
        if isinstance(document, dict) and ("names" in document or "nc" in document)
    ]


def _loaded(root: Path, path: Path) -> object:
    name = shown(root, path)
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{name!r} is larger than {_MAX_BYTES} bytes: that is no list of classes; remove it")
    text = read_text(root, path)
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):  # a few can stand for gigabytes
            raise DataError(f"{name!r} repeats values by alias (*name): write them out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1} column {mark.column + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or type(error).__name__
        raise DataError(f"{name!r}{place} is not YAML ({reason}): correct or remove it") from error


def class_list(root: Path, config: Config | None) -> dict[int, str]:
    """Return the name of each class number, from data.yaml or else from classes.txt.

    Raises:
        DataError: There are no names, or they cannot be used.
    """
    if config is not None:
        where = shown(root, config.path)
        try:
            return _named(where, config.document)
        except ValueError as error:  # Python writes and reads no numbers of thousands of digits
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where!r} holds a number that cannot be read ({error}): correct it") from error
    for path in (root / "classes.txt", root / LABELS / "classes.txt"):
        if path.is_file():
            return dict(enumerate(read_names(root, path)))
    raise DataError("YOLO labels without class names: put data.yaml with names, or classes.txt with one name a line")


def _named(where: str, document: dict[str, Any]) -> dict[int, str]:
    names, count = document.get("names"), document.get("nc")
    if "kpt_shape" in document:
        raise DataError(f"{where!r} describes key points, which are not read: give boxes or outlines")
    if names is None and isinstance(count, int) and 0 < count <= 10_000:
        names = [f"class_{number}" for number in range(count)]
    rows = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    found: dict[int, str] = {}
    for key, name in rows:
        if isinstance(name, bool) or isinstance(key, bool):
            raise DataError(f"{where!r}: YAML reads yes, no, on and off in names as truth values; put them in quotes")
        number = int(key) if isinstance(key, str) and key.isdecimal() else key
        if not isinstance(number, int) or not isinstance(name, str | int | float):
            raise DataError(f"{where!r}: names is to be a list of texts, or texts by class number; correct it")
        found[number] = str(name).strip()
    check_names(found.values(), where)
    if isinstance(count, int) and count != len(found):
        raise DataError(f"{where!r}: nc is {count}, but names has {len(found)} entries; correct one of them")
    return found


def listed_pairs(root: Path, config: Config | None, notices: Notices) -> list[Pair]:
    """Return the pictures and where their labels are: as data.yaml says, or as the folders are named."""
    found: dict[Path, Pair] = {}
    for pair in _configured(root, config, notices) if config else ():
        first = found.setdefault(pair.picture, pair)
        if first.split != pair.split:
            _once(notices, f"{config and config.path.name} lists pictures in two splits; each is used in its first one")
    return list(found.values()) or list(pairs(root, LABELS))


def _once(notices: Notices, sentence: str) -> None:
    if sentence not in notices:
        notices.append(sentence)


def _configured(root: Path, config: Config, notices: Notices) -> Iterator[Pair]:
    for key in ("train", "val", "valid", "test"):
        value = config.document.get(key)
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, str) or not entry.strip():
                continue
            place = _inside(root, config, entry)
            if place is None:
                notices.append(f"{config.path.name} gives {key}: {entry[:80]}, which is not in the folder")
                continue
            for picture in _pictures(root, config, place):
                yield Pair(picture, label_place(root, picture), split_of(key))


def _inside(root: Path, config: Config, entry: str) -> Path | None:
    """Return a place that data.yaml names, if it is there and does not leave the folder.

    Exports are moved about: a `path` that is gone is passed over, and so are leading `../`.
    """
    base = config.document.get("path")
    bases = [root / base, root] if isinstance(base, str) else [root]
    for tried in (entry, re.sub(r"^(\.\.?/+)+", "", entry)):
        for start in bases:
            place = Path(os.path.normpath(start / tried))
            if "\0" not in tried and place.is_relative_to(root) and place.exists():
                return place
    return None


def _pictures(root: Path, config: Config, place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from filter(is_picture, files_below(place))
        return
    for number, line in enumerate(read_text(root, place).splitlines(), 1):
        if not line.strip():
            continue
        picture = _inside(root, config, line.strip())
        if picture is None or not picture.is_file():
            raise DataError(f"{shown(root, place)!r} line {number}: {line.strip()[:80]!r} is not in the folder")
        yield picture


def label_place(root: Path, picture: Path) -> Path:
    """Return where a picture's labels are, less the suffix: the last `images` folder read as `labels`."""
    parts = list(picture.relative_to(root).with_suffix("").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == IMAGES:
            parts[index] = LABELS
            break
    return root.joinpath(*parts)
