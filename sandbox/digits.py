"""Built-in labelled images of real pixels: handwritten digits, alone or in crops of two photographs.

Digits and photographs ship inside scikit-learn, so nothing is downloaded; docs/sandbox.md says who made them.
scikit-learn is imported when pictures are asked for, not before. The same arguments give the same bytes.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sandbox.datasets import DataError, LabelledImage, Point, Shape
from sandbox.placing import box_of, placed, touch

CLASSES = tuple("0123456789")
SCENE_CLASSES = ("0", "4", "7")
"""Classes of the scenes unless others are asked for: ten are too many for a training of half a minute."""

_CELLS, _DEEPEST = 8, 16.0  # a digit is 8 x 8 cells, each with 0 to 16 parts of ink
_FRAME = _CELLS + 2  # with an empty cell around it, so that smoothing does not cut strokes off
_FINE = 8  # pixels a cell when smoothed
_STEP = _FINE // 4  # height of the stretches an outline is read off
_PEN = (0.25, 0.65)  # on a photograph, where faint strokes would be lost: less ink than this is none, more is all
_INKED = 0.5  # share of ink from which a pixel belongs to the outline
_DRAWN_AT = 128  # sizes of digits below are for this image size and scale with it
_SIDES = (36.0, 60.0)
_MOST_TURN_DEG = 12.0

Ink = NDArray[np.float32]
Photo = NDArray[np.uint8]


@dataclass(frozen=True)
class _Digits:
    """What scikit-learn ships: `cells` (N, 8, 8) float64, 0 to 16, and `labels` (N,) int64."""

    cells: NDArray[np.float64]
    labels: NDArray[np.int64]

    def rows(self, rng: np.random.Generator, name: str) -> list[int]:
        """Return where the digits of a class are, shuffled."""
        return [int(row) for row in rng.permutation(np.flatnonzero(self.labels == int(name)))]

    def ink(self, row: int) -> Ink:
        """Return one digit smoothed with its frame, (80, 80) float32, 0 bare to 1 inked."""
        framed = np.pad(self.cells[row] / _DEEPEST, (_FRAME - _CELLS) // 2).astype(np.float32)
        fine = Image.fromarray(framed).resize((_FRAME * _FINE,) * 2, Image.Resampling.BICUBIC)
        return np.asarray(np.clip(np.asarray(fine), 0, 1), np.float32)


def digits(count: int = 600, *, seed: int = 0, size: int = 64) -> list[LabelledImage]:
    """Show `count` of the 1797 digits, no one twice, dark on white in `size` pixels, tagged with what they are.

    The classes take turns, so that even a few images show all of them.

    Raises:
        DataError: More are asked for than there are, or scikit-learn is not installed.
    """
    known = _Digits(*_shipped("load_digits"))
    if count > len(known.labels):
        raise DataError(f"count is {count}, but there are {len(known.labels)} handwritten digits: ask for fewer")
    rng = np.random.default_rng((seed, size))
    turns = zip_longest(*(known.rows(rng, name) for name in CLASSES))
    order = [row for turn in turns for row in turn if row is not None]
    return [_alone(known, row, index, size) for index, row in enumerate(order[:count])]


def digit_scenes(
    count: int = 200, *, seed: int = 0, size: int = 128, classes: Sequence[str] = SCENE_CLASSES
) -> list[LabelledImage]:
    """Write 1 to 3 digits on each of `count` square crops of the photographs, `size` pixels wide, with outlines.

    The classes take turns. No digit occurs twice before all of its class were used, so that a held-out picture shows
    digits no training picture has; the photographs are the same two throughout.

    Raises:
        DataError: scikit-learn is not installed.
    """
    known, photos = _Digits(*_shipped("load_digits")), _shipped("load_sample_images")
    rng = np.random.default_rng((seed, size, *map(int, classes)))
    supply = {name: cycle(known.rows(rng, name)) for name in classes}
    return [_scene(rng, photos, _chosen(rng, known, supply, index), index, size) for index in range(count)]


def _shipped(loader: str) -> Any:
    """Return the digits as (cells, labels), or the photographs as (H, W, 3) uint8, RGB."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            "the handwritten digits come with scikit-learn, which cannot be imported here "
            f"({error}): pip install 'train-pipeline[sandbox]'"
        ) from error
    loaded = getattr(datasets, loader)()
    return loaded.images if loader == "load_sample_images" else (loaded.images, loaded.target)


def _alone(known: _Digits, row: int, index: int, size: int) -> LabelledImage:
    paper = Image.fromarray(np.asarray(np.round(255 * (1 - known.ink(row))), np.uint8)).convert("RGB")
    content = io.BytesIO()
    paper.resize((size, size), Image.Resampling.BICUBIC).save(content, "PNG")
    tags = (str(known.labels[row]),)
    return LabelledImage(f"digit_{index:04d}.png", content.getvalue(), size, size, tags=tags)


