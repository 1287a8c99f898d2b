"""Triggering a PhotoGPT training: paid for once, sent twice at most, never blindly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import (
    AuthenticationError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    TransportError,
    UnexpectedResponseError,
)
from pipeline.models import RunStatus
from tests.notes import MemoryNotes
from tests.unit.scripted_photogpt import PROFILE, After, Fault, Server, make_plan, nok, ok

TRAIN = "GET /models/m1/train"
ORDER: dict[str, Any] = {"model_id": "m1", "images": []}


def _server(status: str = "new", **facts: Any) -> Server:
    server = Server(**facts)
    server.add_model("m1", status)
    return server


def _create(server: Server, notes: MemoryNotes | None = None) -> Any:
    return server.provider.create_run(make_plan(Path("anna")), ORDER, notes or MemoryNotes())


def test_a_trigger_is_noted_before_it_is_sent() -> None:
    """With its number and its time; the run it starts carries the model's id and the plan's name."""
    server, notes = _server(), MemoryNotes()
    written: list[int] = []

    def on_train(model_id: str) -> None:
        written.append(int(str(notes.read()["triggers"])))
        server.trains(model_id)

    server.on_train = on_train
    run = _create(server, notes)
    assert written == [1]
    assert notes.read()["triggered_at_s"] == server.now_s
    assert (run.status, run.handle.run_id) == (RunStatus.PENDING, "m1")
    assert run.handle.name == make_plan(Path("anna")).run_name


def test_a_trigger_is_kept_from_caches() -> None:
    """It is a GET, which anything on the way may think itself free to answer or to repeat."""
    server = _server()
    _create(server)
    sent = next(request for request in server.asked if request.url.path.endswith("/train"))
    assert sent.headers["Cache-Control"] == "no-store"
    assert sent.method == "GET"


@pytest.mark.parametrize("status", ["training", "ready", "Training", "processing", "failed"])
def test_a_model_that_is_not_new_is_not_triggered(status: str) -> None:
    """Its run is returned as it is."""
    server = _server(status)
    assert _create(server).handle.run_id == "m1"
    assert server.count(TRAIN) == 0


def test_a_new_model_with_a_training_job_is_not_triggered() -> None:
    """The job shows that the trigger arrived before the model's status does."""
    server = _server()
    server.add_job("m1", "created")
    assert _create(server).status is RunStatus.PENDING
    assert server.count(TRAIN) == 0


LOST: list[Fault] = [
    httpx.ReadTimeout("x"), httpx.ReadError("x"), httpx.RemoteProtocolError("x"), nok(500), nok(503), nok(408),
    httpx.Response(200, text="<html>"), httpx.Response(200, json={}),
]  # fmt: skip


@pytest.mark.parametrize("lost", LOST)
def test_a_lost_answer_is_never_followed_by_a_second_sending(lost: Fault) -> None:
    """One request, and an error that says that the training may run."""
    server, notes = _server(faults={TRAIN: [lost]}), MemoryNotes()
    with pytest.raises(ProviderError) as caught:
        _create(server, notes)
    assert caught.value.context.outcome_unknown
    assert server.count(TRAIN) == 1
    assert notes.read()["triggers"] == 1


def test_a_redirect_is_not_followed() -> None:
    """It could trigger something else, or twice."""
    moved = httpx.Response(302, headers={"Location": "https://photogpt.example/api/models/m1/train"})
    server = _server(faults={TRAIN: [moved]})
    with pytest.raises(UnexpectedResponseError):
        _create(server)
    assert server.count(TRAIN) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (nok(400, "12 to 20 pictures"), InvalidRequestError),
        (nok(401), AuthenticationError),
        (nok(402), InsufficientCreditsError),
        (nok(403, "plan limits"), PermissionDeniedError),
        (nok(404), NotFoundError),
        (nok(409), ConflictError),
        (nok(400, "Insufficient credits"), InsufficientCreditsError),
        (nok(403, "You need more CREDITS"), InsufficientCreditsError),
        (nok(500, "insufficient credits"), InsufficientCreditsError),
        (nok(200, "insufficient credits"), InsufficientCreditsError),
        (nok(200, "no such thing"), InvalidRequestError),
        (httpx.ConnectError("x"), TransportError),
    ],
)
def test_a_refusal_is_certain_and_does_not_count(answer: Fault, error: type[ProviderError]) -> None:
    """Nothing was triggered: the next attempt has both triggers left."""
    server, notes = _server(faults={TRAIN: [answer]}), MemoryNotes()
    with pytest.raises(error) as caught:
        _create(server, notes)
    assert type(caught.value) is error
    assert not caught.value.context.outcome_unknown
    assert notes.read()["triggers"] == 0
    assert server.count(TRAIN) == 1


@pytest.mark.parametrize("status", [400, 409, 429])
def test_a_refusal_of_a_model_that_trains_is_a_success(status: int) -> None:
    """It was triggered in the meantime, whoever did it."""
    server = _server(faults={TRAIN: [After(nok(status))]})
    run = _create(server)
    assert run.status is RunStatus.RUNNING
    assert server.count(TRAIN) == 1


def test_a_refusal_that_cannot_be_looked_into_is_in_doubt() -> None:
    """It may have been refused because the model trains."""
    server = _server(faults={TRAIN: [nok(409)], "GET /models/m1": [None, nok(403)]})
    with pytest.raises(PermissionDeniedError) as caught:
        _create(server)
    assert caught.value.context.outcome_unknown


