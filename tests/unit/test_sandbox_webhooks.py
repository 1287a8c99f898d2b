"""When Replicate's webhooks are put in line, delivered and tried again: by a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response
from sqlalchemy import select

from sandbox import documents
from sandbox.accounts import Account, create_account
from sandbox.api.replicate.call import webhook_of
from sandbox.api.replicate.vendor import ReplicateDialect
from sandbox.clock import ManualClock
from sandbox.core import Sandbox, open_sandbox
from sandbox.dialects import RefusedError
from sandbox.replicate import webhooks
from sandbox.replicate.inputs import InputError, fetch
from sandbox.replicate.trainings import Order, create
from sandbox.replicate.words import DELIVERY
from sandbox.settings import AccountSettings
from sandbox.store import Row, every
from sandbox.store import documents as table

BAD = ("http://127.0.0.1:abc/x", "http://127.0.0.1/\ud800", "http://127.0.0.1:99999/x", "http://[::1/x")
STEPS = [{"status": "queued", "for_s": 0.5}, {"status": "running", "for_s": 10, "epochs": 100}, {"status": "completed"}]


@pytest.fixture
def clock() -> ManualClock:
    """The time of the sandbox."""
    return ManualClock()


@pytest.fixture
def sandbox(tmp_path: Path, clock: ManualClock) -> Iterator[Sandbox]:
    """A sandbox without a server."""
    opened = open_sandbox(tmp_path, clock)
    yield opened
    opened.store.close()


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were called; nobody takes anything there."""
    seen: list[str] = []

    def refused(_sandbox: Sandbox, url: str, *_: Any) -> bool:
        seen.append(url)
        return False

    monkeypatch.setattr(webhooks, "_posted", refused)
    return seen


def opened(sandbox: Sandbox, **quirks: Any) -> Account:
    """Return an account whose trainings take ten seconds."""
    settings = {"engine": "scripted", "script": {"steps": STEPS}, "replicate": quirks}
    return create_account(sandbox, AccountSettings.model_validate(settings))


def ordered(sandbox: Sandbox, account: Account, url: str = "http://127.0.0.1:9/x", *events: str) -> Row:
    """Return a new training with a webhook."""
    given = {"train_data": "data:,x", "pipeline": "classification", "epochs": 100}
    made = Order("m", "v", "o/n", given, "http://here", url, events or ("completed",))
    with sandbox.store.write() as tx:
        return create(sandbox, tx, account, made)


def line(sandbox: Sandbox, event: str = "completed") -> list[Row]:
    """Return the deliveries in line of an event."""
    with sandbox.store.read() as tx:
        rows = every(tx, select(table).where(table.c.kind == DELIVERY).order_by(table.c.seq))
    return [row for row in rows if row["data"]["event"] == event]


def test_a_late_webhook_is_delivered_when_its_delay_is_over(
    sandbox: Sandbox, clock: ManualClock, posted: list[str]
) -> None:
    """With a delay of five seconds nothing leaves after 4.9, and one leaves after 5."""
    ordered(sandbox, opened(sandbox, webhook_delay_s=5.0), "http://127.0.0.1:9/x", "start")
    ReplicateDialect().tick(sandbox)
    clock.advance(1)
    ReplicateDialect().tick(sandbox)
    sent = []
    for seconds in (0.0, 4.9, 0.2):
        clock.advance(seconds)
        webhooks.deliver_due(sandbox)
        sent.append(len(posted))
    assert sent == [0, 0, 1]


def test_logs_are_told_twice_a_second_at_most(sandbox: Sandbox, clock: ManualClock) -> None:
    """A training that prints ten times a second tells of it no sooner than half a second after the last time."""
    ordered(sandbox, opened(sandbox), "http://127.0.0.1:9/x", "logs")
    at_s = []
    for _ in range(40):
        clock.advance(0.1)
        ReplicateDialect().tick(sandbox)
        at_s = [row["created_at"] for row in line(sandbox, "logs")]
    gaps = [later - former for former, later in pairwise(at_s)]
    assert 6 <= len(at_s) <= 8
    assert min(gaps) >= 0.499


def test_the_end_is_tried_seven_times_with_longer_and_longer_pauses(
    sandbox: Sandbox, clock: ManualClock, posted: list[str]
) -> None:
    """Each pause is twice the one before, and after the seventh try the delivery is given up."""
    ordered(sandbox, opened(sandbox, webhook_retry_s=2.0))
    clock.advance(11)
    ReplicateDialect().tick(sandbox)
    begun_s, tried_at = clock.now_s(), list[float]()
    for _ in range(400):
        before = len(posted)
        webhooks.deliver_due(sandbox)
        tried_at += [clock.now_s() - begun_s] * (len(posted) - before)
        clock.advance(1)
    assert tried_at == [0, 2, 6, 14, 30, 62, 126]
    assert line(sandbox) == []


