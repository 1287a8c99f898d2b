"""Which images and classes a training uses, and how they are split; importable without torch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sandbox.datasets import DataError, LabelledImage, Shape, Split
from sandbox.layouts.geometry import ring_area
from sandbox.training.recipes import Recipe, Settings

MIN_IMAGES = 3  # one each to train, validate and test
_HELD_OUT_SHARE = 0.1
_LEAST_AREA = 1e-6  # square pixels: less is a line, and what rounding leaves of it

LabelsOf = Callable[[LabelledImage], tuple[str, ...]]
"""Reads an image's labels."""


@dataclass(frozen=True)
class Selection:
    """The images of each split with only trained labels left, and what was left out; `val` may be empty."""

    classes: tuple[str, ...]
    train: tuple[LabelledImage, ...]
    val: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    warnings: tuple[dict[str, Any], ...]


def select(images: Sequence[LabelledImage], settings: Settings, seed: int) -> Selection:
    """Choose classes and splits, deterministically by seed; splits the export gives are kept.

    Raises:
        DataError: The images cannot train this pipeline type; the message is what a hosted worker would say.
    """
    recipe = settings.recipe
    renamed = [_rename(image, dict(settings.class_overrides)) for image in images]
    usable, warnings = _usable(renamed, recipe)
    split = _split(usable, _labels_of(recipe), seed)
    trained = Counter(label for image in split["train"] for label in _labels(image, recipe))
    classes = tuple(sorted(trained))
    _check_classes(classes, _all_labels(usable, recipe), recipe)
    warnings += _untrained(sorted(_all_labels(renamed, recipe)), _all_labels(usable, recipe), classes)
    parts = {key: tuple(_only(image, classes, recipe) for image in part) for key, part in split.items()}
    if recipe.labels == "tags":  # an image of an untrained class has no right answer left
        parts = {key: tuple(image for image in part if image.tags) for key, part in parts.items()}
    if not parts["test"]:
        raise DataError("no test image shows a trained class: give every class at least 3 images")
    if recipe.masks:
        warnings += _boxes_for_masks(image for part in parts.values() for image in part)
    return Selection(classes, parts["train"], parts["val"], parts["test"], tuple(warnings))


def assign_splits(images: Sequence[LabelledImage], seed: int = 0) -> list[LabelledImage]:
    """Return the images with a split each: given ones are kept, the rest follows the rule trainings use."""
    if len(images) < MIN_IMAGES:
        return list(images)
    by_name = sorted(images, key=lambda image: image.name)
    try:
        parts = _split(by_name, _every_label, seed)
    except DataError:
        return list(images)  # a split that was given but left empty: whoever trains on it is told
    found = {image.name: key for key, part in parts.items() for image in part}
    return [replace(image, split=found[image.name]) for image in images]


def has_outline(shape: Shape) -> bool:
    """Whether a shape has a polygon with an inside."""
    return shape.polygon is not None and len(shape.polygon) >= 3 and ring_area(shape.polygon) >= _LEAST_AREA


def _every_label(image: LabelledImage) -> tuple[str, ...]:
    return (*image.tags, *(shape.name for shape in image.shapes))


def _rename(image: LabelledImage, names: Mapping[str, str]) -> LabelledImage:
    if not names:
        return image
    shapes = tuple(replace(shape, name=names.get(shape.name, shape.name)) for shape in image.shapes)
    return replace(image, shapes=shapes, tags=tuple(dict.fromkeys(names.get(tag, tag) for tag in image.tags)))


def _labels(image: LabelledImage, recipe: Recipe) -> tuple[str, ...]:
    return image.tags if recipe.labels == "tags" else tuple(shape.name for shape in image.shapes)


def _all_labels(images: Iterable[LabelledImage], recipe: Recipe) -> frozenset[str]:
    return frozenset(label for image in images for label in _labels(image, recipe))


def _usable(images: Sequence[LabelledImage], recipe: Recipe) -> tuple[list[LabelledImage], list[dict[str, Any]]]:
    """Return the images to learn from, in the order of their names, whatever order the export has."""
    if not images:
        raise DataError("num_samples=0: the export holds no images; check its filters")
    usable, warnings = _present(sorted(images, key=lambda image: image.name))
    if recipe.labels == "tags":
        tagged = [image for image in usable if len(image.tags) == 1]
        if len(tagged) < len(usable):
            count, usable = len(usable) - len(tagged), tagged
            message = f"{count} images were left out: classification needs exactly one tag on an image"
            warnings.append({"code": "images_left_out", "message": message, "count": count})
    if not _all_labels(usable, recipe):
        raise DataError(
            f"num_samples=0: none of the {len(images)} images has {_wanted(recipe)}; label them and export again"
        )
    if len(usable) < MIN_IMAGES:
        raise DataError(f"only {len(usable)} usable images: at least {MIN_IMAGES} are needed to train and evaluate")
    return usable, warnings


