"""Rows of the journal: made from an intent, read as records, looked for, and the money they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue, ValidationError
from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, update

from pipeline.errors import JournalError, OperationBusyError
from pipeline.journal.records import (
    OPEN_STATES,
    ExportContent,
    OperationRecord,
    OperationState,
    Owner,
    Unread,
)
from pipeline.journal.schema import operations, reservations
from pipeline.models import CostEstimate, RunHandle, TrainPlan


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


def is_open() -> ColumnElement[bool]:
    """Return the condition of attempts that somebody must still look after."""
    return operations.c.state.in_([state.value for state in OPEN_STATES])


def find_row(tx: Connection, *where: ColumnElement[bool]) -> OperationRecord | None:
    """Return the newest attempt that meets every condition."""
    query = select(operations).where(*where).order_by(operations.c.created_at_s.desc(), operations.c.attempt.desc())
    return first_row(tx, query)


def first_row(tx: Connection, query: Select[Any]) -> OperationRecord | None:
    """Return the first attempt of a query.

    Raises:
        JournalError: This release cannot read it.
    """
    row = tx.execute(query.limit(1)).mappings().first()
    return None if row is None else read_row(dict(row))


def read_row(row: dict[str, Any]) -> OperationRecord:
    """Return a row as a record.

    Raises:
        JournalError: This release cannot read it; the message names the operation.
    """
    try:
        return OperationRecord.model_validate(row)
    except ValidationError as error:
        fields = ", ".join(sorted({str(fault["loc"][0]) for fault in error.errors(include_input=False)}))
    raise JournalError(
        f"operation {row['operation_id']!r} in the journal cannot be read by this release ({fields}): install the one "
        f"that wrote it"
    )


def try_to_read(row: dict[str, Any]) -> OperationRecord | Unread:
    """Return a row as a record, or what is known of one that this release cannot read."""
    try:
        return read_row(row)
    except JournalError as error:
        return Unread(row["key"], row["run_id"], str(error))


def check_alone(tx: Connection, intent: Intent, since_s: float) -> None:
    """Refuse a training that somebody else has begun between our looking for it and this moment, ended or not."""
    plan = intent.plan
    same = and_(operations.c.fingerprint == plan.fingerprint, operations.c.account == intent.account)
    begun = is_open() | and_(operations.c.created_at_s >= since_s, operations.c.state == OperationState.COLLECTED.value)
    twin = find_row(tx, same, operations.c.operation_id != plan.operation.id, begun)
    if twin is not None:
        raise OperationBusyError(
            f"the same training was begun as operation {twin.operation_id!r} in the meantime; nothing was started: run "
            f"again to go on with that one, or ask with on_open_run=new for a second training"
        )


def must_exist(record: OperationRecord | None, key: str) -> OperationRecord:
    """Return the record.

    Raises:
        JournalError: There is none.
    """
    if record is None:
        raise JournalError(f"the journal has no operation with key {key!r}: it was deleted, or another journal is used")
    return record


def new_row(intent: Intent, now_s: float) -> dict[str, Any]:
    """Return the columns of an attempt that is about to be begun."""
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


def handled(handle: RunHandle) -> dict[str, Any]:
    """Return the columns that a known run fills."""
    return {"handle": handle.model_dump(mode="json"), "run_id": handle.run_id}


_UNSAID = (
    "outcome",
    "reason",
    "ended_at_s",
    "billed",
    "missing_since_s",
    "cancel_asked_at_s",
    "cancel_confirmed_at_s",
)


def reopened(intent: Intent, now_s: float) -> dict[str, Any]:
    """Return the columns of an attempt whose run goes on after all: whoever takes it has a request of their own."""
    plan = intent.plan
    return {
        **dict.fromkeys(_UNSAID),
        "state": OperationState.CREATED.value,
        "request": plan.request.model_dump(mode="json"),
        "flow_run_id": intent.owner.flow_run_id,
        "owner": intent.owner.model_dump(mode="json"),
        "owner_until_s": intent.owner_until_s,
        "deadline_at_s": now_s + plan.poll.deadline_s,
    }


def settle(tx: Connection, key: str, billed: int | None) -> None:
    """Hold nothing any more for an attempt: what was billed counts, or what was held where that is not known."""
    values = {"settled": True} if billed is None else {"settled": True, "amount": billed}
    tx.execute(update(reservations).where(reservations.c.key == key).values(values))


def hold_again(tx: Connection, record: OperationRecord) -> None:
    """Hold the price of an attempt that goes on after all, instead of what it was settled with."""
    if record.price is not None:
        values = {"settled": False, "amount": record.price.amount}
        tx.execute(update(reservations).where(reservations.c.key == record.key).values(values))


def storable(reason: str) -> str:
    """Return a sentence as every database takes it: vendors' words may hold anything."""
    return reason.encode("utf-8", "replace").decode().replace("\0", "")


def sum_spent(tx: Connection, unit: str, *, sandbox: bool, since_s: float) -> int:
    """Sum up what counts: everything made since then, and what is still held from before."""
    counted = (reservations.c.at_s >= since_s) | reservations.c.settled.is_(False)
    query = select(func.coalesce(func.sum(reservations.c.amount), 0)).where(
        reservations.c.unit == unit, reservations.c.sandbox.is_(sandbox), counted
    )
    return int(tx.execute(query).scalar_one())
