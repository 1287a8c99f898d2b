"""Whatever a server may answer to a look, each vendor's adapter against the sandbox: one kind of error for all vendors.

The answers are real bytes on a real connection; adapters of these tests send nothing twice unless a test says so.
"""

from __future__ import annotations

import copy
import itertools
import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from pipeline.errors import (
    AuthenticationError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    TransportError,
    UnexpectedResponseError,
)
from pipeline.models import TrainingRun
from providers.retry import DEFAULT, ONCE
from tests.contract.adapters import Bench, in_flight, tried

PATIENCE_S, STALL_S = 0.2, 1.5
STATUSES: dict[int, type[ProviderError]] = {
    204: UnexpectedResponseError,
    301: UnexpectedResponseError,
    307: UnexpectedResponseError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    405: UnexpectedResponseError,
    408: ProviderUnavailableError,
    409: ConflictError,
    413: InvalidRequestError,
    418: UnexpectedResponseError,
    422: InvalidRequestError,
    429: RateLimitError,
    500: ProviderUnavailableError,
    502: ProviderUnavailableError,
    503: ProviderUnavailableError,
    504: ProviderUnavailableError,
    599: ProviderUnavailableError,
}
"""What a status means, whoever sends it."""
OWN: dict[str, type[ProviderError]] = {
    "refused": InvalidRequestError,
    "missing": NotFoundError,
    "conflict": ConflictError,
}
"""Refusals in the vendors' own words."""
PAGE = "<!DOCTYPE html><html><head><title>Bad gateway</title></head><body><h1>502</h1></body></html>"
GARBAGE = ["<html>hello</html>", "", "{", "[]", "7", '"text"', "null", "{}", '{"data": null, "result": null}',
           "[" * 50_000, '{"id": NaN}', "\x00\xff", '{"data": [], "result": []}']  # fmt: skip
BROKEN: dict[str, dict[str, Any]] = {
    "reset": {"action": "reset"},
    "close": {"action": "close"},
    "cut": {"action": "truncate"},
    "reset in mid-body": {"action": "reset", "after_bytes": 3},
    "close in mid-body": {"action": "close", "after_bytes": 3},
}


def look_in_vain(bench: Bench, run: TrainingRun, **fault: Any) -> ProviderError:
    """Return the error of a look that gets this answer."""
    bench.fault(bench.vendor.look, times=1, **fault)
    with pytest.raises(ProviderError) as caught:
        bench.once.get_run(run.handle)
    error = caught.value
    assert not error.context.outcome_unknown
    # Errors are stored and read back, which makes them anew in the way that copying does.
    kept = copy.copy(error)
    assert (type(kept), str(kept), kept.context) == (type(error), str(error), error.context)
    return error


def test_a_status_means_the_same_everywhere(bench: Bench) -> None:
    """Each is its own kind of error, with its number, the same with a body of JSON, of HTML, and of nothing."""
    run, bodies = bench.run(), {204: [""], 401: [None, PAGE], 403: ["", PAGE], 429: [None, PAGE], 502: [None, "", PAGE]}
    for status, expected in STATUSES.items():
        for body in bodies.get(status, [None]):
            fault = {"action": "status", "status": status} | ({} if body is None else {"body": body})
            error = look_in_vain(bench, run, **fault)
            assert (type(error), error.context.status_code) == (expected, status), (status, body)
    assert bench.started() == 1


def test_a_refusal_in_the_vendor_s_own_words(bench: Bench) -> None:
    """However a vendor says it, it comes out as the same kind of error."""
    run = bench.run()
    for how, expected in OWN.items():
        assert type(look_in_vain(bench, run, **getattr(bench.vendor, how).fault())) is expected


def test_garbage_is_no_run(bench: Bench) -> None:
    """A success that cannot be read is said to be unreadable, whatever it is."""
    run = bench.run()
    for body in GARBAGE:
        error = look_in_vain(bench, run, action="body", body=body)
        assert type(error) is UnexpectedResponseError, body[:50]
        assert len(str(error)) < 500


def test_every_field_but_the_least_may_be_missing_or_nonsense(bench: Bench) -> None:
    """A look gives the run, or says that it cannot be read; it is never lost over decoration, nor taken for over."""
    run = bench.run()
    answered = bench.look_at(run)
    shown = answered[bench.vendor.envelope] if bench.vendor.envelope else answered
    read = 0
    for name in shown:
        for value in (..., None, {"odd": [1]}, "\u2603", "\ud83d"):
            changed = {key: entry for key, entry in shown.items() if key != name}
            changed |= {} if value is ... else {name: value}
            body = json.dumps({**answered, bench.vendor.envelope: changed} if bench.vendor.envelope else changed)
            bench.fault(bench.vendor.look, action="body", body=body, times=1)
            seen = tried(lambda: bench.once.get_run(run.handle))
            if isinstance(seen, ProviderError):
                assert type(seen) is UnexpectedResponseError, (name, value)
                continue
            read += 1
            assert seen.handle.run_id == run.handle.run_id, (name, value)
            assert not seen.status.is_terminal, (name, value)
            assert seen.model_dump_json(), (name, value)
    # Of what an answer holds only its identity and its status are needed.
    assert read >= 5 * (len(shown) - 3)


