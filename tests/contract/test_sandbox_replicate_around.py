"""What lies around Replicate's trainings, on the wire: money, models, limits, files and predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from sandbox.clock import ManualClock
from sandbox.replicate.models import TRAINER
from sandbox.roadsigns import road_signs
from sandbox.server import SandboxServer
from tests.contract.replicate_accounts import DESTINATION, NO_DATA, TRAIN_PATH, Opened, opened

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    """The time of the sandbox, moved by the tests alone."""
    return ManualClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home"), clock) as running:
        yield running


@pytest.fixture
def open_account(server: SandboxServer) -> Iterator[Open]:
    """Give a function that opens an account."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(opened(server, **settings))


def test_money(open_account: Open) -> None:
    """An account that cannot pay is refused, and nothing is started."""
    mine = open_account(balance=0)
    answer = mine.http.post(TRAIN_PATH, json={"destination": DESTINATION, "input": {"train_data": NO_DATA}})
    assert (answer.status_code, answer.json()["title"]) == (402, "Insufficient credit")
    assert answer.headers["content-type"] == "application/problem+json"
    assert mine.account.bill()["started_runs"] == 0


def test_models(open_account: Open, clock: ManualClock) -> None:
    """Made once, found by everybody who owns them, deleted when private and empty."""
    mine, other = open_account(), open_account()
    model = {"owner": "sandbox-user", "name": "signs", "visibility": "private", "hardware": "cpu"}
    codes = [
        mine.http.post("/v1/models", json={**model, **changes}).status_code
        for changes in ({}, {"owner": "x"}, {"name": "A b"}, {"hardware": "none"}, {"visibility": "hidden"})
    ]
    assert codes == [409, 403, 422, 422, 422]
    assert mine.get(f"/v1/models/{DESTINATION}")["latest_version"] is None
    mine.train()
    clock.advance(60)
    (version,) = mine.get(f"/v1/models/{DESTINATION}/versions")["results"]
    path = f"/v1/models/{DESTINATION}/versions/{version['id']}"
    assert mine.get(path)["cog_version"]
    assert other.http.get(path).status_code == 404
    assert mine.http.delete(f"/v1/models/{DESTINATION}").status_code == 403
    answer = mine.http.delete(path)
    assert (answer.status_code, answer.content) == (202, b"")
    assert mine.http.get(path).status_code == 404
    assert mine.http.delete(f"/v1/models/{DESTINATION}").status_code == 204
    assert mine.http.delete(f"/v1/models/{TRAINER}").status_code == 403


def test_limits_are_told_on_every_answer(open_account: Open) -> None:
    """What is left counts down; over the limit the body says when to come back, and no header does."""
    mine = open_account(replicate={"requests_per_minute": 4, "predictions_per_minute": 2})
    answers = [mine.http.get("/v1/hardware") for _ in range(4)]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert isinstance(answers[0].json(), list)
    over = answers[3]
    assert (over.status_code, over.json()["status"]) == (429, 429)
    assert 1 <= over.json()["retry_after"] <= 60
    assert "retry-after" not in over.headers
    created = [mine.http.post("/v1/predictions", json={}).status_code for _ in range(3)]
    assert created == [422, 422, 429]  # counted on their own
    mine.account.configure(replicate={})
    mine.account.fault("status", status=500, path="/v1/hardware")
    broken = mine.http.get("/v1/hardware")
    assert (broken.status_code, broken.headers["content-type"]) == (500, "application/problem+json")


def test_a_create_whose_answer_is_lost(open_account: Open) -> None:
    """The connection breaks after the training was accepted: it is there, and once."""
    mine = open_account()
    mine.account.fault("reset", method="POST", path="trainings$", stage="after")
    with pytest.raises(httpx.HTTPError):
        mine.train()
    assert len(mine.get("/v1/trainings")["results"]) == 1
    assert mine.account.bill()["started_runs"] == 1


