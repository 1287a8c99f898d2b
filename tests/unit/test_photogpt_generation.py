"""Trying a PhotoGPT model: one picture, billed once, fetched without the key, judged by whether it opens."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import (
    ArtifactTooLargeError,
    AuthenticationError,
    InferenceError,
    NotFoundError,
    OutputCheckError,
    OutputPathError,
    ProviderUnavailableError,
    TransportError,
)
from pipeline.models import HostedReport, RunStatus, Severity, TrainingRun
from providers.photogpt import delivery
from tests.unit.scripted_photogpt import NOW_S, After, Fault, Server, drawn, handle_of, make_plan, nok, ok, stored

GENERATE = "POST /images/generation"
PROMPT = "a portrait of somebody in particular"
ENDED_AT = datetime.fromtimestamp(NOW_S, UTC)
RUN = TrainingRun(
    handle=handle_of("m1"), status=RunStatus.COMPLETED, provider_status="ready", model_id="m1", completed_at=ENDED_AT
)


def _server(**facts: Any) -> Server:
    server = Server(**facts)
    server.add_model("m1", "ready")
    server.add_job("m1")  # the training
    server.now_s += 60
    return server


def _try(server: Server, home: Path) -> HostedReport:
    plan = make_plan(home / "anna", smoke=True, smoke_prompt=PROMPT)
    return server.provider.hosted_inference(plan, RUN, None)


def test_one_picture_is_asked_for_and_kept(tmp_path: Path) -> None:
    """Of a fixed size and seed, in the run's folder, with what it cost."""
    server = _server()
    report = _try(server, tmp_path)
    sent = json.loads(next(one for one in server.asked if one.method == "POST").content)
    assert {key: sent[key] for key in ("modelID", "prompt", "numImages", "width", "height")} == {
        "modelID": "m1", "prompt": PROMPT, "numImages": 1, "width": 768, "height": 768,
    }  # fmt: skip
    assert isinstance(sent["seed"], int)
    assert (report.model_id, report.asked, report.answered, report.inconclusive) == ("m1", 1, 1, None)
    assert [path.read_bytes() for path in report.pictures] == [drawn(768, 768)]
    assert report.pictures[0].parent == make_plan(tmp_path / "anna").output_dir / "generated"
    assert report.pictures[0].suffix == ".png"
    assert [(one.code, one.severity) for one in report.findings] == [("picture_billed", Severity.INFO)]
    assert "10 credits" in report.findings[0].message


def test_the_same_model_is_asked_the_same_way(tmp_path: Path) -> None:
    """The seed does not change from run to run."""
    seeds = set()
    for name in ("a", "b"):
        server = _server()
        _try(server, tmp_path / name)
        seeds.add(json.loads(next(one for one in server.asked if one.method == "POST").content)["seed"])
    assert len(seeds) == 1


def test_the_picture_is_fetched_without_the_key(tmp_path: Path) -> None:
    """Its address is another host's."""
    server = _server()
    _try(server, tmp_path)
    fetched = next(request for request in server.asked if request.url.host == "storage.example")
    assert "Authorization" not in fetched.headers
    assert "API-Version" not in fetched.headers


def test_neither_prompt_nor_address_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level is logged."""
    caplog.set_level(logging.DEBUG)
    report = _try(_server(), tmp_path)
    assert "particular" not in caplog.text + report.model_dump_json()
    assert "SECRET" not in caplog.text + report.model_dump_json()


def test_a_picture_that_was_paid_for_is_not_paid_for_again(tmp_path: Path) -> None:
    """The process died after asking: the next one finds the job by its model."""
    server = _server()
    _try(server, tmp_path)
    again = _try(server, tmp_path)
    assert again.answered == 1
    assert server.count(GENERATE) == 1


def test_a_picture_that_is_being_made_is_waited_for(tmp_path: Path) -> None:
    """Five seconds at a time."""
    server = _server()
    server.add_job("m1", "running", images=[])
    done = server.jobs[-1]
    plain = server.sleep

    def sleep(seconds: float, /) -> None:
        plain(seconds)
        if len(server.slept) == 3:
            done.update(status="completed", images=[{"id": "o1", "url": "https://storage.example/o1.png"}])

    server.sleep = sleep  # type: ignore[method-assign]
    assert _try(server, tmp_path).answered == 1
    assert server.slept == [5.0] * 3
    assert server.count(GENERATE) == 0


def test_a_picture_of_the_past_that_failed_is_no_answer(tmp_path: Path) -> None:
    """Another one is asked for; neither does the training count as one, nor another model's picture."""
    server = _server()
    server.add_job("m1", "failed")
    server.add_job("other", images=[{"id": "o1", "url": "https://storage.example/o1.png"}])
    assert _try(server, tmp_path).answered == 1
    assert server.count(GENERATE) == 1


@pytest.mark.parametrize("lost", [httpx.ReadTimeout("x"), nok(502), httpx.Response(200, text="?")])
def test_a_lost_answer_is_looked_for(tmp_path: Path, lost: httpx.Response | Exception) -> None:
    """The job that was begun is taken; nothing is asked for twice."""
    server = _server(faults={GENERATE: [After(lost)]})
    assert _try(server, tmp_path).answered == 1
    assert server.count(GENERATE) == 1


def test_a_lost_answer_without_a_job_says_nothing_of_the_model(tmp_path: Path) -> None:
    """And that a picture may have been billed."""
    server = _server(faults={GENERATE: [httpx.ReadTimeout("x")]})
    report = _try(server, tmp_path)
    assert "may have been billed" in (report.inconclusive or "")
    assert server.count(GENERATE) == 1


