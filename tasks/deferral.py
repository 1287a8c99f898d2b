"""Stage: come back to a training from time to time, without keeping a process between two looks."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from prefect import get_client, runtime
from prefect.exceptions import Pause
from prefect.states import Scheduled

from pipeline.deferring import next_look_s
from pipeline.dossier import utc_now
from pipeline.errors import ConfigurationError, ErrorContext, ProviderError
from pipeline.models import CostEstimate, TrainingRun, TrainPlan
from pipeline.pricing import cost_so_far
from pipeline.report import describe_progress
from tasks.credentials import open_provider
from tasks.display import Display, artifact_key, say
from tasks.journal import deadline_of

STATE_NAME = "AwaitingTraining"
"""The flow run's state between two looks."""


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


def defer_until_ended(plan: TrainPlan, run: TrainingRun, cost: CostEstimate | None) -> None:
    """Return when the watch has something to do: the run has ended, or its deadline passed. Otherwise leave.

    Raises:
        Pause: The flow run is scheduled for its next look, and this process ends.
    """
    with open_provider(plan.request) as provider:
        try:
            run = provider.get_run(run.handle)
        except ProviderError as error:
            say(f"look failed: {error}", warning=True)
    if run.status.is_terminal:
        return
    wait_s = next_look_s(run, plan.poll, deadline_of(plan), time.time())
    if wait_s is None:
        return
    line = describe_progress(run, cost_so_far(cost, run, utc_now()))
    say(f"{line}; next look in {wait_s:.0f} s, no process is kept", percent=run.progress)
    with Display() as display:
        display.progress(run.progress or 0.0, line, artifact_key("progress", plan.request))
    _leave(wait_s, line)


def _leave(seconds: float, message: str) -> None:
    when = utc_now() + timedelta(seconds=seconds)
    with get_client(sync_client=True) as client:
        answer: Any = client.set_flow_run_state(
            runtime.flow_run.id, Scheduled(scheduled_time=when, name=STATE_NAME, message=message)
        )
    raise Pause(state=answer.state)
