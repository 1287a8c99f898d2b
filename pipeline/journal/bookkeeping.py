"""What the journal is told about one attempt, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import JsonValue

from pipeline.clock import Clock
from pipeline.journal.budget import NO_CAPS, Caps
from pipeline.journal.ownership import take_over
from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.journal.rows import Intent
from pipeline.journal.store import Journal
from pipeline.models import RunHandle, RunStatus, Settlement, TrainingRun
from pipeline.provider import Notes

ENDED = {RunStatus.FAILED: OperationOutcome.FAILED, RunStatus.CANCELLED: OperationOutcome.CANCELLED}
"""Ends of a run that leave nothing to collect."""


class CreationLog(Protocol):
    """What creating a training writes down, and when."""

    def intend(self, body: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], bool]:
        """Commit the intent before anything is sent.

        Returns the body to send, frozen by the first sending, and whether it may have been sent before.
        """

    @property
    def notes(self) -> Notes:
        """What the adapter remembers of this attempt."""

    def known_order(self) -> dict[str, JsonValue] | None:
        """Return what an earlier process was about to send, or sent, for this attempt; none when it is new."""

    def created(self, handle: RunHandle) -> None:
        """Write the run's handle down, right after it is known."""

    def unknown(self, reason: str) -> None:
        """Write down that the create's answer was lost."""

    def refused(self, reason: str) -> None:
        """Write down that the provider refused and nothing was started."""

    def unsent(self) -> None:
        """Take the intent back: what was sent certainly did not arrive."""


@dataclass(frozen=True)
class AttemptNotes:
    """Keeps an adapter's notes on one attempt in the journal; implements ``Notes``."""

    journal: Journal
    """Where."""
    intent: Intent
    """The attempt, and who prepares it."""

    def read(self) -> dict[str, JsonValue]:
        """Return what was written last; empty at first."""
        return self.journal.notes(self.intent.plan.operation_key)

    def write(self, notes: dict[str, JsonValue]) -> None:
        """Keep this instead."""
        self.journal.note(self.intent, notes)


@dataclass(frozen=True)
class AttemptLog:
    """Writes one attempt into the journal; implements ``CreationLog``."""

    journal: Journal
    """Where."""
    intent: Intent
    """What is to be paid for; its body is replaced by the one that is sent."""
    clock: Clock
    """The ``time`` module, or a fake."""
    caps: Caps = NO_CAPS
    """What may be spent beside it."""

    @property
    def _key(self) -> str:
        return self.intent.plan.operation_key

    @property
    def notes(self) -> Notes:
        """What the adapter remembers of this attempt."""
        return AttemptNotes(self.journal, self.intent)

    def known_order(self) -> dict[str, JsonValue] | None:
        """Return the body that an earlier process wrote down, if any."""
        record = self.journal.find(self._key)
        return record.body if record is not None else None

    def intend(self, body: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], bool]:
        """Commit the intent before anything is sent.

        Returns the body to send, frozen by the first sending, and whether it may have been sent before.

        Raises:
            BudgetExceededError: The price does not fit under a cap.
            JournalError: It could not be committed.
            OperationBusyError: A process that lives has sent it, or is about to; or it was closed in the meantime.
        """
        record, known = self.journal.intend(replace(self.intent, body=body), self.caps)
        if known:
            record = take_over(self.journal, record, self.intent.owner, self.clock)
        return record.body or body, known

    def created(self, handle: RunHandle) -> None:
        """Write the run's handle down; a run nobody has written down before is adopted."""
        if self.journal.find(self._key) is None:
            self.journal.adopt(self.intent, handle)
        else:
            self.journal.created(self._key, handle)

    def reopened(self) -> None:
        """Open an attempt again that was given up: its run goes on, or has completed.

        Raises:
            OperationBusyError: A process that lives carries it out, or it was judged in the meantime.
        """
        take_over(self.journal, self.journal.reopen(self.intent), self.intent.owner, self.clock)

    def unknown(self, reason: str) -> None:
        """Write down that the create's answer was lost."""
        self.journal.unknown(self._key, reason)

    def refused(self, reason: str) -> None:
        """Write down that the provider refused and nothing was started."""
        self.journal.ended(self._key, OperationOutcome.REFUSED, reason)

    def unsent(self) -> None:
        """Take the intent back: what was sent certainly did not arrive."""
        self.journal.withdraw(self._key)


def note_sight(journal: Journal, record: OperationRecord, run: TrainingRun | None) -> None:
    """Write down whether the provider shows an open attempt's run, or denies it: how long it has done so decides."""
    if run is None and record.missing_since_s is None:
        journal.denied(record.key)
    elif run is not None and record.missing_since_s is not None and record.handle is not None:
        journal.looked(record.key, record.handle, shown=True)


def settle_attempt(journal: Journal, key: str, run: TrainingRun, settlement: Settlement | None) -> None:
    """Replace what is held for a run that has ended by what was billed; a run that goes on keeps its reservation.

    A ledger without an entry means that a failed or cancelled run cost nothing; of a completed one it means that the
    bill is not written yet, and what was held is kept as what it cost. So it is where the bill is in another unit.
    """
    record = journal.find(key)
    if not run.status.is_terminal or record is None:
        return
    price = record.price
    if settlement is not None and (price is None or settlement.charged.unit is price.unit):
        journal.settle(key, settlement.charged.amount)
    elif settlement is None and run.status in ENDED:
        journal.settle(key, 0)
    elif price is not None:
        journal.settle(key, price.amount)
