"""The webhook receiver: what is genuine is written down once, everything else changes nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments import webhooks
from deployments.webhooks import BODY_BYTES, create_app
from pipeline.journal.store import Journal
from tasks.webhooks import Receiver
from tests.deliveries import NOW_S, OTHER_SECRET, Trickle, delivery
from tests.unit.inbox import Inbox, Recorder


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    """A receiver with the example's secret and a journal of its own."""
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "journal.db"))
    return Inbox(tmp_path / "journal.db")


# -- what is genuine --------------------------------------------------------------------------------------------------


def test_a_genuine_delivery_is_written_down_and_passed_on(inbox: Inbox) -> None:
    """Answered 204, counted for its run, and its flow run is to be brought forward."""
    assert inbox.send(delivery(), delivery("r2", "msg_2")) == [204, 204]
    assert (inbox.count("r1"), inbox.count("r2"), inbox.passed_on) == (1, 1, ["r1", "r2"])


def test_the_vendors_published_example_is_genuine(inbox: Inbox) -> None:
    """Its signature fits, so that only its body is found fault with: it names no run."""
    inbox.now_s = 1_614_265_330
    example = httpx.Request(
        "POST",
        "http://inbox.test/webhooks/replicate",
        content=b'{"test": 2432232314}',
        headers={
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
    )
    assert inbox.send(example) == [400]
    inbox.now_s += 301
    assert inbox.send(example) == [401]


def test_the_same_one_again_counts_once(inbox: Inbox) -> None:
    """Replayed or delivered twice: answered as before, so that it stops, and passed on once."""
    assert inbox.send(delivery(), delivery(), delivery()) == [204, 204, 204]
    assert inbox.count() == 1
    assert inbox.passed_on == ["r1"]


def test_the_order_does_not_matter(inbox: Inbox) -> None:
    """An earlier event after the terminal one is one more reason to look, and nothing else."""
    early = json.dumps({"id": "r1", "status": "processing"}).encode()
    assert inbox.send(delivery(delivery_id="msg_2"), delivery(at_s=NOW_S - 200, body=early)) == [204, 204]
    assert inbox.count() == 2


def test_a_run_nobody_knows_is_taken_in(inbox: Inbox) -> None:
    """The vendor may call before the create's answer is written down: whoever watches it later hears of it."""
    assert inbox.send(delivery("of-somebody-else")) == [204]
    assert inbox.count("of-somebody-else") == 1


def test_the_body_is_not_believed(inbox: Inbox, tmp_path: Path) -> None:
    """Whatever status a delivery claims, the journal holds its id and its run's and nothing else of it."""
    body = json.dumps({"id": "r1", "status": "failed", "error": "claimed", "output": {"weights": "http://evil"}})
    assert inbox.send(delivery(body=body.encode())) == [204]
    written = b"".join(path.read_bytes() for path in tmp_path.glob("journal.db*"))
    assert b"msg_1" in written
    assert b"claimed" not in written
    assert b"evil" not in written


# -- what is not ------------------------------------------------------------------------------------------------------

FORGED: dict[str, Callable[[], httpx.Request]] = {
    "another secret": lambda: delivery(secret=OTHER_SECRET),
    "another id": lambda: delivery(webhook_id="msg_2"),
    "another time": lambda: delivery(webhook_timestamp=str(NOW_S + 1)),
    "no id": lambda: delivery(webhook_id=None),
    "no time": lambda: delivery(webhook_timestamp=None),
    "no signature": lambda: delivery(webhook_signature=None),
    "an empty signature": lambda: delivery(webhook_signature="v1,"),
    "another kind of signature": lambda: delivery(webhook_signature="v1a,g0hM9SsE"),
    "late": lambda: delivery(at_s=NOW_S - 301),
    "early": lambda: delivery(at_s=NOW_S + 301),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_forged_and_late_ones_are_refused(forged: Callable[[], httpx.Request], inbox: Inbox) -> None:
    """Answered 401; nothing is written down, nobody is woken."""
    assert inbox.send(forged()) == [401]
    assert inbox.count() == 0
    assert inbox.passed_on == []


def test_a_changed_body_is_refused(inbox: Inbox) -> None:
    """One byte is enough."""
    genuine = delivery()
    changed = httpx.Request("POST", genuine.url, content=genuine.content.replace(b"r1", b"r2"), headers=genuine.headers)
    assert inbox.send(changed) == [401]
    assert (inbox.count("r1"), inbox.count("r2")) == (0, 0)


@pytest.mark.parametrize("off_s", [-300, 300])
def test_the_tolerance_is_five_minutes(off_s: int, inbox: Inbox) -> None:
    """To the second, either way."""
    assert inbox.send(delivery(at_s=NOW_S + off_s)) == [204]


UNREADABLE: dict[str, bytes] = {
    "no id": b"{}",
    "null": b'{"id": null}',
    "a number": b'{"id": 5}',
    "empty": b'{"id": ""}',
    "a list": b"[]",
    "nothing": b"",
    "not JSON": b"id=r1",
    "not text": b'{"id": "\xff\xfe"}',
    "too long": json.dumps({"id": "r" * 201}).encode(),
    "a control character": b'{"id": "r\\u00001"}',
    "a line": b'{"id": "r1\\nforged line"}',
    "nested without end": b'{"id": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_without_a_run_is_unreadable(body: bytes, inbox: Inbox) -> None:
    """Genuine, and of no use: 400."""
    assert inbox.send(delivery(body=body)) == [400]
    assert inbox.passed_on == []


def test_a_delivery_id_nobody_gives_is_unreadable(inbox: Inbox) -> None:
    """The journal takes two hundred characters."""
    assert inbox.send(delivery(delivery_id="m" * 201), delivery(delivery_id="m" * 200)) == [400, 204]


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_that_is_too_large_is_not_read_to_its_end(is_announced: bool, inbox: Inbox) -> None:
    """Refused at the first byte over the limit, announced or not; the largest one is still read."""
    body = Trickle([b"x" * (BODY_BYTES // 2)] * 50)
    headers = {"content-length": str(25 * BODY_BYTES)} if is_announced else {}
    large = httpx.Request("POST", "http://inbox.test/webhooks/replicate", stream=body, headers=headers)
    assert inbox.send(large) == [413]
    assert body.sent == 3
    largest = b'{"id": "r1"}'.ljust(BODY_BYTES)
    assert inbox.send(delivery(body=largest), delivery(body=largest + b" ")) == [204, 413]


def test_a_body_that_does_not_arrive_is_given_up(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends byte by byte keeps no connection for ever."""
    monkeypatch.setattr(webhooks, "BODY_S", 0.01)
    slow = httpx.Request("POST", "http://inbox.test/webhooks/replicate", stream=Trickle([b"{"], stalls=True))
    assert inbox.send(slow) == [408]


def test_other_paths_and_methods_are_none(inbox: Inbox) -> None:
    """No description of the API, no other vendor, nothing to read."""
    asked = [("GET", "/webhooks/replicate"), ("POST", "/webhooks/pictograph"), ("GET", "/openapi.json"), ("GET", "/")]
    assert inbox.send(*(httpx.Request(method, f"http://inbox.test{path}") for method, path in asked)) == [
        405,
        404,
        404,
        404,
    ]


# -- when something is away -------------------------------------------------------------------------------------------


def test_without_the_journal_it_is_to_be_sent_again(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 while it is away; the same delivery is new when it is back."""
    (tmp_path / "taken").write_text("not a folder")
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "taken" / "journal.db"))
    assert inbox.send(delivery()) == [503]
    assert inbox.passed_on == []
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(inbox.location))
    assert inbox.send(delivery()) == [204]
    assert inbox.count() == 1


def test_a_slow_journal_does_not_hold_up_the_answer(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered 503 in time; what is written down all the same in the end counts once."""
    may_go_on, is_done = threading.Event(), threading.Event()
    deliver = Journal.deliver

    def slow(self: Journal, provider: str, delivery_id: str, run_id: str) -> bool:
        assert may_go_on.wait(60)
        try:
            return deliver(self, provider, delivery_id, run_id)
        finally:
            is_done.set()

    monkeypatch.setattr(Journal, "deliver", slow)
    inbox.answer_s = 0.05
    assert inbox.send(delivery()) == [503]
    may_go_on.set()
    assert is_done.wait(60)
    inbox.answer_s = 10.0
    assert inbox.send(delivery()) == [204]
    assert inbox.count() == 1


def test_a_sender_that_hangs_up_is_no_event(tmp_path: Path) -> None:
    """Nothing is raised: whoever likes could fill the log with tracebacks."""
    inbox = Inbox(tmp_path / "journal.db")
    app = create_app(Receiver(inbox.secret), Recorder([]))
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/webhooks/replicate", "headers": [], "query_string": b""}
    asyncio.run(
        app({**scope, "raw_path": b"/webhooks/replicate", "http_version": "1.1", "scheme": "http"}, receive, send)
    )
    assert sent[0]["status"] == 400
