"""Labelled outlines as pixels: polygons are moved as points and drawn with Pillow, so no mask is ever stored.

A ring is (P, 2) float64 of x, y in pixels. A shape without a polygon has its box as outline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sandbox.datasets import LabelledImage, Shape
from sandbox.training.selection import has_outline

if TYPE_CHECKING:  # drawing outlines needs no torch
    from sandbox.training.pixels import Motion

Ring = NDArray[np.float64]
_SUPERSAMPLING = 4  # Pillow cuts corners to whole pixels


def ring_of(shape: Shape, scale_x: float = 1.0, scale_y: float = 1.0) -> Ring:
    """Return a shape's outline, multiplied by the scales."""
    x, y, w, h = shape.box
    box = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    corners = shape.polygon if shape.polygon and has_outline(shape) else box
    return np.array(corners, np.float64) * (scale_x, scale_y)


def fitted_rings(image: LabelledImage, height: int, width: int) -> tuple[Ring, ...]:
    """Return the outlines of an image's shapes after resizing it to (height, width)."""
    return tuple(ring_of(shape, width / image.width, height / image.height) for shape in image.shapes)


def moved(ring: Ring, motion: Motion, row: int, height: int, width: int) -> Ring:
    """Move an outline as `pixels.warp` moves the picture in that row of the batch."""
    size = np.array([width, height], np.float64)
    angle, scale = float(motion.angle[row]), float(motion.scale[row])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    shift = np.array([float(motion.shift_x[row]), float(motion.shift_y[row])]) * size
    return np.asarray((ring - size / 2) @ turn.T + size / 2 + shift, np.float64)


def coverage(ring: Ring, height: int, width: int, stride: int) -> NDArray[np.float32]:
    """Return the share (height / stride, width / stride) of every cell that lies inside the outline."""
    canvas = _drawn([(ring, 255)], height, width, 2)
    return np.asarray(np.asarray(canvas.reduce(2 * stride)) / 255, np.float32)


def label_map(rings: Iterable[tuple[Ring, int]], height: int, width: int) -> NDArray[np.int64]:
    """Paint each outline with its value on zeros (height, width); small ones lie on top of large ones."""
    ordered = sorted(rings, key=lambda pair: -_area(pair[0]))
    canvas = np.asarray(_drawn(ordered, height, width, _SUPERSAMPLING))
    middle = _SUPERSAMPLING // 2
    return canvas[middle::_SUPERSAMPLING, middle::_SUPERSAMPLING].astype(np.int64)


def _drawn(rings: Sequence[tuple[Ring, int]], height: int, width: int, factor: int) -> Image.Image:
    largest = max((value for _, value in rings), default=0)
    canvas: Any = Image.new("L" if largest < 256 else "I", (width * factor, height * factor))
    draw = ImageDraw.Draw(canvas)
    for ring, value in rings:
        draw.polygon([(float(x), float(y)) for x, y in np.round(ring * factor - 0.5)], fill=value)
    return canvas  # type: ignore[no-any-return]


def _area(ring: Ring) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