def test_a_list_that_cannot_be_read_is_not_empty(bench: Bench) -> None:
    """Runs that cannot be seen go on all the same; where nothing lists them, nothing is asked."""
    bench.run()
    before = len(bench.asked())
    if bench.vendor.listing is None:
        assert bench.once.live_runs() == ()
        assert len(bench.asked()) == before
        return
    for body in ("<html>", "{}", "[]", '{"data": {}, "results": {}, "result": {}}', '{"data": [7], "results": [7]}'):
        bench.fault(bench.vendor.listing, action="body", body=body, times=1)
        with pytest.raises(UnexpectedResponseError):
            bench.once.live_runs()
    assert len(bench.once.live_runs()) == 1


def test_an_answer_about_another_run_is_not_believed(bench: Bench) -> None:
    """It is unreadable; taking it for ours would collect somebody else's model."""
    run, other = bench.run(), bench.run()
    body = json.dumps(bench.look_at(other))
    assert type(look_in_vain(bench, run, action="body", body=body)) is UnexpectedResponseError


def test_a_broken_connection_is_no_answer(bench: Bench) -> None:
    """Before the answer or in the middle of it; the next look goes well on the same adapter."""
    run = bench.run()
    for how, fault in BROKEN.items():
        assert type(look_in_vain(bench, run, **fault)) is TransportError, how
        assert bench.once.get_run(run.handle).handle == run.handle, how


@pytest.mark.parametrize("where", [{}, {"after_bytes": 3}], ids=["before", "in mid-body"])
def test_a_slow_answer_is_waited_for_so_long(bench: Bench, where: dict[str, Any]) -> None:
    """One within the timeout is as good as any; a slower one is no answer, in about the time that was allowed."""
    run = bench.run()
    bench.fault(bench.vendor.look, action="stall", seconds=0.1, times=1, **where)
    assert bench.once.get_run(run.handle).handle == run.handle
    bench.fault(bench.vendor.look, action="stall", seconds=STALL_S, **where)
    provider, began_s = bench.adapter(timeout_s=PATIENCE_S, retry=ONCE), time.monotonic()
    with pytest.raises(TransportError, match="no answer within the timeout"):
        provider.get_run(run.handle)
    assert time.monotonic() - began_s < STALL_S


def test_the_server_s_delay_is_carried_along(bench: Bench) -> None:
    """With too many requests and with a server that cannot answer now: as seconds, as a date, in the vendor's words."""
    run = bench.run()
    for body, delay_s in bench.vendor.limited.in_words:
        error = look_in_vain(bench, run, action="status", status=429, body=json.dumps(body))
        assert (type(error), error.context.retry_after_s) == (RateLimitError, delay_s), body
    for status, form in itertools.product((429, 503), ("seconds", "date")):
        delay = "90" if form == "seconds" else formatdate(bench.clock.time() + 90, usegmt=True)
        error = look_in_vain(bench, run, action="status", status=status, retry_after=delay)
        assert error.context.retry_after_s == pytest.approx(90, abs=0 if form == "seconds" else 5)


def test_a_delay_nobody_can_mean_is_none(bench: Bench) -> None:
    """It makes no other error of the answer, and nobody waits for it."""
    run = bench.run()
    for delay in ("", "soon", "-5", "0", "1e9", "9" * 20, "Thu, 01 Jan 1970 00:00:00 GMT"):
        error = look_in_vain(bench, run, action="body", status=429, body="{}", retry_after=delay)
        assert (type(error), error.context.retry_after_s) == (RateLimitError, None), delay


def test_the_vendor_s_own_limit_is_a_limit(bench: Bench) -> None:
    """Its real 429 is one here too, with the delay where the vendor names one."""
    run = bench.run()
    bench.control.configure(**bench.vendor.limited.settings)
    # The requests before this one count as well, so that not even the first look need be let through.
    last = [tried(lambda: bench.once.get_run(run.handle)) for _ in range(2)][-1]
    assert isinstance(last, RateLimitError)
    delay_s = last.context.retry_after_s
    assert (delay_s is not None and 0 < delay_s <= 3600) is bench.vendor.limited.names_delay


def test_a_passing_trouble_costs_a_few_looks(bench: Bench) -> None:
    """No more are sent than the policy allows, the server's delay is kept, and the run is the same in the end."""
    run, provider = bench.run(), bench.adapter()
    bench.fault(bench.vendor.look, action="status", status=429, retry_after="7", times=DEFAULT.attempts + 1)
    before, looks = len(bench.asked()), 0
    while isinstance(seen := tried(lambda: provider.get_run(run.handle)), ProviderError):
        looks += 1
        assert isinstance(seen, RateLimitError)
        assert looks <= len(bench.asked()) - before <= looks * DEFAULT.attempts
    assert seen.handle == run.handle
    assert in_flight(seen)
    assert 1 <= looks <= DEFAULT.attempts + 1
    assert set(bench.clock.slept_s) <= {7.0}


def test_a_huge_refusal_is_cut(bench: Bench) -> None:
    """What a server says never makes a message of more than a few lines, nor a context of more."""
    run, endless = bench.run(), "x" * 100_000
    headers = {"X-Request-Id": "y" * 10_000, "Content-Type": "z" * 10_000}
    bodies: list[Any] = [
        {"detail": endless},
        {"detail": {"message": endless, "error": endless}},
        {"detail": [{"loc": [endless], "msg": endless}] * 3},
        {"status": "NOK", "message": endless, "err": endless},
        {"error": {"code": endless, "message": endless}},
        {"error": endless, "message": "short"},
        {"title": endless, "detail": endless},
    ]
    for body in (endless, f"<html>{endless}", *map(json.dumps, bodies)):
        for status in (200, 400, 503):
            error = look_in_vain(bench, run, action="body", status=status, body=body, headers=headers)
            assert len(str(error)) < 1_000, body[:100]
            assert len(repr(error)) < 3_000, body[:100]
