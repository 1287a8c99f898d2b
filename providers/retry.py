"""When a request is sent again: plain values, one function that decides, one loop.

Only the operation knows whether repeating it is safe (a POST that carries an idempotency key is, a bare one is not),
so the loop takes the policy it is given and never looks at the HTTP method.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

from pipeline.errors import ErrorContext, ProviderError, is_retryable

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Uniform = Callable[[float, float], float]

_SECONDS = re.compile(r"\d{1,9}(\.\d+)?")


class Clock(Protocol):
    """The two functions of the ``time`` module that retrying needs."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try; defaults are the vendor client's own figures."""

    attempts: int = 4
    """Requests in all, the first one included."""
    base_s: float = 1.0
    """Wait before the second request; doubles from there."""
    cap_s: float = 30.0
    """Most seconds of our own waiting."""
    jitter: float = 0.25
    """Share by which a wait is shortened or lengthened at random, so that clients do not march in step."""
    longest_retry_after_s: float = 120.0
    """A server that asks for more than this gets its error raised at once instead."""
    hopeless: frozenset[int] = frozenset({501, 505, 507})
    """Server errors that another attempt within seconds does not cure."""


DEFAULT = RetryPolicy()
"""The policy of operations that are safe to repeat."""
ONCE = RetryPolicy(attempts=1)
"""The policy of operations that must not be repeated."""


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Return the seconds a ``Retry-After`` header (seconds or date) asks for; None if absent, past or unreadable."""
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError, OverflowError):  # figures that no calendar has
            return None
        # A date with zone "-0000" reads back without one; HTTP dates are always GMT.
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
    return seconds if seconds > 0 else None


def next_delay_s(error: ProviderError, attempt: int, policy: RetryPolicy, uniform: Uniform) -> float | None:
    """Return how long to wait after failed attempt number ``attempt`` (from 1); None means give up."""
    if attempt >= policy.attempts or not is_retryable(error) or error.context.status_code in policy.hopeless:
        return None
    asked = error.context.retry_after_s
    if asked is not None:
        return asked if asked <= policy.longest_retry_after_s else None
    backoff = min(policy.cap_s, policy.base_s * 2.0 ** (attempt - 1))
    return backoff * uniform(1 - policy.jitter, 1 + policy.jitter)


def with_context(error: ProviderError, context: ErrorContext) -> ProviderError:
    """Return the same error with another context."""
    return type(error)(error.message, context)


def call_with_retries(
    send: Callable[[], Answer],
    policy: RetryPolicy,
    *,
    clock: Clock,
    uniform: Uniform = random.uniform,
    stop_in_doubt: bool = False,
) -> Answer:
    """Call ``send`` until it answers or the policy gives up.

    With ``stop_in_doubt`` nothing is sent again once an attempt may have had its effect.

    Raises:
        ProviderError: The last error; with ``context.outcome_unknown`` when any attempt may have taken effect, because
            a refusal that follows a lost answer says nothing about the attempt whose answer was lost.
    """
    in_doubt = False
    attempt = 1
    while True:
        try:
            return send()
        except ProviderError as error:
            in_doubt = in_doubt or error.context.outcome_unknown
            delay_s = next_delay_s(error, attempt, policy, uniform)
            if delay_s is None or (stop_in_doubt and in_doubt):
                if in_doubt and not error.context.outcome_unknown:
                    raise with_context(error, replace(error.context, outcome_unknown=True)) from error
                raise
            logger.info("%s Attempt %d of %d in %.1f s.", error.message, attempt + 1, policy.attempts, delay_s)
        clock.sleep(delay_s)
        attempt += 1
