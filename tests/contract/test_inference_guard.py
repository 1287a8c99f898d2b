"""A model file is a stranger: whatever it does to its process, the caller gets a verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ArtifactError, InferenceError, ModelLoadError, OutputCheckError, SmokeTestError
from pipeline.models import LabelledBox, ModelArtifact, ModelFacts, ModelTask, SamplePicture
from pipeline.smoke import inference
from pipeline.smoke.inference import InferenceJob, InferenceLimits, run_inference
from pipeline.smoke.judging import smoke_test
from tests.graphs import Head, save_classifier, save_endless_loop, save_external, save_heads, save_memory_hog


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, ...]:
    """Two different pictures."""
    rng = np.random.default_rng(1)
    paths = tuple(tmp_path / f"p{number}.png" for number in range(2))
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return paths


def job_for(model: Path, pictures: tuple[Path, ...], **limits: float) -> InferenceJob:
    """Describe a two-class classifier's job."""
    return InferenceJob(
        model=model,
        task=ModelTask.CLASSIFICATION,
        architecture=None,
        classes=("a", "b"),
        pictures=pictures,
        limits=InferenceLimits(**limits),  # type: ignore[arg-type]
    )


def replace_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child run ``code`` instead; its folder is in ``folder``."""
    start = "import sys, os, json, pathlib; folder = pathlib.Path(sys.argv[1]); "
    monkeypatch.setattr(inference, "_CHILD_COMMAND", (sys.executable, "-c", start + code))


def test_an_endless_model_is_stopped(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """A loop without end is killed when its time is up; the message says on which picture."""
    started = time.monotonic()
    with pytest.raises(InferenceError, match=r"stopped after 2 s, still busy on picture 1 of 2 \('p0\.png'\)"):
        run_inference(job_for(save_endless_loop(tmp_path / "m.onnx"), pictures, time_s=2))
    assert time.monotonic() - started < 8


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_a_greedy_model_is_stopped(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """A model that wants 400 GB is refused its memory and nothing else suffers."""
    with pytest.raises(InferenceError, match=r"more than the 2\.0 GiB of memory"):
        run_inference(job_for(save_memory_hog(tmp_path / "m.onnx"), pictures, memory_bytes=2 * 1024**3))


def test_a_crash_is_a_verdict(tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies of a signal while opening the model gives a load error with the signal's name."""
    replace_child(monkeypatch, "os.kill(os.getpid(), 11)")
    with pytest.raises(ModelLoadError, match=r"crashed with SIGSEGV while it was being opened"):
        run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures))


def test_a_crash_on_a_picture_names_the_picture(
    tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once pictures are being read a crash is an inference error."""
    replace_child(monkeypatch, "(folder / 'stage').write_text('2'); os.abort()")
    with pytest.raises(InferenceError, match=r"SIGABRT on picture 2 of 2 \('p1\.png'\)"):
        run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures))


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "(folder / 'reply.json').write_bytes(os.urandom(2000))",
        "(folder / 'reply.json').write_text('{}')",
        "(folder / 'reply.json').write_text(json.dumps({'failure': {'kind': 'spend money', 'message': ''}}))",
        "(folder / 'reply.json').write_text(json.dumps({'result': {'readings': [], 'input_size': [1, 1], "
        "'responds': True}}))",
        "(folder / 'reply.json').write_text('['*100000)",
    ],
)
def test_garbage_from_the_child_is_a_verdict(
    tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Nothing, noise, unknown words and too few readings all end in a named error."""
    replace_child(monkeypatch, code)
    with pytest.raises(SmokeTestError, match=r"no readable result|incomplete result"):
        run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures))


def test_an_unexpected_end_shows_its_last_line_only(
    tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much the child writes, the message stays one short line."""
    replace_child(monkeypatch, "sys.stderr.write('x' * 3_000_000 + '\\nlast\\x1b[31m words'); sys.exit(3)")
    with pytest.raises(ModelLoadError, match=r"status 3 \(last \[31m words\)") as caught:
        run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures))
    assert len(str(caught.value)) < 300


def test_the_child_sees_no_secret_and_an_empty_folder(
    tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment variables do not reach the child, and its working folder holds nothing."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", "canary-5f1d")
    seen = tmp_path / "seen.json"
    replace_child(
        monkeypatch, f"pathlib.Path({str(seen)!r}).write_text(json.dumps([dict(os.environ), os.listdir('.')]))"
    )
    with pytest.raises(SmokeTestError):
        run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures))
    environment, files = json.loads(seen.read_text())
    assert "canary-5f1d" not in json.dumps(environment)
    assert set(environment) <= {
        "PYTHONPATH",
        "PYTHONIOENCODING",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "LD_LIBRARY_PATH",
        "LC_CTYPE",
        *(["DYLD_LIBRARY_PATH", "__CF_USER_TEXT_ENCODING"] if sys.platform == "darwin" else []),
    }
    assert files == []


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_an_interrupted_caller_leaves_no_process(
    tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the waiting flow is cancelled, its child ends with it."""
    number = tmp_path / "pid"
    replace_child(
        monkeypatch,
        f"import time, signal; path = pathlib.Path({str(number)!r}); (folder / 'x').write_text(str(os.getpid())); "
        "(folder / 'x').rename(path); os.kill(os.getppid(), signal.SIGUSR1); time.sleep(60)",
    )

    def cancel(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, cancel)  # not SIGALRM: that one ends tests that take too long
    try:
        with pytest.raises(KeyboardInterrupt):
            run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures, time_s=30))
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_no_room_for_the_job_is_no_verdict(
    tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary folder that cannot be made says nothing about the model: it is to be tried again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(ArtifactError, match="cannot be set up"):
        run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures))


