"""The receiver's secret, whose it is, what is logged of it, and the command that serves."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from deployments import webhooks
from pipeline.errors import TransportError
from providers.replicate.webhooks import WebhookRefusedError
from tasks import webhooks as receiving
from tasks.webhooks import REFRESH_S, Receiver, SigningSecret, replicate_receiver
from tests.deliveries import OTHER_SECRET, SECRET, delivery
from tests.unit.conftest import FakeClock, FakeProvider, Script
from tests.unit.inbox import HEALTH, Inbox


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    """A receiver with the example's secret and a journal of its own."""
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "journal.db"))
    return Inbox(tmp_path / "journal.db")


def test_the_secret_is_asked_for_once(inbox: Inbox, clock: FakeClock) -> None:
    """Before the first delivery; a delivery that fits asks for nothing."""
    ask = Script(SECRET)
    inbox.secret = SigningSecret(ask, None, clock.monotonic)
    assert inbox.send(delivery(), delivery(delivery_id="msg_2"), HEALTH) == [204, 204, 200]
    assert ask.calls == 1


def test_a_new_secret_is_found_out(inbox: Inbox, clock: FakeClock) -> None:
    """A signature that does not fit is a reason to ask, once a minute whoever sends what."""
    ask = Script(SECRET, SECRET, OTHER_SECRET)
    inbox.secret = SigningSecret(ask, None, clock.monotonic)
    assert inbox.send(delivery()) == [204]
    renewed = delivery(delivery_id="msg_2", secret=OTHER_SECRET)
    clock.sleep(REFRESH_S)
    assert inbox.send(renewed, renewed, renewed) == [401, 401, 401]
    assert ask.calls == 2
    clock.sleep(REFRESH_S)
    assert inbox.send(renewed, delivery(delivery_id="msg_3")) == [204, 401]
    assert ask.calls == 3


def test_without_the_secret_nothing_is_judged(inbox: Inbox, clock: FakeClock) -> None:
    """Neither taken in nor refused: sent again, it is judged; asked for not more often than every few seconds."""
    ask = Script(TransportError("no answer"), SECRET)
    inbox.secret = SigningSecret(ask, None, clock.monotonic)
    assert inbox.send(HEALTH, delivery(), delivery()) == [503, 503, 503]
    assert (ask.calls, inbox.count()) == (1, 0)
    clock.sleep(receiving.AGAIN_S)
    assert inbox.send(delivery(), HEALTH) == [204, 200]


def test_an_api_that_is_away_does_not_make_a_forged_one_genuine(inbox: Inbox, clock: FakeClock) -> None:
    """The secret that is known goes on to be the measure."""
    inbox.secret = SigningSecret(Script(SECRET, TransportError("no answer")), None, clock.monotonic)
    assert inbox.send(delivery()) == [204]
    clock.sleep(REFRESH_S)
    assert inbox.send(delivery(secret=OTHER_SECRET), delivery(delivery_id="msg_2")) == [401, 204]


def test_asking_for_a_new_secret_holds_nobody_up(inbox: Inbox, clock: FakeClock) -> None:
    """While the API does not answer about one that did not fit, those that fit are taken in."""
    is_asked, may_answer = threading.Event(), threading.Event()
    answers = iter([SECRET])

    def ask() -> SecretStr:
        known = next(answers, None)
        if known is None:
            is_asked.set()
            assert may_answer.wait(60)
        return known or SECRET

    inbox.secret = SigningSecret(ask, None, clock.monotonic)
    assert inbox.send(delivery()) == [204]
    clock.sleep(REFRESH_S)
    receiver = Receiver(inbox.secret, now=lambda: inbox.now_s)
    statuses: list[int] = []
    forged = delivery(secret=OTHER_SECRET)
    asking = threading.Thread(target=lambda: statuses.extend(inbox.send(forged)))
    asking.start()
    assert is_asked.wait(60)
    taken = receiver.take_in(delivery(delivery_id="msg_2").headers, delivery().content)
    assert taken.is_new
    with pytest.raises(WebhookRefusedError):
        receiver.take_in(forged.headers, forged.content)
    may_answer.set()
    asking.join(60)
    assert statuses == [401]


def test_nothing_secret_is_logged(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the secret, nor a signature, nor anything a body says."""
    caplog.set_level(logging.DEBUG)
    body = b'{"id": ["said-in-the-body"], "logs": "said-in-the-body"}'
    requests = [delivery(), delivery(secret=OTHER_SECRET), delivery(body=body), delivery(at_s=1)]
    assert inbox.send(*requests) == [204, 401, 400, 401]
    assert "has called about training r1" in caplog.text
    secrets = [secret.get_secret_value().removeprefix("whsec_") for secret in (SECRET, OTHER_SECRET)]
    signatures = [request.headers["webhook-signature"] for request in requests]
    for word in [*secrets, *signatures, "said-in-the-body"]:
        assert word not in caplog.text


# -- whose receiver it is ---------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The accounts whose secret was asked for; the API has the other secret."""
    accounts: list[Any] = []

    class Account(FakeProvider):
        accounts = type("Accounts", (), {"webhook_secret": staticmethod(lambda: OTHER_SECRET)})

        def close(self) -> None:
            """Nothing is open."""

    def open_one(account: Any) -> closing[Account]:
        accounts.append(account)
        return closing(Account())

    monkeypatch.setattr(receiving, "open_provider", open_one)
    return accounts


def test_a_configured_secret_is_the_only_one(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is not asked, however many do not fit."""
    monkeypatch.setenv("REPLICATE_WEBHOOK_SECRET", f" {SECRET.get_secret_value()}\n")
    secret = replicate_receiver(sandbox=False).secret
    assert (secret.get(), secret.newer(SECRET), asked) == (SECRET, None, [])


def test_without_one_the_account_is_asked(asked: list[Any]) -> None:
    """By the block that was named, or by the environment's token."""
    assert replicate_receiver(sandbox=False, credentials="mine").secret.get() == OTHER_SECRET
    assert [(one.provider, one.sandbox, one.credentials) for one in asked] == [("replicate", False, "mine")]


def test_a_rehearsal_has_a_secret_of_its_own(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosted account's is no measure for the sandbox's deliveries."""
    monkeypatch.setenv("REPLICATE_WEBHOOK_SECRET", SECRET.get_secret_value())
    assert replicate_receiver(sandbox=True).secret.get() == OTHER_SECRET
    assert [one.sandbox for one in asked] == [True]


def test_the_command_serves_what_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and port as given; no access log, which would show what an address carries."""
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **settings: served.append(settings))
    assert webhooks.main(["--host", "127.0.0.2", "--port", "81", "--sandbox"]) == 0
    assert (served[0]["host"], served[0]["port"], served[0]["access_log"]) == ("127.0.0.2", 81, False)


def test_an_environment_that_cannot_be_read_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the variable's name."""
    monkeypatch.setenv("TRAIN_PIPELINE_DAY_CAP_USD", "plenty")
    assert webhooks.main([]) == 2
    assert "TRAIN_PIPELINE_DAY_CAP_USD" in capsys.readouterr().err
