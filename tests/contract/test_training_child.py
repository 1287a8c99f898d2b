"""The training child as a process: progress, resume, cancel and failures, on tiny jobs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.datasets import LabelledImage
from sandbox.exportzip import write_export
from sandbox.jobfolder import JobFolder
from sandbox.roadsigns import CLASSES, road_signs
from sandbox.training import jobs
from sandbox.training.recipes import RECIPES, resolve
from sandbox.training.results import TrainingError, progress
from tests.waiting import eventually

TINY: dict[str, Any] = {"epochs": 3, "batch_size": 4, "image_size": 64}
LIMIT_S = 60
LONG: dict[str, Any] = {"epochs": 10_000, "batch_size": 4, "image_size": 64}
"""A job of several minutes."""


def prepare(folder: Path, kind: str = "yolox", images: list[LabelledImage] | None = None, **config: Any) -> Path:
    """Write a job folder."""
    folder.mkdir()
    images = road_signs(8, size=64, single=kind == "classification") if images is None else images
    write_export(folder / "export.zip", dataset="d", export="e", images=images, include_images=True)
    job = {"pipeline_type": kind, "seed": 5, "threads": 1, "export": str(folder / "export.zip"), "config": config}
    (folder / "job.json").write_text(json.dumps(job))
    return folder


def result_of(folder: Path) -> dict[str, Any]:
    """Return what the child reported."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def run(folder: Path) -> dict[str, Any]:
    """Run a job to its end."""
    assert jobs.start(folder).wait(LIMIT_S) == 0, (folder / "log.txt").read_text()
    return result_of(folder)


def wait_for(condition: Callable[[], object], child: subprocess.Popen[bytes]) -> None:
    """Look until the condition holds or the child ends."""
    eventually(lambda: condition() or child.poll() is not None, "the child", within_s=LIMIT_S)
    assert condition(), f"the child ended early: {child.returncode}"


@pytest.mark.parametrize("kind", ["yolox", "classification"])
def test_a_killed_job_goes_on_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """SIGKILL after some epochs and a second start give the model of an undisturbed run, and one line an epoch."""
    config: dict[str, Any] = {**TINY, "epochs": 12}
    whole = prepare(tmp_path / "whole", kind, **config)
    killed = prepare(tmp_path / "killed", kind, **config)
    other, child = jobs.start(whole), jobs.start(killed)  # side by side: most of their time is starting
    wait_for(lambda: len(progress(killed)) >= 3, child)
    child.kill()
    child.wait(LIMIT_S)
    assert not (killed / "result.json").exists()
    assert not (killed / "model.onnx").exists()
    resumed = run(killed)
    assert other.wait(LIMIT_S) == 0, (whole / "log.txt").read_text()
    undisturbed = result_of(whole)
    assert (whole / "model.onnx").read_bytes() == (killed / "model.onnx").read_bytes()
    assert [entry["epoch"] for entry in progress(killed)] == list(range(1, 13))
    assert [e["loss"] for e in resumed["history"]] == [e["loss"] for e in undisturbed["history"]]
    assert resumed["metrics"] == undisturbed["metrics"]


