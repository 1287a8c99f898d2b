"""Preparing a PhotoGPT training: one model, every picture once, whatever dies in between."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import (
    ExportRejectedError,
    InvalidRequestError,
    JournalError,
    ProviderError,
    TransportError,
)
from pipeline.watch.polling import RETRY_AFTER_MOST_S
from providers.photogpt import preparing
from tests.notes import MemoryNotes
from tests.unit.scripted_photogpt import EXPORT, After, DyingNotes, Fault, Server, make_folder, make_plan, nok


def _order(server: Server, home: Path, notes: MemoryNotes | None = None, **request: Any) -> dict[str, Any]:
    plan = make_plan(make_folder(home), **request)
    return dict(server.provider.order(plan, EXPORT, notes or MemoryNotes()))


def test_a_model_is_made_and_every_picture_is_in_it(tmp_path: Path) -> None:
    """The order names the model and its pictures; the body says what was asked and nothing more."""
    server = Server()
    order = _order(server, tmp_path, ethnicity="any", eye_color="green")
    assert order == {"model_id": "m1", "images": server.pictures["m1"]}
    assert len(order["images"]) == 12
    sent = json.loads(next(one for one in server.asked if one.method == "POST").content)
    plan = make_plan(tmp_path / "anna")
    assert sent == {"name": plan.run_name, "age": 34, "gender": "Female", "ethnicity": "any", "eyeColor": "green"}
    assert "id" not in sent


def test_what_was_not_said_of_a_person_is_not_sent(tmp_path: Path) -> None:
    """Optional facts stay out of the body."""
    server = Server()
    _order(server, tmp_path)
    assert set(json.loads(next(one for one in server.asked if one.method == "POST").content)) == {
        "name", "age", "gender",
    }  # fmt: skip


def test_pictures_travel_under_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the order of names, each with its media type and the model's id; no local name is on the wire or in a log."""
    caplog.set_level(logging.DEBUG)
    server = Server()
    _order(server, tmp_path)
    uploads = [request.content for request in server.asked if request.url.path.endswith("/upload")]
    assert all(f'filename="{number:02}.png"'.encode() in body for number, body in enumerate(uploads, start=1))
    assert all(b"Content-Type: image/png" in body for body in uploads)
    assert all(b'name="data"' in body and b'{"modelID": "m1", "type": "modelInput"}' in body for body in uploads)
    first = (tmp_path / "anna" / "secret-00.png").read_bytes()
    assert first in uploads[0]
    assert not any(b"secret" in request.content for request in server.asked)
    assert "secret" not in caplog.text


def test_every_step_is_noted_before_the_next(tmp_path: Path) -> None:
    """The account's models before the create, the model's id after it, each picture's id before the next is sent."""
    server, notes = Server(), MemoryNotes()
    server.add_model("other", "ready")
    _order(server, tmp_path, notes)
    first = next(state for state in notes.written if state["known"] is not None)
    assert first["known"] == ["other"]
    assert first["model_id"] is None
    counts = [len(dict(state["pictures"])) for state in notes.written]  # type: ignore[arg-type]
    assert sorted(set(counts)) == list(range(13))
    assert notes.written[-1]["sending"] is None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("deaths", range(1, 29))
def test_a_process_that_dies_anywhere_leaves_one_model_of_twelve_pictures(
    tmp_path: Path, deaths: int, after: bool
) -> None:
    """Dying at any write, the next process goes on: no second model is filled, no picture is there twice."""
    server, notes = Server(), DyingNotes(deaths, after=after)
    try:
        _order(server, tmp_path, notes)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("nothing died")
    order = _order(server, tmp_path, notes)
    assert len(server.models) == 1
    assert sorted(server.pictures["m1"]) == sorted(order["images"])
    assert len(order["images"]) == 12
    assert server.count("POST /images/upload") == 12


@pytest.mark.parametrize(
    "lost", [httpx.ReadTimeout("x"), httpx.ReadError("x"), nok(502), httpx.Response(200, text="?")]
)
def test_a_lost_create_that_arrived_is_adopted(tmp_path: Path, lost: httpx.Response | Exception) -> None:
    """The list shows one new empty model more: it is taken, and no second one is made."""
    server = Server(faults={"POST /models": [After(lost)]})
    server.add_model("old")
    assert _order(server, tmp_path)["model_id"] == "m1"
    assert server.count("POST /models") == 1


def test_a_lost_create_that_did_not_arrive_is_sent_again(tmp_path: Path) -> None:
    """After some looks, once; an empty model too many costs nothing."""
    server = Server(faults={"POST /models": [httpx.ReadTimeout("x")]})
    assert _order(server, tmp_path)["model_id"] == "m1"
    assert server.count("POST /models") == 2
    assert server.slept == [30.0, 30.0]


def test_creates_that_are_lost_again_and_again_are_an_error_without_doubt_about_money(tmp_path: Path) -> None:
    """Nothing of preparing is paid for, so no error of it says that a paid run may exist."""
    server = Server(faults={"POST /models": [httpx.ReadTimeout("x")] * 2})
    with pytest.raises(TransportError) as caught:
        _order(server, tmp_path)
    assert not caught.value.context.outcome_unknown


def test_a_model_is_taken_by_its_name_where_one_is_shown(tmp_path: Path) -> None:
    """Of several new ones only that of the operation's name is ours."""
    server, notes = Server(shows_name=True), DyingNotes(2)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.add_model("foreign", name="somebody")
    assert _order(server, tmp_path, notes)["model_id"] == "m1"


