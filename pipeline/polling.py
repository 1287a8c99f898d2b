"""Waiting for something at the provider: one loop, for exports and for training runs.

A look that fails says nothing about the job. Only three things end the wait: a terminal status, our deadline, and
not having seen the job for so long that a person must decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Generic, Protocol, TypeVar

from pipeline.errors import (
    AuthenticationError,
    ErrorContext,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    TrainingCancelledError,
    TrainingFailedError,
    TrainingLostError,
    TrainingTimedOutError,
)
from pipeline.forecasting import RunForecast
from pipeline.models import CurvePoint, PollPolicy, RunStatus, TrainingRun, WatchedRun

REFUSALS_TOLERATED = 3
"""Looks in a row that may be refused for the key's sake before a person must act."""
STALL_FACTOR = 5.0
"""No progress for so many median epoch times is worth an event."""


class Clock(Protocol):
    """The two functions of the ``time`` module that waiting needs."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    def sleep(self, seconds: float, /) -> None:
        """Let the given seconds pass."""


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
) -> Iterator[Look[T]]:
    """Look until the end, yielding every look; the first one at once.

    Args:
        get: One look.
        policy: When to look again and how much to bear.
        clock: The ``time`` module, or a fake.
        forecast: Remaining seconds as predicted from an observation.

    Raises:
        TrainingTimedOutError: The deadline passed, or nothing was seen for too long; the job itself goes on.
        TrainingLostError: The provider does not know the job, beyond the grace period.
        AuthenticationError: The key was refused several times in a row.
        PermissionDeniedError: The same, for the key's role.
    """
    began = clock.monotonic()
    patience = _Patience(policy, began)
    while True:
        seen, error = _look(get)
        now = clock.monotonic()
        if seen is not None:
            patience = _Patience(policy, now)
            if seen.status.is_terminal:
                yield Look(seen, None, now - began, 0.0)
                return
            wait_s = next_wait_s(policy, forecast(seen))
        else:
            assert error is not None  # noqa: S101 - _look returns one of the two
            patience.fail(error, now)
            back_off_s = policy.interval_s * 2 ** min(patience.failures, 10)
            wait_s = max(next_wait_s(policy, back_off_s), error.context.retry_after_s or 0.0)
        left_s = began + policy.deadline_s - now
        if left_s <= 0:
            yield Look(seen, error, now - began, 0.0)
            raise TrainingTimedOutError(
                f"no end after {policy.deadline_s:.0f} s of watching; the job goes on at the provider, "
                f"run the same request again to go on watching"
            )
        wait_s = min(wait_s, left_s)
        yield Look(seen, error, now - began, wait_s)
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

    def __init__(self, policy: PollPolicy, seen_at: float) -> None:
        self.failures = 0
        self._policy = policy
        self._seen_at = seen_at
        self._missing_since: float | None = None
        self._refusals = 0

    def fail(self, error: ProviderError, now: float) -> None:
        """Take in one failed look; raise when it is one too many."""
        self.failures += 1
        self._refusals = self._refusals + 1 if isinstance(error, (AuthenticationError, PermissionDeniedError)) else 0
        if isinstance(error, NotFoundError):
            # The grace runs from the first "not found", not from the last success: looks may be far apart.
            self._missing_since = now if self._missing_since is None else self._missing_since
            missing_s = now - self._missing_since
            if missing_s > self._policy.not_found_grace_s:
                raise TrainingLostError(
                    f"the provider does not know the job any more ({missing_s:.0f} s): {error}", error.context
                ) from error
        if self._refusals >= REFUSALS_TOLERATED:
            raise error
        blind_s = now - self._seen_at
        if blind_s > self._policy.max_blind_s:
            raise TrainingTimedOutError(
                f"not one successful look in {blind_s:.0f} s, the last one failed with: {error}; "
                f"the job may well go on at the provider, run the same request again to go on watching",
                error.context,
            ) from error


def watch_run(
    get: Callable[[], TrainingRun],
    policy: PollPolicy,
    clock: Clock,
    on_look: Callable[[Look[TrainingRun], WatchLog], None],
) -> WatchedRun:
    """Watch a training run until it ends or the deadline passes; the result's status tells which.

    Raises:
        TrainingLostError: The provider does not know the run, or it was never seen.
        ProviderError: The key was refused several times in a row.
    """
    log = WatchLog()
    try:
        for look in observe(get, policy, clock, RunForecast(clock)):
            log.add(look)
            on_look(look, log)
    except TrainingTimedOutError as error:
        if log.last is None:
            raise
        return log.result(gave_up=str(error))
    return log.result()


class WatchLog:
    """Collects what is seen while a training run is watched: loss curve, counts, epoch times."""

    def __init__(self) -> None:
        self._curve: dict[int, float] = {}
        self._looks = 0
        self._failed = 0
        self._elapsed_s = 0.0
        self._seen_at_s = 0.0
        self._last_progress: tuple[float, tuple[float | None, int | None]] = (0.0, (None, None))
        self._last_epoch: tuple[float, int] | None = None
        self._epoch_times_s: list[float] = []
        self.last: TrainingRun | None = None
        """The latest observation."""

    def add(self, look: Look[TrainingRun]) -> None:
        """Take in one look."""
        self._elapsed_s = look.elapsed_s
        if look.seen is None:
            self._failed += 1
            return
        self._looks += 1
        self._seen_at_s = look.elapsed_s
        self._take_curve(look.seen)
        self._take_progress(look.seen, look.elapsed_s)
        self.last = look.seen

    @property
    def stalled_s(self) -> float | None:
        """Seconds without progress, when that is unusual for this run; otherwise none."""
        if self.last is None or self.last.status is not RunStatus.RUNNING or len(self._epoch_times_s) < 3:
            return None
        # Up to the last successful look: while nothing is seen, nothing is known about progress.
        idle_s = self._seen_at_s - self._last_progress[0]
        return idle_s if idle_s > STALL_FACTOR * median(self._epoch_times_s) else None

    def result(self, gave_up: str | None = None) -> WatchedRun:
        """Return the run as last seen, with everything collected on the way.

        Raises:
            TrainingLostError: Nothing was ever seen.
        """
        if self.last is None:
            raise TrainingLostError("the run was never seen")
        curve = tuple(CurvePoint(epoch=epoch, loss=loss) for epoch, loss in sorted(self._curve.items()))
        return WatchedRun(
            run=self.last,
            curve=curve,
            looks=self._looks,
            failed_looks=self._failed,
            watched_s=self._elapsed_s,
            gave_up=gave_up,
        )

    def _take_curve(self, run: TrainingRun) -> None:
        history = run.metrics.get("history")
        for row in history if isinstance(history, list) else []:
            if isinstance(row, dict):
                self._take_point(row.get("epoch"), row.get("loss"))
        self._take_point(run.epoch, run.metrics.get("loss"))

    def _take_point(self, epoch: object, loss: object) -> None:
        if isinstance(epoch, int) and epoch > 0 and isinstance(loss, (int, float)) and math.isfinite(loss):
            self._curve.setdefault(epoch, float(loss))

    def _take_progress(self, run: TrainingRun, elapsed_s: float) -> None:
        now = (run.progress, run.epoch)
        if now == self._last_progress[1]:
            return
        self._last_progress = (elapsed_s, now)
        if run.epoch is None:
            return
        if self._last_epoch is not None and run.epoch > self._last_epoch[1]:
            at_s, before = self._last_epoch
            self._epoch_times_s.append((elapsed_s - at_s) / (run.epoch - before))
        if self._last_epoch is None or run.epoch != self._last_epoch[1]:
            self._last_epoch = (elapsed_s, run.epoch)


def require_success(watched: WatchedRun) -> WatchedRun:
    """Return the watched run if it completed.

    Raises:
        TrainingFailedError: The provider reports a failure; its reason is in the message.
        TrainingCancelledError: The run was cancelled at the provider.
        TrainingTimedOutError: Watching ended before the run did.
    """
    run = watched.run
    context = ErrorContext(operation="training.get", run_id=run.handle.run_id)
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
