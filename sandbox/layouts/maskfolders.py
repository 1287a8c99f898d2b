"""Mask folders: images/ and masks/ with the same stems; a PNG's pixel values are class numbers.

0 is background and 255 carries no label: no class can have these values. Each connected region of a class becomes one
outline, holes cut out.
"""

import io
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sandbox.datasets import DataError, LabelledImage, Shape, image_size
from sandbox.layouts.geometry import bounds
from sandbox.layouts.places import (
    Notices,
    Pair,
    Recognised,
    check_names,
    load,
    pairs,
    partner_files,
    read_names,
    read_text,
    shown,
    some,
)
from sandbox.layouts.tracing import TooManyRegionsError, regions

LAYOUT = "masks"
MASKS = "masks"
MAX_REGIONS = 5000
"""Of one class in one mask; more are noise, such as a lossy file leaves."""
_UNLABELLED = 255
_DIGITS = 3
_BACKGROUND = frozenset({"background", "_background_", "__background__", "bg"})


def recognise(root: Path) -> Recognised | None:
    """Return the layout if a masks folder holds PNG files."""
    masks = partner_files(root, MASKS, ".png")
    return Recognised(LAYOUT, shown(root, masks[0]), partial(_read, root)) if masks else None


def _read(root: Path, notices: Notices) -> Iterator[LabelledImage]:
    names = _class_list(root)
    found = list(pairs(root, MASKS))
    files = {pair: pair.file(".png") for pair in found}
    _report(root, found, files, notices)
    values: set[int] = set()
    for pair in found:
        if not files[pair].is_file():
            continue
        content, width, height = load(root, pair.picture)
        mask = _mask(root, files[pair], (width, height))
        values.update(np.unique(mask).tolist())
        shapes = tuple(_shapes(shown(root, files[pair]), mask, names))
        yield LabelledImage(pair.picture.name, content, width, height, shapes, split=pair.split)
    if values and values <= {0, _UNLABELLED}:
        raise DataError("the masks hold 0 (background) and 255 (no label) alone: give the pixels of a class its number")


def _report(root: Path, found: list[Pair], files: Mapping[Pair, Path], notices: Notices) -> None:
    missing = [shown(root, pair.picture) for pair in found if not files[pair].is_file()]
    if missing and len(missing) == len(found):
        expected = shown(root, files[found[0]])
        raise DataError(f"none of the {len(found)} pictures has a mask: {expected!r} is the first that is missing")
    if missing:
        notices.append(
            f"no mask, left out: {len(missing)} of {len(found)} pictures ({some(missing)}); one without objects needs "
            "a mask of zeros"
        )
    used = set(files.values())
    orphans = [shown(root, path) for path in partner_files(root, MASKS, ".png") if path not in used]
    if orphans:
        notices.append(f"masks without a picture, passed over: {len(orphans)} ({some(orphans)})")


def _class_list(root: Path) -> dict[int, str] | None:
    """Return the name of each value, or None where no file gives names."""
    names = _given_names(root)
    for value, name in sorted((names or {}).items()):
        if value >= _UNLABELLED or (value == 0 and name.lower() not in _BACKGROUND):
            meaning = "carries no label" if value else "is the background"
            raise DataError(
                f"the classes name value {value} {name!r}, but {value} {meaning}: leave the name out, or give the "
                f"class a value from 1 to {_UNLABELLED - 1}, in its masks too"
            )
    return names


def _given_names(root: Path) -> dict[int, str] | None:
    text, document = root / "classes.txt", root / "classes.json"
    if text.is_file():
        return _numbered(read_names(root, text))
    if not document.is_file():
        return None
    try:
        content = json.loads(read_text(root, document))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"'classes.json' is not JSON ({error}): correct or remove it") from error
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        check_names(content, "classes.json")
        return _numbered(tuple(content))
    return _mapped(content)


def _numbered(names: tuple[str, ...]) -> dict[int, str]:
    """Number names from 0 where the first one is the background, otherwise from 1."""
    return dict(enumerate(names, 0 if names[0].lower() in _BACKGROUND else 1))


def _mapped(content: object) -> dict[int, str]:
    """Return names by value from an object that maps either to the other."""
    rows: Any = content.items() if isinstance(content, dict) else ()
    pairs_ = [(key, name) if isinstance(name, str) else (name, key) for key, name in rows]
    if not pairs_ or not all(_is_value(number) for number, _ in pairs_):
        raise DataError(
            'classes.json is to be a list of names, or an object such as {"1": "road"} with values from 0 to 255'
        )
    names = {int(number): str(name) for number, name in pairs_}
    check_names(names.values(), "classes.json")
    return names


def _is_value(number: object) -> bool:
    text = str(number)
    return text.isdecimal() and len(text.lstrip("0")) <= _DIGITS and int(text) <= _UNLABELLED


def _mask(root: Path, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the values (H, W) of a mask.

    Raises:
        DataError: It is damaged, not 8-bit indexed or grey, or of another size than its picture.
    """
    name, content = shown(root, path), path.read_bytes()
    own = image_size(name, content)
    if own != size:
        raise DataError(
            f"mask {name!r} is {own[0]}x{own[1]}, its upright picture {size[0]}x{size[1]}: save it in that size"
        )
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.mode not in {"P", "L", "1"}:
                raise DataError(
                    f"mask {name!r} has mode {image.mode}: save it as 8-bit indexed or grey PNG whose pixel values "
                    "are class numbers"
                )
            return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint8) // _step(content)
    except (OSError, SyntaxError) as error:
        raise DataError(f"mask {name!r} is damaged or no PNG ({error}): write it again") from error


def _step(content: bytes) -> np.uint8:
    """Return by how much Pillow multiplies the values of a grey PNG with fewer than 8 bits; 1 for all others."""
    depth, colour = content[24], content[25]  # of the header, which every PNG begins with
    return np.uint8(255 // (2**depth - 1) if colour == 0 and depth in {2, 4} else 1)


def _shapes(mask_name: str, mask: NDArray[np.uint8], names: Mapping[int, str] | None) -> Iterator[Shape]:
    for value in np.unique(mask).tolist():
        if value in {0, _UNLABELLED}:
            continue
        name = f"class_{value}" if names is None else names.get(value)
        if name is None:
            known = ", ".join(map(str, sorted(names or ())))
            raise DataError(f"mask {mask_name!r} has pixels of value {value}, which has no name (named: {known})")
        try:
            rings = regions(mask == value, MAX_REGIONS)
        except TooManyRegionsError:
            raise DataError(
                f"mask {mask_name!r} has more than {MAX_REGIONS} separate regions of {name!r}: that is noise; "
                "write it without lossy compression or dithering"
            ) from None
        yield from (Shape(name, bounds(ring), ring) for ring in rings)
