"""Waiting for something at the provider: one loop, for exports and for training runs.

A look that fails says nothing about the job. Only three things end the wait: a terminal status, our deadline, and
not having seen the job for so long that a person must decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pipeline.clock import Clock
from pipeline.errors import (
    AuthenticationError,
    BudgetExceededError,
    CancelUnconfirmedError,
    ErrorContext,
    NotFoundError,
    PermissionDeniedError,
    PipelineError,
    ProviderError,
    TrainingCancelledError,
    TrainingFailedError,
    TrainingLostError,
    TrainingTimedOutError,
)
from pipeline.models import PollPolicy, RunStatus, WatchedRun

RETRY_AFTER_MOST_S = 900.0
"""Most seconds between two looks that a server's own delay is followed for; one that asks for a day is mistaken."""
REFUSALS = (AuthenticationError, PermissionDeniedError)
"""How a look fails for the key's sake."""


class Status(Protocol):
    """A status word that knows whether it is an end."""

    @property
    def is_terminal(self) -> bool:
        """True when it cannot change any more."""


class Observable(Protocol):
    """Anything with a status."""

    @property
    def status(self) -> Status:
        """Where it stands."""


T = TypeVar("T", bound=Observable)


@dataclass(frozen=True)
class Look(Generic[T]):
    """One look: what was seen, or why nothing was."""

    seen: T | None
    """The observation; none when the look failed."""
    error: ProviderError | None
    """Why the look failed."""
    elapsed_s: float
    """Seconds since watching began."""
    wait_s: float
    """Seconds until the next look; 0 after the last one."""


def no_forecast(_: object) -> float | None:
    """Predict nothing: every wait is the policy's interval."""
    return None


def observe(
    get: Callable[[], T],
    policy: PollPolicy,
    clock: Clock,
    forecast: Callable[[T], float | None] = no_forecast,
    before_s: float = 0.0,
) -> Iterator[Look[T]]:
    """Look until the end, yielding every look; the first one at once.

    Args:
        get: One look.
        policy: When to look again and how much to bear.
        clock: The ``time`` module, or a fake.
        forecast: Remaining seconds as predicted from an observation.
        before_s: Seconds the job has been watched before: they count towards the deadline, and as elapsed.

    Raises:
        TrainingTimedOutError: The deadline passed, or nothing was seen for too long; the job itself goes on.
        TrainingLostError: The provider does not know the job, beyond the grace period.
        AuthenticationError: The key was refused again and again, beyond the grace period; the job itself goes on.
        PermissionDeniedError: The same, for the key's role.
    """
    began = clock.monotonic() - before_s
    patience = _Patience(policy, began, clock.monotonic())
    while True:
        seen, error = _look(get)
        now = clock.monotonic()
        if seen is not None and seen.status.is_terminal:
            yield Look(seen, None, now - began, 0.0)
            return
        if error is None:
            patience.renew(now)
        else:
            patience.bear(error, now)
        end = patience.end(now)
        wait_s = 0.0
        if end is None:
            own_s = next_wait_s(policy, forecast(seen)) if seen is not None else patience.back_off_s()
            wait_s = min(own_s, patience.left_s(now))
        yield Look(seen, error, now - began, wait_s)
        if end is not None:
            raise end from error
        clock.sleep(wait_s)


def next_wait_s(policy: PollPolicy, remaining_s: float | None) -> float:
    """Return the seconds until the next look: half the predicted rest, between the policy's floor and ceiling.

    A negative rest is a run that is overdue: looks come less often again, but never less than every interval.
    """
    if policy.fixed or remaining_s is None:
        return policy.interval_s
    if remaining_s < 0:
        return max(policy.floor_s, min(policy.interval_s, -remaining_s / 2))
    # The bounds come first so that a forecast of NaN gives the floor, not a sleep of NaN seconds.
    return min(policy.ceiling_s, max(policy.floor_s, remaining_s / 2))


def _look(get: Callable[[], T]) -> tuple[T | None, ProviderError | None]:
    try:
        return get(), None
    except ProviderError as error:
        return None, error


