"""Pictures of a person who does not exist, drawn from a seed: what a rehearsal of PhotoGPT is fed with."""

import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 768
"""Pixels of a picture's side."""
_SKINS = ("#f1c8a5", "#d9a066", "#a56b46", "#6f4630")
_HAIRS = ("#2b1b12", "#5a3a22", "#a8742c", "#777777")
_CLOTHES = ("#335c81", "#7a3b69", "#3a6b35", "#8c2f39", "#444444")


@dataclass(frozen=True)
class _Person:
    """What stays the same from picture to picture."""

    skin: str
    hair: str
    width: float
    eyes: float


def write_portraits(folder: Path, count: int = 14, seed: int = 0) -> list[Path]:
    """Draw so many pictures of one made-up person; the same seed gives the same pictures.

    Raises:
        ValueError: The count is none that can be trained on.
    """
    if not 12 <= count <= 20:
        raise ValueError(f"count={count} is none that can be trained on: draw 12 to 20 pictures")
    chance = random.Random(seed)  # noqa: S311 - nothing secret is made of it
    person = _Person(chance.choice(_SKINS), chance.choice(_HAIRS), chance.uniform(0.3, 0.36), chance.uniform(0.1, 0.13))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, count + 1):
        path = folder / f"{number:02d}.jpg"
        _draw(person, chance).save(path, quality=90)
        paths.append(path)
    return paths


def _draw(person: _Person, chance: random.Random) -> Image.Image:
    """Draw the person once: light, clothes, place and mood change."""
    ground = tuple(chance.randrange(120, 230) for _ in range(3))
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    draw = ImageDraw.Draw(picture)
    x, y = SIDE * chance.uniform(0.42, 0.58), SIDE * chance.uniform(0.4, 0.48)
    w, h = SIDE * person.width / 2, SIDE * person.width * 0.66
    draw.ellipse((x - 2.1 * w, y + 1.2 * h, x + 2.1 * w, y + 4 * h), fill=chance.choice(_CLOTHES))
    draw.rectangle((x - 0.4 * w, y + 0.6 * h, x + 0.4 * w, y + 1.5 * h), fill=person.skin)
    draw.ellipse((x - 1.12 * w, y - 1.25 * h, x + 1.12 * w, y + 0.5 * h), fill=person.hair)
    draw.ellipse((x - w, y - h, x + w, y + h), fill=person.skin)
    for side in (-1, 1):
        at = x + side * 0.4 * w
        size = SIDE * person.eyes / 4
        draw.ellipse((at - size, y - 0.25 * h - size / 2, at + size, y - 0.25 * h + size / 2), fill="white")
        draw.ellipse((at - size / 2, y - 0.25 * h - size / 2, at + size / 2, y - 0.25 * h + size / 2), fill="#333333")
    draw.line((x, y - 0.1 * h, x - 0.1 * w, y + 0.2 * h, x + 0.05 * w, y + 0.22 * h), fill="#00000060", width=5)
    smile = chance.uniform(10, 50)
    draw.arc((x - 0.45 * w, y + 0.2 * h, x + 0.45 * w, y + 0.65 * h), smile, 180 - smile, fill="#8a2b2b", width=9)
    return picture
