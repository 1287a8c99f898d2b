"""The journal: what was begun, with whose money, and what became of it; the program's memory across crashes.

Rules kept here: an intent is committed before the first byte that can cost money, together with the reservation of its
price; key and body are frozen by the first sending; the handle is written right after the reply; a closed attempt is
never opened again, a new one counts up; the database's unique constraints are the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue, ValidationError
from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, select, update

from pipeline.budget import NO_CAPS, Caps, check_cap, day_start_s, month_start_s
from pipeline.errors import JournalError, OperationBusyError
from pipeline.journal_records import (
    OPEN_STATES,
    ExportContent,
    OperationOutcome,
    OperationRecord,
    OperationState,
    Owner,
)
from pipeline.journal_schema import Store, operations, reservations
from pipeline.models import CostEstimate, RunHandle, TrainPlan, TrainRequest


@dataclass(frozen=True)
class Intent:
    """What is about to be paid for."""

    plan: TrainPlan
    """What is to be trained, under which key."""
    account: str
    """Hash that tells accounts apart."""
    body: dict[str, JsonValue]
    """What the create will send."""
    estimate: CostEstimate | None
    """Its price, which is reserved."""
    owner: Owner
    """Who is about to send it."""
    owner_until_s: float
    """Until when nobody else may, unless renewed."""
    content_fingerprint: str | None = None
    """SHA-256 of what the model is made of."""
    content: ExportContent | None = None
    """What is trained on."""
    alone_since_s: float | None = None
    """When the same training was last looked for; one that the account began since then stands in the way. None: no."""


class Journal:
    """One team's journal, shared by every process that is given the same location."""

    def __init__(self, location: str, now: Callable[[], float] = time.time) -> None:
        self._store = Store(location)
        self._now = now

    def close(self) -> None:
        """Release connections."""
        self._store.close()

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
            known = _find(tx, operations.c.key == plan.operation_key)
            if known is not None:
                return known, True
            if intent.alone_since_s is not None:
                _check_alone(tx, intent, intent.alone_since_s)
            self._reserve(tx, intent, caps, now_s)
            tx.execute(insert(operations).values(_new_row(intent, now_s)))
            return _must(_find(tx, operations.c.key == plan.operation_key), plan.operation_key), False

    def adopt(self, intent: Intent, handle: RunHandle) -> OperationRecord:
        """Write down a run that was started elsewhere, without reserving anything: it is paid for already."""
        now_s, plan = self._now(), intent.plan
        with self._store.write() as tx:
            known = _find(tx, operations.c.key == plan.operation_key)
            if known is None:
                row = {**_new_row(intent, now_s), **_handled(handle), "state": OperationState.CREATED.value}
                tx.execute(insert(operations).values(row))
                known = _must(_find(tx, operations.c.key == plan.operation_key), plan.operation_key)
            return known

    def created(self, key: str, handle: RunHandle) -> None:
        """Write the handle down, right after the reply or a look-up that found the run."""
        values = {"state": OperationState.CREATED.value, "reason": None, **_handled(handle)}
        self._move(key, {OperationState.INTENT, OperationState.UNKNOWN}, values)

    def unknown(self, key: str, reason: str) -> None:
        """Write down that the create's answer was lost; the attempt stays open and its reservation held."""
        self._move(key, {OperationState.INTENT}, {"state": OperationState.UNKNOWN.value, "reason": _storable(reason)})

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

    def settle(self, key: str, billed: int) -> None:
        """Replace what was held by what the provider billed."""
        with self._store.write() as tx:
            _settle(tx, key, billed)
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
            record = _must(_find(tx, operations.c.key == key), key)
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
            return _must(_find(tx, operations.c.key == key), key)

    def renew(self, key: str, owner: Owner, until_s: float) -> bool:
        """Give a sign of life; False when the attempt is somebody else's by now, or closed."""
        with self._store.write() as tx:
            record = _find(tx, operations.c.key == key)
            if record is None or record.owner != owner or not record.state.is_open:
                return False
            tx.execute(update(operations).where(operations.c.key == key).values(owner_until_s=until_s))
            return True

    def release(self, key: str, owner: Owner) -> None:
        """Let go of an attempt, so that the next one who asks need not wait."""
        with self._store.write() as tx:
            record = _find(tx, operations.c.key == key)
            if record is not None and record.owner == owner:
                self._update(tx, operations.c.key == key, {"owner": None, "owner_until_s": None})

    # -- looking things up --------------------------------------------------------------------------------------

    def find(self, key: str) -> OperationRecord | None:
        """Return an attempt by its key."""
        with self._store.read() as tx:
            return _find(tx, operations.c.key == key)

    def age_s(self, key: str) -> float:
        """Return for how many seconds an attempt has been written down."""
        record = self.find(key)
        return self._now() - record.created_at_s if record is not None else 0.0

    def latest(self, operation_id: str, *, sandbox: bool) -> OperationRecord | None:
        """Return the last attempt at an operation: the one that counts highest, whatever the clocks said."""
        query = select(operations).where(operations.c.operation_id == operation_id, operations.c.sandbox.is_(sandbox))
        with self._store.read() as tx:
            return _first(tx, query.order_by(operations.c.attempt.desc()))

    def of_flow_run(self, flow_run_id: str) -> OperationRecord | None:
        """Return the last attempt a flow run carried out."""
        return self._last(operations.c.flow_run_id == flow_run_id)

    def of_run(self, provider: str, run_id: str) -> OperationRecord | None:
        """Return the attempt a provider's run belongs to."""
        return self._last(operations.c.provider == provider, operations.c.run_id == run_id)

    def open_like(self, fingerprint: str) -> tuple[OperationRecord, ...]:
        """Return the open attempts at the same training, the newest first."""
        return self._all(operations.c.fingerprint == fingerprint, _is_open())

    def open_operations(self) -> tuple[OperationRecord, ...]:
        """Return everything somebody must still look after, the newest first."""
        return self._all(_is_open())

    def last_accepted(self, job: str, *, sandbox: bool) -> OperationRecord | None:
        """Return the last attempt at a job whose model was accepted."""
        accepted = operations.c.outcome == OperationOutcome.ACCEPTED.value
        return self._last(operations.c.job == job, operations.c.sandbox.is_(sandbox), accepted)

    def spent(self, unit: str, *, sandbox: bool, since_s: float) -> int:
        """Return what is billed or held since a time, in a unit."""
        with self._store.read() as tx:
            return _spent(tx, unit, sandbox=sandbox, since_s=since_s)

    # -- how it is done -----------------------------------------------------------------------------------------

    def _reserve(self, tx: Connection, intent: Intent, caps: Caps, now_s: float) -> None:
        if intent.estimate is None:
            return
        price, sandbox = intent.estimate.total, intent.plan.profile.sandbox
        for cap, since_s, period in (
            (caps.of_day(price.unit), day_start_s(now_s), "day"),
            (caps.of_month(price.unit), month_start_s(now_s), "month"),
        ):
            check_cap(price, _spent(tx, price.unit.value, sandbox=sandbox, since_s=since_s), cap, period)
        held = {"key": intent.plan.operation_key, "sandbox": sandbox, "unit": price.unit.value, "settled": False}
        tx.execute(insert(reservations).values({**held, "amount": price.amount, "at_s": now_s}))

    def _move(self, key: str, before: Iterable[OperationState], values: dict[str, Any]) -> None:
        states = [state.value for state in before]
        with self._store.write() as tx:
            self._update(tx, and_(operations.c.key == key, operations.c.state.in_(states)), values)

    def _end(self, key: str, state: OperationState, outcome: OperationOutcome, reason: str) -> None:
        with self._store.write() as tx:
            record = _must(_find(tx, operations.c.key == key), key)
            if not record.state.is_open:
                return
            values = {
                "state": state.value,
                "outcome": outcome.value,
                "reason": _storable(reason),
                "ended_at_s": self._now(),
            }
            self._update(tx, operations.c.key == key, {**values, "owner": None, "owner_until_s": None})
            _settle(tx, key, 0 if outcome is OperationOutcome.REFUSED else None)

    def _update(self, tx: Connection, where: ColumnElement[bool], values: dict[str, Any]) -> None:
        tx.execute(update(operations).where(where).values(**values, updated_at_s=self._now()))

    def _last(self, *where: ColumnElement[bool]) -> OperationRecord | None:
        with self._store.read() as tx:
            return _find(tx, *where)

    def _all(self, *where: ColumnElement[bool]) -> tuple[OperationRecord, ...]:
        query = select(operations).where(*where).order_by(operations.c.created_at_s.desc(), operations.c.attempt.desc())
        with self._store.read() as tx:
            return tuple(_read(dict(row)) for row in tx.execute(query).mappings())


