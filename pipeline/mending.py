"""The sweep's hand: end what is to be ended, close what is over. Doing it again changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bookkeeping import ENDED, settle_attempt
from pipeline.cancelling import Ending, cancel_operation, end_run
from pipeline.errors import PipelineError
from pipeline.journal import Journal
from pipeline.journal_records import OperationOutcome
from pipeline.polling import Clock
from pipeline.provider import Provider
from pipeline.sweeping import Action, Found, SweepClass


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
    try:
        if run is not None and run.status in ENDED:
            settlement = provider.settle(run)
            if record.cancel_asked_at_s is not None:
                journal.cancel_confirmed(record.key)
            journal.ended(record.key, ENDED[run.status], found.reason)
            settle_attempt(journal, record.key, run, settlement)
        elif found.sort is SweepClass.LOST:
            journal.ended(record.key, OperationOutcome.LOST, found.reason)
            # Without a run nothing was billed; of one that is gone nobody can say, so what was held stays counted.
            kept = record.price.amount if record.handle is not None and record.price is not None else 0
            journal.settle(record.key, kept)
        closed = journal.find(record.key)
    except PipelineError as error:
        return Mended(found, Action.CLOSE, f"not closed: {error}")
    billed = f", {closed.billed} billed" if closed is not None and closed.billed else ""
    return Mended(found, Action.CLOSE, f"closed as {closed.outcome if closed else 'gone'}{billed}")
