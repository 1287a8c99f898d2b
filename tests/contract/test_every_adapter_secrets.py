"""Keys, and which side answers, each vendor's adapter against the sandbox: no key goes or shows where it should not."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    PipelineError,
    ProviderError,
    UnexpectedResponseError,
)
from tests.contract.adapters import Bench, in_flight, whole_story
from tests.contract.vendors import Route

WRONG = "wrong-key-canary-0123456789"


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """An address that is not the vendor's: whoever calls it is seen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_a_wrong_key_is_refused_where_there_are_keys(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """By the check before anything is done as by a look, and is shown nowhere; where there are none all is well."""
    caplog.set_level(logging.DEBUG)
    plan, run, provider = bench.plan(), bench.run(), bench.adapter(key=WRONG)
    if not bench.profile.has_key:
        provider.check_account(plan)
        return
    calls: tuple[Callable[[], Any], ...] = (
        lambda: provider.check_account(plan),
        lambda: provider.get_run(run.handle),
        lambda: provider.get_runs((run.handle, run.handle)),
        provider.live_runs,
    )
    for call in calls:
        with pytest.raises(AuthenticationError) as caught:
            call()
        assert caught.value.context.status_code == 401
        assert WRONG not in whole_story(caught.value, caplog.records)


def test_a_wrong_key_starts_nothing(bench: Bench) -> None:
    """A create with it is refused for certain, where there are keys."""
    ready = bench.order()
    if bench.profile.has_key:
        with pytest.raises(AuthenticationError) as caught:
            bench.create(ready, bench.adapter(key=WRONG))
        assert not caught.value.context.outcome_unknown
        assert bench.started() == 0
    assert in_flight(bench.create(ready))
    assert bench.started() == 1


def test_a_key_that_cannot_be_sent_is_not(bench: Bench) -> None:
    """It is refused when the adapter is made, in words that do not repeat it."""
    for key in ("two words", "line\nbreak", "schlüssel"):
        with pytest.raises(ConfigurationError) as caught:
            bench.adapter(key=key)
        assert key not in str(caught.value) + repr(caught.value)


def test_an_account_is_told_apart_without_its_key(bench: Bench) -> None:
    """The same for the same key in every process, another one for another key, and the key is not in it."""
    first, second, other = bench.adapter(), bench.adapter(), bench.adapter(key=WRONG)
    assert first.account == second.account != other.account
    assert bench.control.api_key not in first.account
    for provider in (first, other):
        assert bench.control.api_key not in repr(provider) + str(vars(provider))
        assert WRONG not in repr(provider) + str(vars(provider))


def _echoes(key: str) -> list[dict[str, Any]]:
    """Return answers of a server that repeats what it was sent."""
    escaped = "".join(f"\\u{ord(character):04x}" for character in key)
    said = {"detail": f"the key {key} is odd", "message": f"Bearer {key}", "error": key, "err": key, "title": key}
    bodies = [
        json.dumps(said), json.dumps({"error": {"code": key, "message": key}}), json.dumps({"detail": {key: key}}),
        json.dumps({"detail": [{"loc": ["header", key], "msg": key}]}), f'{{"detail": "{escaped}"}}',
        f"<html><pre>Authorization: Bearer {key}\nX-API-Key: {key}</pre></html>", key, json.dumps([key]),
        json.dumps({"status": key, "data": key, "result": key, "id": key}),
    ]  # fmt: skip
    return [
        {"action": "body", "status": status, "body": body, "headers": {"X-Request-Id": key, "Content-Type": key}}
        for body in bodies
        for status in (200, 400, 500)
    ]


def test_a_server_that_repeats_the_key_does_not_make_us_do_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the chain of errors nor the log of a look shows it, whatever spelling it comes back in."""
    caplog.set_level(logging.DEBUG)
    run, key, provider = bench.run(), bench.control.api_key, bench.once
    seen = 0
    for echo in _echoes(key):
        bench.fault(bench.vendor.look, times=1, **echo)
        try:
            told = repr(provider.get_run(run.handle))
        except ProviderError as error:
            told, seen = whole_story(error, []), seen + 1
        assert key not in told, echo["body"]
    assert seen > 20
    assert key not in "\n".join(record.getMessage() for record in _ours(caplog))


def test_a_create_that_is_told_the_key_does_not_tell_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Nor do the request's errors when nobody answers at all."""
    caplog.set_level(logging.DEBUG)
    key = bench.control.api_key
    for echo in ({"action": "reset"}, {"action": "body", "status": 500, "body": json.dumps({"detail": key})}):
        ready = bench.order()
        bench.control.clear_faults()
        bench.fault(bench.vendor.create, stage="after", **echo)
        with pytest.raises(ProviderError) as caught:
            bench.create(ready)
        assert key not in whole_story(caught.value, _ours(caplog))


def _ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records of this process's client side; the sandbox in it logs as another server would."""
    return [record for record in caplog.records if record.name.startswith(("providers", "pipeline", "httpx"))]


def test_a_redirect_is_not_followed(bench: Bench, elsewhere: socket.socket) -> None:
    """Neither by a look, nor by a check, nor by a create: the key would travel along."""
    host, port = elsewhere.getsockname()
    ready, run = bench.order(), bench.run()
    location, vendor, provider = {"Location": f"http://{host}:{port}/v1/elsewhere"}, bench.vendor, bench.once
    calls: tuple[tuple[Route, Callable[[], Any]], ...] = (
        (vendor.look, lambda: provider.get_run(run.handle)),
        (vendor.check, lambda: provider.check_account(ready.plan)),
        (vendor.create, lambda: bench.create(ready, provider)),
    )
    for status in (301, 302, 303, 307, 308):
        for route, call in calls:
            bench.fault(route, action="status", status=status, headers=location, times=1)
            with pytest.raises(UnexpectedResponseError):
                call()
    with pytest.raises(BlockingIOError):
        elsewhere.accept()
    assert bench.started() == 1


def test_neither_side_passes_for_the_other(bench: Bench) -> None:
    """A hosted run that reaches a sandbox is refused, and so is a rehearsal that reaches something else."""
    plan = bench.plan()
    bench.adapter().check_account(plan)
    with pytest.raises(ConfigurationError, match="leads to a sandbox") as caught:
        bench.adapter(profile=bench.vendor.profile(sandbox=False)).check_account(plan)
    assert caught.value.context.field
    bench.fault(bench.vendor.check, action="headers", headers={"X-Train-Pipeline-Sandbox": None})
    with pytest.raises(ConfigurationError, match="does not lead to a sandbox"):
        bench.adapter().check_account(plan)


def test_an_address_where_nobody_listens(bench: Bench, elsewhere: socket.socket) -> None:
    """No connection is no doubt: nothing can have been started."""
    ready = bench.order()
    host, port = elsewhere.getsockname()
    elsewhere.close()
    provider = bench.adapter(address=f"http://{host}:{port}")
    with pytest.raises(PipelineError, match="no connection could be made") as caught:
        bench.create(ready, provider)
    assert not caught.value.context.outcome_unknown