class _Patience:
    """Bears failed looks since the last successful one, within the policy's limits."""

    def __init__(self, policy: PollPolicy, began: float, now: float) -> None:
        self._policy = policy
        self._began = began
        self.renew(now)

    def renew(self, now: float) -> None:
        """Take in one successful look."""
        self._failures = 0
        self._seen_at = now
        self._missing_since: float | None = None
        self._refused_since: float | None = None
        self._last: ProviderError | None = None

    def bear(self, error: ProviderError, now: float) -> None:
        """Take in one failed look."""
        self._failures += 1
        self._last = error
        # Both graces run from the first look of their kind, not from the last success: looks may be far apart.
        if isinstance(error, NotFoundError) and self._missing_since is None:
            self._missing_since = now
        if not isinstance(error, REFUSALS):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now

    def back_off_s(self) -> float:
        """Return the seconds to wait after a failed look."""
        own_s = next_wait_s(self._policy, self._policy.interval_s * 2 ** min(self._failures, 10))
        asked_s = self._last.context.retry_after_s if self._last is not None else None
        return max(own_s, min(asked_s or 0.0, RETRY_AFTER_MOST_S))

    def left_s(self, now: float) -> float:
        """Return the seconds until the deadline."""
        return self._began + self._policy.deadline_s - now

    def end(self, now: float) -> PipelineError | None:
        """Return why watching is over; none while it is not."""
        if isinstance(self._last, NotFoundError) and (lost := self._lost(self._last, now)):
            return lost
        # Before blindness: who wants a run cancelled at its deadline must learn that the deadline is here.
        if self.left_s(now) <= 0:
            return TrainingTimedOutError(self._overdue())
        return self._refused(now) or self._blind(now)

    def _overdue(self) -> str:
        unseen = f"; the last look failed with: {self._last}" if self._last is not None else ""
        return (
            f"no end after {self._policy.deadline_s:.0f} s of watching{unseen}; the job goes on at the provider, "
            f"come back to the operation to go on watching"
        )

    def _lost(self, error: NotFoundError, now: float) -> PipelineError | None:
        missing_s = now - (self._missing_since if self._missing_since is not None else now)
        if missing_s <= self._policy.not_found_grace_s:
            return None
        return TrainingLostError(
            f"the provider does not know the job any more ({missing_s:.0f} s): {error}", error.context
        )

    def _refused(self, now: float) -> PipelineError | None:
        if not isinstance(self._last, REFUSALS) or self._refused_since is None:
            return None
        refused_s = now - self._refused_since
        if refused_s < self._policy.refusal_grace_s:
            return None
        return type(self._last)(
            f"the key has been refused for {refused_s:.0f} s, at every look: {self._last}", self._last.context
        )

    def _blind(self, now: float) -> PipelineError | None:
        blind_s = now - self._seen_at
        if self._last is None or blind_s <= self._policy.max_blind_s:
            return None
        return TrainingTimedOutError(
            f"not one successful look in {blind_s:.0f} s, the last one failed with: {self._last}; "
            f"the job may well go on at the provider, come back to the operation to go on watching",
            self._last.context,
        )


def require_success(watched: WatchedRun) -> WatchedRun:
    """Return the watched run if it completed.

    Raises:
        TrainingFailedError: The provider reports a failure; its reason is in the message.
        TrainingCancelledError: The run was cancelled at the provider.
        TrainingTimedOutError: Watching ended before the run did.
        BudgetExceededError: It was cancelled because its cost came too near the cap.
        CancelUnconfirmedError: It was to be cancelled and is not seen to have ended.
    """
    run = watched.run
    context = ErrorContext(operation="training.get", run_id=run.handle.run_id)
    if watched.stopped is not None and run.status is not RunStatus.COMPLETED:
        _require_ended(watched, context)
    if not run.status.is_terminal:
        reason = watched.gave_up or f"watched for {watched.watched_s:.0f} s"
        raise TrainingTimedOutError(
            f"training run {run.handle.name!r} was last seen {run.provider_status!r}: {reason}", context
        )
    if run.status is RunStatus.FAILED:
        reason = run.error_message or "no reason given"
        raise TrainingFailedError(f"training run {run.handle.name!r} failed at the provider: {reason}", context)
    if run.status is RunStatus.CANCELLED:
        raise TrainingCancelledError(f"training run {run.handle.name!r} was cancelled at the provider", context)
    return watched


def _require_ended(watched: WatchedRun, context: ErrorContext) -> None:
    """Raise what a run that was to be ended comes to, unless it failed by itself."""
    name, reason = watched.run.handle.name, watched.gave_up or "it was to be ended"
    if not watched.run.status.is_terminal:
        raise CancelUnconfirmedError(f"training run {name!r}: {reason}", context)
    if watched.run.status is RunStatus.CANCELLED and watched.stopped == "over_budget":
        raise BudgetExceededError(f"training run {name!r} was cancelled at the provider: {reason}", context)