def test_a_job_killed_before_its_result_is_not_trained_again(tmp_path: Path) -> None:
    """Its checkpoint is there until the result is: the second start only evaluates, exports and reports."""
    folder = prepare(tmp_path / "job", **TINY)
    code = (
        "import os, sys; from sandbox.training import __main__ as child\n"
        "child.write_json = lambda *_: os._exit(9)\n"
        "child.main(sys.argv[1:])"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code, str(folder)], cwd=root, check=False).returncode == 9
    model, epochs = (folder / "model.onnx").read_bytes(), progress(folder)
    assert len(epochs) == TINY["epochs"]
    result = run(folder)
    assert (result["status"], result["history"]) == ("completed", epochs)  # with the seconds each epoch took
    assert (folder / "model.onnx").read_bytes() == model
    assert not (folder / "checkpoint.pt").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that has been run to its end."""
    folder = prepare(tmp_path_factory.mktemp("finished") / "job", **TINY)
    assert run(folder)["status"] == "completed"
    return folder


def test_another_seed_gives_another_model(tmp_path: Path, finished: Path) -> None:
    """The seed is used: equal bytes above are no accident."""
    other = prepare(tmp_path / "other", **TINY)
    job = json.loads((other / "job.json").read_text())
    (other / "job.json").write_text(json.dumps({**job, "seed": 6}))
    run(other)
    assert (other / "model.onnx").read_bytes() != (finished / "model.onnx").read_bytes()


@pytest.mark.parametrize("way", ["file", "signal"])
def test_cancel_stops_a_job_under_way(tmp_path: Path, way: str) -> None:
    """A cancel file or SIGTERM ends a running job with the result `cancelled`, its epochs so far, and no model."""
    folder = prepare(tmp_path / "job", **LONG)
    child = jobs.start(folder)
    wait_for(lambda: len(progress(folder)) >= 2, child)
    if way == "file":
        jobs.cancel(folder)
    else:
        child.terminate()
    assert child.wait(LIMIT_S) == 0  # its epochs would take several times as long
    result = result_of(folder)
    assert (result["status"], result["error_message"]) == ("cancelled", None)
    assert len(result["history"]) >= 2
    assert not (folder / "model.onnx").exists()


def test_a_job_cancelled_before_its_start_never_trains(tmp_path: Path) -> None:
    """The cancel file counts from the first moment."""
    folder = prepare(tmp_path / "job", epochs=10_000)
    jobs.cancel(folder)
    assert run(folder)["status"] == "cancelled"
    assert progress(folder) == []


def test_a_finished_job_is_left_as_it_is(finished: Path) -> None:
    """Starting a finished job again, as a restarted server may, changes nothing."""
    kept = [*finished.glob("*.json*"), finished / "model.onnx"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    run(finished)
    assert before == {path: path.stat().st_mtime_ns for path in kept}


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    """Processes whose parents a test takes away; ended afterwards, whatever has become of the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_child_ends_with_its_server(tmp_path: Path, orphans: list[int]) -> None:
    """When the process that started a job is killed the job's process ends too, without a result, and can go on."""
    folder = prepare(tmp_path / "job", **LONG)
    code = (
        "import sys, time; from pathlib import Path; from sandbox.training import jobs\n"
        "print(jobs.start(Path(sys.argv[1])).pid, flush=True); time.sleep(600)"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=root) as server:
        assert server.stdout is not None
        orphans.append(int(server.stdout.readline()))
        wait_for(lambda: len(progress(folder)) >= 1, server)
        assert JobFolder(folder).is_taken
        server.kill()
    eventually(lambda: not JobFolder(folder).is_taken, "the child's end", within_s=LIMIT_S)
    before = len(progress(folder))
    assert 1 <= before < LONG["epochs"]
    assert not (folder / "result.json").exists()
    again = jobs.start(folder)
    orphans.append(again.pid)
    wait_for(lambda: len(progress(folder)) > before, again)
    jobs.cancel(folder)
    assert again.wait(LIMIT_S) == 0
    assert [entry["epoch"] for entry in result_of(folder)["history"]][: before + 1] == list(range(1, before + 2))


