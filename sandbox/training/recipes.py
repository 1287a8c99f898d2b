"""What can be trained here and with which defaults: facts as data, importable without torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.modelsizes import SIZES, ModelSize, find_size

MIN_ITERATIONS = 240  # below this a small network has not converged, however few the images
MIN_SIDE, MAX_SIDE = 32, 1280
_SERVICE_KEYS = frozenset({"gpu_autoselect"})  # what the service itself writes into a config


class ConfigError(ValueError):
    """A config value cannot be used: the message names the key, the value and the range."""


@dataclass(frozen=True)
class Recipe:
    """Defaults of one pipeline type; `module` under sandbox.training holds its `task` factory.

    `masks` says that it learns outlines, not boxes alone.
    """

    pipeline_type: str
    module: str
    model_type: str
    architecture: str
    labels: Literal["shapes", "tags"]
    epochs: int
    learning_rate: float
    batch_size: int = 16
    weight_decay: float = 0.02
    gradient_clip: float | None = 10.0
    warm_up: float = 0.17
    side: int = 128
    side_multiple: int = 32
    masks: bool = False


RECIPES: Mapping[str, Recipe] = {
    recipe.pipeline_type: recipe
    for recipe in (
        Recipe("yolox", "yolox", "object_detection", "yolox_micro", "shapes", epochs=25, learning_rate=5e-3),
        Recipe(
            "rfdetr_detection",
            "rfdetr",
            "object_detection",
            "rfdetr_micro",
            "shapes",
            epochs=25,
            learning_rate=4e-3,
        ),
        Recipe(
            "rfdetr_segmentation",
            "rfdetr_segmentation",
            "instance_segmentation",
            "rfdetr_seg_micro",
            "shapes",
            epochs=24,
            learning_rate=4e-3,
            masks=True,
        ),
        Recipe(
            "detectron2",
            "detectron2",
            "instance_segmentation",
            "detectron2_micro",
            "shapes",
            epochs=24,
            learning_rate=4e-3,
            masks=True,
        ),
        Recipe(
            "sm_pytorch",
            "semantic",
            "semantic_segmentation",
            "unet_micro",
            "shapes",
            epochs=15,
            learning_rate=4e-3,
            batch_size=8,
            gradient_clip=None,
            masks=True,
        ),
        Recipe(
            "classification",
            "classification",
            "classification",
            "resnet_micro",
            "tags",
            epochs=25,
            learning_rate=4e-3,
            weight_decay=0.05,
            gradient_clip=None,
        ),
    )
}


@dataclass(frozen=True)
class Settings:
    """One training, resolved from a recipe and the caller's config; `epochs` is None when not asked for."""

    recipe: Recipe
    height: int
    width: int
    epochs: int | None
    batch_size: int
    learning_rate: float
    size: ModelSize
    class_overrides: tuple[tuple[str, str], ...] = ()

    def total_epochs(self, train_images: int) -> int:
        """Return the asked epochs, or the recipe's, lengthened to MIN_ITERATIONS for few images."""
        if self.epochs is not None:
            return self.epochs
        per_epoch = math.ceil(train_images / self.batch_size)
        return max(self.recipe.epochs, math.ceil(MIN_ITERATIONS / per_epoch))


def resolve(recipe: Recipe, config: Mapping[str, Any]) -> tuple[Settings, list[dict[str, Any]]]:
    """Return the settings and the warnings about keys and values that could not be taken as they are.

    Raises:
        ConfigError: A value has the wrong type or lies outside its range.
    """
    left = {key: value for key, value in config.items() if value is not None and key not in _SERVICE_KEYS}
    warnings: list[dict[str, Any]] = []
    side = _take(left, "image_size", recipe.side)
    height, width = (_take(left, key, side) for key in ("image_height", "image_width"))
    epochs = int(_number(left.pop("epochs"), "epochs", 1, 10_000, whole=True)) if "epochs" in left else None
    settings = Settings(
        recipe,
        _multiple(height, recipe.side_multiple, warnings),
        _multiple(width, recipe.side_multiple, warnings),
        epochs,
        int(_number(left.pop("batch_size", recipe.batch_size), "batch_size", 2, 512, whole=True)),
        _number(left.pop("learning_rate", recipe.learning_rate), "learning_rate", 1e-8, 10.0),
        _size(recipe, left.pop("model_size", None)),
        _overrides(left.pop("class_overrides", {})),
    )
    for key in sorted(left):
        message = f"config key {key!r} has no effect in the sandbox"
        warnings.append({"code": "unknown_config_key", "message": message})
    return settings, warnings


def _size(recipe: Recipe, word: object) -> ModelSize:
    size = find_size(recipe.pipeline_type, word)
    if size is None:
        known = ", ".join(SIZES[recipe.pipeline_type])
        raise ConfigError(f"config model_size is {word!r}: give one of {known} to {recipe.pipeline_type}")
    return size


def _take(left: dict[str, Any], key: str, default: int) -> int:
    value = left.pop(key, default)
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return int(_number(value, key, MIN_SIDE, MAX_SIDE, whole=True))


def _number(value: object, key: str, low: float, high: float, *, whole: bool = False) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not usable or (whole and value != int(value)):  # type: ignore[call-overload]
        kind = "whole number" if whole else "number"
        raise ConfigError(f"config {key} is {value!r}: give a {kind} from {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def _multiple(side: int, multiple: int, warnings: list[dict[str, Any]]) -> int:
    rounded = math.ceil(side / multiple) * multiple
    if rounded != side:
        message = f"image side {side} was raised to {rounded}: the network needs a multiple of {multiple}"
        warnings.append({"code": "image_size_rounded", "message": message})
    return rounded


def _overrides(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise ConfigError(f"config class_overrides is {value!r}: give an object of old class name to new class name")
    return tuple(sorted(value.items()))
