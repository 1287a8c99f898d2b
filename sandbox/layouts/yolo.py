"""YOLO folders: images/ and labels/, one text file a picture, lines of a class number and shares of the picture.

`class cx cy w h` is a box, `class x1 y1 x2 y2 x3 y3 ...` an outline. A picture whose label file is empty or missing
shows no object.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from sandbox.datasets import DataError, LabelledImage, Shape
from sandbox.layouts.geometry import bounds, cut, ring_area
from sandbox.layouts.places import Notices, Pair, Recognised, load, pairs, partner_files, read_text, shown, some
from sandbox.layouts.yoloconfig import LABELS, Config, class_list, find_configs, listed_pairs

LAYOUT = "YOLO"
_TOLERANCE = 0.01  # of the picture: rounding; what sticks out is cut


def recognise(root: Path) -> Recognised | None:
    """Return the layout if a YAML file names classes or a labels folder holds text files.

    Raises:
        DataError: A YAML file cannot be read.
    """
    configs, labels = find_configs(root), partner_files(root, LABELS, ".txt")
    if not configs and not labels:
        return None
    return Recognised(LAYOUT, shown(root, configs[0].path if configs else labels[0]), partial(_read, root, configs))


def _read(root: Path, configs: list[Config], notices: Notices) -> Iterator[LabelledImage]:
    config = configs[0] if configs else None
    if len(configs) > 1:
        others = some(shown(root, other.path) for other in configs[1:])
        notices.append(f"{shown(root, configs[0].path)!r} was used; {others} could be the list of classes too")
    names = class_list(root, config)
    found = listed_pairs(root, config, notices)
    files = {pair: pair.file(".txt") for pair in found}
    if found and not any(path.is_file() for path in files.values()):
        expected = shown(root, next(iter(files.values())))
        raise DataError(
            f"none of the {len(found)} pictures has a label file: {expected!r} is the first that is missing"
        )
    _report(root, found, files, notices)
    for pair in found:
        content, width, height = load(root, pair.picture)
        shapes = tuple(_shapes(root, files[pair], names, (width, height), notices)) if files[pair].is_file() else ()
        yield LabelledImage(pair.picture.name, content, width, height, shapes, split=pair.split)


def _report(root: Path, found: list[Pair], files: Mapping[Pair, Path], notices: Notices) -> None:
    missing = [shown(root, pair.picture) for pair in found if not files[pair].is_file()]
    if missing:
        notices.append(
            f"no label file, so taken as without objects: {len(missing)} of {len(found)} pictures ({some(missing)})"
        )
    listed = {pair.picture for pair in found}
    unlisted = [pair for pair in pairs(root, LABELS) if pair.picture not in listed]
    if unlisted:
        names = some(shown(root, pair.picture) for pair in unlisted)
        notices.append(f"in no split that data.yaml gives, passed over: {len(unlisted)} pictures ({names})")
    used = {*files.values(), *(pair.file(".txt") for pair in unlisted)}
    orphans = [shown(root, path) for path in partner_files(root, LABELS, ".txt") if path not in used]
    if orphans:
        notices.append(f"label files without a picture, passed over: {len(orphans)} ({some(orphans)})")


def _shapes(
    root: Path, path: Path, names: Mapping[int, str], size: tuple[int, int], notices: Notices
) -> Iterator[Shape]:
    seen: set[Shape] = set()
    for number, line in enumerate(read_text(root, path).splitlines(), 1):
        if not line.strip():
            continue
        place = f"{shown(root, path)!r} line {number}"
        try:
            shape = _shape(line.split(), names, *size)
        except ValueError as error:
            raise DataError(f"{place}: {error}; correct this line or remove it") from error
        if shape in seen:
            notices.append(f"{place} repeats a line before it and was passed over")
            continue
        seen.add(shape)
        yield shape


def _shape(words: list[str], names: Mapping[int, str], width: int, height: int) -> Shape:
    values = _numbers(words)
    number = int(values[0])
    if number != values[0] or number not in names:
        raise ValueError(f"class {words[0]} is none of the {len(names)} named classes ({min(names)} to {max(names)})")
    shares = values[1:]
    if len(shares) == 4:
        cx, cy, w, h = (share * side for share, side in zip(shares, (width, height) * 2, strict=True))
        if w <= 0 or h <= 0:
            raise ValueError("the box has no area")
        shape = Shape(names[number], (cx - w / 2, cy - h / 2, w, h))
    elif len(shares) >= 6 and len(shares) % 2 == 0:
        ring = tuple((x * width, y * height) for x, y in zip(shares[::2], shares[1::2], strict=True))
        if not ring_area(ring):
            raise ValueError("the outline has no area")
        shape = Shape(names[number], bounds(ring), ring)
    else:
        raise ValueError(
            f"{len(words)} columns, not a class and cx cy w h, or a class and the x y of 3 points or more "
            "(a confidence does not belong here)"
        )
    inside = cut(shape, width, height)
    if inside is None:
        raise ValueError("the object lies outside the picture")
    return inside


def _numbers(words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError("not every column is a number") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError("not every column is a finite number")
    wrong = [
        word for word, value in zip(words[1:], values[1:], strict=True) if not -_TOLERANCE <= value <= 1 + _TOLERANCE
    ]
    if wrong:
        raise ValueError(f"{wrong[0]} is no share of the picture from 0 to 1 (are these pixels?)")
    return values
