"""Bring deferred flow runs forward: whose training the provider has called about looks now, and not at its next look.

Best effort throughout: a flow run that is not brought forward comes back when it is due.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Cancelled, Scheduled

from pipeline.report.dossier import utc_now
from tasks.deferral import STATE_NAME
from tasks.interruption import is_wish
from tasks.journal import opened_journal

logger = logging.getLogger(__name__)

NEAR_S = 15.0
"""What is due within these seconds is left alone: a worker fetches it ten seconds before, and may have it in hand."""
PAUSES_S = (0.0, 3.0, 10.0, 30.0)
"""Waits before each try: the create's answer may not be written down yet, or the flow run be about to leave."""
MOST = 1000
"""Most runs in line; more are left to their own next looks."""


def bring_forward(provider: str, run_id: str) -> bool:
    """Make the deferred flow run of a training due now; False where another try in a moment may do it."""
    try:
        with opened_journal() as journal:
            record = journal.of_run(provider, run_id)
        if record is None:
            return False
        if record.request.wait != "defer" or not record.state.is_open or record.flow_run_id is None:
            return True
        with get_client(sync_client=True) as client:
            return _make_due(client, UUID(record.flow_run_id))
    except Exception as error:  # whatever the journal or Prefect's client raises: the run comes back when it is due
        logger.info("the flow run of training %s could not be brought forward: %s", run_id, type(error).__name__)
        return False


def _make_due(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    before = {state.id for state in client.read_flow_run_states(flow_run_id)}
    state = client.read_flow_run(flow_run_id).state
    if state is None or not (state.is_scheduled() and state.name == STATE_NAME):
        return state is None or not (state.is_running() or state.is_pending())
    due = state.state_details.scheduled_time
    if due is None or due <= utc_now() + timedelta(seconds=NEAR_S):
        return True
    message = "the provider has called about the training: looking now"
    client.set_flow_run_state(flow_run_id, Scheduled(scheduled_time=utc_now(), name=STATE_NAME, message=message))
    logger.info("flow run %s looks at its training now", flow_run_id)
    # Prefect brings a cancelled flow run back as readily: a wish that came in between must not be lost.
    for meanwhile in client.read_flow_run_states(flow_run_id):
        if meanwhile.id not in before and is_wish(meanwhile):
            client.set_flow_run_state(flow_run_id, Cancelled(message=meanwhile.message))
            break
    return True


class Forwarding:
    """Brings flow runs forward on a thread of its own: Prefect being away must not hold up who answers."""

    def __init__(self, bring: Callable[[str], bool], pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._bring = bring
        self._pauses_s = pauses_s
        self._line: dict[str, tuple[float, int]] = {}
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> Self:
        """Begin."""
        context = contextvars.copy_context()  # the Prefect settings of whoever serves are in it
        threading.Thread(target=lambda: context.run(self._work), name="forwarding", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave what is in line to its own next looks."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def add(self, run_id: str) -> None:
        """Put a run in line; one that is there already begins its tries anew."""
        with self._changed:
            if run_id in self._line or len(self._line) < MOST:
                self._line[run_id] = (time.monotonic() + self._pauses_s[0], 0)
                self._changed.notify_all()

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            run_id, tried = turn
            if not self._bring(run_id):
                self._put_back(run_id, tried + 1)

    def _next(self) -> tuple[str, int] | None:
        """Wait for the next one to be due and take it out of the line; none at the end."""
        with self._changed:
            while not self._ended:
                run_id = min(self._line, key=lambda name: self._line[name][0], default=None)
                wait_s = self._line[run_id][0] - time.monotonic() if run_id is not None else None
                if run_id is not None and wait_s is not None and wait_s <= 0:
                    return run_id, self._line.pop(run_id)[1]
                self._changed.wait(wait_s)
        return None

    def _put_back(self, run_id: str, tried: int) -> None:
        with self._changed:
            if run_id not in self._line and tried < len(self._pauses_s):  # a new delivery has put it there already
                self._line[run_id] = (time.monotonic() + self._pauses_s[tried], tried)
