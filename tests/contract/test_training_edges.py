"""Very few images, one class or many, classes that nothing teaches: trained with a warning, or refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from sandbox.datasets import DataError, LabelledImage, Split
from sandbox.exportzip import read_export, write_export
from sandbox.roadsigns import road_signs
from sandbox.training import jobs
from sandbox.training.recipes import RECIPES
from sandbox.training.run import run_job
from sandbox.training.selection import assign_splits
from trainers.replicate.train import train as replicate_train

SIDE = 64
FEW: dict[str, Any] = {"epochs": 2, "batch_size": 4, "image_size": SIDE}
SHAPED = ("yolox", "rfdetr_detection", "rfdetr_segmentation", "sm_pytorch")
"""One of each family that learns from shapes; `detectron2` shares all of this with `rfdetr_segmentation`."""
KINDS = (*SHAPED, "classification")
TWENTY = tuple(f"c{number:02d}" for number in range(20))


def signs(count: int, *names: str, split: Split | None = None, prefix: str = "") -> list[LabelledImage]:
    """Return images with one object and one tag each; the names take turns."""
    images = []
    for number, image in enumerate(road_signs(count, seed=3, size=SIDE, single=True)):
        name = names[number % len(names)]
        shapes = tuple(replace(shape, name=name) for shape in image.shapes)
        images.append(replace(image, name=prefix + image.name, shapes=shapes, tags=(name,), split=split))
    return images


def unlabelled(images: list[LabelledImage]) -> list[LabelledImage]:
    """Return the images without what was labelled."""
    return [replace(image, shapes=(), tags=()) for image in images]


def order(folder: Path, kind: str, images: list[LabelledImage], **changes: Any) -> dict[str, Any]:
    """Return a job on these images."""
    write_export(folder / "export.zip", dataset="d", export="e", images=images, include_images=True)
    job: dict[str, Any] = {"pipeline_type": kind, "seed": 0, "threads": 1, "export": str(folder / "export.zip")}
    return {**job, "config": {**FEW, **changes}}


def train(folder: Path, kind: str, images: list[LabelledImage], **changes: Any) -> dict[str, Any]:
    """Train a few steps in this process, as the child does, and return what it would report."""
    job = order(folder, kind, images, **changes)
    assert jobs.check_job(kind, read_export(folder / "export.zip"), FEW) is None
    result = run_job(folder, job)
    json.dumps(result, allow_nan=False)  # it is written as JSON and sent as JSON
    return result


def check_model(folder: Path, kind: str, result: dict[str, Any]) -> None:
    """The file opens, has a place for each class, and answers a picture with numbers."""
    classes = len(result["classes"])
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    picture = np.random.default_rng(0).uniform(0, 1, given.shape).astype(np.float32)
    answers = dict(
        zip([output.name for output in session.get_outputs()], session.run(None, {given.name: picture}), strict=True)
    )
    assert all(np.isfinite(answer).all() for answer in answers.values())
    wide = {
        "yolox": ("output", -1, 5 + classes),
        "rfdetr_detection": ("labels", -1, classes + 1),
        "rfdetr_segmentation": ("labels", -1, classes + 1),
        "sm_pytorch": ("output", 1, 1 if classes == 1 else classes + 1),
        "classification": ("output", -1, classes),
    }
    name, axis, width = wide[kind]
    assert answers[name].shape[axis] == width
    config = json.loads((folder / "config.json").read_text())["_pictograph"]
    assert config["class_mapping"]["classes"] == result["classes"]
    assert config["model_type"] == RECIPES[kind].model_type


def codes(result: dict[str, Any]) -> list[str]:
    """Return the codes of the warnings."""
    return [warning["code"] for warning in result["warnings"]]


@pytest.mark.parametrize("kind", KINDS)
def test_five_images_train(tmp_path: Path, kind: str) -> None:
    """The least the vendor's older guide asks for: three to learn from, one to check, one to judge by."""
    result = train(tmp_path, kind, signs(5, "a", "b"))
    assert (result["classes"], result["warnings"]) == (["a", "b"], [])
    assert result["metrics"]["evaluated_images"] == len(result["held_out"]) == 1
    check_model(tmp_path, kind, result)


@pytest.mark.parametrize("trained", ["here", "for Replicate"])
@pytest.mark.parametrize(
    "images",
    [
        [
            *signs(8, "a", "b", split="train", prefix="t"),
            *signs(2, "c", split="val", prefix="v"),
            *signs(2, "a", "b", split="test", prefix="e"),
        ],
        assign_splits(signs(4, "a", "a", "b", "c")),
        assign_splits(signs(5, "a", "a", "b", "c", "d")),
    ],
    ids=["given", "four", "five"],
)
def test_validation_pictures_of_other_classes_are_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[LabelledImage], trained: str
) -> None:
    """They are for display: where none shows a class that is trained, no figure is shown on the way."""
    if trained == "here":
        result = train(tmp_path, "classification", images, epochs=6)
        assert (codes(result), result["status"]) == (["classes_not_trained"], "completed")
        assert all(not entry.get("metrics") for entry in result["history"])
        check_model(tmp_path, "classification", result)
        return
    order(tmp_path, "classification", images)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = replicate_train(tmp_path / "export.zip", pipeline="classification", **{**FEW, "epochs": 6})
    assert Path(made.weights).is_file()