def test_files(open_account: Open, clock: ManualClock) -> None:
    """Both generations of clients upload; checksums are the content's; a day later the file is gone."""
    mine = open_account(replicate={"max_file_bytes": 10})
    parts = {"metadata": (None, b'{"a": 1}', "application/json"), "upload": ("x", b"12345", "text/plain")}
    answer = mine.http.post("/v1/files", files=parts, data={"filename": "y.zip", "type": "application/zip"})
    file = answer.json()
    assert (file["name"], file["content_type"], file["metadata"], file["size"]) == (
        "y.zip",
        "application/zip",
        {"a": 1},
        5,
    )
    assert sorted(file["checksums"]) == ["md5", "sha256"]
    assert mine.upload(b"12345")["id"] != mine.upload(b"12345")["id"]
    assert mine.get("/v1/files")["next"] is None
    large = mine.http.post("/v1/files", files={"content": b"0" * 11})
    assert (large.status_code, large.json()) == (413, {"detail": "Files must be less than 100MB in size"})
    assert mine.http.post("/v1/files", files={"other": b"0"}).status_code == 400
    clock.advance(86_400)
    assert mine.http.get(f"/v1/files/{file['id']}").status_code == 404
    assert mine.get("/v1/files")["results"] == []


def test_a_signed_download(open_account: Open, clock: ManualClock) -> None:
    """A file's bytes come for a signature that fits, until it expires."""
    from sandbox.api.replicate.files import download_signature

    mine = open_account()
    file_id = mine.upload(b"12345")["id"]
    secret, expiry = mine.get("/v1/webhooks/default/secret")["key"], str(int(clock.now_s()) + 60)
    query = {"owner": "sandbox-user", "expiry": expiry}
    query["signature"] = download_signature(secret, "sandbox-user", file_id, expiry)
    path = f"/v1/files/{file_id}/download"
    assert mine.http.get(path, params=query).content == b"12345"
    assert mine.http.get(path, params={**query, "owner": "x"}).status_code == 403
    clock.advance(61)
    assert mine.http.get(path, params=query).status_code == 403
    logged = [row["query"] for row in mine.account.requests() if row["path"] == path]
    assert [text.partition("signature=")[2] for text in logged] == ["…"] * 3


def test_an_output_while_it_still_processes(open_account: Open, clock: ManualClock) -> None:
    """By setting a prediction that was waited for has its output although it says processing."""
    mine = open_account(replicate={"sync_status": "processing"})
    started = mine.train()
    clock.advance(60)
    image = mine.upload(road_signs(1, size=64)[0].content)["urls"]["get"]
    body = {"version": mine.training(started)["output"]["version"], "input": {"image": image}}
    answer = mine.http.post("/v1/predictions", json=body, headers={"prefer": "wait"})
    seen = answer.json()
    assert (answer.status_code, seen["status"], list(seen["output"])) == (201, "processing", ["classes"])
    assert mine.get(f"/v1/predictions/{seen['id']}")["status"] == "succeeded"


def test_ways_to_ask_for_a_prediction(open_account: Open, clock: ManualClock, server: SandboxServer) -> None:
    """Waited for or not, cold or warm, by hex or by name; what is wrong is refused or fails, and the time is billed."""
    mine = open_account(replicate={"boot_s": 20})
    started = mine.train({"pipeline": "yolox"})
    clock.advance(60)
    version = mine.training(started)["output"]["version"]
    body = {"version": version, "input": {"image": "data:image/png;base64,AAAA"}}

    def ask(changes: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        return mine.http.post("/v1/predictions", json={**body, **(changes or {})}, headers=headers)

    cold = ask(prefer="wait=1")
    assert (cold.status_code, cold.json()["status"], cold.json()["output"]) == (202, "starting", None)
    assert cold.headers["preference-applied"] == "wait=1"
    late = ask(**{"cancel-after": "5s"}).json()["id"]
    given_up = ask().json()["id"]
    clock.advance(10)
    assert mine.http.post(f"/v1/predictions/{given_up}/cancel").json()["status"] == "canceled"
    clock.advance(11)
    failed = mine.get(f"/v1/predictions/{cold.json()['id']}")
    assert failed["status"] == "failed"
    assert "image" in failed["error"]
    assert mine.get(f"/v1/predictions/{late}")["status"] == "aborted"
    run, stopped = mine.account.bill()["others"]
    assert 20 * 725 <= run["charged"] < 25 * 725
    assert stopped["charged"] == 10 * 725  # it was booting until then
    wrong = [{"version": "owner/name"}, {"version": "0" * 64}, {"input": {}}, {"webhook_completed": "x"}]
    assert [ask(changes).status_code for changes in wrong] == [422] * 4
    assert [ask(prefer=value).status_code for value in ("wait=0", "wait=61", "later")] == [422] * 3
    recent = mine.get("/v1/predictions", params={"created_after": "2100-01-01T00:00:00Z"})
    assert recent["results"] == []
    assert len(mine.get("/v1/predictions")["results"]) == 3
