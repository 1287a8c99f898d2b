"""Stage: watch the training to its end, showing progress, forecast and money."""

from __future__ import annotations

import time
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipeline.cancelling import cancel_overdue
from pipeline.dossier import utc_now
from pipeline.models import CostEstimate, RunStatus, TrainingRun, TrainPlan, WatchedRun
from pipeline.polling import Look, WatchLog, watch_run
from pipeline.pricing import cost_so_far
from pipeline.report import describe_progress
from tasks.credentials import open_provider
from tasks.display import Display, announce, artifact_key, say

FINAL_STATES: dict[RunStatus, tuple[Any, str]] = {
    RunStatus.COMPLETED: (Completed, "Completed"),
    RunStatus.FAILED: (Failed, "TrainingFailed"),
    RunStatus.CANCELLED: (Cancelled, "TrainingCancelled"),
}
"""How the run's end shows on the stage; any other status means that the deadline came first."""


@task(name="await-completion", task_run_name="await-{run.handle.name}", cache_policy=NO_CACHE)
def await_completion(plan: TrainPlan, run: TrainingRun, cost: CostEstimate) -> State[WatchedRun]:
    """Return a state named for how the run ended, with what was seen as its data."""
    with open_provider(plan.request) as provider, Display() as display:
        shown = _Shown(plan, cost, display)
        watched = watch_run(lambda: provider.get_run(run.handle), plan.poll, time, shown.look)
        left = cancel_overdue(provider, plan, watched)
        if left is not watched:
            say(f"deadline: asked the provider to cancel, the run is {left.run.provider_status!r}", warning=True)
        watched = left
    factory, name = FINAL_STATES.get(watched.run.status, (Failed, "TimedOut"))
    state: State[WatchedRun] = factory(name=name, message=watched.run.error_message, data=watched)
    return state


class _Shown:
    """Turns looks into artifact, events and lines, each only when something changed."""

    def __init__(self, plan: TrainPlan, cost: CostEstimate, display: Display) -> None:
        self._plan = plan
        self._cost = cost
        self._display = display
        self._status: str | None = None
        self._line = ""
        self._percent = 0.0
        self._stalled = False

    def look(self, look: Look[TrainingRun], log: WatchLog) -> None:
        """Show one look."""
        if look.seen is None:
            say(f"look failed, next in {look.wait_s:.0f} s: {look.error}", warning=True)
            return
        self._show_status(look.seen)
        line = describe_progress(look.seen, cost_so_far(self._cost, look.seen, utc_now()))
        if line != self._line:
            self._line = line
            self._percent = 100.0 if look.seen.status is RunStatus.COMPLETED else look.seen.progress or self._percent
            say(line, percent=self._percent)
            request = self._plan.request
            self._display.progress(self._percent, line, artifact_key("progress", request.dataset, request.pipeline))
        self._show_stall(log)

    def _show_status(self, run: TrainingRun) -> None:
        if run.provider_status == self._status:
            return
        self._status = run.provider_status
        payload = {"status": run.provider_status, "name": run.handle.name, "dataset": run.handle.dataset}
        announce(f"run.{run.status.value}", f"run.{run.handle.run_id}", run.handle.name, payload)

    def _show_stall(self, log: WatchLog) -> None:
        idle_s = log.stalled_s
        if idle_s is not None and not self._stalled and log.last is not None:
            say(f"no progress for {idle_s:.0f} s, unusual for this run; it is still being watched", warning=True)
            handle = log.last.handle
            announce("run.stalled", f"run.{handle.run_id}", handle.name, {"idle_s": idle_s})
        self._stalled = idle_s is not None
