"""What Replicate's clients get wrong, leave unread or ask for too much of, on the wire."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.api.replicate import trainings as training_routes
from sandbox.clock import ManualClock
from sandbox.core import Sandbox
from sandbox.exportzip import write_export
from sandbox.replicate import views
from sandbox.roadsigns import road_signs
from sandbox.server import SandboxServer
from tests.contract.replicate_accounts import DESTINATION, NO_DATA, TRAIN_PATH, Opened, opened

Open = Callable[..., Opened]
NO_PICTURE = "data:image/png;base64,AAAA"
A40_MICRO_USD, T4_MICRO_USD = 725, 225
BAD_TEXTS = {
    "nan": '{"a": NaN}',
    "infinity": '{"a": [-Infinity]}',
    "too large a number": '{"a": 1e999}',
    "half a pair": '{"a": "\\ud800"}',
    "half a pair as a key": '{"\\udfff": 1}',
    "deep": "[" * 200_000,
    "too deep to show": '{"a": ' + "[" * 150 + "]" * 150 + "}",
}


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


def _version(mine: Opened, clock: ManualClock) -> str:
    started = mine.train()
    clock.advance(60)
    return str(mine.training(started)["output"]["version"])


def _others(mine: Opened) -> list[dict[str, Any]]:
    return list(mine.account.bill()["others"])


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_json_that_no_answer_could_repeat(open_account: Open, text: str) -> None:
    """It is refused as a problem, whatever was to be made, and nothing of it is kept."""
    mine = open_account()
    usual = json.dumps({"train_data": NO_DATA})
    body = f'{{"destination": "{DESTINATION}", "input": {usual}, "more": {text}}}'
    model = (
        f'{{"owner": "sandbox-user", "name": "x", "visibility": "private", "hardware": "cpu", "description": {text}}}'
    )
    sent = {TRAIN_PATH: body, "/v1/models": model, "/v1/predictions": body}
    answers = [mine.http.post(path, content=content) for path, content in sent.items()]
    answers.append(mine.http.post("/v1/files", files={"content": ("x", b"1")}, data={"metadata": text}))
    assert [answer.status_code for answer in answers] == [422] * 4
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert [mine.get(f"/v1/{what}")["results"] for what in ("trainings", "predictions", "files")] == [[], [], []]
    assert mine.http.get("/v1/models/sandbox-user/x").status_code == 404


def test_json_that_is_only_odd(open_account: Open) -> None:
    """Many levels, whole pairs and very large whole numbers are kept, and every later read shows them."""
    mine, deep = open_account(), json.loads("[" * 90 + "]" * 90)
    started = mine.train({"odd": deep, "pair": "\U0001f600", "epochs": 10**400})
    assert mine.training(started)["input"]["odd"] == deep
    assert mine.get("/v1/trainings")["results"][0]["input"]["pair"] == "\U0001f600"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("cancel-after", value) for value in ("²", "9" * 5000, "9" * 400 + "h", "4s", "soon")],
        *[("prefer", f"wait={value}") for value in ("²", "9" * 5000, "61")],
    ],
)
def test_headers_that_are_no_time(open_account: Open, clock: ManualClock, name: str, value: str) -> None:
    """They are refused, however long they are or whatever else has digits."""
    mine = open_account()
    body = {"version": "0" * 64, "input": {"image": NO_PICTURE}}
    answer = mine.http.post("/v1/predictions", json=body, headers={name: value.encode("latin-1")})
    assert (answer.status_code, answer.json()["detail"][:6]) == (422, {"c": "Cancel", "p": "Prefer"}[name[0]])


@pytest.mark.parametrize("odd", [{"webhook": "http://[x"}, {"webhook": "http://a", "webhook_events_filter": [[]]}])
def test_webhooks_that_are_none(open_account: Open, odd: dict[str, Any]) -> None:
    """What is no address, or no list of words, is refused."""
    body = {"destination": DESTINATION, "input": {"train_data": NO_DATA}, **odd}
    assert open_account().http.post(TRAIN_PATH, json=body).status_code == 422


def test_a_list_writes_no_logs_and_holds_nobody_up(open_account: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are shown after their transaction, and no log is written that a list does not show."""
    mine, is_free = open_account(script={"steps": [{"status": "running", "for_s": 5}]}), list[bool]()
    mine.train({"epochs": 3_000_000})
    shown = training_routes.list_view

    def looked(sandbox: Sandbox, *rest: Any) -> dict[str, Any]:
        is_free.append(sandbox.store._turn.acquire(timeout=2))
        if is_free[-1]:
            sandbox.store._turn.release()
        return shown(sandbox, *rest)

    monkeypatch.setattr(training_routes, "list_view", looked)
    monkeypatch.setattr(views, "logs_of", None)  # whoever calls it breaks
    assert len(mine.get("/v1/trainings")["results"]) == 1
    assert is_free == [True]


