"""Fakes for the unit tests: a clock that jumps, a provider that follows a script, archives made in memory."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from pipeline.models import (
    CostEstimate,
    Export,
    ExportStatus,
    GuaranteeLevel,
    ModelTask,
    Money,
    Operation,
    PollPolicy,
    ProviderProfile,
    RunHandle,
    RunStatus,
    TrainingRun,
    TrainPlan,
    Unit,
)
from pipeline.provider import ByteStream, ResumePoint, StreamFacts
from pipeline.provider_requests import PictographRequest
from pipeline.start.planning import resolve_plan

POLICY = PollPolicy(interval_s=5, floor_s=2, ceiling_s=60, deadline_s=7200, not_found_grace_s=60, max_blind_s=1800)
PIPELINES = {
    "yolox": ModelTask.OBJECT_DETECTION,
    "classification": ModelTask.CLASSIFICATION,
    "sm_pytorch": ModelTask.SEMANTIC_SEGMENTATION,
}


class FakeClock:
    """The two functions of the ``time`` module; sleeping only moves the hands, and is written down."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the hands' position."""
        return self.now

    def sleep(self, seconds: float, /) -> None:
        """Move the hands; refuses what the real one refuses."""
        if not seconds >= 0:
            raise ValueError(f"sleep length must be non-negative, not {seconds}")
        self.slept.append(seconds)
        self.now += seconds


class Script:
    """A callable that walks through a list: returns values, raises exceptions; the last entry repeats."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.calls = 0

    def __call__(self, *_: Any) -> Any:
        """Return or raise the next step."""
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        if isinstance(step, BaseException):
            raise step
        return step


class FakeProvider:
    """A provider that answers from one script a method and counts the calls; unscripted methods fail the test."""

    def __init__(self, **scripts: Script) -> None:
        self.scripts = scripts

    def __getattr__(self, name: str) -> Script:
        """Return the method's script."""
        if name not in self.scripts:
            raise AssertionError(f"{name} was not expected to be called")
        return self.scripts[name]

    def calls(self, name: str) -> int:
        """Return how often a method was called."""
        return self.scripts[name].calls if name in self.scripts else 0


@dataclass
class Transfer:
    """One answer of the fake storage to a request for bytes."""

    stop_at: int | None = None
    """Absolute offset at which the transfer ends; none sends everything."""
    error: Exception | None = None
    """Raised at the end of the bytes."""
    refuse: Exception | None = None
    """Raised instead of an answer."""
    content: bytes | None = None
    """Other bytes than the storage's own."""
    ignore_range: bool = False
    """Start at 0 whatever was asked."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Facts announced otherwise than truthfully."""


class FakeStorage:
    """A file behind a signed URL: resumes at any offset, announces size and MD5, fails as scripted."""

    def __init__(self, content: bytes, *transfers: Transfer, chunk: int = 7) -> None:
        self.content = content
        self.transfers = list(transfers)
        self.chunk = chunk
        self.asked: list[ResumePoint | None] = []

    @contextmanager
    def open(self, resume: ResumePoint | None) -> Iterator[ByteStream]:
        """Answer one request for bytes; the last scripted answer repeats."""
        self.asked.append(resume)
        step = self.transfers[min(len(self.asked), len(self.transfers)) - 1] if self.transfers else Transfer()
        if step.refuse is not None:
            raise step.refuse
        content = self.content if step.content is None else step.content
        offset = resume.offset if resume and not step.ignore_range else 0
        facts: dict[str, Any] = {
            "offset": offset,
            "size_bytes": len(self.content),
            "etag": '"v1"',
            "digests": {"md5": hashlib.md5(self.content, usedforsecurity=False).hexdigest()},
            "digest_source": "x-goog-hash",
        }
        yield ByteStream(StreamFacts(**{**facts, **step.changes}), self._chunks(content, offset, step))

    def _chunks(self, content: bytes, offset: int, step: Transfer) -> Iterator[bytes]:
        end = len(content) if step.stop_at is None else step.stop_at
        for start in range(offset, end, self.chunk):
            yield content[start : min(start + self.chunk, end)]
        if step.error is not None:
            raise step.error


def make_profile(**changes: Any) -> ProviderProfile:
    """Return a profile with every fact set."""
    facts: dict[str, Any] = {
        "name": "pictograph",
        "title": "Pictograph",
        "poll": POLICY,
        "export_poll": POLICY.model_copy(update={"deadline_s": 300.0}),
        "min_images": 5,
        "run_name_max": 100,
        "pipelines": PIPELINES,
        "gpus": ("a10g", "a100"),
        "guarantee": GuaranteeLevel.EXACTLY_ONCE,
        "run_page": "https://example.test/{dataset}/runs/{run_id}",
    }
    return ProviderProfile(**{**facts, **changes})


