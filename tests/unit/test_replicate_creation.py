"""One paid training for one attempt at Replicate, whatever becomes of the answers: adapter and core together."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import JsonValue

from pipeline.errors import ProviderError, RateLimitError
from pipeline.models import RunHandle, TrainingRun
from pipeline.start.creation import Creating, create_once
from tests.notes import MemoryNotes
from tests.unit.scripted_replicate import (
    EXPORT,
    FILE_URL,
    TRAINER_PATH,
    Api,
    api,
    archive,
    ok,
    page,
    plan,
    problem,
    ready_routes,
    training,
    uploaded,
)

CREATE = f"POST {TRAINER_PATH}/trainings"
LOST = httpx.ReadError("cut")


@dataclass
class _Log:
    """A journal's side of one attempt; what was intended outlives the process."""

    notes: MemoryNotes = field(default_factory=MemoryNotes)
    order: dict[str, JsonValue] | None = None
    said: list[str] = field(default_factory=list)

    def known_order(self) -> dict[str, JsonValue] | None:
        return self.order

    def intend(self, body: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], bool]:
        known, self.order = self.order is not None, self.order or body
        return self.order, known

    def created(self, handle: RunHandle) -> None:
        self.said.append(f"created {handle.run_id}")

    def unknown(self, _reason: str) -> None:
        self.said.append("unknown")

    def refused(self, _reason: str) -> None:
        self.said.append("refused")


@dataclass
class _Vendor:
    """Creates trainings, lists them after some looks, and loses or refuses what it is told to."""

    answers: list[Exception | httpx.Response | None]
    """What becomes of each create in turn: lost after its effect, refused without one, or answered."""
    hidden_looks: int = 0
    made: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0

    def create(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, httpx.Response) and 400 <= answer.status_code < 500:
            return answer
        row = training(id=f"run-{len(self.made)}", input=json.loads(request.content)["input"])
        self.made.append(row)
        if isinstance(answer, Exception):
            raise answer
        return answer or ok(row, 201)

    def list(self, _request: httpx.Request) -> httpx.Response:
        self.looks += 1
        return page(*reversed(self.made)) if self.looks > self.hidden_looks else page()

    def server(self) -> Api:
        """Return a server of this vendor's."""
        files = {"GET /v1/files": page(uploaded(metadata={}))}
        return api(ready_routes(**{CREATE: self.create, "GET /v1/trainings": self.list, **files}))


def _run(vendor: _Vendor, log: _Log, path: Path, *, again: bool = False) -> tuple[TrainingRun, Api]:
    server = vendor.server()
    work = Creating(server.provider, plan(path), log, server)  # type: ignore[arg-type]
    return create_once(work, EXPORT, again=again), server


@pytest.mark.parametrize("lost", [LOST, httpx.ReadTimeout("late"), httpx.Response(502, text="<html>"), ok({}, 201)])
def test_a_lost_answer_pays_once(lost: Exception | httpx.Response, tmp_path: Path) -> None:
    """The run is found by the address of its data, and taken over."""
    vendor, log = _Vendor([lost]), _Log()
    run, _ = _run(vendor, log, archive(tmp_path))
    assert (len(vendor.made), run.adopted, log.said) == (1, True, ["created run-0"])


def test_a_list_that_lags_behind_is_waited_for(tmp_path: Path) -> None:
    """Several looks over a minute come before another create."""
    vendor, log = _Vendor([LOST], hidden_looks=4), _Log()
    run, server = _run(vendor, log, archive(tmp_path))
    assert (run.handle.run_id, len(vendor.made)) == ("run-0", 1)
    assert sum(server.slept) == pytest.approx(58.0)


def test_a_process_that_dies_after_sending_pays_once(tmp_path: Path) -> None:
    """Its successor knows the order and finds the run, without uploading again."""
    path, log = archive(tmp_path), _Log()
    first = _Vendor([LOST])
    server = first.server()
    order = server.provider.order(plan(path), EXPORT, log.notes)
    log.intend(order)
    with pytest.raises(ProviderError):
        server.provider.create_run(plan(path), order, log.notes)
    run, later = _run(first, log, path, again=True)
    assert (run.handle.run_id, len(first.made), run.adopted) == ("run-0", 1, True)
    assert "POST /v1/files" not in later.lines()
    assert run.handle.name == plan(path).run_name


def test_a_process_that_dies_before_sending_uploads_once(tmp_path: Path) -> None:
    """The notes know the file, and the run is created with its address."""
    path, log, vendor = archive(tmp_path), _Log(), _Vendor([])
    vendor.server().provider.order(plan(path), EXPORT, log.notes)
    run, later = _run(vendor, log, path)
    assert (run.adopted, len(vendor.made), vendor.made[0]["input"]) == (False, 1, {"train_data": FILE_URL})
    assert "POST /v1/files" not in later.lines()


def test_a_throttled_create_is_repeated_by_the_stage_and_pays_once(tmp_path: Path) -> None:
    """It was not accepted: nothing is in doubt, and the attempt stays open for the next try."""
    vendor, log = _Vendor([problem(429, "resets in ~30s")]), _Log()
    with pytest.raises(RateLimitError) as caught:
        _run(vendor, log, archive(tmp_path))
    assert not caught.value.context.outcome_unknown
    run, _ = _run(vendor, log, archive(tmp_path), again=True)
    assert (len(vendor.made), run.handle.run_id, log.said) == (1, "run-0", ["created run-0"])


def test_a_refused_create_is_written_down_as_refused(tmp_path: Path) -> None:
    """A rerun then begins anew."""
    vendor, log = _Vendor([problem(404, "The specified training destination does not exist")]), _Log()
    with pytest.raises(ProviderError, match="destination"):
        _run(vendor, log, archive(tmp_path))
    assert (vendor.made, log.said) == ([], ["refused"])
