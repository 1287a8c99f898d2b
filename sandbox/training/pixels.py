"""Images to network input: decode, resize as the vendor's decoder does, augment batches.

Arrays are (N, 3, H, W), RGB, [0, 255] unless said otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from sandbox.datasets import LabelledImage, decode

Tensor = Any  # torch ships types, but this project checks without them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LETTERBOX_GREY = 114.0


def load(image: LabelledImage) -> Tensor:
    """Return (1, 3, h, w) float32, RGB, [0, 255].

    Raises:
        DataError: The image is damaged.
    """
    array = np.array(decode(image.name, image.content), np.float32)
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0)


def stretched(images: Sequence[LabelledImage], height: int, width: int) -> Tensor:
    """Resize to exactly (height, width); returns uint8."""
    return torch.cat([_resized(load(image), height, width).to(torch.uint8) for image in images])


def letterbox_ratio(image: LabelledImage, height: int, width: int) -> float:
    """Return the factor from the image's pixels to letterboxed pixels."""
    return min(height / image.height, width / image.width)


def letterboxed(images: Sequence[LabelledImage], height: int, width: int) -> Tensor:
    """Resize by the smaller ratio, cut to whole pixels, paste top left on grey; returns uint8."""
    canvas = torch.full((len(images), 3, height, width), int(LETTERBOX_GREY), dtype=torch.uint8)
    for row, image in enumerate(images):
        ratio = letterbox_ratio(image, height, width)
        h, w = max(1, int(image.height * ratio)), max(1, int(image.width * ratio))
        canvas[row, :, :h, :w] = _resized(load(image), h, w).to(torch.uint8)[0]
    return canvas


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    # Without anti-aliasing: that is what the decoder's bilinear resize does, and the network should see the same.
    resized = functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
    return resized.round().clamp(0, 255)


def imagenet_normalised(pixels: Tensor) -> Tensor:
    """Scale RGB [0, 255] by ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.float() / 255 - mean) / std


def imagenet_grey() -> Tensor:
    """Return ImageNet's mean colour (1, 3, 1, 1), which is zero after normalisation."""
    return torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255


@dataclass(frozen=True)
class Augmentation:
    """How far a batch may be moved; shift is a share of the side, rotation is in degrees."""

    scale: tuple[float, float] = (0.65, 1.4)
    shift: float = 0.22
    rotation: float = 0.0


@dataclass(frozen=True)
class Motion:
    """One drawn movement for each image of a batch, (N,) float32 each: output = turn(input * scale) + shift."""

    scale: Tensor
    shift_x: Tensor  # share of the width
    shift_y: Tensor  # share of the height
    angle: Tensor  # radians


def draw(rng: np.random.Generator, count: int, augmentation: Augmentation) -> Motion:
    """Draw a movement for each of `count` images."""
    (smallest, largest), shift = augmentation.scale, augmentation.shift
    turn = math.radians(augmentation.rotation)
    drawn = (
        np.exp(rng.uniform(math.log(smallest), math.log(largest), count)),
        rng.uniform(-shift, shift, count),
        rng.uniform(-shift, shift, count),
        rng.uniform(-turn, turn, count),
    )
    return Motion(*(torch.from_numpy(values.astype(np.float32)) for values in drawn))


def warp(pixels: Tensor, motion: Motion, fill: Tensor) -> Tensor:
    """Move every image of a (N, C, H, W) float batch; uncovered pixels get `fill`."""
    height, width = pixels.shape[-2:]
    cos, sin = torch.cos(motion.angle) / motion.scale, torch.sin(motion.angle) / motion.scale
    x, y = motion.shift_x * 2, motion.shift_y * 2  # affine_grid's coordinates run from -1 to 1
    top = torch.stack([cos, sin * height / width], 1)
    bottom = torch.stack([-sin * width / height, cos], 1)
    linear = torch.stack([top, bottom], 1)
    offset = -(linear @ torch.stack([x, y], 1).unsqueeze(2))
    grid = functional.affine_grid(torch.cat([linear, offset], 2), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels - fill, grid, mode="bilinear", align_corners=False) + fill


def recolour(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary brightness, contrast and the gain of each channel."""
    count = len(pixels)
    brightness, contrast, gain = (
        torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))
        for low, high, channels in ((0.7, 1.3, 1), (0.75, 1.25, 1), (0.88, 1.12, 3))
    )
    mean = pixels.mean((1, 2, 3), keepdim=True)
    return (((pixels - mean) * contrast + mean) * (brightness * gain)).clamp(0, 255)


def move_boxes(boxes: Tensor, labels: Tensor, motion: Motion, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Move (N, G, 4) corner boxes with an unturned motion; a box mostly outside or too small gets label -1."""
    size = torch.tensor([width, height, width, height], dtype=torch.float32)
    shift = torch.stack([motion.shift_x, motion.shift_y] * 2, 1).unsqueeze(1) * size
    moved = (boxes - size / 2) * motion.scale.view(-1, 1, 1) + size / 2 + shift
    inside = torch.minimum(moved.clamp(min=0), size)
    (w, h), (full_w, full_h) = ((part[..., 2:] - part[..., :2]).unbind(-1) for part in (inside, moved))
    kept = (w * h >= 0.35 * full_w * full_h) & (torch.minimum(w, h) >= 3)
    return inside, torch.where(kept, labels, torch.full_like(labels, -1))