def _chosen(
    rng: np.random.Generator, known: _Digits, supply: dict[str, "cycle[int]"], index: int
) -> Iterator[tuple[str, Ink]]:
    names = list(supply)
    for number in range(int(rng.integers(1, 4))):
        name = names[index % len(names)] if number == 0 else names[int(rng.integers(len(names)))]
        yield name, np.clip((known.ink(next(supply[name])) - _PEN[0]) / (_PEN[1] - _PEN[0]), 0, 1)


def _scene(
    rng: np.random.Generator, photos: Sequence[Photo], chosen: Iterator[tuple[str, Ink]], index: int, size: int
) -> LabelledImage:
    canvas = _crop(rng, photos[int(rng.integers(len(photos)))], size)
    shapes: list[Shape] = []
    for name, ink in chosen:
        shape = _written(rng, canvas, name, ink, shapes)
        if shape is not None:
            shapes.append(shape)
    content = io.BytesIO()
    canvas.save(content, "JPEG", quality=92)
    tags = tuple(sorted({shape.name for shape in shapes}))
    return LabelledImage(f"scene_{index:04d}.jpg", content.getvalue(), size, size, tuple(shapes), tags)


def _crop(rng: np.random.Generator, photo: Photo, size: int) -> Image.Image:
    """Return a square piece of a photograph, mirrored half of the time."""
    height, width = photo.shape[:2]
    side = int(rng.integers(min(height, width) // 3, min(height, width) + 1))
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    piece = photo[top : top + side, left : left + side]
    if rng.uniform() < 0.5:
        piece = piece[:, ::-1]
    return Image.fromarray(np.ascontiguousarray(piece)).resize((size, size), Image.Resampling.BOX)


def _written(
    rng: np.random.Generator, canvas: Image.Image, name: str, ink: Ink, others: Sequence[Shape]
) -> Shape | None:
    """Write one digit where it touches no other; None when no free place was found."""
    size, outline = canvas.width, _outline(ink)
    for _ in range(20):
        cell = float(rng.uniform(*_SIDES)) / _CELLS * size / _DRAWN_AT
        turn = math.radians(float(rng.uniform(-_MOST_TURN_DEG, _MOST_TURN_DEG)))
        reach = cell * _FRAME / 2 * (math.cos(turn) + abs(math.sin(turn)))
        centre = rng.uniform(reach, size - reach, 2)
        ring = placed(outline, centre, cell, turn, size)
        shape = Shape(name, box_of(ring), ring)
        if any(touch(shape, other) for other in others):
            continue
        canvas.paste(_colour(rng, canvas, shape), mask=_moved(ink, centre, cell, turn, size))
        return shape
    return None


def _outline(ink: Ink) -> tuple[Point, ...]:
    """Return the ring from the first to the last ink of each stretch of height, in cells around the middle."""
    inked = ink >= _INKED
    rows = np.flatnonzero(inked.any(axis=1))
    left, right = [], []
    for begin in range(rows[0], rows[-1] + 1, _STEP):
        end = min(begin + _STEP, int(rows[-1]) + 1)
        columns = np.flatnonzero(inked[begin:end].any(axis=0))
        if not len(columns):  # a stroke is interrupted here
            continue
        heights = [float(begin)] if begin == rows[0] else []
        heights += [(begin + end) / 2] if end <= rows[-1] else [float(end)]
        left += [(float(columns[0]), y) for y in heights]
        right += [(float(columns[-1]) + 1, y) for y in heights]
    middle = len(ink) / 2
    return tuple(((x - middle) / _FINE, (y - middle) / _FINE) for x, y in (*left, *reversed(right)))


def _moved(ink: Ink, centre: NDArray[np.float64], cell: float, turn: float, size: int) -> Image.Image:
    """Return the ink where `placed` puts its outline, as a mask of the whole picture."""
    cos, sin, middle = math.cos(turn) * _FINE / cell, math.sin(turn) * _FINE / cell, len(ink) / 2
    x, y = float(centre[0]), float(centre[1])
    back = (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
    drawn = Image.fromarray(np.asarray(np.round(ink * 255), np.uint8))
    return drawn.transform((size, size), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)


def _colour(rng: np.random.Generator, canvas: Image.Image, shape: Shape) -> tuple[int, int, int]:
    """Return a light colour for a dark place, and a dark one for a light place."""
    x, y, w, h = shape.box
    brightness = np.asarray(canvas.convert("L").crop((int(x), int(y), math.ceil(x + w), math.ceil(y + h)))).mean()
    low, high = (205, 256) if brightness < 128 else (0, 50)
    red, green, blue = (int(part) for part in rng.integers(low, high, 3))
    return red, green, blue