def _is_open() -> ColumnElement[bool]:
    return operations.c.state.in_([state.value for state in OPEN_STATES])


def _find(tx: Connection, *where: ColumnElement[bool]) -> OperationRecord | None:
    query = select(operations).where(*where).order_by(operations.c.created_at_s.desc(), operations.c.attempt.desc())
    return _first(tx, query)


def _first(tx: Connection, query: Select[Any]) -> OperationRecord | None:
    row = tx.execute(query.limit(1)).mappings().first()
    return None if row is None else _read(dict(row))


def _read(row: dict[str, Any]) -> OperationRecord:
    try:
        return OperationRecord.model_validate(row)
    except ValidationError as error:
        fields = ", ".join(sorted({str(fault["loc"][0]) for fault in error.errors(include_input=False)}))
    raise JournalError(
        f"operation {row['operation_id']!r} in the journal cannot be read by this release ({fields}): install the one "
        f"that wrote it"
    )


def _check_alone(tx: Connection, intent: Intent, since_s: float) -> None:
    """Refuse a training that somebody else has begun between our looking for it and this moment, ended or not."""
    plan = intent.plan
    same = and_(operations.c.fingerprint == plan.fingerprint, operations.c.account == intent.account)
    begun = _is_open() | and_(
        operations.c.created_at_s >= since_s, operations.c.state == OperationState.COLLECTED.value
    )
    twin = _find(tx, same, operations.c.operation_id != plan.operation.id, begun)
    if twin is not None:
        raise OperationBusyError(
            f"the same training was begun as operation {twin.operation_id!r} in the meantime; nothing was started: run "
            f"again to go on with that one, or ask with on_open_run=new for a second training"
        )