def _present(images: list[LabelledImage]) -> tuple[list[LabelledImage], list[dict[str, Any]]]:
    """Leave out images whose files were deleted; where no image has a file, the export was made without them."""
    present = [image for image in images if image.content]
    if not present or len(present) == len(images):
        return images, []
    count = len(images) - len(present)
    message = f"{count} images were left out: their files are not in the export, deleted since it was made"
    return present, [{"code": "images_left_out", "message": message, "count": count}]


def _wanted(recipe: Recipe) -> str:
    return "exactly one tag" if recipe.labels == "tags" else "an annotated object"


def _check_classes(classes: tuple[str, ...], labelled: frozenset[str], recipe: Recipe) -> None:
    if recipe.labels == "tags" and len(classes) < 2:
        missing = "tag more images of each class" if len(labelled) > 1 else "tag a second class"
        raise DataError(
            f"classification needs at least 2 classes in the training images, found {list(classes)}: {missing}"
        )
    if not classes:
        raise DataError("num_samples=0: no training image has an annotated object; label more images")


def _untrained(every: Iterable[str], labelled: frozenset[str], trained: Sequence[str]) -> list[dict[str, Any]]:
    """Return the vendor's warning about classes left out of the model, or nothing."""
    missing = [
        {"name": name, "reason": "not_in_train_split" if name in labelled else "no_training_data"}
        for name in every
        if name not in trained
    ]
    if not missing:
        return []
    names = ", ".join(entry["name"] for entry in missing)
    return [{"code": "classes_not_trained", "message": f"not in the model: {names}", "classes": missing}]


def _boxes_for_masks(images: Iterable[LabelledImage]) -> list[dict[str, Any]]:
    """Return the warning about objects without an outline, whose boxes stand in for their masks, or nothing."""
    count = sum(not has_outline(shape) for image in images for shape in image.shapes)
    if not count:
        return []
    message = f"{count} objects have a box and no polygon: the whole box was taken for their mask"
    return [{"code": "shapes_without_polygon", "message": message, "count": count}]


def _only(image: LabelledImage, classes: Sequence[str], recipe: Recipe) -> LabelledImage:
    if recipe.labels == "tags":
        return replace(image, tags=tuple(tag for tag in image.tags if tag in classes))
    return replace(image, shapes=tuple(shape for shape in image.shapes if shape.name in classes))


def _labels_of(recipe: Recipe) -> LabelsOf:
    return partial(_labels, recipe=recipe)


def _split(images: Sequence[LabelledImage], labels: LabelsOf, seed: int) -> dict[Split, list[LabelledImage]]:
    """Keep given splits; fill an empty test and validation part with a tenth each, at least one image."""
    parts: dict[Split, list[LabelledImage]] = {"train": [], "val": [], "test": []}
    for image in images:
        parts[image.split or "train"].append(image)
    order = np.random.default_rng(seed).permutation(len(parts["train"]))
    free = [parts["train"][row] for row in order]
    count = max(1, round(_HELD_OUT_SHARE * len(images)))
    for key in ("test", "val"):
        if not parts[key]:
            parts[key] = _take(free, count, labels)
    parts["train"] = free
    if not all(parts.values()):
        empty = next(key for key, part in parts.items() if not part)
        raise DataError(f"num_samples=0: the {empty!r} split holds no images; give it some or leave the splits out")
    return {key: sorted(part, key=lambda image: image.name) for key, part in parts.items()}


def _take(free: list[LabelledImage], count: int, labels: LabelsOf) -> list[LabelledImage]:
    """Move images out of `free`, taking the last training image of a class only when nothing else is left.

    One pass is enough: an image whose class is down to its last one stays so, whatever is taken after it.
    """
    wanted = max(0, min(count, len(free) - 1))
    shown = [set(labels(image)) for image in free]
    left = Counter(label for names in shown for label in names)
    rows: list[int] = []
    for row, names in enumerate(shown):
        if len(rows) < wanted and names and all(left[label] > 1 for label in names):
            left.subtract(names)
            rows.append(row)
    taken = set(rows)
    others = [row for row in range(len(free)) if row not in taken]
    rows += sorted(others, key=lambda row: bool(shown[row]))[: wanted - len(rows)]
    taken = set(rows)
    moved = [free[row] for row in rows]
    free[:] = [image for row, image in enumerate(free) if row not in taken]
    return moved
