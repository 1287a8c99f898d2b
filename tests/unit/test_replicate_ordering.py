"""The Replicate adapter's order and create: free preparations once, the paid request once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pipeline.errors import (
    ConfigurationError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    RateLimitError,
    TransportError,
)
from pipeline.models import RunStatus
from providers.replicate import data
from providers.replicate.data import own_address
from providers.replicate.values import ReplicateSetup
from tests.notes import MemoryNotes
from tests.unit.http_double import everything_in
from tests.unit.scripted_replicate import (
    DESTINATION,
    EXPORT,
    FILE_URL,
    HEX,
    KEY,
    TRAINER,
    TRAINER_PATH,
    Api,
    ago,
    api,
    archive,
    ok,
    order,
    plan,
    problem,
    ready_routes,
    schema,
    training,
    uploaded,
)

CREATE = f"POST {TRAINER_PATH}/trainings"


def _ordered(server: Api, path: Path, notes: MemoryNotes | None = None, **request: Any) -> dict[str, Any]:
    return server.provider.order(plan(path, **request), EXPORT, notes or MemoryNotes())


def test_an_order_holds_what_the_create_sends_and_from_when(tmp_path: Path) -> None:
    """Trainer, destination, inputs with the file's own address, and a moment the clocks may differ around."""
    made = _ordered(api(ready_routes()), archive(tmp_path), inputs={"epochs": 3})
    assert made == {
        "trainer": TRAINER,
        "destination": DESTINATION,
        "input": {"epochs": 3, "train_data": FILE_URL},
        "since": ago(minutes=5).replace(".000000Z", "Z"),
    }


def test_the_pipeline_is_handed_to_a_trainer_that_takes_one(tmp_path: Path) -> None:
    """Unless the request's inputs say otherwise."""
    trainer = ok(schema({"properties": {"train_data": {}, "pipeline": {}}}))
    routes = ready_routes(**{f"GET {TRAINER_PATH}": trainer})
    path = archive(tmp_path)
    assert _ordered(api(routes), path, pipeline="detectron2")["input"]["pipeline"] == "detectron2"
    assert _ordered(api(routes), path, inputs={"pipeline": "own"})["input"]["pipeline"] == "own"


def test_a_webhook_asks_for_start_and_end(tmp_path: Path) -> None:
    """Without a list of events the vendor chooses."""
    setup = ReplicateSetup(webhook="https://us.example/hook?a=1")
    made = _ordered(api(ready_routes(), setup=setup), archive(tmp_path))
    assert made["webhook"] == "https://us.example/hook?a=1"
    assert made["webhook_events_filter"] == ["start", "completed"]


def test_the_upload_is_a_form_with_the_operation_s_key_before_the_content(tmp_path: Path) -> None:
    """By that key the file is found again although nothing was written down."""
    server, path = api(ready_routes()), archive(tmp_path)
    _ordered(server, path)
    sent = next(request for request in server.asked if request.method == "POST")
    assert sent.headers["Content-Type"].startswith("multipart/form-data")
    assert path.read_bytes() in sent.content
    key = json.dumps({"train_pipeline_operation": plan(path).operation_key}).encode()
    assert sent.content.index(key) < sent.content.index(b'name="content"; filename="data.zip"')


def test_an_upload_is_written_down_and_used_again(tmp_path: Path) -> None:
    """A second order of the same attempt, in another process, uploads nothing."""
    server, path, notes = api(ready_routes()), archive(tmp_path), MemoryNotes()
    first = _ordered(server, path, notes)
    assert _ordered(server, path, notes)["input"] == first["input"]
    assert server.lines().count("POST /v1/files") == 1
    assert "GET /v1/files/file-1" in server.lines()


@pytest.mark.parametrize("now", [problem(404), ok(uploaded(expires_at=ago(minutes=-5)))])
def test_an_upload_that_is_gone_or_about_to_go_is_made_again(now: httpx.Response, tmp_path: Path) -> None:
    """The training reads it only after its worker has booted."""
    again = uploaded(id="file-2", urls={"get": FILE_URL + "2"})
    routes = ready_routes(**{"GET /v1/files/file-1": now, "POST /v1/files": [ok(uploaded()), ok(again)]})
    server, path, notes = api(routes), archive(tmp_path), MemoryNotes()
    _ordered(server, path, notes)
    assert _ordered(server, path, notes)["input"]["train_data"] == FILE_URL + "2"
    assert notes.read()["file"] == {
        "id": "file-2",
        "url": FILE_URL + "2",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "expires_at": "2027-01-16T08:00:00+00:00",
    }