def test_no_room_is_waited_for() -> None:
    """Five minutes at a time, by the state; refused triggers do not use up the two that may be sent."""
    server, notes = _server(faults={TRAIN: [nok(429), nok(429), nok(429)]}), MemoryNotes()
    assert _create(server, notes).status is RunStatus.PENDING
    assert server.slept == [300.0, 300.0, 300.0]
    assert server.count(TRAIN) == 4
    assert notes.read()["triggers"] == 1


def test_a_longer_wait_that_the_server_asks_for_is_kept() -> None:
    """And one of a day is not believed."""
    answers: list[Fault] = [
        httpx.Response(429, json={"status": "NOK"}, headers={"Retry-After": value}) for value in ("400", "86400")
    ]
    server = _server(faults={TRAIN: answers})
    _create(server)
    assert server.slept == [400.0, 900.0]


def test_no_room_for_too_long_is_an_error() -> None:
    """After the profile's deadline; nothing is in doubt."""
    server = _server(faults={TRAIN: [nok(429)] * 20})
    with pytest.raises(RateLimitError) as caught:
        _create(server)
    assert not caught.value.context.outcome_unknown
    assert sum(server.slept) == PROFILE.poll.deadline_s


def test_a_training_that_begins_while_waiting_for_room_is_found() -> None:
    """Somebody else triggered it: no second trigger is sent."""
    server = _server(faults={TRAIN: [nok(429)]})
    plain = server.sleep

    def sleep(seconds: float, /) -> None:
        plain(seconds)
        server.trains("m1")

    server.sleep = sleep  # type: ignore[method-assign]
    assert _create(server).status is RunStatus.RUNNING
    assert server.count(TRAIN) == 1


def test_another_process_gives_an_earlier_trigger_its_time() -> None:
    """Ten minutes from its sending, in steps of thirty seconds; then a second one is sent."""
    server, notes = _server(faults={TRAIN: [httpx.ReadTimeout("x")]}), MemoryNotes()
    with pytest.raises(TransportError):
        _create(server, notes)
    server.now_s += 60
    assert _create(server, notes).status is RunStatus.PENDING
    assert server.slept == [30.0] * 18
    assert notes.read()["triggers"] == 2


def test_another_process_finds_the_training_of_an_earlier_trigger() -> None:
    """Its answer was lost and its effect shows late: nothing is sent again."""
    server, notes = _server(faults={TRAIN: [httpx.ReadTimeout("x")]}), MemoryNotes()
    with pytest.raises(TransportError):
        _create(server, notes)
    plain = server.sleep

    def sleep(seconds: float, /) -> None:
        plain(seconds)
        if len(server.slept) == 4:
            server.trains("m1")

    server.sleep = sleep  # type: ignore[method-assign]
    assert _create(server, notes).status is RunStatus.RUNNING
    assert server.count(TRAIN) == 1
    assert len(server.slept) == 4


def test_a_third_trigger_is_never_sent() -> None:
    """However many processes come back: the error says what to do, and that a training may run."""
    server, notes = _server(faults={TRAIN: [httpx.ReadTimeout("x")] * 9}), MemoryNotes()
    for _ in range(2):
        with pytest.raises(TransportError):
            _create(server, notes)
    for _ in range(3):
        with pytest.raises(ConflictError, match="after 2 triggers") as caught:
            _create(server, notes)
        assert caught.value.context.outcome_unknown
        assert "run the same operation again" in str(caught.value)
    assert server.count(TRAIN) == 2


def test_an_earlier_doubt_outlives_a_refusal() -> None:
    """What refuses the second trigger says nothing about the first one."""
    server, notes = _server(faults={TRAIN: [httpx.ReadTimeout("x"), nok(402)]}), MemoryNotes()
    with pytest.raises(TransportError):
        _create(server, notes)
    with pytest.raises(InsufficientCreditsError) as caught:
        _create(server, notes)
    assert caught.value.context.outcome_unknown
    assert notes.read()["triggers"] == 1


def test_a_state_that_cannot_be_read_stops_the_trigger() -> None:
    """Without knowing the state nothing is sent; in doubt only when something was sent before."""
    server = _server(faults={"GET /models/m1": [nok(403)] * 2})
    with pytest.raises(PermissionDeniedError) as caught:
        _create(server)
    assert not caught.value.context.outcome_unknown
    with pytest.raises(PermissionDeniedError) as caught:
        _create(server, MemoryNotes([{"triggers": 1, "triggered_at_s": server.now_s}]))
    assert caught.value.context.outcome_unknown
    assert server.count(TRAIN) == 0


def test_jobs_that_cannot_be_read_stop_the_trigger() -> None:
    """A list that cannot be read must not pass for an empty one."""
    server = _server(faults={"GET /jobs": [nok(403)]})
    with pytest.raises(PermissionDeniedError):
        _create(server)
    assert server.count(TRAIN) == 0


def test_a_server_without_a_jobs_list_is_triggered_all_the_same() -> None:
    """The model's status is the source of truth."""
    server = _server(faults={"GET /jobs": [nok(404)]})
    assert _create(server).status is RunStatus.PENDING


def test_a_model_without_a_status_is_not_triggered() -> None:
    """Nobody can tell whether it was."""
    server = _server(faults={"GET /models/m1": [ok({"id": "m1"})]})
    with pytest.raises(UnexpectedResponseError):
        _create(server)
    assert server.count(TRAIN) == 0


def test_an_order_without_a_model_is_refused() -> None:
    """Nothing is sent."""
    server = Server()
    with pytest.raises(InvalidRequestError):
        server.provider.create_run(make_plan(Path("anna")), {}, MemoryNotes())
    assert server.asked == []
