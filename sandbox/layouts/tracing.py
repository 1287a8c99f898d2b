"""Outlines of the regions of a mask, exact to the pixel, as one ring each.

A region is pixels that touch at a side. Where it has holes, its ring runs along a cut of no width into each hole and
back: filled by the even-odd rule it covers exactly the region's pixels, and its area is the region's.

Edges lie between pixels, on a grid of (H + 1) x (W + 1) corners, and have the region on their right.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sandbox.datasets import Point

_EAST, _SOUTH, _WEST, _NORTH = range(4)


class TooManyRegionsError(ValueError):
    """A mask has more separate regions and holes than anybody labels."""


def regions(mask: NDArray[np.bool_], most: int) -> list[tuple[Point, ...]]:
    """Return the ring of each region of a mask (H, W), in reading order of their first pixels.

    Raises:
        TooManyRegionsError: There are more than `most`, holes included.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return []
    top, left = int(rows[0]), int(columns[0])
    tracer = _Tracer(mask[top : rows[-1] + 1, left : columns[-1] + 1])
    tracer.trace(most)
    return [tuple((x + left, y + top) for x, y in ring) for ring in tracer.rings()]


@dataclass
class _Tracer:
    """Edges by number, corner * 4 + direction; `follow` leads from each to the next one of its loop."""

    mask: NDArray[np.bool_]
    follow: dict[int, int] = field(default_factory=dict)
    outer: list[int] = field(default_factory=list)
    """The first edge of each region's outer loop."""
    holes: list[int] = field(default_factory=list)
    """The leftmost edge going south of each hole's loop."""
    extra: list[Point] = field(default_factory=list)
    """Points of cuts; the edge that starts at extra[k] has the number -1 - k."""

    @property
    def _stride(self) -> int:
        return int(self.mask.shape[1]) + 1

    def trace(self, most: int) -> None:
        """Follow every loop once, then cut from each hole to what lies left of it."""
        flags = _edges(self.mask)
        for start in np.flatnonzero(np.frombuffer(bytes(flags), np.uint8) & (1 << _EAST)).tolist():
            if flags[start] & (1 << _EAST):
                self._loop(flags, start)
            if len(self.outer) + len(self.holes) > most:
                raise TooManyRegionsError
        for edge in self.holes:
            self._cut(edge)

    def _loop(self, flags: bytearray, corner: int) -> None:
        steps = (1, self._stride, -1, -self._stride)
        first = edge = corner * 4 + _EAST
        area, leftmost = 0, (self._stride, -1)
        while True:
            direction, x = edge % 4, corner % self._stride
            if direction == _SOUTH:
                area += x
                leftmost = min(leftmost, (x, edge))
            elif direction == _NORTH:
                area -= x
            corner += steps[direction]
            # To the right where there is a choice: pixels that touch at a corner alone are not joined.
            way = next(way % 4 for way in (direction + 1, direction, direction + 3) if flags[corner] & (1 << way % 4))
            flags[corner] &= ~(1 << way)
            self.follow[edge] = corner * 4 + way
            edge = self.follow[edge]
            if edge == first:
                break
        if area > 0:
            self.outer.append(first)
        else:
            self.holes.append(leftmost[1])

    def _cut(self, hole: int) -> None:
        """Join a hole's loop with the loop left of it, through the region's pixels between them, at half height."""
        y, x = divmod(hole // 4, self._stride)
        gaps = np.flatnonzero(~self.mask[y, :x])
        left = int(gaps[-1]) + 1 if gaps.size else 0
        owner = ((y + 1) * self._stride + left) * 4 + _NORTH
        there = [self._point(left, y), self._point(x, y)]
        back = [self._point(x, y), self._point(left, y)]
        after_owner, after_hole = self.follow[owner], self.follow[hole]
        for chain in ([owner, *there, after_hole], [hole, *back, after_owner]):
            self.follow.update(pairwise(chain))

    def _point(self, x: int, y: int) -> int:
        self.extra.append((float(x), y + 0.5))
        return -len(self.extra)

    def rings(self) -> Iterator[list[Point]]:
        """Yield the corners of each outer loop, cuts and holes included."""
        for first in self.outer:
            ring: list[Point] = []
            edge = first
            while True:
                _append(ring, self._start(edge))
                edge = self.follow[edge]
                if edge == first:
                    break
            _append(ring, ring[0])  # the last corner may lie on the way back to the first one
            ring.pop()
            yield ring

    def _start(self, edge: int) -> Point:
        if edge < 0:
            return self.extra[-1 - edge]
        y, x = divmod(edge // 4, self._stride)
        return float(x), float(y)


def _edges(mask: NDArray[np.bool_]) -> bytearray:
    """Return for each corner, row by row, a bit for each direction in which an edge starts there."""
    padded = np.pad(mask, 1)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    flags = (se & ~ne) * np.uint8(1 << _EAST)
    flags |= (sw & ~se) * np.uint8(1 << _SOUTH)
    flags |= (nw & ~sw) * np.uint8(1 << _WEST)
    flags |= (ne & ~nw) * np.uint8(1 << _NORTH)
    return bytearray(flags.tobytes())


def _append(ring: list[Point], point: Point) -> None:
    """Add a point, dropping the one before it where the line goes straight on."""
    if len(ring) > 1:
        (ax, ay), (bx, by) = ring[-2:]
        straight = (ax == bx == point[0] and (by - ay) * (point[1] - by) > 0) or (
            ay == by == point[1] and (bx - ax) * (point[0] - bx) > 0
        )
        if straight:
            ring[-1] = point
            return
    ring.append(point)
