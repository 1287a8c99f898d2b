"""Shapes of a person's labels: areas, bounds, and what of them lies in the image."""

import math

from sandbox.datasets import Box, Point, Shape


def is_number(value: object) -> bool:
    """Tell whether a value from a document is a finite number, and no larger than one that is calculated with."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def ring_area(ring: tuple[Point, ...]) -> float:
    """Return the area of a closed ring of points, in square pixels."""
    following = (*ring[1:], ring[0])
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, following, strict=True))) / 2


def bounds(ring: tuple[Point, ...]) -> Box:
    """Return the box x, y, width, height around a ring."""
    xs, ys = zip(*ring, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def cut(shape: Shape, width: int, height: int) -> Shape | None:
    """Cut a shape at the borders of its image; None when nothing of it lies inside."""
    x, y, w, h = shape.box
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    if not (right > left and bottom > top):
        return None
    ring = shape.polygon
    if ring is not None:
        ring = tuple((min(max(px, 0.0), float(width)), min(max(py, 0.0), float(height))) for px, py in ring)
    return Shape(shape.name, (left, top, right - left, bottom - top), ring)
