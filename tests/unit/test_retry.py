"""Retrying: which errors, how long, how often, and what is remembered of an attempt whose answer was lost."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

import pytest

from pipeline.errors import (
    AuthenticationError,
    ConflictError,
    ErrorContext,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    TransportError,
)
from providers.retry import ONCE, RetryPolicy, call_with_retries, next_delay_s, parse_retry_after

NOW_S = 1_800_000_000.0


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def time(self) -> float:
        """Return the moment that sleeping has led to."""
        return NOW_S + sum(self.slept)

    def sleep(self, seconds: float, /) -> None:
        """Pass time."""
        self.slept.append(seconds)


def middle(low: float, high: float) -> float:
    """No jitter."""
    return (low + high) / 2


def failing(*errors: ProviderError) -> Callable[[], str]:
    """Return a call that raises each error once, then answers."""
    queue = list(errors)

    def send() -> str:
        if queue:
            raise queue.pop(0)
        return "answer"

    return send


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 1.5 ", 1.5),
        (formatdate(NOW_S + 90, usegmt=True), 90.0),
        (formatdate(NOW_S + 90), 90.0),
        (formatdate(NOW_S - 5, usegmt=True), None),
        ("0", None),
        ("-3", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    """Seconds and HTTP dates are understood; the past, zero and nonsense are as good as no header."""
    assert parse_retry_after(header, NOW_S) == seconds


def test_backoff_doubles_and_is_capped() -> None:
    """Own waits are 1, 2, 4 s and never above the cap."""
    policy = RetryPolicy(attempts=9)
    waits = [next_delay_s(TransportError("x"), attempt, policy, middle) for attempt in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_jitter_stays_inside_its_share() -> None:
    """A wait is scaled by a factor between 0.75 and 1.25 that the random source chooses."""
    assert next_delay_s(TransportError("x"), 1, RetryPolicy(), lambda low, _: low) == 0.75
    assert next_delay_s(TransportError("x"), 1, RetryPolicy(), lambda _, high: high) == 1.25


def test_four_requests_then_the_last_error() -> None:
    """A call that keeps failing is sent four times, with three waits, and the last error comes out."""
    clock = FakeClock()
    errors = [ProviderUnavailableError(f"no {n}") for n in range(4)]
    with pytest.raises(ProviderUnavailableError, match="no 3"):
        call_with_retries(failing(*errors), RetryPolicy(), clock=clock, uniform=middle)
    assert clock.slept == [1, 2, 4]


def test_an_answer_ends_the_loop() -> None:
    """The first answer is returned."""
    clock = FakeClock()
    answer = call_with_retries(failing(TransportError("x")), RetryPolicy(), clock=clock, uniform=middle)
    assert (answer, clock.slept) == ("answer", [1])


def test_a_permanent_error_is_raised_at_once() -> None:
    """Nothing is waited for after a 401."""
    clock = FakeClock()
    with pytest.raises(AuthenticationError):
        call_with_retries(failing(AuthenticationError("no")), RetryPolicy(), clock=clock, uniform=middle)
    assert clock.slept == []


@pytest.mark.parametrize("status", [501, 505, 507])
def test_hopeless_server_errors_are_not_repeated(status: int) -> None:
    """What a server cannot do at all is not asked again within seconds."""
    clock = FakeClock()
    error = ProviderUnavailableError("no", ErrorContext(status_code=status))
    with pytest.raises(ProviderUnavailableError):
        call_with_retries(failing(error), RetryPolicy(), clock=clock, uniform=middle)
    assert clock.slept == []


def test_operations_that_are_not_repeatable_are_sent_once() -> None:
    """The policy ONCE gives up after the first failure, whatever it was."""
    clock = FakeClock()
    with pytest.raises(TransportError):
        call_with_retries(failing(TransportError("x")), ONCE, clock=clock, uniform=middle)
    assert clock.slept == []


@pytest.mark.parametrize("error_type", [RateLimitError, ProviderUnavailableError])
def test_the_servers_own_delay_wins(error_type: type[ProviderError]) -> None:
    """A delay up to 120 s is waited exactly, in place of our own."""
    clock = FakeClock()
    error = error_type("slow down", ErrorContext(retry_after_s=120.0))
    assert call_with_retries(failing(error), RetryPolicy(), clock=clock, uniform=middle) == "answer"
    assert clock.slept == [120.0]


def test_a_long_delay_is_the_callers_decision() -> None:
    """More than 120 s is not waited for: the error comes out at once and carries the delay."""
    clock = FakeClock()
    error = RateLimitError("slow down", ErrorContext(status_code=429, retry_after_s=121.0))
    with pytest.raises(RateLimitError) as caught:
        call_with_retries(failing(error), RetryPolicy(), clock=clock, uniform=middle)
    assert (caught.value.context.retry_after_s, clock.slept) == (121.0, [])


def test_a_refusal_after_a_lost_answer_keeps_the_doubt() -> None:
    """A 409 after an attempt that may have taken effect still says that the outcome is unknown."""
    lost = TransportError("lost", ErrorContext(outcome_unknown=True))
    refusal = ConflictError("conflict", ErrorContext(status_code=409, code="conflict"))
    with pytest.raises(ConflictError, match="conflict") as caught:
        call_with_retries(failing(lost, refusal), RetryPolicy(), clock=FakeClock(), uniform=middle)
    assert caught.value.context == ErrorContext(status_code=409, code="conflict", outcome_unknown=True)


def test_a_refusal_alone_is_certain() -> None:
    """A 409 on the first attempt, or after one that never left, says nothing was done."""
    never_sent = TransportError("no route", ErrorContext())
    with pytest.raises(ConflictError) as caught:
        call_with_retries(failing(never_sent, ConflictError("x")), RetryPolicy(), clock=FakeClock(), uniform=middle)
    assert not caught.value.context.outcome_unknown