@pytest.mark.parametrize(
    "refusal",
    [nok(400, f"refused: {PROMPT}"), nok(402), nok(403, "plan"), nok(409), nok(200, "insufficient credits"), nok(422)],
)
def test_a_refusal_says_nothing_of_the_model(tmp_path: Path, refusal: Fault) -> None:
    """A prompt that is refused, or an empty account, is no bad model; the prompt is not repeated."""
    report = _try(_server(faults={GENERATE: [refusal]}), tmp_path)
    assert report.inconclusive
    assert report.answered == 0
    assert "particular" not in report.model_dump_json()


@pytest.mark.parametrize(
    ("answer", "error"),
    [(nok(401), AuthenticationError), (nok(404), NotFoundError), (httpx.ConnectError("x"), TransportError)],
)
def test_what_is_not_a_refusal_is_an_error(tmp_path: Path, answer: Fault, error: type[Exception]) -> None:
    """And none that says that a paid training may exist."""
    with pytest.raises(error) as caught:
        _try(_server(faults={GENERATE: [answer]}), tmp_path)
    assert not caught.value.context.outcome_unknown  # type: ignore[attr-defined]


def _ending(**facts: Any) -> Server:
    begun = ok({"jobId": "j9", "status": "queued"})
    return _server(faults={GENERATE: [begun], "GET /jobs/j9": [ok({"jobId": "j9", **facts})]})


@pytest.mark.parametrize("reason", ["Prompt violates our policy", "NSFW", "insufficient credits"])
def test_a_job_that_was_refused_says_nothing_of_the_model(tmp_path: Path, reason: str) -> None:
    """Its reason decides, and is not repeated: it may quote what was asked for."""
    report = _try(_ending(status="failed", error=f"{reason}: {PROMPT}"), tmp_path)
    assert report.inconclusive
    assert "particular" not in report.inconclusive


@pytest.mark.parametrize(
    "facts",
    [
        {"status": "failed", "error": "out of order"},
        {"status": "failed"},
        {"status": "success", "images": []},
        {"status": "success", "images": [{"id": "o"}]},
    ],
)
def test_a_model_that_makes_no_picture_is_not_accepted(tmp_path: Path, facts: dict[str, Any]) -> None:
    """A job that fails for no reason of ours, or ends without a picture."""
    with pytest.raises(InferenceError, match="m1"):
        _try(_ending(**facts), tmp_path)


def test_a_job_that_does_not_end_says_nothing_of_the_model(tmp_path: Path) -> None:
    """Ten minutes, five seconds at a time; looks that fail are borne."""
    server = _ending(status="running")
    server.faults["GET /jobs/j9"] = [httpx.ReadTimeout("x")] * 4 + [ok({"jobId": "j9", "status": "running"})] * 200
    report = _try(server, tmp_path)
    assert "within 600 s" in (report.inconclusive or "")
    assert 590 <= sum(server.slept) <= 640


@pytest.mark.parametrize("content", [b"<html>", b"", drawn(768, 768)[:-200]])
def test_what_is_no_picture_is_not_accepted(tmp_path: Path, content: bytes) -> None:
    """Whatever it is called; nothing is left behind."""
    with pytest.raises(OutputCheckError):
        _try(_server(faults={"GET /o1.png": [stored(content)]}), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_another_size_is_a_remark(tmp_path: Path) -> None:
    """A model that paints another size works all the same."""
    report = _try(_server(faults={"GET /o1.png": [stored(drawn(512, 640))]}), tmp_path)
    assert report.answered == 1
    assert [one.message for one in report.findings if one.code == "other_size"] == [
        "the picture is 512x640 pixels, not 768x768 as asked"
    ]


def test_a_picture_that_does_not_come_is_asked_for_again(tmp_path: Path) -> None:
    """By a fresh address: old ones may not live long."""
    server = _server(faults={"GET /o1.png": [httpx.Response(403), httpx.ReadError("x")]})
    assert _try(server, tmp_path).answered == 1
    assert server.count("GET /o1.png") == 3
    assert server.count("GET /jobs/job_2") == 3


def test_a_picture_that_never_comes_is_an_error(tmp_path: Path) -> None:
    """One that a later attempt may get over: the job is found again."""
    server = _server(faults={"GET /o1.png": [httpx.Response(404)] * 3})
    with pytest.raises(NotFoundError):
        _try(server, tmp_path)
    assert _try(server, tmp_path).answered == 1
    assert server.count(GENERATE) == 1


def test_a_storage_that_cannot_answer_is_an_error(tmp_path: Path) -> None:
    """The task above tries again."""
    with pytest.raises(ProviderUnavailableError):
        _try(_server(faults={"GET /o1.png": [httpx.Response(503)] * 9}), tmp_path)


def test_a_picture_without_end_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fills the disk of whoever tries a model."""
    monkeypatch.setattr(delivery, "MAX_BYTES", 100)
    with pytest.raises(ArtifactTooLargeError):
        _try(_server(), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """By the field of the request, before a picture is paid for."""
    (tmp_path / "runs").write_text("a file")
    server = _server()
    with pytest.raises(OutputPathError) as caught:
        _try(server, tmp_path)
    assert server.asked == []
    assert caught.value.context.field == "output_dir"


def test_a_job_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    """It names the file, whatever the server calls it."""
    begun = ok({"jobId": "../../up", "status": "queued"})
    server = _server(faults={GENERATE: [begun]})
    server.faults["GET /jobs/.*up"] = [
        ok({"jobId": "../../up", "status": "success", "images": [{"url": "https://storage.example/o1.png"}]})
    ] * 2
    report = _try(server, tmp_path)
    assert report.pictures[0].parent == make_plan(tmp_path / "anna").output_dir / "generated"