def test_other_data_is_not_taken_for_what_was_uploaded(tmp_path: Path) -> None:
    """The file here was changed between two tries of an attempt."""
    server, notes = api(ready_routes()), MemoryNotes()
    _ordered(server, archive(tmp_path), notes)
    _ordered(server, archive(tmp_path, b"changed"), notes)
    assert server.lines().count("POST /v1/files") == 2


@pytest.mark.parametrize("reply", [{"size": 3}, {"checksums": {"sha256": "00" * 32, "md5": "x"}}])
def test_an_upload_that_arrived_damaged_is_not_used(reply: dict[str, Any], tmp_path: Path) -> None:
    """Size and digest are compared where the answer names them; nothing is written down."""
    notes = MemoryNotes()
    server = api(ready_routes(**{"POST /v1/files": ok(uploaded(**reply), 201)}))
    with pytest.raises(TransportError, match=r"data\.zip"):
        _ordered(server, archive(tmp_path), notes)
    assert notes.written == []


def test_an_upload_with_the_right_size_and_digest_is_used(tmp_path: Path) -> None:
    """Digests are compared whatever their case."""
    path = archive(tmp_path)
    facts = {
        "size": path.stat().st_size,
        "checksums": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest().upper()},
    }
    assert _ordered(api(ready_routes(**{"POST /v1/files": ok(uploaded(**facts))})), path)["input"]


def test_an_archive_above_the_limit_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The field to change is named."""
    monkeypatch.setattr(data, "MAX_FILE_BYTES", 10)
    server = api(ready_routes())
    with pytest.raises(ConfigurationError, match="dataset_url") as caught:
        _ordered(server, archive(tmp_path))
    assert caught.value.context.field == "dataset_url"
    assert "POST /v1/files" not in server.lines()


def test_a_server_with_a_lower_limit_names_the_same_field(tmp_path: Path) -> None:
    """413 comes with a page of HTML from what stands in front of the API."""
    server = api(ready_routes(**{"POST /v1/files": httpx.Response(413, text="<html>too large</html>")}))
    with pytest.raises(ConfigurationError, match="dataset_url") as caught:
        _ordered(server, archive(tmp_path))
    assert caught.value.context.field == "dataset_url"


def test_data_kept_elsewhere_gets_an_address_of_its_own() -> None:
    """Two attempts share the bytes and not the address; nothing is uploaded."""
    server, url = api(ready_routes()), "https://store.example/d.zip"
    made = server.provider.order(plan(dataset_url=url), EXPORT, MemoryNotes())
    key = plan().operation_key
    assert made["input"] == {"train_data": f"{url}?train-pipeline-operation={key}"}
    assert "POST /v1/files" not in server.lines()


@pytest.mark.parametrize(
    "name", ["X-Amz-Signature", "X-Goog-Signature", "Signature", "sig", "x-oss-signature", "q-signature", "token", "v"]
)
def test_an_address_with_a_query_keeps_it(name: str) -> None:
    """A signature, whatever its name, covers the query: the key goes where no storage sees it."""
    url = f"https://store.example/d.zip?{name}=abc"
    own = urlsplit(own_address(url, "k"))
    assert (own.query, own.fragment) == (f"{name}=abc", "train-pipeline-operation=k")
    assert own_address(url, "k") != own_address(url, "l")


def test_a_missing_destination_is_made_privately(tmp_path: Path) -> None:
    """With the hardware the request names for predictions."""
    routes = ready_routes(
        **{"GET /v1/models/me/signs": problem(404), "POST /v1/models": ok({"owner": "me", "name": "signs"}, 201)}
    )
    server = api(routes)
    _ordered(server, archive(tmp_path), destination_hardware="gpu-t4")
    assert server.bodies("POST /v1/models") == [
        {"owner": "me", "name": "signs", "visibility": "private", "hardware": "gpu-t4"}
    ]


@pytest.mark.parametrize("refusal", [problem(409), problem(422, "A model with that name exists"), problem(502)])
def test_a_destination_that_somebody_else_just_made_is_used(refusal: httpx.Response, tmp_path: Path) -> None:
    """Whatever the refusal, what counts is whether it is there."""
    there = ok({"owner": "me", "name": "signs"})
    server = api(ready_routes(**{"GET /v1/models/me/signs": [problem(404), there], "POST /v1/models": refusal}))
    assert _ordered(server, archive(tmp_path))["destination"] == "me/signs"
    assert len(server.bodies("POST /v1/models")) == 1


def test_a_destination_that_cannot_be_made_stops_before_the_upload(tmp_path: Path) -> None:
    """The vendor's reason is passed on, and no run can exist."""
    routes = ready_routes(**{"GET /v1/models/me/signs": problem(404), "POST /v1/models": problem(422, "limit of 1000")})
    server = api(routes)
    with pytest.raises(InvalidRequestError, match="limit of 1000") as caught:
        _ordered(server, archive(tmp_path))
    assert not caught.value.context.outcome_unknown
    assert "POST /v1/files" not in server.lines()


