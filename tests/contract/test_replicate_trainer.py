"""The trainer for Replicate: the sandbox's own training in the form that Cog packages, and as a local child process."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sandbox.datasets import DataError
from sandbox.exportzip import write_export
from sandbox.roadsigns import CLASSES, road_signs
from sandbox.training.recipes import RECIPES, ConfigError
from sandbox.training.run import run_job
from tests.waiting import eventually
from trainers.replicate import predict
from trainers.replicate.bar import bar_line
from trainers.replicate.predict import Predictor
from trainers.replicate.train import train

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "trainers" / "replicate"
FEW: dict[str, Any] = {"epochs": 2, "batch_size": 4, "image_size": 64}
LIMIT_S = 60
BAR = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)", re.MULTILINE)
"""What Replicate's client takes for progress."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a training leaves in the temporary folder goes with the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def export(folder: Path, kind: str, count: int = 8) -> Path:
    """Write a ZIP to train on."""
    images = road_signs(count, size=64, single=kind == "classification")
    write_export(folder / "data.zip", dataset="d", export="e", images=images, include_images=True)
    return folder / "data.zip"


def members(weights: Path) -> dict[str, bytes]:
    """Return what a tar holds."""
    with tarfile.open(weights) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["yolox", "classification"])
def test_the_weights_are_the_model_that_the_sandbox_trains(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte from the same data, values and seed; config.json says what it is, and the model answers."""
    data = export(tmp_path, kind)
    found = members(Path(train(data, pipeline=kind, seed=3, **FEW).weights))
    assert sorted(found) == ["config.json", "model.onnx"]

    job = {"pipeline_type": kind, "seed": 3, "threads": 1, "export": str(data), "config": FEW}
    result = run_job(tmp_path, job)
    assert found["model.onnx"] == (tmp_path / "model.onnx").read_bytes()

    recipe = RECIPES[kind]
    config = json.loads(found["config.json"])
    assert (config["pipeline"], config["task"], config["architecture"]) == (
        kind,
        recipe.model_type,
        recipe.architecture,
    )
    assert (config["classes"], config["input_size"]) == (result["classes"], [64, 64])
    assert config["metrics"] == result["metrics"]

    session = onnxruntime.InferenceSession(found["model.onnx"], providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    assert given.shape == [1, 3, 64, 64]
    assert np.isfinite(session.run(None, {given.name: np.zeros(given.shape, np.float32)})[0]).all()

    bars = [(int(percent), int(now), int(total)) for percent, now, total in BAR.findall(capsys.readouterr().err)]
    assert bars == [(0, 0, 2), (50, 1, 2), (100, 2, 2)]


def test_the_same_seed_gives_the_same_tar_and_another_seed_another(tmp_path: Path) -> None:
    """The tar has no clock and no owner in it."""
    data = export(tmp_path, "classification")
    first, second, other = (
        Path(train(data, pipeline="classification", seed=seed, **FEW).weights).read_bytes() for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pipeline": "yolov8"}, "pipeline is 'yolov8': give one of yolox"),
        ({"pipeline": ["yolox"]}, "pipeline is"),
        ({"epochs": 0}, "epochs is 0: give a whole number from 1"),
        ({"learning_rate": 11.0}, "learning_rate is 11.0"),
        ({"seed": -1}, "seed is -1: give a whole number from 0"),
        ({"seed": True}, "seed is True"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    """Before anything is read or trained."""
    with pytest.raises(ConfigError, match=re.escape(words)):
        train(tmp_path / "not-there.zip", **values)


def test_data_that_cannot_train_is_named(tmp_path: Path) -> None:
    """No ZIP, a ZIP without labels, too few images, labels of another kind; nothing is left behind."""
    (tmp_path / "data").write_bytes(b"<html>403</html>")
    with pytest.raises(DataError, match="is no ZIP file that can be read"):
        train(tmp_path / "data")
    with pytest.raises(DataError, match="only 2 usable images"):
        train(export(tmp_path, "yolox", count=2))
    images = [replace(image, tags=("a", "b")) for image in road_signs(8, size=64)]
    write_export(tmp_path / "tags.zip", dataset="d", export="e", images=images, include_images=True)
    with pytest.raises(DataError, match="none of the 8 images has exactly one tag"):
        train(tmp_path / "tags.zip", pipeline="classification", **FEW)
    assert not list(tmp_path.glob("trained-*"))


def test_coco_in_a_zip_is_read_without_a_suffix(tmp_path: Path) -> None:
    """A file's URL at Replicate ends in its id, not in .zip."""
    images = road_signs(8, size=64)
    names = sorted({shape.name for image in images for shape in image.shapes})
    with zipfile.ZipFile(tmp_path / "d7f3a1", "w") as archive:
        for image in images:
            archive.writestr(f"images/{image.name}", image.content)
        boxes = [(row, shape) for row, image in enumerate(images) for shape in image.shapes]
        document = {
            "images": [
                {"id": row, "file_name": image.name, "width": 64, "height": 64} for row, image in enumerate(images)
            ],
            "categories": [{"id": row, "name": name} for row, name in enumerate(names)],
            "annotations": [
                {"id": row, "image_id": image, "category_id": names.index(shape.name), "bbox": list(shape.box)}
                for row, (image, shape) in enumerate(boxes)
            ],
        }
        archive.writestr("annotations.json", json.dumps(document))
    found = members(Path(train(tmp_path / "d7f3a1", **FEW).weights))
    assert set(json.loads(found["config.json"])["classes"]) <= set(CLASSES)


@pytest.mark.parametrize(
    ("done", "total", "elapsed_s", "line"),
    [
        (0, 16, 0.0, "  0%|          | 0/16 [00:00<?, ?it/s]"),
        (6, 16, 0.7663, " 38%|###7      | 6/16 [00:00<00:02, 7.83it/s]"),
        (16, 16, 2.0, "100%|##########| 16/16 [00:02<00:00, 8.00it/s]"),
        (1, 3, 7200.0, " 33%|###3      | 1/3 [2:00:00<4:00:00, 7200.00s/it]"),
    ],
)
def test_progress_lines_have_the_shape_that_is_read(done: int, total: int, elapsed_s: float, line: str) -> None:
    """Also before the first epoch, and for hours."""
    assert bar_line(done, total, elapsed_s) == line
    match = BAR.match(line)
    assert match is not None
    assert (int(match[2]), int(match[3])) == (done, total)


def order(folder: Path, **given: Any) -> Path:
    """Write the input of a child process."""
    folder.mkdir()
    (folder / "input.json").write_text(json.dumps(given))
    return folder


@contextmanager
def child(folder: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the trainer on a folder; end it whatever happens."""
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainers.replicate.local", str(folder)],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT_S)


def run(folder: Path) -> dict[str, Any]:
    """Train to the end; return the result."""
    with child(folder) as process:
        assert process.wait(LIMIT_S) == 0, (folder / "log.txt").read_text()
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_a_child_process_trains_what_its_folder_asks_for(tmp_path: Path) -> None:
    """Same bytes as in this process, progress in the log, nothing left over; a finished folder is left as it is."""
    data = export(tmp_path, "classification")
    folder = order(tmp_path / "job", train_data=str(data), pipeline="classification", **FEW)
    result = run(folder)
    assert (result["status"], result["error"]) == ("completed", None)
    assert 0 < result["seconds"] < LIMIT_S
    assert [match[1] for match in BAR.findall((folder / "log.txt").read_text())] == ["0", "1", "2"]
    assert {path.name for path in folder.iterdir()} == {"input.json", "log.txt", "lock", "result.json", "weights.tar"}
    weights = (folder / "weights.tar").read_bytes()
    assert weights == Path(train(data, pipeline="classification", **FEW).weights).read_bytes()
    (folder / "weights.tar").unlink()
    assert run(folder) == result
    assert not (folder / "weights.tar").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train_data": "/not/there.zip"}, "'/not/there.zip' does not exist"),
        (
            {"train_data": "x", "steps": 3},
            "input.json does not fit the trainer: got an unexpected keyword argument 'steps'",
        ),
        ({}, "missing a required argument: 'train_data'"),
    ],
)
def test_a_child_that_fails_says_why(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    """In its result and, with the place, in its log; no weights appear."""
    result = run(order(tmp_path / "job", **given))
    assert result["status"] == "failed"
    assert words in result["error"]
    assert "Traceback" in (tmp_path / "job" / "log.txt").read_text()
    assert not (tmp_path / "job" / "weights.tar").exists()


def test_sigterm_ends_a_child_within_a_second_without_a_result(tmp_path: Path) -> None:
    """In the middle of an epoch; the next child on the folder starts over and removes what was left."""
    data = export(tmp_path, "yolox")
    folder = order(tmp_path / "job", train_data=str(data), **{**FEW, "epochs": 10_000})
    with child(folder) as process:
        eventually(lambda: len(BAR.findall((folder / "log.txt").read_text())) > 2, "two epochs", within_s=LIMIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(1) == -signal.SIGTERM
    assert not (folder / "result.json").exists()
    assert not (folder / "weights.tar").exists()
    (folder / "input.json").write_text(json.dumps({"train_data": "gone.zip"}))
    assert run(folder)["status"] == "failed"
    assert not (folder / "scratch").exists()


def test_a_child_keeps_the_priority_it_was_given(tmp_path: Path) -> None:
    """Whoever starts it decides, also about its end: the sandbox's guard lowers it once, and stays with it."""
    data = export(tmp_path, "yolox")
    folder = order(tmp_path / "job", train_data=str(data), **{**FEW, "epochs": 10_000})
    with child(folder, SANDBOX_TRAINER_PARENT="1") as process:
        eventually(lambda: BAR.findall((folder / "log.txt").read_text()), "the first epoch", within_s=LIMIT_S)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == os.getpriority(os.PRIO_PROCESS, 0)
        assert process.poll() is None


@pytest.mark.parametrize("kind", [kind for kind in RECIPES if kind != "detectron2"])
def test_a_trained_version_answers_about_a_picture(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every form of output: labels the model knows, scores in order; JSON throughout."""
    monkeypatch.setattr(predict, "_LOWEST_SCORE", 0.0)  # one epoch makes nobody sure of anything
    data = export(tmp_path, kind)
    weights = Path(train(data, pipeline=kind, epochs=1, batch_size=4, image_size=64).weights)
    classes = json.loads(members(weights)["config.json"])["classes"]
    answer = answer_of(tmp_path, weights, confidence=0.0)
    key = {"classification": "classes", "sm_pytorch": "shares"}.get(kind, "detections")
    assert list(answer) == [key]
    assert answer[key]
    scores = [entry["score"] for entry in answer[key]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert {entry["label"] for entry in answer[key]} <= set(classes)


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        # Cell x 2, y 1 of stride 8, in a 64 x 64 input of which the 200 x 100 picture fills the upper half.
        (
            "yolox",
            [[[[0.0, 0.0, np.log(2), np.log(1), 0.8, 0.0, 1.0] if row == 10 else [0.0] * 7 for row in range(84)]]],
        ),
        ("rfdetr_detection", [[[[0.25, 0.25, 0.25, 0.25]]], [[[-9.0, 1.3863, 9.0]]]]),
    ],
)
def test_boxes_are_those_of_the_picture(tmp_path: Path, kind: str, outputs: list[Any]) -> None:
    """Whatever the network's own grid is: this one sees the same object in both forms."""
    config = {"pipeline": kind, "classes": ["a", "b"], "input_size": [64, 64]}
    answer = answer_of(tmp_path, tar_of(tmp_path, config, outputs))
    assert answer == {"detections": [{"label": "b", "score": 0.8, "box": [25.0, 12.5, 75.0, 37.5]}]}
    assert answer_of(tmp_path, tmp_path / "made.tar", confidence=0.9) == {"detections": []}


def answer_of(folder: Path, weights: Path, confidence: float = 0.5) -> dict[str, Any]:
    """Return the answer of a version with these weights about a picture of 200 x 100 pixels."""
    predictor = Predictor()
    predictor.setup(weights)
    Image.new("RGB", (200, 100), "grey").save(folder / "picture", "PNG")
    answer: dict[str, Any] = json.loads(json.dumps(predictor.predict(folder / "picture", confidence), allow_nan=False))
    return answer


def tar_of(folder: Path, config: dict[str, Any], outputs: list[Any]) -> Path:
    """Return weights of a network that always answers the same."""
    arrays = [np.array(output, np.float32) for output in outputs]
    nodes = [
        helper.make_node("Constant", [], [f"o{row}"], value=numpy_helper.from_array(array))
        for row, array in enumerate(arrays)
    ]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    told = [helper.make_tensor_value_info(f"o{row}", TensorProto.FLOAT, a.shape) for row, a in enumerate(arrays)]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "constant", [given], told), opset_imports=opset, ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "config.json").write_text(json.dumps(config))
    with tarfile.open(folder / "made.tar", "w") as archive:
        for name in ("model.onnx", "config.json"):
            archive.add(folder / name, name)
    return folder / "made.tar"


def test_a_version_without_weights_says_so() -> None:
    """The trainer's own version has none."""
    with pytest.raises(ValueError, match="run a version that a training made"):
        Predictor().setup()


IMPORTED = """
import importlib, json, sys
from sandbox.training.recipes import RECIPES
names = ["trainers.replicate.train", "trainers.replicate.predict", "sandbox.training.export", "sandbox.training.loop"]
for name in [*names, *(f"sandbox.training.{recipe.module}" for recipe in RECIPES.values())]:
    importlib.import_module(name)
ours = [name for name in sys.modules if name.partition(".")[0] in ("sandbox", "trainers")]
print(json.dumps([sys.modules[name].__file__ for name in ours]))
"""
"""Prints the files of ours that a training and a prediction consist of."""


def foreign_modules() -> set[str]:
    """Return the modules of others that a training and a prediction import, those imported late among them."""
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    found: set[str] = set()
    for path in json.loads(done.stdout):
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    tops = {name.partition(".")[0] for name in found}
    return tops - set(sys.stdlib_module_names) - {"sandbox", "trainers", "cog"}


def test_what_cog_is_told_exists() -> None:
    """The entry points, and the packages the training imports, in the versions that are tried here."""
    told = yaml.safe_load((HOME / "cog.yaml").read_text(encoding="utf-8"))
    assert (told["train"], told["predict"]) == (
        "trainers/replicate/train.py:train",
        "trainers/replicate/predict.py:Predictor",
    )
    told_of = dict(line.split("==") for line in told["build"]["python_packages"])
    owners = packages_distributions()
    wanted = {owners[module][0].lower() for module in foreign_modules()}
    assert set(told_of) == wanted
    assert told_of == {name: version(name).partition("+")[0] for name in wanted}
