"""What a trainer returned as weights becomes a candidate, or a reason why there is none."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.download.collection import CANDIDATE_NAME, CollectedFile
from pipeline.download.weights import WEIGHTS_NAME, take_out_model
from pipeline.errors import OutputPathError
from pipeline.models import ModelArtifact, ModelFacts, ModelTask, Skipped, TrainPlan
from sandbox.tinymodel import tiny_model
from tests.unit.conftest import make_plan

FACTS = ModelFacts(model_id="acme/signs:1", name="signs", status="ready", task=ModelTask.OBJECT_DETECTION)
METRICS = {"mAP50": 0.9, "mAP": float("nan"), "per_class": {"stop": 1.0}, "evaluated_images": 4}
CONFIG = {"architecture": "yolox", "task": "object_detection", "classes": ["stop", "yield"], "metrics": METRICS}


def _tar(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _take(tmp_path: Path, content: bytes, facts: ModelFacts = FACTS, **request: Any) -> tuple[Any, TrainPlan]:
    plan = make_plan(output_dir=tmp_path, **request)
    plan.output_dir.mkdir(parents=True)
    path = plan.output_dir / WEIGHTS_NAME
    path.write_bytes(content)
    file = CollectedFile(path, len(content), "m", "s", ("size",), 0)
    return take_out_model(file, facts, plan), plan


def test_the_model_in_an_archive_is_the_candidate(tmp_path: Path) -> None:
    """With its own size and digests, and what the archive says of it where the provider says nothing."""
    model = tiny_model("yolox", ("stop", "yield"), seed=1)
    artifact, plan = _take(tmp_path, _tar({"model.onnx": model, "config.json": json.dumps(CONFIG).encode()}))
    assert isinstance(artifact, ModelArtifact)
    assert artifact.path == plan.output_dir / CANDIDATE_NAME
    assert artifact.path.read_bytes() == model
    assert (artifact.size_bytes, artifact.sha256) == (len(model), hashlib.sha256(model).hexdigest())
    assert (artifact.model.classes, artifact.model.architecture) == (("stop", "yield"), "yolox")
    assert artifact.model.metrics == {"mAP50": 0.9, "evaluated_images": 4}
    assert (plan.output_dir / WEIGHTS_NAME).exists()


def test_the_size_a_model_was_trained_for_is_kept(tmp_path: Path) -> None:
    """A graph may leave it open; what the provider says counts more."""
    config = json.dumps({**CONFIG, "input_size": [224, 96]}).encode()
    content = _tar({"model.onnx": tiny_model("yolox", ("stop", "yield"), seed=1), "config.json": config})
    artifact, _ = _take(tmp_path / "a", content)
    assert artifact.model.input_size == (224, 96)
    told, _ = _take(tmp_path / "b", content, FACTS.model_copy(update={"input_size": (64, 64)}))
    assert told.model.input_size == (64, 64)


@pytest.mark.parametrize(
    ("task", "remarks"), [("semantic_segmentation", 1), ("object_detection", 0), ("detect", 0), (None, 0)]
)
def test_a_model_trained_for_another_task_is_remarked_on(tmp_path: Path, task: str | None, remarks: int) -> None:
    """With both tasks and the field that decides how it is read; a word of somebody else's says nothing."""
    config = json.dumps({**CONFIG, "task": task}).encode()
    model = tiny_model("yolox", ("stop", "yield"), seed=1)
    artifact, _ = _take(tmp_path, _tar({"model.onnx": model, "config.json": config}))
    assert [finding.code for finding in artifact.findings] == ["task_differs"] * remarks
    for finding in artifact.findings:
        assert all(word in finding.message for word in ("'semantic_segmentation'", "'object_detection'", "pipeline="))


@pytest.mark.parametrize(
    "content",
    [struct.pack("<Q", 0x208) + b'{"a":{"dtype":"F32"}}' + b"\x80" * 999, b"GGUF\x03\0\0\0" + bytes(99)],
    ids=["safetensors", "gguf"],
)
def test_weights_of_another_format_are_no_broken_model(tmp_path: Path, content: bytes) -> None:
    """The hosted version is what is left to try: the model is not rejected for its form."""
    skipped, plan = _take(tmp_path, content)
    assert isinstance(skipped, Skipped)
    assert "no ONNX model" in skipped.reason
    assert not (plan.output_dir / CANDIDATE_NAME).exists()


def test_a_bare_model_is_a_candidate_and_stays_as_it_came(tmp_path: Path) -> None:
    """The weights may be gone at the provider within the hour."""
    model = tiny_model("yolox", ("stop",), seed=1)
    artifact, plan = _take(tmp_path, model)
    assert isinstance(artifact, ModelArtifact)
    assert artifact.path.read_bytes() == (plan.output_dir / WEIGHTS_NAME).read_bytes() == model


def test_what_the_provider_says_counts_more(tmp_path: Path) -> None:
    """Classes of the archive do not replace the provider's."""
    model = tiny_model("yolox", ("stop",), seed=1)
    content = _tar({"model.onnx": model, "config.json": json.dumps(CONFIG).encode()})
    artifact, _ = _take(tmp_path, content, FACTS.model_copy(update={"classes": ("halt",)}))
    assert artifact.model.classes == ("halt",)


def test_weights_without_a_model_are_skipped_with_the_reason(tmp_path: Path) -> None:
    """They are kept, and the hosted version is what is left to try."""
    skipped, plan = _take(tmp_path, _tar({"weights.pt": b"\x80\x02pickle", "readme.txt": b"hello"}))
    assert isinstance(skipped, Skipped)
    assert "no ONNX model" in skipped.reason
    assert not (plan.output_dir / CANDIDATE_NAME).exists()
    assert (plan.output_dir / WEIGHTS_NAME).exists()


def test_a_model_that_cannot_be_written_is_one_of_our_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk ends the stage with a sentence that names the folder."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.download.weights.shutil.copyfile", full)
    with pytest.raises(OutputPathError, match="No space left on device"):
        _take(tmp_path, tiny_model("yolox", ("stop",), seed=1))