def _create(server: Api, notes: MemoryNotes | None = None, **changes: Any) -> Any:
    return server.provider.create_run(plan(), order(**changes), notes or MemoryNotes())


def test_a_create_sends_the_order_and_gives_the_run_our_name() -> None:
    """The reply holds half of the fields, with addresses elsewhere and times of nine digits."""
    reply = {"id": "abc", "model": "lab/trainer", "version": "ff", "input": {}, "logs": "", "error": None,
             "status": "starting", "created_at": "2026-01-01T00:00:00.123456789Z",
             "urls": {"get": "https://api.replicate.com/v1/predictions/abc"}}  # fmt: skip
    server = api({CREATE: ok(reply, 201)})
    run = _create(server, webhook="https://us.example/h", webhook_events_filter=["start"])
    assert server.bodies(CREATE) == [
        {
            "destination": DESTINATION,
            "input": {"train_data": FILE_URL},
            "webhook": "https://us.example/h",
            "webhook_events_filter": ["start"],
        }
    ]
    assert (run.handle.run_id, run.handle.name, run.handle.dataset) == ("abc", plan().run_name, "data.zip")
    assert (run.status, run.gpu, run.created_at.year) == (RunStatus.QUEUED, "gpu-t4", 2026)


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [
        (httpx.Response(500), True),
        (httpx.Response(502, text="<html>bad gateway</html>"), True),
        (httpx.Response(504, text="<html>late</html>"), True),
        (httpx.ReadTimeout("late"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (httpx.ConnectError("no"), False),
        (ok({"no": "id"}, 201), True),
        (httpx.Response(201, text="cut off"), True),
        (problem(422, title="Invalid version or not permitted"), False),
        (problem(402, "Insufficient credit"), False),
        (problem(429, "Request was throttled. Expected available in 1 second."), False),
        (problem(403), False),
    ],
)
def test_a_create_is_sent_once_and_says_whether_it_may_have_had_an_effect(
    answer: httpx.Response | Exception, unknown: bool
) -> None:
    """After a refusal there is no run; after silence there may be one."""
    server = api({CREATE: answer})
    with pytest.raises(ProviderError) as caught:
        _create(server)
    assert caught.value.context.outcome_unknown is unknown
    assert len(server.asked) == 1
    assert KEY not in everything_in(caught.value)


def test_a_throttled_create_carries_the_delay() -> None:
    """It was not accepted, so the same attempt may be sent again after it."""
    with pytest.raises(RateLimitError) as caught:
        _create(api({CREATE: problem(429, "... resets in ~30s.", retry_after=5)}))
    assert caught.value.context.retry_after_s == 30.0


def test_an_account_without_credit_is_named_as_such() -> None:
    """402 is a matter of money."""
    with pytest.raises(InsufficientCreditsError, match="top up"):
        _create(api({CREATE: problem(402, "Insufficient credit")}))


@pytest.mark.parametrize(
    ("detail", "field", "named"),
    [
        ("The specified training destination does not exist", "destination", DESTINATION),
        ("The requested resource could not be found.", "trainer", HEX),
    ],
)
def test_a_404_on_create_names_the_field(detail: str, field: str, named: str) -> None:
    """It is the configuration that is wrong, not a run that was lost."""
    with pytest.raises(NotFoundError, match=named) as caught:
        _create(api({CREATE: problem(404, detail)}))
    assert caught.value.context.field == field
    assert not caught.value.context.outcome_unknown


def test_a_create_is_not_paid_for_when_its_data_has_expired() -> None:
    """The order is frozen, and the file behind it is gone: nothing is sent."""
    server = api({CREATE: ok(training(), 201)})
    for left_min, sent in ((-1, 1), (1, 1)):
        notes = MemoryNotes([{"file": {"id": "file-1", "url": FILE_URL, "expires_at": ago(minutes=left_min)}}])
        if left_min > 0:
            with pytest.raises(InvalidRequestError, match="expired"):
                _create(server, notes)
        else:
            _create(server, notes)
        assert len(server.asked) == sent
