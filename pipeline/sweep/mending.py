"""The sweep's hand: end what is to be ended, close what is over. Doing it again changes nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.clock import Clock
from pipeline.errors import NotOfferedError, PipelineError
from pipeline.journal.bookkeeping import ENDED, settle_attempt
from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.journal.store import Journal
from pipeline.models import Settlement, TrainingRun
from pipeline.provider import Provider
from pipeline.sweep.sweeping import Action, Found, SweepClass
from pipeline.watch.cancelling import Ending, cancel_operation, end_run, read_bill

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mended:
    """What was done about one training."""

    found: Found
    """What was found."""
    action: Action
    """What was to be done."""
    said: str
    """What came of it, for people; empty when there was nothing to do."""
    failed: bool = False
    """Whether it could not be done."""


_MOVES = ("state", "flow_run_id", "owner", "cancel_asked_at_s")
"""What in the journal's row changes when somebody else has taken a training on, ended it, or wants it ended."""


def hold_back(journal: Journal, found: Found, action: Action) -> Mended | None:
    """Return why a training is left alone after all; none when what the journal said of it still holds.

    Looking at a large account takes minutes, in which a person or a flow run may have come back to one of its runs.
    """
    if action in {Action.NOTHING, Action.NOTIFY}:
        return None
    try:
        moved = _has_moved(found.record, _row_now(journal, found))
    except PipelineError as error:
        return Mended(found, action, f"nothing was done: {error}", failed=True)
    said = f"left alone ({action.value} was due): its operation has changed since it was looked at, the next sweep's"
    return Mended(found, Action.NOTIFY, said) if moved else None


def _row_now(journal: Journal, found: Found) -> OperationRecord | None:
    if found.record is not None:
        return journal.find(found.record.key)
    handle = found.run.handle if found.run is not None else None
    return journal.of_run(handle.provider, handle.run_id) if handle is not None else None


def _has_moved(before: OperationRecord | None, now: OperationRecord | None) -> bool:
    if before is None:
        return now is not None and now.state.is_open  # no stranger any more
    return now is None or any(getattr(now, name) != getattr(before, name) for name in _MOVES)


def end(journal: Journal, provider: Provider, found: Found, clock: Clock, *, within_s: float) -> Mended:
    """End a training at the provider; what cannot be ended is said, and asked for again by the next sweep."""
    try:
        if found.record is not None:
            ending = cancel_operation(journal, provider, found.record, clock, within_s=within_s)
        elif found.run is not None:
            ending = end_run(provider, found.run, clock, floor_s=provider.profile.poll.floor_s, within_s=within_s)
        else:
            ending = None
    except PipelineError as error:
        return Mended(found, Action.CANCEL, f"not cancelled: {error}", failed=True)
    return _told(found, ending)


def _told(found: Found, ending: Ending | None) -> Mended:
    if ending is None:
        return Mended(found, Action.CANCEL, "there is no run to cancel")
    if ending.trouble is not None:
        return Mended(found, Action.CANCEL, f"not cancelled: {ending.trouble}", failed=True)
    return Mended(found, Action.CANCEL, f"ended at the provider: {ending.run.provider_status}")


def close(journal: Journal, provider: Provider, found: Found) -> Mended:
    """Close the attempt of a training that is over, and replace what was held for it by what it cost."""
    record, run = found.record, found.run
    if record is None:
        return Mended(found, Action.CLOSE, "")
    settlement: Settlement | None = None
    try:
        if run is not None and run.status in ENDED:
            settlement = _close_ended(journal, provider, record, run, found.reason)
        elif found.sort is SweepClass.LOST:
            journal.ended(record.key, OperationOutcome.LOST, found.reason)
            # Without a run nothing was billed; of one that is gone nobody can say, so what was held stays counted.
            kept = record.price.amount if record.handle is not None and record.price is not None else 0
            journal.settle(record.key, kept)
        closed = journal.find(record.key)
    except PipelineError as error:
        return Mended(found, Action.CLOSE, f"not closed: {error}", failed=True)
    outcome = closed.outcome if closed is not None else "gone"
    return Mended(found, Action.CLOSE, f"closed as {outcome}{_bill(closed, settlement)}")


def _close_ended(
    journal: Journal, provider: Provider, record: OperationRecord, run: TrainingRun, reason: str
) -> Settlement | None:
    """Close the row of a run that failed or was cancelled, and return its bill; none where nobody can say it.

    A bill that may be read later leaves the row to the next sweep. One that no provider can tell must not: what was
    held for the run counts as what it cost.
    """
    settlement, is_known = None, True
    try:
        settlement = read_bill(provider, record, run)
    except NotOfferedError as error:
        logger.warning("the bill of %r cannot be read, so what was held counts as it: %s", run.handle.name, error)
        is_known = False
    if record.cancel_asked_at_s is not None:
        journal.cancel_confirmed(record.key)
    journal.ended(record.key, ENDED[run.status], reason)
    if is_known:
        settle_attempt(journal, record.key, run, settlement)
    elif record.price is not None:
        journal.settle(record.key, record.price.amount)
    return settlement


def _bill(closed: OperationRecord | None, settlement: Settlement | None) -> str:
    """Return what an attempt cost, in words: what the ledger says, or what is counted where it is silent."""
    if closed is None or not closed.billed:
        return ""
    known = settlement is not None and settlement.charged.amount == closed.billed
    return f", {closed.billed} billed" if known else f", counted as {closed.billed}"
