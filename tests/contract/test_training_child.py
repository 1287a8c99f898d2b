"""The training child as a process: progress, resume, cancel and failures, on tiny jobs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.datasets import LabelledImage
from sandbox.exportzip import write_export
from sandbox.roadsigns import CLASSES, road_signs
from sandbox.training import jobs
from sandbox.training.recipes import RECIPES, resolve
from sandbox.training.results import TrainingError, progress

TINY: dict[str, Any] = {"epochs": 3, "batch_size": 4, "image_size": 64}
LIMIT_S = 60


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
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert child.poll() is None, "the child ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["yolox", "classification"])
def test_a_killed_job_goes_on_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """SIGKILL after some epochs and a second start give the model of an undisturbed run, and one line an epoch."""
    config: dict[str, Any] = {**TINY, "epochs": 12}
    whole = prepare(tmp_path / "whole", kind, **config)
    killed = prepare(tmp_path / "killed", kind, **config)
    undisturbed = run(whole)
    child = jobs.start(killed)
    wait_for(lambda: len(progress(killed)) >= 3, child)
    child.kill()
    child.wait(LIMIT_S)
    assert not (killed / "result.json").exists()
    assert not (killed / "model.onnx").exists()
    resumed = run(killed)
    assert (whole / "model.onnx").read_bytes() == (killed / "model.onnx").read_bytes()
    assert [entry["epoch"] for entry in progress(killed)] == list(range(1, 13))
    assert [e["loss"] for e in resumed["history"]] == [e["loss"] for e in undisturbed["history"]]
    assert resumed["metrics"] == undisturbed["metrics"]


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    """The seed is used: equal bytes above are no accident."""
    first, second = prepare(tmp_path / "a", **TINY), prepare(tmp_path / "b", **TINY)
    job = json.loads((second / "job.json").read_text())
    (second / "job.json").write_text(json.dumps({**job, "seed": 6}))
    run(first)
    run(second)
    assert (first / "model.onnx").read_bytes() != (second / "model.onnx").read_bytes()


@pytest.mark.parametrize("way", ["file", "signal"])
def test_cancel_stops_at_once(tmp_path: Path, way: str) -> None:
    """A cancel file or SIGTERM ends a running job with the result `cancelled`, its epochs so far, and no model."""
    folder = prepare(tmp_path / "job", epochs=10_000, batch_size=4, image_size=64)
    child = jobs.start(folder)
    wait_for(lambda: len(progress(folder)) >= 2, child)
    asked = time.monotonic()
    if way == "file":
        jobs.cancel(folder)
    else:
        child.terminate()
    assert child.wait(LIMIT_S) == 0
    assert time.monotonic() - asked < 2.0  # 0.2 s when the machine is idle
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


def test_a_finished_job_is_left_as_it_is(tmp_path: Path) -> None:
    """Starting a finished job again, as a restarted server may, changes nothing."""
    folder = prepare(tmp_path / "job", **TINY)
    run(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json*")}
    run(folder)
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json*")}


def test_a_child_ends_with_its_server(tmp_path: Path) -> None:
    """When the process that started a job is gone the job stops without a result, ready to be resumed."""
    folder = prepare(tmp_path / "job", epochs=10_000, batch_size=4, image_size=64)
    code = (
        "import sys, time; from pathlib import Path; from sandbox.training import jobs\n"
        "print(jobs.start(Path(sys.argv[1])).pid, flush=True); time.sleep(600)"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=root) as server:
        wait_for(lambda: len(progress(folder)) >= 1, server)
        server.kill()
    count, deadline = -1, time.monotonic() + LIMIT_S
    while count != len(progress(folder)):  # an epoch takes far less than the pause
        assert time.monotonic() < deadline
        count = len(progress(folder))
        time.sleep(1.0)
    assert not (folder / "result.json").exists()


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
            "rfdetr_detection",
            None,
            {},
            "pipeline_type 'rfdetr_detection' is not trainable in the sandbox yet; use yolox or classification",
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
