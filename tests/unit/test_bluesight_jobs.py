"""Jobs through the Bluesight adapter: created once, read whatever words they use, cancelled as far as it goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import JsonValue

from pipeline.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    ProviderUnavailableError,
    TransportError,
    UnexpectedResponseError,
    is_retryable,
)
from pipeline.models import RunStatus
from tests.notes import MemoryNotes
from tests.unit.scripted_bluesight import (
    HANDLE,
    INVALID,
    JOB,
    JOBS,
    MODEL,
    Answer,
    api,
    job_row,
    ok,
    plan,
    refused,
)

ORDER: dict[str, JsonValue] = {
    "task": "classification",
    "training_file": "file-bbbbbbbb",
    "validation_file": None,
    "hyperparameters": None,
}
CREATE = f"POST {JOBS}"
FINISHED = refused(400, "Training job is already finished with status: failed")
TROUBLE = refused(400, "OperationalError: (psycopg2.OperationalError) connection refused")


def test_a_create_sends_the_order_and_keeps_the_runs_own_name(tmp_path: Path) -> None:
    """Nothing is added to the frozen body; name and data set are ours, for the API knows neither."""
    server = api({CREATE: ok(job_row(status="initializing"))})
    asked = plan(tmp_path)
    run = server.provider.create_run(asked, ORDER, MemoryNotes())
    assert server.bodies(CREATE) == [ORDER]
    assert (run.handle.run_id, run.handle.name) == (HANDLE.run_id, asked.run_name)
    assert run.handle.dataset == asked.request.dataset
    assert (run.status, run.pipeline, run.warnings) == (RunStatus.PENDING, "classification", ())
    assert server.read_timeouts() == [7200.0]


@pytest.mark.parametrize(
    "lost",
    [
        httpx.ReadTimeout("x"),
        httpx.RemoteProtocolError("x"),
        httpx.ReadError("x"),
        httpx.WriteError("x"),
        refused(500, "Internal Server Error"),
        httpx.Response(504, text="<html>gateway timeout</html>"),
        refused(408, "x"),
        TROUBLE,
        httpx.Response(400, text="<html>bad request</html>"),
        ok({}),
        ok({"id": ""}),
        httpx.Response(200, text="<html>"),
    ],
)
def test_a_create_in_doubt_is_sent_once_and_says_so(tmp_path: Path, lost: Answer) -> None:
    """Whatever is no plain refusal may have made a job that nobody can find: it is never sent again by itself."""
    server = api({CREATE: [lost, ok(job_row())]})
    with pytest.raises(ProviderError) as caught:
        server.provider.create_run(plan(tmp_path), ORDER, MemoryNotes())
    assert caught.value.context.outcome_unknown
    assert server.lines() == [CREATE]


@pytest.mark.parametrize("unmade", [httpx.ConnectError("x"), httpx.ConnectTimeout("x")])
def test_only_a_connection_never_made_is_tried_again(tmp_path: Path, unmade: Answer) -> None:
    """Then nothing can have arrived; when it never works, nothing is unknown."""
    server = api({CREATE: [unmade, unmade, ok(job_row())]})
    server.provider.create_run(plan(tmp_path), ORDER, MemoryNotes())
    assert len({request.content for request in server.asked}) == 1
    assert len(server.asked) == 3
    with pytest.raises(TransportError) as caught:
        api({CREATE: unmade}).provider.create_run(plan(tmp_path), ORDER, MemoryNotes())
    assert not caught.value.context.outcome_unknown


@pytest.mark.parametrize("answer", [INVALID, refused(404, "Not Found"), refused(405, "Method Not Allowed")])
def test_a_refused_create_is_certain_and_final(tmp_path: Path, answer: Answer) -> None:
    """A request that was never taken made nothing, and would be refused again."""
    server = api({CREATE: answer})
    with pytest.raises(ProviderError) as caught:
        server.provider.create_run(plan(tmp_path), ORDER, MemoryNotes())
    assert not caught.value.context.outcome_unknown
    assert not is_retryable(caught.value)
    assert len(server.asked) == 1


def test_a_repeated_create_warns_of_an_orphan(tmp_path: Path) -> None:
    """The notes count what was sent, so that another process knows it too; the run that is watched says it."""
    notes, asked = MemoryNotes([{"files": {"dataset": {}}}]), plan(tmp_path)
    with pytest.raises(TransportError):
        api({CREATE: httpx.ReadTimeout("x")}).provider.create_run(asked, ORDER, notes)
    run = api({CREATE: ok(job_row())}).provider.create_run(asked, ORDER, notes)
    assert [finding.code for finding in run.warnings] == ["possible_orphan_job"]
    assert notes.read() == {"files": {"dataset": {}}, "creates_sent": 2}


def test_the_note_comes_before_the_create(tmp_path: Path) -> None:
    """A process that dies while it waits for the answer has left word that the create may have arrived."""
    notes, seen = MemoryNotes(), []

    def answer(_: httpx.Request) -> httpx.Response:
        seen.append(notes.read())
        return ok(job_row())

    api({CREATE: answer}).provider.create_run(plan(tmp_path), ORDER, notes)
    assert seen == [{"creates_sent": 1}]


@pytest.mark.parametrize("answer", [INVALID, httpx.ConnectError("x")])
def test_a_create_that_made_nothing_leaves_no_suspicion(tmp_path: Path, answer: Answer) -> None:
    """The next one makes the only job."""
    notes, asked = MemoryNotes(), plan(tmp_path)
    with pytest.raises(ProviderError):
        api({CREATE: answer}).provider.create_run(asked, ORDER, notes)
    assert api({CREATE: ok(job_row())}).provider.create_run(asked, ORDER, notes).warnings == ()


@pytest.mark.parametrize(
    ("word", "status", "findings"),
    [
        ("initializing", RunStatus.PENDING, []),
        ("downloading_files", RunStatus.PENDING, []),
        ("validating_files", RunStatus.PENDING, []),
        ("queued", RunStatus.QUEUED, []),
        ("running", RunStatus.RUNNING, []),
        ("succeeded", RunStatus.COMPLETED, []),
        ("failed", RunStatus.FAILED, []),
        ("cancelled", RunStatus.CANCELLED, ["cancel_is_advice"]),
        ("exporting", RunStatus.UNKNOWN, ["unknown_status"]),
        (None, RunStatus.UNKNOWN, ["unknown_status"]),
        (3, RunStatus.UNKNOWN, ["unknown_status"]),
    ],
)
def test_every_word_has_a_meaning(word: Any, status: RunStatus, findings: list[str]) -> None:
    """A word nobody knows is no end, and is remarked on; so is a cancel, which is only advice."""
    run = api({f"GET {JOB}": ok(job_row(status=word))}).provider.get_run(HANDLE)
    assert run.status is status
    assert [finding.code for finding in run.warnings] == findings
    assert run.handle == HANDLE


def test_a_succeeded_job_names_model_and_times() -> None:
    """Times are seconds of the Unix clock; ids of the older form are passed on as they are."""
    row = job_row(status="succeeded", trained_model=f"model:classification-{MODEL}", finished_at=1_736_000_013)
    run = api({f"GET {JOB}": ok(row)}).provider.get_run(HANDLE)
    assert run.model_id == f"model:classification-{MODEL}"
    assert run.created_at == datetime(2025, 1, 4, 14, 13, 20, tzinfo=UTC)
    assert run.completed_at == datetime(2025, 1, 4, 14, 13, 33, tzinfo=UTC)
    assert run.error_message is None


def test_only_a_succeeded_job_has_a_model() -> None:
    """What a cancelled job went on to make is not collected."""
    row = job_row(status="cancelled", trained_model=MODEL, error="x")
    run = api({f"GET {JOB}": ok(row)}).provider.get_run(HANDLE)
    assert (run.model_id, run.error_message) == (None, None)


def test_a_failed_job_says_why() -> None:
    """In the server's words, however many they are."""
    answers: list[Answer] = [
        ok(job_row(status="failed", error="ValueError: Pixel shape mismatch in sample 3")),
        ok(job_row(status="failed", error="ValueError: " + "x" * 100_000)),
    ]
    provider = api({f"GET {JOB}": answers}).provider
    assert provider.get_run(HANDLE).error_message == "ValueError: Pixel shape mismatch in sample 3"
    assert len(provider.get_run(HANDLE).error_message or "") == 2000