def test_who_waits_holds_nobody_up(open_account: Open, clock: ManualClock) -> None:
    """While 45 predictions are waited for, another account is answered; then all of them are."""
    mine, other = open_account(replicate={"boot_s": 20}), open_account()
    body = {"version": _version(mine, clock), "input": {"image": NO_PICTURE}}

    def ask() -> int:
        return mine.http.post("/v1/predictions", json=body, headers={"prefer": "wait=15"}).status_code

    with ThreadPoolExecutor(45) as pool:
        asked = [pool.submit(ask) for _ in range(45)]
        with httpx.Client(base_url=mine.account.url, headers=mine.http.headers, trust_env=False, timeout=30) as http:
            while len(http.get("/v1/predictions").json()["results"]) < 45 and not any(one.done() for one in asked):
                pass
        assert other.get("/v1/trainings")["results"] == []
        assert not any(one.done() for one in asked)
        clock.advance(21)
        assert [one.result() for one in asked] == [201] * 45


def test_a_prediction_that_nobody_reads(open_account: Open, clock: ManualClock) -> None:
    """It runs at the account's next request, whichever that is, and is on the bill without any."""
    mine = open_account(replicate={"boot_s": 20})
    version = _version(mine, clock)
    image = mine.upload(road_signs(1, size=64)[0].content)
    body = {"version": version, "input": {"image": image["urls"]["get"]}}
    asked = mine.http.post("/v1/predictions", json=body).json()
    clock.advance(21)
    assert mine.http.delete(f"/v1/files/{image['id']}").status_code == 204  # what it needed goes after it ran
    seen = mine.get(f"/v1/predictions/{asked['id']}")
    assert (seen["status"], seen["error"]) == ("succeeded", None)
    mine.http.post("/v1/predictions", json={**body, "input": {"image": NO_PICTURE}})
    clock.advance(600)
    lines = _others(mine)
    assert [line["status"] for line in lines] == ["completed", "failed"]
    assert all(20 * A40_MICRO_USD <= line["charged"] < 25 * A40_MICRO_USD for line in lines)


def test_cancelling_a_prediction(open_account: Open, clock: ManualClock) -> None:
    """The boot so far is paid; one that should have run by then has run, is paid for and stays as it ended."""
    mine = open_account(replicate={"boot_s": 20})
    body = {"version": _version(mine, clock), "input": {"image": NO_PICTURE}}
    early, late = (mine.http.post("/v1/predictions", json=body).json()["id"] for _ in range(2))
    clock.advance(10)
    stopped = mine.http.post(f"/v1/predictions/{early}/cancel").json()
    assert (stopped["status"], stopped["metrics"]["predict_time"]) == ("canceled", 0)
    clock.advance(300)
    assert mine.http.post(f"/v1/predictions/{late}/cancel").json()["status"] == "failed"
    charged = [line["charged"] for line in _others(mine)]
    assert charged[0] == 10 * A40_MICRO_USD
    assert 20 * A40_MICRO_USD <= charged[1] < 25 * A40_MICRO_USD


@pytest.mark.parametrize("begin", [("queued", "running"), ("starting", "processing")])
@pytest.mark.parametrize(
    ("word", "paid_s", "versions"), [("succeeded", 10, 1), ("canceled", 10, 0), ("failed", 10, 0), ("aborted", 0, 0)]
)
def test_scripts_in_the_vendors_words(
    open_account: Open, clock: ManualClock, begin: tuple[str, str], word: str, paid_s: int, versions: int
) -> None:
    """They end a training as those in the sandbox's words do: it is over, billed, and has its version."""
    steps = [{"status": begin[0], "for_s": 1}, {"status": begin[1], "for_s": 10}, {"status": word}]
    mine = open_account(script={"steps": steps})
    started = mine.train()
    clock.advance(5)
    assert mine.training(started)["status"] == "processing"
    clock.advance(10)
    done, bill = mine.training(started), mine.account.bill()
    assert (done["status"], done["completed_at"] is not None) == (word, True)
    assert (bill["active_runs"], bill["net"]) == (0, paid_s * T4_MICRO_USD)
    assert len(mine.get(f"/v1/models/{DESTINATION}/versions")["results"]) == versions


