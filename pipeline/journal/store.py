"""The journal: what was begun, with whose money, and what became of it; the program's memory across crashes.

Rules kept here: an intent is committed before the first byte that can cost money, together with the reservation of its
price; key and body are frozen by the first sending; the handle is written right after the reply; a new attempt counts
up, and a closed one is opened again only where its own run turned out to go on; the database's unique constraints are
the lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from pipeline.journal.budget import NO_CAPS, Caps, check_cap, day_start_s, month_start_s
from pipeline.journal.lookup import Lookup
from pipeline.journal.records import OPEN_STATES, OperationOutcome, OperationRecord, OperationState, Owner
from pipeline.journal.rows import (
    Intent,
    check_alone,
    find_row,
    handled,
    hold_again,
    is_open,
    must_exist,
    new_row,
    reopened,
    settle,
    storable,
    sum_spent,
)
from pipeline.journal.schema import deliveries, operations, preparations, reservations
from pipeline.models import RunHandle
from pipeline.requests import TrainRequest

logger = logging.getLogger(__name__)


class Journal(Lookup):
    """One team's journal, shared by every process that is given the same location."""

    # -- one attempt, from intent to end ------------------------------------------------------------------------

    def intend(self, intent: Intent, caps: Caps = NO_CAPS) -> tuple[OperationRecord, bool]:
        """Commit the intent and its reservation, or return the attempt as it was committed before, and True.

        Raises:
            BudgetExceededError: The price does not fit under a cap; nothing was written.
            OperationBusyError: Another operation began the same training since this one looked for such; nothing was
                written.
            JournalError: It could not be committed; nothing may be sent.
        """
        now_s, plan = self._now(), intent.plan
        with self._store.write() as tx:
            known = find_row(tx, operations.c.key == plan.operation_key)
            if known is not None:
                return known, True
            if intent.alone_since_s is not None:
                check_alone(tx, intent, intent.alone_since_s)
            self._reserve(tx, intent, caps, now_s)
            tx.execute(insert(operations).values(new_row(intent, now_s)))
            return must_exist(find_row(tx, operations.c.key == plan.operation_key), plan.operation_key), False

    def adopt(self, intent: Intent, handle: RunHandle) -> OperationRecord:
        """Write down a run that was started elsewhere, without reserving anything: it is paid for already."""
        now_s, plan = self._now(), intent.plan
        with self._store.write() as tx:
            known = find_row(tx, operations.c.key == plan.operation_key)
            if known is None:
                row = {**new_row(intent, now_s), **handled(handle), "state": OperationState.CREATED.value}
                tx.execute(insert(operations).values(row))
                known = must_exist(find_row(tx, operations.c.key == plan.operation_key), plan.operation_key)
            return known

    def created(self, key: str, handle: RunHandle) -> None:
        """Write the handle down, right after the reply or a look-up that found the run."""
        values = {"state": OperationState.CREATED.value, "reason": None, "missing_since_s": None, **handled(handle)}
        self._move(key, {OperationState.INTENT, OperationState.UNKNOWN}, values)

    def unknown(self, key: str, reason: str) -> None:
        """Write down that the create's answer was lost; the attempt stays open and its reservation held."""
        self._move(key, {OperationState.INTENT}, {"state": OperationState.UNKNOWN.value, "reason": storable(reason)})

    def looked(self, key: str, handle: RunHandle, *, shown: bool) -> bool:
        """Take in a look at a run: its handle where that could not be written before, and that it is not missing.

        Returns whether the handle is written down by now. Writes nothing, and waits for nobody, where nothing is new.
        """
        record = self.find(key)
        if record is None:
            return False
        is_news = record.state in {OperationState.INTENT, OperationState.UNKNOWN}
        if is_news:
            self.created(key, handle)
        elif shown and record.missing_since_s is not None:
            self._move(key, OPEN_STATES, {"missing_since_s": None})
        return is_news or record.handle is not None

    def denied(self, key: str) -> float:
        """Take in that the provider denies an attempt's run; return for how many seconds it has done so by now."""
        first = and_(operations.c.key == key, is_open(), operations.c.missing_since_s.is_(None))
        now_s = self._now()
        with self._store.write() as tx:
            self._update(tx, first, {"missing_since_s": now_s})
            record = find_row(tx, operations.c.key == key)
        since_s = record.missing_since_s if record is not None else None
        return now_s - since_s if since_s is not None else 0.0

    def terminal(self, key: str) -> None:
        """Write down that the run completed at the provider."""
        self._move(key, {OperationState.CREATED}, {"state": OperationState.TERMINAL.value})

    def judged(self, key: str, outcome: OperationOutcome, reason: str) -> None:
        """Close an attempt whose model was collected and judged."""
        self._end(key, OperationState.COLLECTED, outcome, reason)

    def ended(self, key: str, outcome: OperationOutcome, reason: str) -> None:
        """Close an attempt that leaves nothing to collect; what was never started gives its reservation back.

        What nobody has settled by then counts as spent on the day it was reserved, and is held no longer.
        """
        self._end(key, OperationState.CLOSED, outcome, reason)

    def reopen(self, intent: Intent) -> OperationRecord:
        """Open an attempt again whose run goes on although it was closed without a model, for a process that takes it.

        Its price is held again until it is billed: the run is paid for, so no cap is asked. What is open already, was
        judged, or never had a run stays as it is.
        """
        key = intent.plan.operation_key
        with self._store.write() as tx:
            record = must_exist(find_row(tx, operations.c.key == key), key)
            if not record.can_try_again or record.handle is None:
                return record
            self._update(tx, operations.c.key == key, reopened(intent, self._now()))
            hold_again(tx, record)
            return must_exist(find_row(tx, operations.c.key == key), key)

    def settle(self, key: str, billed: int) -> None:
        """Replace what was held by what the provider billed."""
        with self._store.write() as tx:
            settle(tx, key, billed)
            self._update(tx, operations.c.key == key, {"billed": billed})

    def watch_until(self, key: str, deadline_at_s: float | None) -> None:
        """Write down when watching is to end; none when it has ended and the next one to watch begins anew."""
        with self._store.write() as tx:
            self._update(tx, operations.c.key == key, {"deadline_at_s": deadline_at_s})

    def cancel_asked(self, key: str) -> None:
        """Write down that somebody wants the run ended; the first time counts."""
        known = and_(operations.c.key == key, operations.c.cancel_asked_at_s.is_(None))
        with self._store.write() as tx:
            self._update(tx, known, {"cancel_asked_at_s": self._now()})

    def cancel_confirmed(self, key: str) -> None:
        """Write down that the provider was seen to have ended the run."""
        with self._store.write() as tx:
            self._update(tx, operations.c.key == key, {"cancel_confirmed_at_s": self._now()})

    # -- who carries it out -------------------------------------------------------------------------------------

    def claim(
        self,
        key: str,
        owner: Owner,
        until_s: float,
        is_gone: Callable[[Owner], bool],
        request: TrainRequest | None = None,
    ) -> OperationRecord:
        """Make a process the one that carries an open attempt out, unless another one that lives does.

        Its request takes the place of the one that began the attempt: limits, patience and credentials are the later
        one's, for whoever looks after it from now on.

        The record that comes back names the owner: whoever asked, the one who has it, or nobody when it is closed.
        """
        with self._store.write() as tx:
            record = must_exist(find_row(tx, operations.c.key == key), key)
            held = record.owner
            lapsed = record.owner_until_s is None or record.owner_until_s <= self._now()
            if not record.state.is_open:
                return record
            if held is not None and held != owner and not lapsed and not is_gone(held):
                return record
            values = {
                "owner": owner.model_dump(mode="json"),
                "owner_until_s": until_s,
                "flow_run_id": owner.flow_run_id,
            }
            if record.flow_run_id != owner.flow_run_id:  # whoever goes on with it wants it: the later wish counts
                values["cancel_asked_at_s"] = None
            if request is not None:
                values["request"] = request.model_dump(mode="json")
            self._update(tx, operations.c.key == key, values)
            return must_exist(find_row(tx, operations.c.key == key), key)

    def renew(self, key: str, owner: Owner, until_s: float) -> bool:
        """Give a sign of life; False when the attempt is somebody else's by now, or closed."""
        with self._store.write() as tx:
            record = find_row(tx, operations.c.key == key)
            if record is None or record.owner != owner or not record.state.is_open:
                return False
            tx.execute(update(operations).where(operations.c.key == key).values(owner_until_s=until_s))
            return True

    def release(self, key: str, owner: Owner) -> None:
        """Let go of an attempt, so that the next one who asks need not wait."""
        with self._store.write() as tx:
            record = find_row(tx, operations.c.key == key)
            if record is not None and record.owner == owner:
                self._update(tx, operations.c.key == key, {"owner": None, "owner_until_s": None})

    def withdraw(self, key: str) -> None:
        """Forget an intent, and what was held for it: nothing of it has reached the provider."""
        only_meant = and_(operations.c.key == key, operations.c.state == OperationState.INTENT.value)
        with self._store.write() as tx:
            if tx.execute(delete(operations).where(only_meant)).rowcount:
                tx.execute(delete(reservations).where(reservations.c.key == key))

    # -- what was made before anything was paid for, and what the provider calls about ----------------------------

    def notes(self, key: str) -> dict[str, JsonValue]:
        """Return what was noted for an attempt; empty when nothing was."""
        with self._store.read() as tx:
            row = tx.execute(select(preparations.c.notes).where(preparations.c.key == key)).first()
        return dict(row[0]) if row is not None else {}

    def note(self, intent: Intent, notes: dict[str, JsonValue]) -> None:
        """Keep this for an attempt, instead of what was noted before; whoever notes it is the one who prepares it."""
        plan, now = intent.plan, {"notes": notes, "updated_at_s": self._now()}
        values = {**now, "owner": intent.owner.model_dump(mode="json")}
        with self._store.write() as tx:
            if tx.execute(update(preparations).where(preparations.c.key == plan.operation_key).values(values)).rowcount:
                return
            about = {"operation_id": plan.operation.id, "attempt": plan.operation.attempt, "account": intent.account}
            tx.execute(
                insert(preparations).values(key=plan.operation_key, fingerprint=plan.fingerprint, **about, **values)
            )

    def take_preparation(
        self, fingerprint: str, account: str, owner: Owner, is_gone: Callable[[Owner], bool]
    ) -> tuple[str, int] | None:
        """Go on with what somebody prepared for the same training who died before it was begun.

        Returns operation and attempt, for one who asks; none when there is nothing, or whoever prepares it may live.
        """
        begun = select(operations.c.key).where(operations.c.key == preparations.c.key).exists()
        like = and_(preparations.c.fingerprint == fingerprint, preparations.c.account == account, ~begun)
        with self._store.write() as tx:
            rows = tx.execute(select(preparations).where(like).order_by(preparations.c.updated_at_s.desc())).mappings()
            for row in rows.all():
                if is_gone(Owner.model_validate(row["owner"])):
                    taken = {"owner": owner.model_dump(mode="json")}
                    tx.execute(update(preparations).where(preparations.c.key == row["key"]).values(taken))
                    return str(row["operation_id"]), int(row["attempt"])
        return None

    def deliver(self, provider: str, delivery_id: str, run_id: str) -> bool:
        """Take in a verified call of the provider about a run; False when the same one was taken in before."""
        same = and_(deliveries.c.provider == provider, deliveries.c.delivery_id == delivery_id)
        with self._store.write() as tx:
            if tx.execute(select(deliveries.c.at_s).where(same)).first() is not None:
                return False
            values = {"provider": provider, "delivery_id": delivery_id, "run_id": run_id, "at_s": self._now()}
            tx.execute(insert(deliveries).values(values))
        return True

    def deliveries_about(self, provider: str, run_id: str) -> int:
        """Return how often the provider has called about a run."""
        about = and_(deliveries.c.provider == provider, deliveries.c.run_id == run_id)
        with self._store.read() as tx:
            return int(tx.execute(select(func.count()).select_from(deliveries).where(about)).scalar_one())

    # -- how it is done -----------------------------------------------------------------------------------------

    def _reserve(self, tx: Connection, intent: Intent, caps: Caps, now_s: float) -> None:
        if intent.estimate is None:
            return
        price, sandbox = intent.estimate.total, intent.plan.profile.sandbox
        for cap, since_s, period in (
            (caps.of_day(price.unit), day_start_s(now_s), "day"),
            (caps.of_month(price.unit), month_start_s(now_s), "month"),
        ):
            check_cap(price, sum_spent(tx, price.unit.value, sandbox=sandbox, since_s=since_s), cap, period)
        held = {"key": intent.plan.operation_key, "sandbox": sandbox, "unit": price.unit.value, "settled": False}
        tx.execute(insert(reservations).values({**held, "amount": price.amount, "at_s": now_s}))

    def _move(self, key: str, before: Iterable[OperationState], values: dict[str, Any]) -> None:
        states = [state.value for state in before]
        with self._store.write() as tx:
            self._update(tx, and_(operations.c.key == key, operations.c.state.in_(states)), values)

    def _end(self, key: str, state: OperationState, outcome: OperationOutcome, reason: str) -> None:
        with self._store.write() as tx:
            record = must_exist(find_row(tx, operations.c.key == key), key)
            if not record.state.is_open:
                return
            values = {
                "state": state.value,
                "outcome": outcome.value,
                "reason": storable(reason),
                "ended_at_s": self._now(),
            }
            self._update(tx, operations.c.key == key, {**values, "owner": None, "owner_until_s": None})
            tx.execute(delete(preparations).where(preparations.c.key == key))
            settle(tx, key, 0 if outcome is OperationOutcome.REFUSED else None)

    def _update(self, tx: Connection, where: ColumnElement[bool], values: dict[str, Any]) -> None:
        tx.execute(update(operations).where(where).values(**values, updated_at_s=self._now()))