def test_a_damaged_copy_is_answered_with_another_upload() -> None:
    """The server keeps it for the old id for ever; the next attempt has another one."""
    error = "OSError: Unable to synchronously open file (truncated file: eof = 96)"
    run = api({f"GET {JOB}": ok(job_row(status="failed", error=error))}).provider.get_run(HANDLE)
    assert (run.error_message or "").startswith(error)
    assert "run again, which uploads the file anew" in (run.error_message or "")


def test_a_look_that_meets_a_training_is_not_repeated_by_itself() -> None:
    """It has waited long enough: whoever watches decides when to look again."""
    server = api({f"GET {JOB}": httpx.ReadTimeout("x")})
    with pytest.raises(TransportError, match="while it trains") as caught:
        server.provider.get_run(HANDLE)
    assert not caught.value.context.outcome_unknown
    assert (server.lines(), server.read_timeouts(), server.slept) == ([f"GET {JOB}"], [60.0], [])


def test_trouble_in_the_server_is_no_refusal() -> None:
    """It comes as a 400 as well, and may pass."""
    with pytest.raises(ProviderUnavailableError, match="OperationalError") as caught:
        api({f"GET {JOB}": TROUBLE}).provider.get_run(HANDLE)
    assert not caught.value.context.outcome_unknown


