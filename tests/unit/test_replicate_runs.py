"""The Replicate adapter looks at runs, whatever they lack, and ends them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipeline.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    ProviderUnavailableError,
    UnexpectedResponseError,
)
from pipeline.models import RunStatus
from pipeline.start.adoption import take_by_id
from tests.unit.scripted_replicate import (
    HANDLE,
    RUN_ID,
    VERSION,
    WEIGHTS,
    ago,
    api,
    done,
    ok,
    page,
    plan,
    problem,
    training,
)

GET = f"GET /v1/trainings/{RUN_ID}"
CANCEL = f"POST /v1/trainings/{RUN_ID}/cancel"
LIST = "GET /v1/trainings"


def _look(**changes: Any) -> Any:
    return api({GET: ok(training(**changes))}).provider.get_run(HANDLE)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("starting", RunStatus.QUEUED),
        ("processing", RunStatus.RUNNING),
        ("succeeded", RunStatus.COMPLETED),
        ("failed", RunStatus.FAILED),
        ("canceled", RunStatus.CANCELLED),
        ("aborted", RunStatus.CANCELLED),
        ("queued", RunStatus.UNKNOWN),
        ("paused", RunStatus.UNKNOWN),
    ],
)
def test_every_status_is_read_and_its_word_kept(word: str, status: RunStatus) -> None:
    """A word nobody knows is not an end."""
    run = _look(status=word)
    assert (run.status, run.provider_status) == (status, word)


def test_a_run_keeps_its_handle() -> None:
    """The name is ours: the provider knows none."""
    run = _look()
    assert run.handle == HANDLE
    assert run.gpu == "gpu-t4"


@pytest.mark.parametrize(
    "row",
    [
        {"id": RUN_ID},
        {"id": RUN_ID, "status": None, "input": None, "output": None, "metrics": None, "urls": {"get": None}},
        {"id": RUN_ID, "status": 7, "logs": 3, "created_at": "soon", "metrics": [], "input": "x", "more": {"a": 1}},
    ],
)
def test_a_row_with_little_or_nonsense_is_a_run_all_the_same(row: dict[str, Any]) -> None:
    """A paid run must not get lost over a field."""
    run = api({GET: ok(row)}).provider.get_run(HANDLE)
    assert (run.status, run.metrics, run.created_at) == (RunStatus.UNKNOWN, {}, None)


def test_progress_and_time_to_go_come_from_the_log() -> None:
    """The log itself is passed on, and not stored."""
    logs = "boot\n 38%|###8      | 6/16 [00:00<00:05, 7.83it/s]\n"
    run = _look(logs=logs)
    assert (run.progress, run.eta_s, run.logs) == (38.0, 5.0, logs)
    assert "logs" not in run.model_dump()
    assert _look(logs=logs, status="failed").eta_s is None


@pytest.mark.parametrize("fraction", ["", ".1", ".123", ".123456", ".12345678", ".123456789"])
def test_times_are_read_with_any_fraction(fraction: str) -> None:
    """The number of digits differs from endpoint to endpoint."""
    run = _look(created_at=f"2026-01-01T00:00:00{fraction}Z")
    assert run.created_at.second == 0


def test_times_that_run_backwards_are_straightened() -> None:
    """No duration is below zero."""
    run = _look(created_at=ago(minutes=1), started_at=ago(minutes=2), completed_at=ago(minutes=3))
    assert run.created_at == run.started_at == run.completed_at


def test_a_failure_says_why() -> None:
    """Whatever shape the reason has."""
    assert _look(status="failed", error="E1001 out of memory").error_message == "E1001 out of memory"
    assert _look(status="failed", error={"a": [1]}).error_message == '{"a": [1]}'


@pytest.mark.parametrize(
    ("output", "model_id"),
    [
        ({"version": VERSION, "weights": WEIGHTS}, VERSION),
        ({"version": VERSION}, VERSION),
        ({"weights": WEIGHTS}, RUN_ID),
        (WEIGHTS, RUN_ID),
        ([{"version": VERSION, "weights": WEIGHTS}], VERSION),
        ([WEIGHTS], RUN_ID),
        ("done", None),
        (["x"], None),
        (None, None),
        ({"version": None, "weights": 3}, None),
    ],
)
def test_a_completed_run_names_its_model_where_there_is_one(output: Any, model_id: str | None) -> None:
    """The version, or of a trainer that returns weights alone the run itself."""
    assert _look(status="succeeded", output=output).model_id == model_id
    assert _look(status="processing", output=output).model_id is None


def test_a_run_is_addressed_by_its_id_alone() -> None:
    """Addresses in answers lead elsewhere, or stop working after half an hour."""
    server = api({GET: ok(training())})
    server.provider.get_run(HANDLE)
    assert server.lines() == [GET]
    assert server.asked[0].url.host == "api.replicate.com"


def test_an_answer_about_another_run_is_an_error() -> None:
    """It must not be taken for this one's."""
    with pytest.raises(UnexpectedResponseError, match="another-id"):
        _look(id="another-id")


