"""Draw predictions and labels on a picture, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.data.pictures import read_picture
from pipeline.models import Prediction, SamplePicture

MIN_WIDTH = 384
MAX_SIDE = 1280
MAX_TALL = 4096
FONT_SIZE = 14
PADDING = 3
MASK_ALPHA = 90
TRUTH_COLOUR = (0, 230, 90)
BAND_COLOUR = (24, 24, 28)
BAND_TEXT = (235, 235, 235)
# No greens: green is the labelled truth.
PALETTE = (
    (255, 112, 67),
    (66, 165, 245),
    (255, 202, 40),
    (236, 64, 122),
    (149, 117, 205),
    (38, 198, 218),
    (240, 98, 55),
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Overlay:
    """What to draw on one picture."""

    sample: SamplePicture
    """The picture and its labels."""
    predictions: tuple[Prediction, ...]
    """What the model saw."""
    masks: tuple[NDArray[np.bool_], ...]
    """(h, w) masks over the whole picture, for the first predictions in their order."""
    classes: tuple[str, ...]
    """Class names; their order decides the colours."""
    caption: str
    """One line for the band below the picture."""


def draw_overlay(overlay: Overlay, path: Path) -> None:
    """Write the picture with predictions (thick, named) and labels (thin, green) as a PNG of at least 384 pixels width.

    Raises:
        PictureError: The picture cannot be read.
    """
    picture = Image.fromarray(read_picture(overlay.sample.path))
    scale = _scale_for(picture.size)
    canvas = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    for prediction, mask in zip(overlay.predictions, overlay.masks, strict=False):
        _tint(canvas, mask, _colour_of(prediction.name, overlay.classes))
    draw = ImageDraw.Draw(canvas)
    for prediction in reversed(overlay.predictions):
        if prediction.box is not None:
            colour = _colour_of(prediction.name, overlay.classes)
            draw.rectangle(_corners(prediction.box, scale, canvas.size), outline=colour, width=3)
    for label in overlay.sample.boxes:
        draw.rectangle(_corners(label.box, scale, canvas.size), outline=TRUTH_COLOUR, width=1)
    # Names come last so that no box is drawn over them; the best prediction's name is on top.
    for prediction in reversed(overlay.predictions):
        if prediction.box is not None:
            _write_name(draw, prediction, _corners(prediction.box, scale, canvas.size), overlay.classes)
    _add_band(canvas, overlay.caption).save(path, format="PNG", compress_level=1)


def _scale_for(size: tuple[int, int]) -> float:
    """Enlarge small pictures by a whole factor so that names fit on them; shrink very large ones."""
    longest = max(size)
    if size[0] < MIN_WIDTH:
        # A sliver one pixel wide must not become a picture of gigabytes.
        return min(float(-(-MIN_WIDTH // size[0])), max(1.0, MAX_TALL / longest))
    return max(min(1.0, MAX_SIDE / longest), MIN_WIDTH / size[0])


def _corners(box: Box, scale: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 on the canvas, cut to it."""
    x, y, width, height = (value * scale for value in box)
    x1, y1 = min(max(0.0, x), size[0] - 1), min(max(0.0, y), size[1] - 1)
    return x1, y1, max(x1, min(x + width, size[0] - 1)), max(y1, min(y + height, size[1] - 1))


def _colour_of(name: str, classes: tuple[str, ...]) -> tuple[int, int, int]:
    return PALETTE[classes.index(name) % len(PALETTE)] if name in classes else PALETTE[0]


def _tint(canvas: Image.Image, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    alpha = Image.fromarray(np.where(mask, MASK_ALPHA, 0).astype(np.uint8)).resize(canvas.size)
    canvas.paste(Image.new("RGB", canvas.size, colour), mask=alpha)


def _write_name(
    draw: ImageDraw.ImageDraw,
    prediction: Prediction,
    corners: tuple[float, float, float, float],
    classes: tuple[str, ...],
) -> None:
    """Write class and confidence on a plate above the box, or inside it at the upper edge."""
    font = ImageFont.load_default(FONT_SIZE)
    text = f"{prediction.name} {prediction.confidence:.0%}"
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * PADDING, bottom - top + 2 * PADDING
    limit = draw.im.size[0] if draw.im is not None else width
    x = max(0.0, min(corners[0], limit - width))
    y = corners[1] - height if corners[1] >= height else corners[1]
    draw.rectangle((x, y, x + width, y + height), fill=_colour_of(prediction.name, classes))
    draw.text((x + PADDING - left, y + PADDING - top), text, font=font, fill=BAND_COLOUR)


def _add_band(canvas: Image.Image, caption: str) -> Image.Image:
    """Put the caption on a dark band below the picture, cut to its width."""
    font = ImageFont.load_default(FONT_SIZE)
    text = caption
    while len(text) > 1 and font.getlength(text) > canvas.width - 4 * PADDING:
        text = f"{text[:-2].rstrip()}…"
    framed = Image.new("RGB", (canvas.width, canvas.height + FONT_SIZE + 4 * PADDING), BAND_COLOUR)
    framed.paste(canvas)
    ImageDraw.Draw(framed).text((2 * PADDING, canvas.height + PADDING), text, font=font, fill=BAND_TEXT)
    return framed