def test_a_huge_refusal_gives_a_short_error() -> None:
    """The server repeats the whole request in it, pixels and all."""
    detail = "RequestValidationError: [{'input': [" + "0.123456789, " * 200_000 + "]}]"
    with pytest.raises(InvalidRequestError) as caught:
        api({f"GET {JOB}": refused(400, detail)}).provider.get_run(HANDLE)
    assert "RequestValidationError: [{'input'" in str(caught.value)
    assert len(repr(caught.value)) < 2000


def test_a_missing_job_is_told_from_a_missing_route() -> None:
    """Only the first says anything about the job."""
    with pytest.raises(NotFoundError, match="Training job not found"):
        api({f"GET {JOB}": refused(404, "Training job not found")}).provider.get_run(HANDLE)
    with pytest.raises(UnexpectedResponseError, match="correct BLUESIGHT_BASE_URL"):
        api({f"GET {JOB}": refused(404, "Not Found")}).provider.get_run(HANDLE)


def test_an_answer_about_another_job_is_not_believed() -> None:
    """An id is all that tells jobs apart."""
    with pytest.raises(UnexpectedResponseError, match="is about 'trainingjob-other'"):
        api({f"GET {JOB}": ok(job_row(id="trainingjob-other"))}).provider.get_run(HANDLE)


def test_many_runs_are_looked_at_one_by_one() -> None:
    """Those the server does not know are left out."""
    gone = replace_id("trainingjob-gone")
    routes: dict[str, Answer | list[Answer]] = {
        f"GET {JOB}": ok(job_row()),
        f"GET {JOBS}/trainingjob-gone": refused(404, "Training job not found"),
    }
    found = api(routes).provider.get_runs((gone, HANDLE))
    assert [run.handle for run in found] == [HANDLE]


def replace_id(run_id: str) -> Any:
    """Return the handle of another run."""
    return HANDLE.model_copy(update={"run_id": run_id})


def test_a_cancel_is_believed_with_a_warning() -> None:
    """The answer says cancelled; what the server does is another matter."""
    server = api({f"DELETE {JOB}": ok(job_row(status="cancelled", finished_at=1_736_000_013))})
    run = server.provider.cancel_run(HANDLE)
    assert run.status is RunStatus.CANCELLED
    assert "compute may continue at the provider" in run.warnings[0].message
    assert "a model that appears later is not collected" in run.warnings[0].message


def test_a_cancelled_job_that_goes_on_is_seen_as_it_is() -> None:
    """The server's worker overwrites the status: a later look tells what happened really."""
    answers: list[Answer] = [ok(job_row(status="running")), ok(job_row(status="succeeded", trained_model=MODEL))]
    provider = api({f"GET {JOB}": answers}).provider
    assert provider.get_run(HANDLE).status is RunStatus.RUNNING
    assert provider.get_run(HANDLE).model_id == MODEL


def test_a_job_that_has_ended_is_left_as_it_is() -> None:
    """Its cancel is refused, and the job is looked at instead."""
    server = api({f"DELETE {JOB}": FINISHED, f"GET {JOB}": ok(job_row(status="failed", error="x"))})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.FAILED
    assert server.lines() == [f"DELETE {JOB}", f"GET {JOB}"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (TROUBLE, ProviderUnavailableError),
        (httpx.ReadTimeout("x"), TransportError),
        (refused(404, "Training job not found"), NotFoundError),
    ],
)
def test_a_cancel_that_failed_is_no_cancel(answer: Answer, error: type[ProviderError]) -> None:
    """It is sent once; whoever wants the run ended asks again."""
    server = api({f"DELETE {JOB}": answer})
    with pytest.raises(error):
        server.provider.cancel_run(HANDLE)
    assert len(server.asked) == 1


def test_a_finished_job_elsewhere_is_a_conflict() -> None:
    """The sentence is read wherever it stands."""
    with pytest.raises(ConflictError, match="look at the job"):
        api({f"GET {JOB}": FINISHED}).provider.get_run(HANDLE)


def test_an_id_cannot_address_something_else() -> None:
    """It stays one segment of the path, whatever it holds."""
    handle = replace_id("../models/x")
    server = replace(api({}), routes={f"GET {JOBS}/..%2Fmodels%2Fx": [ok(job_row(id="../models/x"))]})
    assert server.provider.get_run(handle).handle.run_id == "../models/x"