def test_a_run_that_is_not_there_is_not_found() -> None:
    """Whether it is lost is for the watch to judge, with its grace."""
    with pytest.raises(NotFoundError):
        api({GET: problem(404)}).provider.get_run(HANDLE)


def test_looks_are_repeated() -> None:
    """A page of HTML, a throttle and a cut line do not end a look."""
    server = api(
        {GET: [httpx.Response(502, text="<html>"), problem(429, "x", retry_after=7), httpx.ReadError("x"), ok(done())]}
    )
    assert server.provider.get_run(HANDLE).status is RunStatus.COMPLETED
    assert 7.0 in server.slept


def test_cancelling_returns_the_run_as_it_is_then() -> None:
    """The answer is the updated run; nothing is sent in the body."""
    server = api({CANCEL: ok(training(status="canceled"))})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.CANCELLED
    assert server.asked[0].content == b""


@pytest.mark.parametrize("refusal", [problem(404), problem(409), problem(422)])
def test_cancelling_a_run_that_has_ended_returns_it(refusal: httpx.Response) -> None:
    """However the vendor refuses."""
    assert api({CANCEL: refusal, GET: ok(done())}).provider.cancel_run(HANDLE).status is RunStatus.COMPLETED


def test_a_cancel_that_is_refused_while_the_run_goes_on_is_an_error() -> None:
    """It is billed, and whoever asked must know."""
    with pytest.raises(ConflictError):
        api({CANCEL: problem(409), GET: ok(training())}).provider.cancel_run(HANDLE)


def test_a_cancel_without_a_body_is_looked_up() -> None:
    """An empty answer says nothing of the run."""
    server = api({CANCEL: httpx.Response(204), GET: ok(training(status="canceled"))})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.CANCELLED


def test_a_cancel_that_is_not_answered_is_repeated() -> None:
    """Cancelling twice is as good as once."""
    server = api({CANCEL: [httpx.ReadError("x"), ok(training(status="canceled"))]})
    assert server.provider.cancel_run(HANDLE).status.is_terminal
    assert len(server.asked) == 2


def test_live_runs_are_those_that_have_not_ended() -> None:
    """Of the last two weeks, with words nobody knows among them, under the provider's own ids."""
    rows = [
        training(id="a"),
        done(id="b"),
        training(id="c", status="paused"),
        training(id="d", created_at=ago(days=15)),
    ]
    runs = api({LIST: page(*rows)}).provider.live_runs()
    assert [(run.handle.run_id, run.handle.name) for run in runs] == [("a", "a"), ("c", "c")]


def test_live_runs_read_fifty_pages_at_most() -> None:
    """An account may have more trainings than anybody wants to read."""
    count = iter(range(1_000))

    def answer(_: httpx.Request) -> httpx.Response:
        number = next(count)
        return page(training(id=f"r{number}"), following=f"https://x/v1/trainings?cursor={number}")

    assert len(api({LIST: answer}).provider.live_runs()) == 50


def test_many_runs_are_read_from_the_list_and_the_rest_one_by_one() -> None:
    """Those the list does not show are asked for; unknown ones are left out; each keeps its own handle."""
    handles = tuple(HANDLE.model_copy(update={"run_id": run_id, "name": f"our-{run_id}"}) for run_id in ("a", "b", "c"))
    server = api({LIST: page(training(id="b"), training(id="z")), "GET /v1/trainings/a": ok(done(id="a"))})
    runs = server.provider.get_runs(handles)
    assert [(run.handle.run_id, run.handle.name) for run in runs] == [("a", "our-a"), ("b", "our-b")]
    assert server.lines() == [LIST, "GET /v1/trainings/a", "GET /v1/trainings/c"]


def test_one_run_is_not_looked_for_in_the_list() -> None:
    """And none costs nothing."""
    server = api({GET: ok(training())})
    assert len(server.provider.get_runs((HANDLE,))) == 1
    assert server.provider.get_runs(()) == ()
    assert server.lines() == [GET]


def test_a_provider_that_is_down_is_not_an_empty_list() -> None:
    """The error is passed on."""
    with pytest.raises(ProviderUnavailableError):
        api({LIST: httpx.Response(500)}).provider.live_runs()


@pytest.mark.parametrize("row", [training(), done(), done(output={"weights": WEIGHTS}), done(output=None)])
def test_a_run_started_by_hand_is_taken_over(row: dict[str, Any]) -> None:
    """A version of the destination, or none that would say something else."""
    assert take_by_id(api({GET: ok(row)}).provider, plan(destination="Me/signs"), RUN_ID).adopted


def test_a_run_that_pushed_to_another_model_is_not_taken_over() -> None:
    """The destination that was asked for would never get the version that is judged."""
    with pytest.raises(ConfigurationError) as caught:
        take_by_id(api({GET: ok(done())}).provider, plan(destination="me/birds"), RUN_ID)
    assert caught.value.message == (
        f"adopt={RUN_ID!r} made a version of 'me/signs', not of 'me/birds'; give that as destination"
    )
    assert caught.value.context.field == "destination"
