"""Stage: come back to a training from time to time, without keeping a process between two looks."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import get_client, runtime
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Pause
from prefect.states import Scheduled

from pipeline.errors import (
    ConfigurationError,
    ErrorContext,
    JournalError,
    NotFoundError,
    PipelineError,
    ProviderError,
    WatchStoppedError,
)
from pipeline.models import CostEstimate, TrainingRun, TrainPlan
from pipeline.report.dossier import utc_now
from pipeline.report.figures import describe_progress
from pipeline.requests import TrainRequest
from pipeline.start.pricing import cost_so_far
from pipeline.watch.burning import BurnGuard
from pipeline.watch.deferring import BACK_S, LATE_S, next_look_s
from pipeline.watch.polling import REFUSALS, Look, observe
from tasks.credentials import open_provider
from tasks.display import Display, artifact_key, say
from tasks.interruption import is_cancelled
from tasks.journal import deadline_of, note_look

STATE_NAME = "AwaitingTraining"
"""The flow run's state between two looks."""
JOURNAL_S = 300.0
"""Seconds until a flow run that could not read the journal tries again."""


def check_deferrable(plan: TrainPlan) -> None:
    """Refuse to defer where nobody would bring the flow run back.

    Raises:
        ConfigurationError: The flow run belongs to no deployment.
    """
    if plan.request.wait == "defer" and runtime.deployment.id is None:
        raise ConfigurationError(
            "wait='defer' needs a flow run of a deployment, which a worker brings back; use wait='hold' here",
            ErrorContext(field="wait"),
        )


def comes_back(flow_run_id: str) -> bool:
    """Tell whether a flow run that no process carries out is about to be again; False when Prefect does not know."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run_id)).state
    except Exception:  # whatever its client raises: it may be another server's flow run
        return False
    if state is None or not (state.is_scheduled() or state.is_pending()):
        return False
    due = state.state_details.scheduled_time or state.timestamp
    return due is not None and due > utc_now() - timedelta(seconds=LATE_S)


def defer_until_ended(plan: TrainPlan, run: TrainingRun, cost: CostEstimate | None) -> None:
    """Leave until the next look; return where a process has to stay.

    That is when the run has ended, its deadline passed, its cost comes near the cap, or Prefect cannot be told; and
    when nobody but this process knows the run.

    Raises:
        Pause: The flow run is scheduled for its next look, and this process ends.
        TrainingLostError: The provider does not know the run, beyond the grace period.
        AuthenticationError: The key was refused again and again, beyond the grace period.
        PermissionDeniedError: The same, for the key's role.
    """
    seen = _look(plan, run)
    is_noted = note_look(plan, seen, shown=seen is not run)
    run = seen
    if run.status.is_terminal:
        return
    wait_s = next_look_s(run, plan.poll, deadline_of(plan), time.time())
    if wait_s is None or _too_dear(plan, run, cost, wait_s) or _would_lose(plan, run, is_noted=is_noted):
        return
    line = describe_progress(run, cost_so_far(cost, run, utc_now()))
    say(f"{line}; next look in {wait_s:.0f} s, no process is kept", percent=run.progress)
    with Display() as display:
        display.progress(run.progress or 0.0, line, artifact_key("progress", plan.request))
    _leave(wait_s, line)


def come_back_later(request: TrainRequest, error: PipelineError) -> None:
    """Leave again when a deferred flow run came back to a journal it cannot read; return for every other error.

    Its training is paid for and goes on: giving up would leave it to whoever finds it.

    Raises:
        Pause: The flow run is scheduled for another try.
    """
    returned = (runtime.flow_run.run_count or 1) > 1 and runtime.deployment.id is not None
    if isinstance(error, JournalError) and request.wait == "defer" and returned:
        say(f"{error}; trying again in {JOURNAL_S:.0f} s, no process is kept", warning=True)
        _leave(JOURNAL_S, str(error))


def _look(plan: TrainPlan, run: TrainingRun) -> TrainingRun:
    """Look once; again within its grace where the failure may be an end, as the watch would."""
    with open_provider(plan.request) as provider:
        for look in observe(lambda: provider.get_run(run.handle), plan.poll, time):
            if look.seen is not None:
                return look.seen
            say(f"look failed: {look.error}", warning=True)
            if look.error is None or not _may_be_an_end(plan, look.error):
                break
    return run


def _may_be_an_end(plan: TrainPlan, error: ProviderError) -> bool:
    # Who wants the run cancelled at its deadline is served by coming back until then, with whatever key.
    return isinstance(error, NotFoundError) or (isinstance(error, REFUSALS) and plan.request.on_deadline == "keep")


def _too_dear(plan: TrainPlan, run: TrainingRun, cost: CostEstimate | None, wait_s: float) -> bool:
    try:
        BurnGuard(plan.request, cost).check(Look(run, None, 0.0, wait_s + BACK_S), run, utc_now())
    except WatchStoppedError as error:
        say(f"{error}: it is watched from here on", warning=True)
        return True
    return False


def _would_lose(plan: TrainPlan, run: TrainingRun, *, is_noted: bool) -> bool:
    """Tell whether whoever comes back would neither read of the run in the journal nor find it at the provider."""
    if is_noted or plan.profile.finds_runs:
        return False
    say(f"the journal does not know run {run.handle.run_id} yet: this process stays, not to lose it", warning=True)
    return True


def _leave(seconds: float, message: str) -> None:
    """Hand the flow run back to Prefect; return when it does not take it."""
    flow_run_id = str(runtime.flow_run.id)
    if is_cancelled(flow_run_id):  # Prefect would schedule it all the same, and the wish would be lost
        return
    when = utc_now() + timedelta(seconds=seconds)
    try:
        with get_client(sync_client=True) as client:
            answer: Any = client.set_flow_run_state(
                UUID(flow_run_id), Scheduled(scheduled_time=when, name=STATE_NAME, message=message)
            )
    except Exception as error:  # whatever its client raises: a run that is being paid for must not notice
        say(f"Prefect could not be told ({type(error).__name__}): this process stays", warning=True)
        return
    if answer.status is SetStateStatus.ACCEPT:
        raise Pause(state=answer.state)
    say(f"Prefect did not defer the flow run ({answer.status.value}): this process stays", warning=True)