@pytest.mark.parametrize("url", BAD)
def test_a_bad_address_holds_up_nobody(
    sandbox: Sandbox, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """In line before another account's webhook, it fails by itself and the other is delivered."""
    sent: list[str] = []
    real = webhooks._posted

    def post(given: Sandbox, to: str, body: bytes, headers: Any) -> bool:
        sent.append(to)
        return True if to == "http://127.0.0.1:9/good" else real(given, to, body, headers)

    monkeypatch.setattr(webhooks, "_posted", post)
    for address in (url, "http://127.0.0.1:9/good"):
        ordered(sandbox, opened(sandbox), address)
    clock.advance(11)
    ReplicateDialect().tick(sandbox)
    webhooks.deliver_due(sandbox)
    assert sent[-1] == "http://127.0.0.1:9/good"
    assert [row["data"]["url"] for row in line(sandbox)] in ([url], [])


def test_what_nobody_foresaw_is_that_delivery_s_alone(
    sandbox: Sandbox, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in one row is logged, and the row behind it is tried in the same round."""
    tried: list[str] = []

    def broken(_sandbox: Sandbox, url: str, *_: Any) -> bool:
        tried.append(url)
        raise ZeroDivisionError

    monkeypatch.setattr(webhooks, "_posted", broken)
    urls = ["http://127.0.0.1:9/1", "http://127.0.0.1:9/2"]
    for url in urls:
        ordered(sandbox, opened(sandbox), url)
    clock.advance(11)
    ReplicateDialect().tick(sandbox)
    webhooks.deliver_due(sandbox)
    assert tried == urls


def test_nothing_is_delivered_once_the_sandbox_stops(sandbox: Sandbox, clock: ManualClock, posted: list[str]) -> None:
    """What is in line stays there for the next server of this home."""
    ordered(sandbox, opened(sandbox))
    clock.advance(11)
    ReplicateDialect().tick(sandbox)
    sandbox.stopping.set()
    webhooks.deliver_due(sandbox)
    assert (posted, len(line(sandbox))) == ([], 1)


@pytest.mark.parametrize("url", [*BAD, "http://127.0.0.1/a\nb", "ftp://127.0.0.1/x", "http:///x", 7])
def test_a_webhook_that_cannot_be_called_is_refused(url: object) -> None:
    """A port that is none, text that cannot be sent, and other schemes answer 422 at the create."""
    with pytest.raises(RefusedError) as caught:
        webhook_of({"webhook": url})
    assert isinstance(caught.value.response, Response)
    assert caught.value.response.status_code == 422
    assert webhook_of({"webhook": "http://127.0.0.1:80/x"})[0] == "http://127.0.0.1:80/x"


@pytest.mark.parametrize("url", BAD)
def test_an_input_at_a_bad_address_is_an_input_that_cannot_be_read(sandbox: Sandbox, url: str) -> None:
    """The run's owner is told, and nothing else is raised."""
    with pytest.raises(InputError):
        fetch(sandbox, opened(sandbox), url)


def test_the_start_of_a_server_forgets_what_has_expired(sandbox: Sandbox, clock: ManualClock) -> None:
    """A file past its time goes with its row, weights past their retention go; younger ones stay."""
    account = opened(sandbox, retention_s=100.0)
    with sandbox.store.write() as tx:
        for name, left_s in (("old", 50.0), ("new", 500.0)):
            data = {"expires_at": clock.now_s() + left_s}
            documents.add(tx, account, "replicate.file", id=f"file-{name}", data=data, at_s=clock.now_s())
            begun = {"data": {"engine": "scripted"}, "at_s": clock.now_s(), "completed_at": clock.now_s() + left_s * 2}
            documents.add(tx, account, "replicate.training", id=f"training-{name}", **begun)
    names = ("file-old", "file-new", "training-old", "training-new")
    paths = [sandbox.object_path(account.id, "replicate", name, "content") for name in names]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    clock.advance(250)
    ReplicateDialect().expire(sandbox)
    assert [path.exists() for path in paths] == [False, True, False, True]
    with sandbox.store.read() as tx:
        assert documents.find(tx, account, "replicate.file", "file-old") is None
        assert documents.find(tx, account, "replicate.file", "file-new") is not None
        assert documents.find(tx, account, "replicate.training", "training-old") is not None