def make_request(**fields: Any) -> PictographRequest:
    """Return a request for the road signs."""
    return PictographRequest(**{"dataset": "road-signs", **fields})


def make_plan(operation_id: str = "op-1", profile: ProviderProfile | None = None, **request: Any) -> TrainPlan:
    """Return the plan of a request."""
    return resolve_plan(make_request(**request), profile or make_profile(), Operation(id=operation_id))


def make_export(**changes: Any) -> Export:
    """Return a completed export that can be trained on."""
    facts: dict[str, Any] = {
        "id": "e1",
        "name": "export-1",
        "dataset": "road-signs",
        "status": ExportStatus.COMPLETED,
        "provider_status": "completed",
        "image_count": 6,
        "annotation_count": 6,
        "include_images": True,
    }
    return Export(**{**facts, **changes})


def make_run(status: RunStatus = RunStatus.RUNNING, **changes: Any) -> TrainingRun:
    """Return one observation of a run."""
    handle = RunHandle(provider="pictograph", run_id="r1", name="run-1", dataset="road-signs")
    return TrainingRun(**{"handle": handle, "status": status, "provider_status": status.value, **changes})


def make_estimate(amount: int = 100, unit: Unit = Unit.CREDITS, **changes: Any) -> CostEstimate:
    """Return the price of a training of ten minutes."""
    facts: dict[str, Any] = {
        "total": Money(amount=amount, unit=unit),
        "per_minute": Money(amount=amount // 10, unit=unit),
        "gpu_minutes": 10,
        "gpu": "a10g",
        "balance": Money(amount=1000, unit=unit),
        "sufficient": True,
        "source": "quote",
    }
    return CostEstimate(**{**facts, **changes})


def annotation(
    file_name: str, *names: str, split: str | None = None, tags: tuple[str, ...] = ()
) -> tuple[str, dict[str, Any]]:
    """Return the archive name and content of one picture's labels: one box a name."""
    boxes = [
        {
            "id": f"{file_name}-{number}",
            "name": name,
            "type": "bbox",
            "bounding_box": {"x": 1, "y": 2, "w": 30, "h": 40},
        }
        for number, name in enumerate(names)
    ]
    image = {"id": file_name, "file_name": file_name, "width": 64, "height": 64, "status": "complete", "split": split}
    return f"annotations/{file_name}.json", {"image": image, "tags": list(tags), "annotations": boxes}


def make_zip(entries: dict[str, Any], date: tuple[int, int, int, int, int, int] = (2020, 1, 1, 0, 0, 0)) -> bytes:
    """Return an archive; values that are not bytes are written as JSON."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in entries.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = zipfile.ZipInfo(name, date)
            info.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(info, data)
    return buffer.getvalue()


def make_archive(*labels: tuple[str, dict[str, Any]], **extra: Any) -> dict[str, Any]:
    """Return the entries of an export: every label and a picture for each, unless ``pictures`` names others."""
    names = extra.get("pictures", [document["image"]["file_name"] for _, document in labels])
    return {**dict(labels), **{f"images/{name}": picture_bytes(name) for name in names}}


def picture_files(entries: dict[str, Any]) -> list[bytes]:
    """Return the contents that are not JSON."""
    return [content for content in entries.values() if isinstance(content, bytes)]


@functools.cache
def picture_bytes(seed: str, side: int = 64) -> bytes:
    """Return a PNG of random colours, another for every seed."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(side * side * 3)).save(buffer, "PNG")  # noqa: S311
    return buffer.getvalue()


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that jumps."""
    return FakeClock()


@pytest.fixture
def archive_file(tmp_path: Any) -> Callable[[dict[str, Any]], Any]:
    """Give a function that writes an archive and returns its path."""

    def write(entries: dict[str, Any]) -> Any:
        path = tmp_path / "export.zip"
        path.write_bytes(make_zip(entries))
        return path

    return write


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The children that were started, in order; none of them is a process."""
    from sandbox import trainer
    from tests.unit.real_runs import FakeChild

    started: list[FakeChild] = []

    def start(folder: Any) -> FakeChild:
        started.append(FakeChild(folder))
        return started[-1]

    monkeypatch.setattr(trainer.jobs, "start", start)
    return started


@pytest.fixture
def sandbox(tmp_path: Any) -> Iterator[Any]:
    """A sandbox whose clock stands still."""
    from sandbox.clock import ManualClock
    from sandbox.core import open_sandbox

    opened = open_sandbox(tmp_path, ManualClock())
    yield opened
    opened.store.close()


@pytest.fixture
def account(sandbox: Any) -> Any:
    """An account with a dataset of six images and a finished export of it."""
    from tests.unit.real_runs import make_account

    return make_account(sandbox)
