"""Cancel a run whose deadline passed, or say plainly what is known of it: that it goes on and is billed."""

from __future__ import annotations

from pipeline.errors import ProviderError
from pipeline.models import TrainPlan, WatchedRun
from pipeline.polling import Clock
from pipeline.provider import Provider

CANCEL_S = 60.0
"""Seconds given to a cancel: to be accepted, and then to show in the run's status."""
_ROUNDING_S = 0.001
_LEAST_WAIT_S = 0.1


def cancel_overdue(provider: Provider, plan: TrainPlan, watched: WatchedRun, clock: Clock) -> WatchedRun:
    """Return the run as it is after the deadline: cancelled where the request says so.

    A watch that ended before its deadline leaves the run alone. When the run is not seen to end, ``gave_up`` says what
    is known of it.
    """
    due = watched.watched_s >= plan.poll.deadline_s - _ROUNDING_S
    if watched.run.status.is_terminal or plan.request.on_deadline != "cancel" or not due:
        return watched
    handle, latest, accepted = watched.run.handle, watched.run, False
    trouble: ProviderError | None = None
    until, wait_s = clock.monotonic() + CANCEL_S, max(plan.poll.floor_s, _LEAST_WAIT_S)
    while True:
        try:
            # Cancelling again is harmless, so it is asked for until the provider has said yes once.
            latest = provider.get_run(handle) if accepted else provider.cancel_run(handle)
            accepted, trouble = True, None
        except ProviderError as error:
            trouble = error
        left_s = until - clock.monotonic()
        if latest.status.is_terminal or left_s <= 0:
            break
        clock.sleep(min(wait_s, left_s))
        wait_s *= 2
    seen = watched.model_copy(update={"run": latest})
    if latest.status.is_terminal:
        return seen
    reason = _accepted(latest.provider_status, trouble) if accepted else f"could not be cancelled ({trouble})"
    return seen.model_copy(update={"gave_up": f"the deadline passed and it {reason}; {_BILLED}"})


_BILLED = "as long as it goes on at the provider it is billed: look there, cancel it there, or collect it later"


def _accepted(word: str, trouble: ProviderError | None) -> str:
    unseen = f", and the last look failed ({trouble})" if trouble is not None else ""
    return f"was told to stop: the cancel was accepted, the run still reads {word!r} {CANCEL_S:.0f} s later{unseen}"
