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
from prefect.states import Running

from pipeline.clock import Clock
from pipeline.errors import ErrorContext, PipelineError, TrainingCancelledError, WatchStoppedError
from pipeline.journal.records import OperationRecord
from pipeline.models import RunStatus, TrainPlan
from pipeline.report.dossier import Dossier
from pipeline.watch.cancelling import cancel_operation
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

    def __init__(self) -> None:
        self._flow_run_id = runtime.flow_run.id
        self._wanted = threading.Event()
        self._alarm = threading.Event()
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

    def wake(self) -> None:
        """End the sleep of the clock that was made interruptible, or the next one: one, and no more."""
        self._alarm.set()

    def interrupting(self, clock: Clock) -> Clock:
        """Return the clock with a sleep that ends at once when the flow run is being cancelled, or it is woken."""
        return _Interruptible(clock, self._wanted, self._alarm)

    def _work(self) -> None:
        while not self._ended.is_set():  # the first time at once: it may have been cancelled before there was a run
            if is_cancelled(str(self._flow_run_id)):
                self._wanted.set()
                self._alarm.set()
                return
            self._ended.wait(ASK_S)


class _Interruptible:
    def __init__(self, clock: Clock, wanted: threading.Event, alarm: threading.Event) -> None:
        self._clock = clock
        self._wanted = wanted
        self._alarm = alarm

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float, /) -> None:
        if self._clock is not time:
            self._clock.sleep(seconds)
        elif self._alarm.wait(seconds) and not self._wanted.is_set():
            self._alarm.clear()


_NO_SLOT = "Deployment concurrency "
"""How Prefect's reasons begin for a flow run it turns away because its deployment has no slot free, or lost it."""


def is_wish(state: State[Any]) -> bool:
    """Tell whether a state says that somebody wants the flow run to end: not where Prefect turned it away itself."""
    turned_away = state.is_cancelled() and (state.message or "").startswith(_NO_SLOT)
    return (state.is_cancelling() or state.is_cancelled()) and not turned_away


def is_cancelled(flow_run_id: str) -> bool:
    """Tell whether somebody wants a flow run cancelled; False when Prefect cannot be asked."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run_id)).state
    except Exception:  # whatever its client raises: not knowing is no wish
        return False
    return state is not None and is_wish(state)


def own_run_is_cancelled() -> bool:
    """Tell whether this flow run is to end; False when Prefect does not say in time."""
    return _within(ANSWER_S, lambda: is_cancelled(str(runtime.flow_run.id)))


def check_wanted(plan: TrainPlan) -> None:
    """Go on to a completed run's model only while somebody wants it.

    Raises:
        TrainingCancelledError: The flow run was cancelled; the model stays where it is, and can be collected later.
    """
    if own_run_is_cancelled():
        raise TrainingCancelledError(
            f"the flow run was cancelled after training {plan.run_name!r} had completed: it is paid for, and its "
            f"model was left as it is"
        )


def insist_on(state: State[Any]) -> None:
    """Let a flow run that Prefect is cancelling end otherwise where that is the truth: its training was not cancelled.

    Prefect takes no end but Cancelled from it, and would call a run cancelled that is still billed.
    """
    if not state.is_cancelled() and own_run_is_cancelled():
        _within(ANSWER_S, lambda: _go_on(state.message or ""))


def _go_on(message: str) -> bool:
    with get_client(sync_client=True) as client:
        flow_run_id = UUID(str(runtime.flow_run.id))
        client.set_flow_run_state(flow_run_id, Running(message=message), force=True)
    return True


def leave(dossier: Dossier) -> None:
    """Say good-bye when this process is being ended: cancel the paid run if that is wanted, or say how to come back."""
    said = dossier.farewell()  # the last word as well of a process that is interrupted a second time
    try:
        said = _say_good_bye(dossier)
    except PipelineError as error:
        said = f"the run could not be cancelled ({error}); {said or 'look at the provider'}"
    finally:
        if said:
            say(said, warning=True)


def _say_good_bye(dossier: Dossier) -> str | None:
    if dossier.plan is None:
        return None
    with opened_journal() as journal:
        record = journal.find(dossier.plan.operation_key)
    if record is None and dossier.run is None:
        return "interrupted before a training was started: nothing is billed"
    if record is None or not record.state.is_open:
        return dossier.farewell()
    if not dossier.request.cancel_on_interrupt and not own_run_is_cancelled():
        open_one = f"interrupted: operation {record.operation_id} is still open, --operation {record.operation_id}"
        return dossier.farewell() or f"{open_one} comes back to it"
    say(f"asking {dossier.plan.profile.title} to cancel the run before leaving", warning=True)
    return end_paid_run(record)


def end_paid_run(record: OperationRecord) -> str:
    """Cancel what an attempt started and return what came of it, for people.

    Raises:
        PipelineError: It could not be learned whether there is a run, or the journal cannot be written.
    """
    with opened_journal() as journal, open_provider(record.request) as provider:
        ending = cancel_operation(journal, provider, record, time, within_s=GRACE_S)
    way_back = f"come back to it with --operation {record.operation_id}"
    if ending is None:
        return f"no run of this operation is at the provider, so none was cancelled; should one appear, {way_back}"
    name = ending.run.handle.name
    if ending.trouble is not None:
        return f"training {name} was to be cancelled, but {ending.trouble}; {way_back}"
    if ending.run.status is RunStatus.COMPLETED:
        return f"training {name} was completed before it could be cancelled: it is paid for, {way_back}"
    return f"training {name} has ended at the provider: {ending.run.provider_status}"


def cancel_with_flow_run(flow: Any, flow_run: FlowRun, state: State) -> None:
    """Cancel the paid run of a cancelled flow run; Prefect calls this where the flow itself was not let finish."""
    log = flow_run_logger(flow_run, flow)
    if not is_wish(state):
        log.warning("Prefect turned the flow run away (%s): its training, if any, goes on", state.message)
        return
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
