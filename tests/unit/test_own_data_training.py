"""Gaps in a person's data, as the worker that trains on an export meets them; no torch."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.datasets import DataError, LabelledImage, Shape
from sandbox.exportzip import read_export, write_export
from sandbox.training.recipes import RECIPES, resolve
from sandbox.training.selection import Selection, select
from tests.unit.own_data import picture

DETECTORS = sorted(kind for kind, recipe in RECIPES.items() if recipe.labels != "tags")


def _without_outlines(selection: Selection) -> list[dict[str, Any]]:
    """Return the warnings but the one that boxes stand in for masks, which is all these objects have."""
    return [warning for warning in selection.warnings if warning["code"] != "shapes_without_polygon"]


def labelled(count: int, *names: str) -> list[LabelledImage]:
    """Return images that show the names in turn, as a box and as the one tag."""
    shown = [names[k % len(names)] for k in range(count)]
    return [
        LabelledImage(f"{k:02d}.png", picture(64, 64), 64, 64, (Shape(name, (8, 8, 16, 16)),), (name,))
        for k, name in enumerate(shown)
    ]


def chosen(images: list[LabelledImage], kind: str) -> Selection:
    """Select with the settings of a pipeline."""
    return select(images, resolve(RECIPES[kind], {})[0], 0)


def without_files(path: Path, gone: set[str]) -> Path:
    """Write an export again without some images; their annotations stay."""
    kept = path.with_name("kept.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(kept, "w") as new:
        for entry in old.infolist():
            if entry.filename not in gone:
                new.writestr(entry, old.read(entry))
    return kept


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_images_deleted_after_the_export_are_left_out_with_a_warning(tmp_path: Path, kind: str) -> None:
    """The rest is trained on; the warning counts them."""
    write_export(tmp_path / "e.zip", dataset="d", export="e", images=labelled(20, "a", "b"), include_images=True)
    selection = chosen(read_export(without_files(tmp_path / "e.zip", {"images/03.png", "images/04.png"})), kind)
    used = [image.name for part in (selection.train, selection.val, selection.test) for image in part]
    assert len(used) == 18
    assert not {"03.png", "04.png"} & set(used)
    assert [(warning["code"], warning["count"]) for warning in _without_outlines(selection)] == [("images_left_out", 2)]


def test_too_few_files_left_is_said_as_the_worker_says_it(tmp_path: Path) -> None:
    """Two of five files are left: that is counted, not the annotations."""
    write_export(tmp_path / "e.zip", dataset="d", export="e", images=labelled(5, "a"), include_images=True)
    images = read_export(without_files(tmp_path / "e.zip", {f"images/{k:02d}.png" for k in range(3)}))
    with pytest.raises(DataError, match="only 2 usable images"):
        chosen(images, "yolox")


@pytest.mark.parametrize("kind", DETECTORS)
def test_images_without_objects_train_as_background(kind: str) -> None:
    """They count for the split and carry no class."""
    images = [replace(image, shapes=() if k % 2 else image.shapes) for k, image in enumerate(labelled(12, "a"))]
    selection = chosen(images, kind)
    assert (selection.classes, _without_outlines(selection)) == (("a",), [])
    assert len(selection.train) + len(selection.val) + len(selection.test) == 12


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_a_class_that_the_test_split_alone_shows_is_not_in_the_model(kind: str) -> None:
    """The vendor's warning with its reason; the answers are measured on what can be answered."""
    images = [replace(image, split="train") for image in labelled(8, "a", "b")]
    images += [replace(image, name=f"t{image.name}", split="test") for image in labelled(3, "a", "b", "late")]
    selection = chosen(images, kind)
    assert selection.classes == ("a", "b")
    assert selection.warnings[0]["classes"] == [{"name": "late", "reason": "not_in_train_split"}]
    assert "late" not in {shape.name for image in selection.test for shape in image.shapes if kind != "classification"}
    assert len(selection.test) == (2 if kind == "classification" else 3)