def test_a_script_that_is_over_at_once(open_account: Open) -> None:
    """One step in the vendor's word is enough."""
    mine = open_account(script={"steps": [{"status": "succeeded"}]})
    assert mine.training(mine.train())["output"] is not None


@pytest.mark.parametrize("looks_between", [True, False])
def test_data_that_is_gone(open_account: Open, clock: ManualClock, looks_between: bool) -> None:
    """A scripted training fails when it begins without its file: one nobody uploaded, or one that expired in line."""
    mine = open_account(replicate={"file_ttl_s": 5})
    files = f"{mine.account.url.rstrip('/')}/v1/files"
    urls = [f"{files}/nobody-knows?mark=1", mine.upload(b"1")["urls"]["get"]]
    started = [mine.train({"train_data": url}) for url in urls]
    if looks_between:
        clock.advance(12)
        assert [mine.training(one)["status"] for one in started] == ["failed"] * 2
    clock.advance(60)
    for one in started:
        seen = mine.training(one)
        assert (seen["status"], seen["output"]) == ("failed", None)
        assert seen["error"].startswith(f"Could not download train_data: the input at '{files}/")
        assert "mark" not in seen["error"]
    assert mine.account.bill()["net"] == 0


def test_data_that_was_there_when_it_was_needed(open_account: Open, clock: ManualClock) -> None:
    """A file may go once the training has begun; addresses elsewhere are not looked at; other ends stay as they are."""
    mine = open_account()
    file = mine.upload(b"1")
    started = [mine.train({"train_data": url}) for url in (file["urls"]["get"], "http://elsewhere.invalid/x")]
    clock.advance(15)
    assert mine.http.delete(f"/v1/files/{file['id']}").status_code == 204
    clock.advance(60)
    assert [mine.training(one)["status"] for one in started] == ["succeeded"] * 2
    dead = open_account(script={"steps": [{"status": "queued", "for_s": 1}, {"status": "aborted"}]})
    lost = dead.train({"train_data": f"{dead.account.url.rstrip('/')}/v1/files/none"})
    clock.advance(5)
    assert dead.training(lost)["status"] == "aborted"


def test_a_data_uri_has_a_limit(open_account: Open) -> None:
    """256 kB of data are taken and a byte more is not, in trainings as in predictions, whatever the encoding."""
    mine = open_account()

    def codes(path: str, key: str, body: dict[str, Any]) -> list[int]:
        packed = [base64.b64encode(b"0" * size).decode() for size in (256_000, 256_001)]
        uris = [*(f"data:x/y;base64,{text}" for text in packed), "data:x/y," + "0" * 256_001]
        return [mine.http.post(path, json={**body, "input": {key: uri}}).status_code for uri in uris]

    assert codes(TRAIN_PATH, "train_data", {"destination": DESTINATION}) == [201, 422, 422]
    answer = mine.http.post("/v1/predictions", json={"input": {"image": "data:x/y," + "0" * 256_001}})
    assert answer.json()["title"] == "Input validation failed"


@pytest.mark.parametrize(
    ("place", "label"), [("127.0.0.1", "parking"), ("localhost", "parking"), ("elsewhere.invalid", "object")]
)
def test_another_hosts_files_are_not_ours(
    open_account: Open, clock: ManualClock, tmp_path: Path, place: str, label: str
) -> None:
    """An address is an uploaded file by host and port, not by its path alone, for trainings and predictions."""
    mine, path = open_account(), tmp_path / "export.zip"
    write_export(path, dataset="d", export="e", images=road_signs(6, size=64), include_images=True)
    url = mine.upload(path.read_bytes())["urls"]["get"].replace("127.0.0.1", place)
    started = mine.train({"train_data": url})
    clock.advance(60)
    output = mine.training(started)["output"]
    packed = httpx.get(output["weights"], trust_env=False).content
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        config = tar.extractfile("config.json")
        assert config is not None
        assert label in json.load(config)["classes"]
    image = mine.upload(road_signs(1, size=64)[0].content)["urls"]["get"].replace("127.0.0.1", place)
    asked = mine.http.post("/v1/predictions", json={"version": output["version"], "input": {"image": image}}).json()
    seen = mine.get(f"/v1/predictions/{asked['id']}")
    assert seen["status"] == ("failed" if label == "object" else "succeeded")
