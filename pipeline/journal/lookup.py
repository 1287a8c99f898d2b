"""What the journal can be asked: attempts by what is known of them, and the money they hold."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, select

from pipeline.journal.records import OperationOutcome, OperationRecord, OperationState, Unread
from pipeline.journal.rows import find_row, first_row, is_open, read_row, sum_spent, try_to_read
from pipeline.journal.schema import Store, operations

logger = logging.getLogger(__name__)


class Lookup:
    """The reading half of a journal, and its connection."""

    def __init__(self, location: str, now: Callable[[], float] = time.time) -> None:
        self._store = Store(location)
        self._now = now

    def close(self) -> None:
        """Release connections."""
        self._store.close()

    def find(self, key: str) -> OperationRecord | None:
        """Return an attempt by its key."""
        with self._store.read() as tx:
            return find_row(tx, operations.c.key == key)

    def latest(self, operation_id: str, *, sandbox: bool) -> OperationRecord | None:
        """Return the last attempt at an operation: the one that counts highest, whatever the clocks said."""
        query = select(operations).where(operations.c.operation_id == operation_id, operations.c.sandbox.is_(sandbox))
        with self._store.read() as tx:
            return first_row(tx, query.order_by(operations.c.attempt.desc()))

    def of_flow_run(self, flow_run_id: str) -> OperationRecord | None:
        """Return the last attempt a flow run carried out."""
        return self._last(operations.c.flow_run_id == flow_run_id)

    def of_run(self, provider: str, run_id: str) -> OperationRecord | None:
        """Return the attempt a provider's run belongs to."""
        return self._last(operations.c.provider == provider, operations.c.run_id == run_id)

    def open_like(self, fingerprint: str) -> tuple[OperationRecord, ...]:
        """Return the open attempts at the same training, the newest first."""
        return self._all(operations.c.fingerprint == fingerprint, is_open())

    def open_operations(self) -> tuple[OperationRecord, ...]:
        """Return everything somebody must still look after, the newest first.

        What another release wrote and this one cannot read is left out, with a warning: it must not keep the others
        from being looked after.
        """
        read = [try_to_read(row) for row in self._rows(is_open())]
        for row in read:
            if isinstance(row, Unread):
                logger.warning("left out: %s", row.reason)
        return tuple(row for row in read if isinstance(row, OperationRecord))

    def unread_operations(self) -> tuple[Unread, ...]:
        """Return what another release wrote, is not known to be closed, and cannot be read by this one."""
        closed = [state.value for state in OperationState if not state.is_open]
        read = [try_to_read(row) for row in self._rows(operations.c.state.not_in(closed))]
        return tuple(row for row in read if isinstance(row, Unread))

    def last_accepted(self, job: str, *, sandbox: bool) -> OperationRecord | None:
        """Return the last attempt at a job whose model was accepted, or was never to be tried.

        A model that was to be tried and could not be is none that later data are compared with.
        """
        done = operations.c.outcome.in_([OperationOutcome.ACCEPTED.value, OperationOutcome.UNTRIED.value])
        rows = self._rows(operations.c.job == job, operations.c.sandbox.is_(sandbox), done)
        records = (record for record in map(try_to_read, rows) if isinstance(record, OperationRecord))
        return next((one for one in records if one.outcome is OperationOutcome.ACCEPTED or not one.request.tries), None)

    def spent(self, unit: str, *, sandbox: bool, since_s: float) -> int:
        """Return what is billed or held since a time, in a unit."""
        with self._store.read() as tx:
            return sum_spent(tx, unit, sandbox=sandbox, since_s=since_s)

    def _last(self, *where: ColumnElement[bool]) -> OperationRecord | None:
        with self._store.read() as tx:
            return find_row(tx, *where)

    def _all(self, *where: ColumnElement[bool]) -> tuple[OperationRecord, ...]:
        return tuple(read_row(row) for row in self._rows(*where))

    def _rows(self, *where: ColumnElement[bool]) -> list[dict[str, Any]]:
        query = select(operations).where(*where).order_by(operations.c.created_at_s.desc(), operations.c.attempt.desc())
        with self._store.read() as tx:
            return [dict(row) for row in tx.execute(query).mappings()]
