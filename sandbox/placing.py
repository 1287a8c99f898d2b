"""Putting drawn things into a picture: where their outline comes to lie, its box, and whether two of them touch."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sandbox.datasets import Box, Point, Shape


def placed(
    corners: Sequence[Point], centre: NDArray[np.float64], half: float, turn: float, size: int
) -> tuple[Point, ...]:
    """Return an outline around the origin scaled by `half`, turned by `turn` rad, moved, and cut at the border."""
    cos, sin = math.cos(turn) * half, math.sin(turn) * half
    points = ((centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in corners)
    return tuple((round(min(max(x, 0.0), size), 3), round(min(max(y, 0.0), size), 3)) for x, y in points)


def box_of(ring: Sequence[Point]) -> Box:
    """Return the smallest box around an outline."""
    xs, ys = zip(*ring, strict=True)
    return min(xs), min(ys), round(max(xs) - min(xs), 3), round(max(ys) - min(ys), 3)


def touch(first: Shape, second: Shape) -> bool:
    """Whether two boxes overlap, or are less than a pixel apart."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = first.box, second.box
    return ax < bx + bw + 1 and bx < ax + aw + 1 and ay < by + bh + 1 and by < ay + ah + 1
