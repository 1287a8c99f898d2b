"""End a paid run at the provider, or say plainly what is known of it: that it goes on and is billed.

Asking and being sure are two steps: a cancel that was accepted is believed when the run's status says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.clock import Clock
from pipeline.errors import NotOfferedError, ProviderError
from pipeline.journal.bookkeeping import ENDED, settle_attempt
from pipeline.journal.records import OperationOutcome, OperationRecord, OperationState
from pipeline.journal.store import Journal
from pipeline.models import Operation, RunStatus, Settlement, TrainingRun, TrainPlan, WatchedRun
from pipeline.provider import Provider
from pipeline.start.adoption import find_earlier
from pipeline.start.planning import resolve_plan

logger = logging.getLogger(__name__)

CANCEL_S = 60.0
"""Seconds given to a cancel: to be accepted, and then to show in the run's status."""
APPEAR_S = 8.0
"""Seconds given to the run of a create that may still be on its way: to show in the provider's list."""
_ROUNDING_S = 0.001
_LEAST_WAIT_S = 0.1


@dataclass(frozen=True)
class Ending:
    """What came of asking for a run's end."""

    run: TrainingRun
    """The run as last seen."""
    trouble: str | None
    """Why it cannot be said to have ended; none when it has."""


def end_run(
    provider: Provider, run: TrainingRun, clock: Clock, *, floor_s: float, within_s: float = CANCEL_S
) -> Ending:
    """Ask for a run's end until the provider agrees once, then look until the status shows it, for a while."""
    latest, accepted = run, False
    failure: ProviderError | None = None
    until, wait_s = clock.monotonic() + within_s, max(floor_s, _LEAST_WAIT_S)
    while True:
        try:
            # Cancelling again is harmless, so it is asked for until the provider has said yes once.
            latest = provider.get_run(run.handle) if accepted else provider.cancel_run(run.handle)
            accepted, failure = True, None
        except NotOfferedError as error:
            return Ending(latest, f"it could not be cancelled ({error}); {_BILLED}")
        except ProviderError as error:
            failure = error
        left_s = until - clock.monotonic()
        if latest.status.is_terminal or left_s <= 0:
            break
        clock.sleep(min(wait_s, left_s))
        wait_s *= 2
    if latest.status.is_terminal:
        return Ending(latest, None)
    reason = _accepted(latest.provider_status, failure, within_s) if accepted else f"could not be cancelled ({failure})"
    return Ending(latest, f"it {reason}; {_BILLED}")


_BILLED = "as long as it goes on at the provider it is billed: look there, cancel it there, or collect it later"


def _accepted(word: str, failure: ProviderError | None, within_s: float) -> str:
    unseen = f", and the last look failed ({failure})" if failure is not None else ""
    return f"was told to stop: the cancel was accepted, the run still reads {word!r} {within_s:.0f} s later{unseen}"


def is_overdue(plan: TrainPlan, watched: WatchedRun) -> bool:
    """Tell whether a watch ended at its deadline and the request wants the run cancelled then."""
    due = watched.watched_s >= plan.poll.deadline_s - _ROUNDING_S
    return due and plan.request.on_deadline == "cancel" and not watched.run.status.is_terminal


def cancel_overdue(provider: Provider, plan: TrainPlan, watched: WatchedRun, clock: Clock) -> WatchedRun:
    """Return the run as it is after the deadline: cancelled where the request says so.

    A watch that ended before its deadline leaves the run alone. When the run is not seen to end, ``gave_up`` says what
    is known of it.
    """
    if watched.stopped is not None or not is_overdue(plan, watched):
        return watched
    ending = end_run(provider, watched.run, clock, floor_s=plan.poll.floor_s)
    gave_up = watched.gave_up if ending.trouble is None else f"the deadline passed and {ending.trouble}"
    return watched.model_copy(update={"run": ending.run, "gave_up": gave_up})


def cancel_stopped(provider: Provider, plan: TrainPlan, watched: WatchedRun, clock: Clock) -> WatchedRun:
    """Return the run as it is after its watch was stopped because somebody or something wants it ended."""
    if watched.stopped is None or watched.run.status.is_terminal:
        return watched
    ending = end_run(provider, watched.run, clock, floor_s=plan.poll.floor_s)
    gave_up = watched.gave_up if ending.trouble is None else f"{watched.gave_up}, but {ending.trouble}"
    return watched.model_copy(update={"run": ending.run, "gave_up": gave_up})


def cancel_operation(
    journal: Journal, provider: Provider, record: OperationRecord, clock: Clock, within_s: float = CANCEL_S
) -> Ending | None:
    """Cancel what an open attempt started, whoever asks and however often; none when there is no run to cancel.

    Raises:
        ProviderError: It could not be learned whether the attempt has a run; it stays open and asked for.
        ConfigurationError: The run under the attempt's name trains something else than the attempt.
        JournalError: The wish could not be written down.
    """
    journal.cancel_asked(record.key)
    until = clock.monotonic() + within_s
    plan = resolve_plan(
        record.request, provider.profile, Operation(id=record.operation_id, attempt=record.attempt, again=True)
    )
    found = _find(provider, plan, record, clock, within_s)
    if found is None:
        return None
    journal.created(record.key, found.handle)
    # An ended run is left as it is; of one that is merely not seen the provider is asked all the same.
    ending = (
        Ending(found, None)
        if found.status.is_terminal
        else end_run(provider, found, clock, floor_s=plan.poll.floor_s, within_s=max(until - clock.monotonic(), 0.0))
    )
    _write_down(journal, provider, record, ending.run)
    return ending


def _find(
    provider: Provider, plan: TrainPlan, record: OperationRecord, clock: Clock, within_s: float
) -> TrainingRun | None:
    """Return the attempt's run; of one whose create may just have been sent, the list is read more than once."""
    may_appear = record.handle is None and record.state in {OperationState.INTENT, OperationState.UNKNOWN}
    until, wait_s = clock.monotonic() + min(APPEAR_S, within_s), 1.0
    while True:
        found = find_earlier(provider, plan, record.handle, record.body)
        left_s = until - clock.monotonic()
        if found is not None or not may_appear or left_s <= 0:
            return found
        clock.sleep(min(wait_s, left_s))
        wait_s *= 2


def read_bill(provider: Provider, record: OperationRecord, run: TrainingRun) -> Settlement | None:
    """Read what an attempt's run cost; where the provider does not show its hardware, on what the price was made of.

    Whoever looks after a whole account is connected without the request that would say it.

    Raises:
        ProviderError: The bill could not be read, or there is none to read.
    """
    priced_on = record.estimate.gpu if record.estimate is not None else None
    return provider.settle(run.model_copy(update={"gpu": run.gpu or priced_on or None}))


def _write_down(journal: Journal, provider: Provider, record: OperationRecord, run: TrainingRun) -> None:
    key = record.key
    if run.status is RunStatus.COMPLETED:
        journal.terminal(key)  # it was faster than the cancel: paid for, and to be collected
    elif run.status is RunStatus.CANCELLED:
        journal.cancel_confirmed(key)
        journal.ended(key, OperationOutcome.CANCELLED, "cancelled at the provider")
    elif run.status is RunStatus.FAILED:
        journal.ended(key, OperationOutcome.FAILED, run.error_message or "failed at the provider")
    if run.status in ENDED:
        try:
            settle_attempt(journal, key, run, read_bill(provider, record, run))
        except ProviderError as error:
            # The run has ended whatever the ledger says: a bill nobody can read now is no cancel that failed.
            logger.warning("the bill of %r could not be read, its reservation stays held: %s", run.handle.name, error)