def _must(record: OperationRecord | None, key: str) -> OperationRecord:
    if record is None:
        raise JournalError(f"the journal has no operation with key {key!r}: it was deleted, or another journal is used")
    return record


def _new_row(intent: Intent, now_s: float) -> dict[str, Any]:
    plan = intent.plan
    return {
        "key": plan.operation_key,
        "operation_id": plan.operation.id,
        "attempt": plan.operation.attempt,
        "provider": plan.profile.name,
        "account": intent.account,
        "sandbox": plan.profile.sandbox,
        "fingerprint": plan.fingerprint,
        "job": plan.job,
        "content_fingerprint": intent.content_fingerprint,
        "content": intent.content.model_dump(mode="json") if intent.content is not None else None,
        "run_name": plan.run_name,
        "request": plan.request.model_dump(mode="json"),
        "body": intent.body,
        "state": OperationState.INTENT.value,
        "flow_run_id": intent.owner.flow_run_id,
        "owner": intent.owner.model_dump(mode="json"),
        "owner_until_s": intent.owner_until_s,
        "estimate": intent.estimate.model_dump(mode="json") if intent.estimate is not None else None,
        "deadline_at_s": now_s + plan.poll.deadline_s,
        "created_at_s": now_s,
        "updated_at_s": now_s,
    }


def _handled(handle: RunHandle) -> dict[str, Any]:
    return {"handle": handle.model_dump(mode="json"), "run_id": handle.run_id}


def _settle(tx: Connection, key: str, billed: int | None) -> None:
    """Hold nothing any more for an attempt: what was billed counts, or what was held where that is not known."""
    values = {"settled": True} if billed is None else {"settled": True, "amount": billed}
    tx.execute(update(reservations).where(reservations.c.key == key).values(values))


def _storable(reason: str) -> str:
    """Return a sentence as every database takes it: vendors' words may hold anything."""
    return reason.encode("utf-8", "replace").decode().replace("\0", "")


def _spent(tx: Connection, unit: str, *, sandbox: bool, since_s: float) -> int:
    """Sum up what counts: everything made since then, and what is still held from before."""
    counted = (reservations.c.at_s >= since_s) | reservations.c.settled.is_(False)
    query = select(func.coalesce(func.sum(reservations.c.amount), 0)).where(
        reservations.c.unit == unit, reservations.c.sandbox.is_(sandbox), counted
    )
    return int(tx.execute(query).scalar_one())