def test_an_odd_job_trains_and_reports(tmp_path: Path) -> None:
    """Empty images, images of several sizes, one class and a side that is no multiple of 32 all train."""
    signs = road_signs(9, size=64)
    images = [replace(image, shapes=tuple(replace(s, name="sign") for s in image.shapes)) for image in signs]
    images[0] = replace(images[0], shapes=())
    wide = road_signs(1, size=200)[0]
    images.append(replace(wide, name="wide.jpg", shapes=tuple(replace(s, name="sign") for s in wide.shapes), tags=()))
    images = [replace(image, tags=()) for image in images]
    folder = prepare(tmp_path / "job", "yolox", images, image_height=40, image_width=96, epochs=2, wheels=4)
    result = run(folder)
    assert (result["status"], result["classes"], result["image_size"]) == ("completed", ["sign"], [64, 96])
    assert {warning["code"] for warning in result["warnings"]} == {"unknown_config_key", "image_size_rounded"}
    config = json.loads((folder / "config.json").read_text())["_pictograph"]
    assert (config["input_shape"], config["class_mapping"]) == ([64, 96], {"classes": ["sign"]})
    assert (config["schema_version"], config["pipeline"]) == (1, "yolox")  # by which a create refuses it for others


def test_a_loss_that_is_no_number_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails in the epoch where it happens, with the setting to change; nothing is kept of that epoch."""
    from sandbox.training import yolox  # torch: only this test needs it in this process
    from sandbox.training.loop import Trainer

    loss = yolox.Yolox.loss
    monkeypatch.setattr(yolox.Yolox, "loss", lambda *given: loss(*given) * float("inf"))
    settings, _ = resolve(RECIPES["yolox"], {**TINY, "learning_rate": 0.5})
    task = yolox.Yolox(CLASSES, settings)
    trainer = Trainer(task, task.samples(road_signs(4, size=64)), 4, seed=0, checkpoint=None)
    with pytest.raises(TrainingError, match=r"became (inf|nan) in epoch 1: lower learning_rate \(it was 0\.5\)"):
        next(trainer.epochs())
    assert trainer.history == []


def test_an_export_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is compared with the network before it gets its name: a graph that differs never becomes model.onnx."""
    import torch

    from sandbox.training import yolox
    from sandbox.training.export import export_onnx

    class Drifting(torch.nn.Module):  # type: ignore[misc]
        """Answers differently each time, so that no recording of it is right."""

        calls = 0

        def forward(self, images: Any) -> Any:
            self.calls += 1
            return images.mean((2, 3)) + self.calls

    monkeypatch.setattr(yolox.Yolox, "shipped", lambda *_: Drifting().eval())
    task = yolox.Yolox(CLASSES, resolve(RECIPES["yolox"], TINY)[0])
    example = task.example(task.samples(road_signs(1, size=64)))
    with pytest.raises(TrainingError, match="'output' differs from the trained network by"):
        export_onnx(task, task.network(), example, tmp_path / "model.onnx", {})
    assert not (tmp_path / "model.onnx").exists()


def damaged() -> list[LabelledImage]:
    """Return images of which one is cut in half."""
    images = road_signs(6, size=64)
    images[2] = replace(images[2], content=images[2].content[: len(images[2].content) // 2])
    return images


@pytest.mark.parametrize(
    ("kind", "images", "config", "message"),
    [
        ("yolox", damaged(), TINY, "image 'sign_0002.jpg' is truncated"),
        ("yolox", None, {"epochs": 0}, "config epochs is 0"),
        ("yolox", [replace(image, shapes=()) for image in road_signs(6)], {}, "num_samples=0"),
        ("classification", [replace(i, tags=("a",)) for i in road_signs(6)], {}, "at least 2 classes"),
        (
            "rfdetr_keypoint",
            None,
            {},
            "pipeline_type 'rfdetr_keypoint' is not trainable in the sandbox yet; use yolox or ",
        ),
    ],
)
def test_a_training_that_cannot_work_fails_with_its_reason(
    tmp_path: Path, kind: str, images: list[LabelledImage] | None, config: dict[str, Any], message: str
) -> None:
    """Bad data and bad config end as `failed`, say why, and leave no model."""
    folder = prepare(tmp_path / "job", kind, images, **config)
    result = run(folder)
    assert result["status"] == "failed"
    assert message in result["error_message"]
    assert not (folder / "model.onnx").exists()