def test_nothing_is_left_behind(tmp_path: Path, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary folder is gone after good and bad ends alike."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    run_inference(job_for(save_classifier(tmp_path / "m.onnx", 2), pictures))
    with pytest.raises(ModelLoadError):
        run_inference(job_for(save_external(tmp_path / "e.onnx", "/etc/passwd"), pictures))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"<!doctype html><title>Sign in</title>", "an HTML page"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (bytes(range(128, 256)) * 50, "no ONNX model, or was cut off"),
        (b"\x08\x09" + bytes(1000), "no ONNX model, or was cut off|ONNX Runtime"),
    ],
)
def test_files_that_are_no_model_are_named(
    tmp_path: Path, pictures: tuple[Path, ...], content: bytes, reason: str
) -> None:
    """The error says what the file looks like."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"model 'model\.onnx' cannot be opened: .*({reason})"):
        run_inference(job_for(path, pictures))


def test_a_missing_file_is_named(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """A path without a file is an error of the file's, not a traceback, and no verdict on the model."""
    with pytest.raises(ArtifactError, match=r"'gone\.onnx' could not be tried: it cannot be read"):
        run_inference(job_for(tmp_path / "gone.onnx", pictures))


def test_mutated_models_always_give_a_verdict(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """Twelve files with random bytes overwritten each end in a result or one of the three errors."""
    good = save_classifier(tmp_path / "m.onnx", 2).read_bytes()
    rng = np.random.default_rng(11)
    verdicts = []
    for number in range(12):
        data = np.frombuffer(good, np.uint8).copy()
        data[rng.integers(0, 200 if number % 2 else data.size, 1 + number)] = rng.integers(0, 256, 1 + number)
        (tmp_path / "mutant.onnx").write_bytes(data.tobytes())
        try:
            run_inference(job_for(tmp_path / "mutant.onnx", pictures, time_s=20))
            verdicts.append("accepted")
        except (ModelLoadError, InferenceError, OutputCheckError) as error:
            verdicts.append(type(error).__name__)
    assert len(verdicts) == 12
    assert "ModelLoadError" in verdicts


def test_the_child_is_of_the_same_release(tmp_path: Path) -> None:
    """It is found beside its parent, wherever that lies, also where no package of that name is installed."""
    code = "from importlib.util import find_spec; print(find_spec('pipeline.smoke.inference_child').origin)"
    command = [sys.executable, "-P", "-S", "-c", code]  # -S: no installed packages
    found = subprocess.run(
        command, cwd=tmp_path, env=inference._bare_environment(), capture_output=True, text=True, check=False
    )
    assert found.stdout.strip() == str(Path(inference.__file__).with_name("inference_child.py")), found.stderr


def test_importing_the_stage_imports_no_runtime() -> None:
    """The flow's process never loads the model runtime."""
    code = "import sys, pipeline.smoke.judging, pipeline.smoke.inference_child; sys.exit('onnxruntime' in sys.modules)"
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(Path(inference.__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_the_whole_stage_runs_on_a_real_file(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """From file to report: a detector that always sees a box there agrees with the label, and is drawn."""
    boxes = np.array([[[0.5, 0.5, 0.5, 0.5]]], np.float32)
    heads = (
        Head("dets", (1, 1, 4), bias=boxes, slope=0.0005),
        Head("labels", (1, 1, 3), bias=np.array([[[4.0, -4.0, 0.0]]]), slope=0.001),
    )
    facts = ModelFacts(
        model_id="m",
        name="m",
        status="ready",
        task=ModelTask.OBJECT_DETECTION,
        architecture="rfdetr",
        classes=("car", "dog"),
    )
    path = save_heads(tmp_path / "model.onnx", *heads)
    artifact = ModelArtifact(path=path, size_bytes=1, md5="", sha256="", verified_by=("size",), model=facts)
    label = LabelledBox(name="car", box=(15, 10, 30, 20))
    samples = tuple(SamplePicture(path=picture, boxes=(label,)) for picture in pictures)
    report = smoke_test(artifact, samples, min_agreement=1.0, output_dir=tmp_path / "run", labels=("dog", "car"))
    assert report.agreement == 1.0
    assert report.input_size == (64, 64)
    for result in report.results:
        assert result.overlay is not None
        with Image.open(result.overlay) as drawn:
            assert drawn.width >= 384
