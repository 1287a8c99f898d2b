"""When somebody wants the flow run to end: how that is noticed, and that the paid run ends with it.

Prefect tells a flow in one of four ways, or not at all: the flow run's own state, a signal, a hook in another process,
and an event for whoever listens. All of them lead to ``cancelling.cancel_operation``, which may be called again.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect import get_client, runtime
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from pipeline.cancelling import cancel_operation
from pipeline.dossier import Dossier
from pipeline.errors import ErrorContext, PipelineError, WatchStoppedError
from pipeline.journal_records import OperationRecord
from pipeline.polling import Clock
from tasks.credentials import open_provider
from tasks.display import say
from tasks.journal import opened_journal

ASK_S = 4.0
"""Seconds between two looks at the flow run's own state."""
ANSWER_S = 5.0
"""Seconds Prefect is given to say why this process is being ended."""
GRACE_S = 20.0
"""Seconds a cancel may take while this process is being ended: Prefect kills it after thirty."""


class OwnState:
    """Looks at the flow run's own state on a thread of its own: Prefect being away must not hold up the watch."""

    def __init__(self, ask_s: float = ASK_S) -> None:
        self._flow_run_id = runtime.flow_run.id
        self._ask_s = ask_s
        self._wanted = threading.Event()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Begin to look, if there is a flow run."""
        if self._flow_run_id is not None:
            context = contextvars.copy_context()  # the settings a flow was started with are in it
            threading.Thread(target=lambda: context.run(self._work), name="own-state", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop looking."""
        self._ended.set()

    def check(self) -> None:
        """Raise when the flow run is being cancelled.

        Raises:
            WatchStoppedError: It is.
        """
        if self._wanted.is_set():
            raise WatchStoppedError("the flow run was cancelled", ErrorContext(code="cancelled"))

    def interrupting(self, clock: Clock) -> Clock:
        """Return the clock with a sleep that ends at once when the flow run is being cancelled."""
        return _Interruptible(clock, self._wanted)

    def _work(self) -> None:
        while not self._ended.wait(self._ask_s):
            if is_cancelled(str(self._flow_run_id)):
                self._wanted.set()
                return


class _Interruptible:
    def __init__(self, clock: Clock, wanted: threading.Event) -> None:
        self._clock = clock
        self._wanted = wanted

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float, /) -> None:
        if self._clock is time:
            self._wanted.wait(seconds)
        else:
            self._clock.sleep(seconds)


def is_cancelled(flow_run_id: str) -> bool:
    """Tell whether a flow run is cancelled or being so; False when Prefect cannot be asked."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run_id)).state
    except Exception:  # whatever its client raises: not knowing is no wish
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def leave(dossier: Dossier) -> None:
    """Say good-bye when this process is being ended: cancel the paid run if that is wanted, or say how to come back."""
    wanted = dossier.request.cancel_on_interrupt or (
        dossier.may_be_billed and _within(ANSWER_S, lambda: is_cancelled(str(runtime.flow_run.id)))
    )
    if not wanted or not dossier.may_be_billed or dossier.plan is None:
        if farewell := dossier.farewell():
            say(farewell, warning=True)
        return
    try:
        with opened_journal() as journal:
            record = journal.find(dossier.plan.operation_key)
        said = end_paid_run(record) if record is not None else dossier.farewell()
    except PipelineError as error:
        said = f"the run could not be cancelled ({error}); {dossier.farewell()}"
    if said:
        say(said, warning=True)


def end_paid_run(record: OperationRecord) -> str:
    """Cancel what an attempt started and return what came of it, for people.

    Raises:
        PipelineError: It could not be learned whether there is a run, or the journal cannot be written.
    """
    with opened_journal() as journal, open_provider(record.request) as provider:
        ending = cancel_operation(journal, provider, record, time, within_s=GRACE_S)
    if ending is None:
        return f"operation {record.operation_id} has no run at the provider: nothing was cancelled"
    name = ending.run.handle.name
    if ending.trouble is not None:
        return f"training {name} was to be cancelled, but {ending.trouble}"
    return f"training {name} has ended at the provider: {ending.run.provider_status}"


def cancel_with_flow_run(flow: Any, flow_run: FlowRun, state: State) -> None:
    """Cancel the paid run of a cancelled flow run; Prefect calls this where the flow itself was not let finish."""
    log = flow_run_logger(flow_run, flow)
    try:
        with opened_journal() as journal:
            record = journal.of_flow_run(str(flow_run.id))
        if record is not None and record.state.is_open:
            log.warning("%s", end_paid_run(record))
    except PipelineError as error:
        log.warning("the paid run could not be cancelled after %s: %s; the sweep tries again", state.name, error)


def _within(limit_s: float, ask: Callable[[], bool]) -> bool:
    """Return the answer, or False when it takes too long."""
    answers: list[bool] = []
    context = contextvars.copy_context()

    def work() -> None:
        with suppress(Exception):
            answers.append(context.run(ask))

    thread = threading.Thread(target=work, name="own-state-now", daemon=True)
    thread.start()
    thread.join(limit_s)
    return bool(answers and answers[0])