@pytest.mark.parametrize("kind", SHAPED)
def test_three_images_train_what_one_of_them_shows(tmp_path: Path, kind: str) -> None:
    """One image is left to learn from: the classes of the others are named as not trained, the metric as not known."""
    result = train(tmp_path, kind, signs(3, "a", "b", "c"))
    assert len(result["classes"]) == 1
    assert codes(result) == ["classes_not_trained", "metric_not_measured"]
    missing, unmeasured = result["warnings"]
    assert {entry["reason"] for entry in missing["classes"]} == {"not_in_train_split"}
    assert {entry["name"] for entry in missing["classes"]} == {"a", "b", "c"} - set(result["classes"])
    assert "none of the 1 images held out" in unmeasured["message"]
    check_model(tmp_path, kind, result)


@pytest.mark.parametrize("kind", SHAPED)
def test_one_class_is_enough_for_shapes(tmp_path: Path, kind: str) -> None:
    """Nothing is warned about, and the metric is measured."""
    result = train(tmp_path, kind, signs(6, "a"))
    assert (result["classes"], result["warnings"]) == (["a"], [])
    assert 0 <= result["metrics"]["mIoU" if kind == "sm_pytorch" else "mAP50"] <= 1
    check_model(tmp_path, kind, result)


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_classes_train(tmp_path: Path, kind: str) -> None:
    """Two images of each are enough for all to be in the model, although some are held out."""
    result = train(tmp_path, kind, signs(40, *TWENTY))
    assert result["classes"] == list(TWENTY)
    assert codes(result) == []
    assert set(result["metrics"]["per_class"]) <= set(TWENTY)
    check_model(tmp_path, kind, result)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_only_the_test_images_show_is_left_out_and_named(tmp_path: Path, kind: str) -> None:
    """The model does not promise it, nobody is judged by it, and the vendor's warning says why."""
    images = [
        *signs(4, "a", "b", split="train"),
        *signs(1, "a", split="val", prefix="v"),
        *signs(2, "c", "b", split="test", prefix="t"),
    ]
    result = train(tmp_path, kind, images)
    assert result["classes"] == ["a", "b"]
    assert codes(result) == ["classes_not_trained"]
    assert result["warnings"][0]["classes"] == [{"name": "c", "reason": "not_in_train_split"}]
    assert len(result["held_out"]) == (1 if kind == "classification" else 2)  # without its tag it has no right answer
    check_model(tmp_path, kind, result)


@pytest.mark.parametrize("kind", SHAPED)
def test_test_images_without_objects_leave_the_metric_unknown(tmp_path: Path, kind: str) -> None:
    """No number is made up: it is absent, and a warning says why."""
    images = [
        *signs(4, "a", "b", split="train"),
        *signs(1, "a", split="val", prefix="v"),
        *unlabelled(signs(2, "a", split="test", prefix="t")),
    ]
    result = train(tmp_path, kind, images)
    assert codes(result) == ["metric_not_measured"]
    figures = ("mIoU",) if kind == "sm_pytorch" else ("mAP50", "mAP", "precision", "recall")
    assert {result["metrics"][name] for name in figures} == {None}
    assert result["metrics"]["evaluated_images"] == 2


EMPTY = "num_samples=0: none of the 6 images has an annotated object"
REFUSED = [
    *((kind, unlabelled(signs(6, "a")), EMPTY) for kind in SHAPED),
    ("classification", unlabelled(signs(6, "a")), "num_samples=0: none of the 6 images has exactly one tag"),
    *((kind, signs(2, "a", "b"), "only 2 usable images: at least 3 are needed") for kind in KINDS),
    ("classification", signs(6, "a"), r"at least 2 classes .*, found \['a'\]: tag a second class"),
    ("classification", signs(3, "a", "b", "c"), "at least 2 classes .*: tag more images of each class"),
    ("classification", signs(20, *TWENTY), "no test image shows a trained class: give every class at least 3 images"),
    *(
        (
            kind,
            [*unlabelled(signs(4, "a", split="train")), *signs(2, "a", prefix="v", split="test")],
            "no training image",
        )
        for kind in SHAPED
    ),
]


@pytest.mark.parametrize(("kind", "images", "message"), REFUSED)
def test_what_cannot_be_learnt_is_refused_before_the_first_epoch(
    tmp_path: Path, kind: str, images: list[LabelledImage], message: str
) -> None:
    """The server says it without starting a process, the child says the same, and no model is left."""
    job = order(tmp_path, kind, images)
    verdict = jobs.check_job(kind, read_export(tmp_path / "export.zip"), FEW)
    with pytest.raises(DataError, match=message) as caught:
        run_job(tmp_path, job)
    assert verdict == str(caught.value)
    assert not (tmp_path / "model.onnx").exists()