def test_of_two_nameless_models_none_is_taken(tmp_path: Path) -> None:
    """One may be another process's, for another person: a fresh one is made instead."""
    server, notes = Server(), DyingNotes(2)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.add_model("foreign")
    assert _order(server, tmp_path, notes)["model_id"] == "m2"
    assert server.pictures["foreign"] == []


def test_a_model_of_another_day_or_with_pictures_is_not_taken(tmp_path: Path) -> None:
    """A lost create's model is empty, and made when it was asked for."""
    server = Server(faults={"POST /models": [httpx.ReadTimeout("x")] * 2})
    notes = MemoryNotes()
    with pytest.raises(TransportError):
        _order(server, tmp_path, notes)
    server.add_model("filled")
    server.pictures["filled"] = ["somebody's"]
    server.now_s += 3600
    server.add_model("late")
    assert _order(server, tmp_path, notes)["model_id"] == "m1"


def test_models_on_several_pages_are_all_read(tmp_path: Path) -> None:
    """Where the answer says that it is a page, the list is walked to its end."""
    server, notes = Server(models_page=2), MemoryNotes()
    for number in range(5):
        server.add_model(f"old{number}")
    _order(server, tmp_path, notes)
    assert notes.written[0]["known"] == [f"old{number}" for number in range(5)]


@pytest.mark.parametrize("lost", [After(httpx.ReadTimeout("x")), After(nok(500)), httpx.ReadTimeout("x"), nok(503)])
def test_an_upload_without_an_answer_is_looked_for(tmp_path: Path, lost: Fault) -> None:
    """Whether it arrived or not, each picture is there once in the end."""
    server = Server(faults={"POST /images/upload": [None, None, lost]})
    order = _order(server, tmp_path)
    assert len(order["images"]) == 12
    assert sorted(server.pictures["m1"]) == sorted(order["images"])
    assert server.count("POST /images/upload") == (12 if isinstance(lost, After) else 13)


@pytest.mark.parametrize("fault", [nok(429), httpx.ConnectError("x")])
def test_an_upload_that_is_put_off_is_sent_later(tmp_path: Path, fault: Fault) -> None:
    """After a wait and a look."""
    server = Server(faults={"POST /images/upload": [fault]})
    assert len(_order(server, tmp_path)["images"]) == 12
    assert server.slept == [30.0]


def test_an_upload_that_is_refused_ends_preparing(tmp_path: Path) -> None:
    """Sending it again would be refused again."""
    server = Server(faults={"POST /images/upload": [nok(400, "not an image")]})
    with pytest.raises(InvalidRequestError, match="not an image"):
        _order(server, tmp_path)
    assert server.count("POST /images/upload") == 1


def test_uploads_that_never_arrive_are_given_up(tmp_path: Path) -> None:
    """A dozen times without an answer is an error that can be come back from."""
    server = Server(faults={"POST /images/upload": [httpx.ReadTimeout("x")] * 40})
    with pytest.raises(TransportError) as caught:
        _order(server, tmp_path)
    assert not caught.value.context.outcome_unknown
    assert server.count("POST /images/upload") == 12


@pytest.mark.parametrize("count", [11, 21])
def test_a_wrong_number_of_pictures_is_refused_before_anything_is_sent(tmp_path: Path, count: int) -> None:
    """Nothing is made for pictures that cannot be trained on."""
    server = Server()
    with pytest.raises(ExportRejectedError, match=str(count)):
        server.provider.order(make_plan(make_folder(tmp_path, count)), EXPORT, MemoryNotes())
    assert server.asked == []


def test_a_picture_that_vanishes_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by its number."""

    def refuse(_: Path) -> bytes:
        raise FileNotFoundError(2, "No such file", "secret-00.png")

    folder = make_folder(tmp_path)
    plan = make_plan(folder)
    server = Server()
    from providers.photogpt.pictures import read_portraits

    pictures = read_portraits(plan)
    monkeypatch.setattr(preparing, "read_portraits", lambda _: pictures)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ExportRejectedError) as caught:
        server.provider.order(plan, EXPORT, MemoryNotes())
    assert "picture 1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_refused_person_is_not_repeated(tmp_path: Path) -> None:
    """The provider's sentence may quote what was said about somebody."""
    server = Server(faults={"POST /models": [nok(400, "ethnicity 'purple' is unknown")]})
    with pytest.raises(InvalidRequestError) as caught:
        _order(server, tmp_path, ethnicity="purple")
    assert "purple" not in str(caught.value)
    assert caught.value.context.code == "code_1"


def test_notes_that_cannot_be_read_stop_everything(tmp_path: Path) -> None:
    """They stand between us and paying twice."""
    notes = MemoryNotes([{"triggers": "many"}])
    with pytest.raises(JournalError, match="triggers"):
        _order(Server(), tmp_path, notes)


def test_an_error_of_a_read_is_the_callers(tmp_path: Path) -> None:
    """A list that cannot be read must not pass for an empty one."""
    server = Server(faults={"GET /models": [nok(403)]})
    with pytest.raises(ProviderError):
        _order(server, tmp_path)
    assert server.models == {}


def test_a_wait_that_the_server_asks_for_has_an_end(tmp_path: Path) -> None:
    """A throttle may ask for days; the picture is tried again after as long as any look waits at most."""
    throttled = nok(429)
    throttled.headers["Retry-After"] = "900000"
    server = Server(faults={"POST /images/upload": [throttled]})
    assert len(_order(server, tmp_path)["images"]) == 12
    assert server.slept == [RETRY_AFTER_MOST_S]
