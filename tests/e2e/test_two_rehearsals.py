"""What two rehearsals in a row leave behind: one sandbox, no foreign connection, models anybody can read.

The second one goes on in the background of the tests before this file; hence its place in the alphabet.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.models import Prediction
from pipeline.smoke.agreement import box_iou
from pipeline.smoke.judging import DEFAULT_OPTIONS
from tests.e2e.conftest import CANARY, Ground, Rehearsal, read_json_line
from tests.loopback.sitecustomize import is_loopback

CONFIDENCE = DEFAULT_OPTIONS.confidence


PROCESSES = {
    "command": ("-m", "flows.train_pipeline"),
    "Prefect's server": ("prefect.server.api.server:create_app",),
    "sandbox": ("-m", "sandbox", "serve"),
    "training": ("-m", "sandbox.training"),
}
"""What runs during a rehearsal, by a part of its command line."""


def started(ground: Ground, name: str) -> list[list[str]]:
    """Return the command lines of every process of this kind."""
    wanted = PROCESSES[name]
    return [line for line in ground.noted("process") if any(line[at:][: len(wanted)] == [*wanted] for at in range(9))]


def test_no_other_machine_is_contacted(demo: Rehearsal, second: Rehearsal) -> None:
    """No process asks for another machine by address or name, although a hosted key is at hand.

    Watched are all Python processes, at least one of each kind. The one that opens the model has too bare an
    environment to write it down, but is held to loopback like the others.
    """
    assert second.done.code == 0
    assert [name for name in PROCESSES if not started(demo.ground, name)] == []
    reached = demo.ground.noted("host")
    assert len(reached) > 20
    assert [host for host in reached if not is_loopback(host)] == []


def test_a_hosted_key_appears_nowhere(demo: Rehearsal, second: Rehearsal) -> None:
    """No file and no line written during two runs contains it."""
    files = [path for path in demo.ground.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    for run in (demo, second):
        assert CANARY not in run.done.out + run.done.err


class TestSecondRun:
    """Classification, right after detection."""

    def test_the_result_is_one_json_line(self, second: Rehearsal) -> None:
        """With --json standard output holds that line alone, with verdict, money, metric and paths."""
        assert second.done.code == 0, second.done.err
        said = read_json_line(second.done.out)
        assert said["outcome"] == "accepted"
        assert said["sandbox"] is True
        assert said["metric"]["name"] == "top1"
        assert said["metric"]["value"] >= 0.90
        assert said["charged"]["amount"] > 0
        assert (second.ground.folder / said["model"]).is_file()
        assert said["sha256"] == (second.report.artifact.sha256 if second.report.artifact else None)

    def test_the_sandbox_is_used_again(self, demo: Rehearsal, second: Rehearsal) -> None:
        """Two trainings, one sandbox process, which still answered after the first command had ended."""
        assert second.done.code == 0
        assert len(started(demo.ground, "sandbox")) == 1
        assert len(started(demo.ground, "training")) == 2


def test_the_digits_come_from_this_machine(
    second: Rehearsal, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """``--demo digits`` trains on real pictures, made when it asks, without a connection to any other machine.

    The training is cut short: what a full one reaches is not looked at here, so nothing need be found.
    """
    assert second.done.code == 0
    ground = Ground(tmp_path_factory.mktemp("digits"))
    short = ("--epochs", "2", "--image-size", "64", "--samples", "2", "--min-agreement", "0")
    try:
        done = ground.run("--demo", "digits", *short, PREFECT_API_URL=prefect_server)
    finally:
        ground.end_sandbox()
    assert done.code == 0, done.err
    assert "handwritten digits" in done.out.splitlines()[0]
    report = Rehearsal(ground, "digits-scenes-yolox", done).report
    assert report.artifact is not None
    assert report.artifact.model.classes == ("0", "4", "7")
    assert report.smoke is not None
    assert [(ground.folder / str(result.overlay)).is_file() for result in report.smoke.results] == [True, True]
    assert [host for host in ground.noted("host") if not is_loopback(host)] == []


def vendor_reading(run: Rehearsal) -> dict[str, list[Prediction]]:
    """Return what the provider's published client sees on the samples, loading our files without the network."""
    import pictograph

    report = run.report
    assert report.artifact is not None
    assert report.smoke is not None
    model = report.artifact.model
    task: Any = model.task.value
    head = {
        "model_type": task,
        "architecture": model.architecture,
        "class_mapping": {"classes": list(model.classes)},
        "input_shape": list(report.smoke.input_size),
        "name": model.name,
    }
    config = run.folder / "config.json"
    config.write_text(json.dumps({"_pictograph": head}), encoding="utf-8")
    loaded: Any = pictograph.load_model(run.folder / "model.onnx", config, task=task, device="cpu")
    seen = {}
    for result in report.smoke.results:
        answer = loaded.predict(run.folder / "samples" / result.picture, confidence=CONFIDENCE)
        if task == "classification":
            seen[result.picture] = [Prediction(name=answer.top.name, confidence=answer.top.confidence)]
            continue
        found = [(one, one.bounding_box) for one in answer.predictions]
        seen[result.picture] = [
            Prediction(name=one.name, confidence=one.confidence, box=(box.x, box.y, box.w, box.h)) for one, box in found
        ]
    return seen


class TestPublishedClient:
    """The models work for somebody who has never heard of this project."""

    def test_the_detector_is_read_alike(self, demo: Rehearsal) -> None:
        """Every object either side is sure of is seen by the other: same class, IoU of 0.5 or more."""
        assert demo.report.smoke is not None
        theirs, compared = vendor_reading(demo), 0
        for result in demo.report.smoke.results:
            left = list(theirs[result.picture])
            for one in result.predictions:
                twin = next((two for two in left if two.name == one.name and _overlap(one, two) >= 0.5), None)
                assert twin is not None, (result.picture, one, left)
                left.remove(twin)
                compared += 1
            assert [two for two in left if two.confidence > CONFIDENCE + 0.05] == []
        assert compared >= len(demo.report.smoke.results)

    def test_the_classifier_is_read_alike(self, second: Rehearsal) -> None:
        """The best class of every picture is the same."""
        assert second.report.smoke is not None
        theirs = vendor_reading(second)
        ours = {result.picture: result.predictions[0].name for result in second.report.smoke.results}
        assert ours == {picture: seen[0].name for picture, seen in theirs.items()}
        assert len(ours) == second.report.request.samples


def _overlap(one: Prediction, other: Prediction) -> float:
    assert one.box is not None
    assert other.box is not None
    return box_iou(one.box, other.box)
