"""Built-in labelled images: drawn road signs with boxes, polygons and tags; nothing is downloaded.

Three classes: `stop` (red octagon with a bar), `warning` (red-rimmed triangle), `parking` (blue square with a glyph),
on a gradient with smooth noise and distractors of the same colours. The same arguments give the same bytes.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sandbox.datasets import LabelledImage, Shape
from sandbox.placing import box_of, placed, touch

CLASSES = ("parking", "stop", "warning")
_RED, _BLUE, _WHITE, _BLACK = (190, 25, 30), (25, 70, 180), (235, 235, 235), (30, 30, 30)
_DRAWN_AT = 128  # sign sizes below are for this image size and scale with it
_SUPERSAMPLING = 2

# Corners and inner areas on a square of side 2 around the origin, y down.
_OCTAGON = tuple((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in np.arange(22.5, 360, 45))
_TRIANGLE = ((0.0, -0.95), (1.0, 0.8), (-1.0, 0.8))
_SQUARE = ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
_BAR = ((-0.62, -0.2), (0.62, -0.2), (0.62, 0.2), (-0.62, 0.2))
_TRIANGLE_INSIDE = ((0.0, -0.5), (0.64, 0.58), (-0.64, 0.58))
_GLYPH = ((-0.4, -0.6), (0.4, -0.6), (0.4, 0.1), (-0.1, 0.1), (-0.1, 0.6), (-0.4, 0.6))
_OUTLINES = {"stop": _OCTAGON, "warning": _TRIANGLE, "parking": _SQUARE}
_FACES = {
    "stop": ((_OCTAGON, _RED), (_BAR, _WHITE)),
    "warning": ((_TRIANGLE, _RED), (_TRIANGLE_INSIDE, _WHITE), (((-0.08, -0.1), (0.08, -0.1), (0.0, 0.4)), _BLACK)),
    "parking": ((_SQUARE, _BLUE), (_GLYPH, _WHITE)),
}


def road_signs(count: int = 200, *, seed: int = 0, size: int = 128, single: bool = False) -> list[LabelledImage]:
    """Draw `count` square images of `size` pixels with 1 to 3 signs, or exactly one large sign when `single`.

    The classes take turns, so that even a few images show all of them. Tags name the classes in the image.
    """
    rng = np.random.default_rng((seed, size, single))
    return [_image(rng, index, size, single=single) for index in range(count)]


def _image(rng: np.random.Generator, index: int, size: int, *, single: bool) -> LabelledImage:
    canvas = Image.fromarray(_background(rng, size)).resize((size * _SUPERSAMPLING,) * 2, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(2, 6))):
        _distractor(rng, draw, size)
    shapes: list[Shape] = []
    for number in range(1 if single else int(rng.integers(1, 4))):
        name = CLASSES[index % 3] if number == 0 else CLASSES[int(rng.integers(3))]
        shape = _sign(rng, draw, name, size, (44.0, 84.0) if single else (16.0, 54.0), shapes)
        if shape is not None:
            shapes.append(shape)
    canvas = canvas.resize((size, size), Image.Resampling.BOX)
    canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.9))))
    noisy = np.asarray(canvas, np.float32) + rng.normal(0, rng.uniform(1, 8), (size, size, 3))
    content = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=92)
    tags = tuple(sorted({shape.name for shape in shapes}))
    return LabelledImage(f"sign_{index:04d}.jpg", content.getvalue(), size, size, tuple(shapes), tags)


def _background(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """(size, size, 3) uint8, RGB: a gradient between two muted colours plus smooth noise."""
    ends = rng.uniform(50, 210, (2, 3))
    ramp = np.linspace(0, 1, size)
    mix = ramp[:, None] * rng.uniform(0, 1) + ramp[None, :] * rng.uniform(0, 1)
    image: NDArray[np.float64] = ends[0] + (ends[1] - ends[0]) * mix[..., None]
    coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    image += (np.asarray(coarse, np.float64) - 127) * rng.uniform(0.1, 0.4)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _distractor(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    """Draw an ellipse, a line or a thin bar in a sign's colour: colour alone must not tell a class."""
    scale = size * _SUPERSAMPLING
    x, y = rng.uniform(0, scale, 2)
    w, h = rng.uniform(0.05, 0.25, 2) * scale
    colour = (_RED, _BLUE, _WHITE, _BLACK)[int(rng.integers(4))]
    kind = int(rng.integers(3))
    if kind == 0:
        draw.ellipse((x, y, x + w, y + h), fill=colour)
    elif kind == 1:
        draw.line((x, y, x + w * 2, y + h * 2), fill=colour, width=max(1, int(scale * 0.02)))
    else:
        draw.rectangle((x, y, x + w * 0.2, y + h * 1.5), fill=colour)


def _sign(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    name: str,
    size: int,
    side_range: tuple[float, float],
    others: list[Shape],
) -> Shape | None:
    """Draw one sign where it touches no other; None when no free place was found."""
    for _ in range(20):
        half = float(rng.uniform(*side_range)) * size / _DRAWN_AT / 2
        centre = rng.uniform(half + 1, size - half - 1, 2)
        turn = math.radians(float(rng.uniform(-22, 22)))
        shade = float(rng.uniform(0.75, 1.15))
        ring = placed(_OUTLINES[name], centre, half, turn, size)
        shape = Shape(name, box_of(ring), ring)
        if any(touch(shape, other) for other in others):
            continue
        for corners, colour in _FACES[name]:
            points = [(x * _SUPERSAMPLING, y * _SUPERSAMPLING) for x, y in placed(corners, centre, half, turn, size)]
            draw.polygon(points, fill=tuple(min(255, int(part * shade)) for part in colour))
        return shape
    return None
