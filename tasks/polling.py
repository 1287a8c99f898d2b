"""Stage: watch the training to its end, showing progress, forecast and money."""

from __future__ import annotations

import time
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipeline.models import CostEstimate, RunStatus, TrainingRun, TrainPlan, WatchedRun
from pipeline.provider import Provider
from pipeline.report.dossier import utc_now
from pipeline.report.figures import describe_progress
from pipeline.start.pricing import cost_so_far
from pipeline.watch.burning import BurnGuard
from pipeline.watch.cancelling import cancel_overdue, cancel_stopped, is_overdue
from pipeline.watch.polling import Look
from pipeline.watch.progress import Shown
from pipeline.watch.watching import WatchLog, watch_run
from tasks.credentials import open_provider
from tasks.deliveries import Deliveries
from tasks.display import Display, announce, artifact_key, say
from tasks.interruption import OwnState
from tasks.journal import note_cancel, note_cancelled, note_look, watched_before_s

FINAL_STATES: dict[RunStatus, tuple[Any, str]] = {
    RunStatus.COMPLETED: (Completed, "Completed"),
    RunStatus.FAILED: (Failed, "TrainingFailed"),
    RunStatus.CANCELLED: (Cancelled, "TrainingCancelled"),
}
"""How the run's end shows on the stage; any other status means that the deadline came first."""


@task(name="await-completion", task_run_name="await-{run.handle.name}", cache_policy=NO_CACHE)
def await_completion(plan: TrainPlan, run: TrainingRun, cost: CostEstimate | None) -> State[WatchedRun]:
    """Return a state named for how the run ended, with what was seen as its data."""
    with (
        open_provider(plan.request) as provider,
        Display() as display,
        OwnState() as own,
        Deliveries(plan, run, own.wake),
    ):
        shown = _Shown(plan, cost, display, own)
        clock, before_s = own.interrupting(time), watched_before_s(plan)
        seen = watch_run(run, lambda: provider.get_run(run.handle), plan.poll, clock, shown.look, before_s)
        watched = _end(provider, plan, seen)
    factory, name = FINAL_STATES.get(watched.run.status, (Failed, "NotCancelled" if watched.stopped else "TimedOut"))
    state: State[WatchedRun] = factory(name=name, message=watched.run.error_message, data=watched)
    return state


def _end(provider: Provider, plan: TrainPlan, seen: WatchedRun) -> WatchedRun:
    """Cancel the run where its watch ended because it is to be ended; return it as it is then."""
    if seen.run.status.is_terminal or (seen.stopped is None and not is_overdue(plan, seen)):
        return seen
    say(f"asking {plan.profile.title} to cancel the run: {seen.gave_up}", warning=True)
    note_cancel(plan)
    watched = cancel_overdue(provider, plan, cancel_stopped(provider, plan, seen, time), time)
    if watched.run.status is RunStatus.CANCELLED:
        note_cancelled(plan)
    for finding in (item for item in watched.run.warnings if item not in seen.run.warnings):
        say(finding.message, warning=True)
    reason = f"asked the provider to cancel, the run is {watched.run.provider_status!r}"
    say(reason if watched.run.status.is_terminal else f"not cancelled: {watched.gave_up}", warning=True)
    return watched


class _Shown:
    """Turns looks into artifact, events and lines, each only when something changed."""

    def __init__(self, plan: TrainPlan, cost: CostEstimate | None, display: Display, own: OwnState) -> None:
        self._plan = plan
        self._own = own
        self._guard = BurnGuard(plan.request, cost)
        if self._guard.idle is not None:
            say(f"nothing ends this run at its cap: {self._guard.idle}", warning=True)
        self._cost = cost
        self._display = display
        self._shown = Shown()
        self._is_noted = False

    def look(self, look: Look[TrainingRun], log: WatchLog) -> None:
        """Show one look; ends the watch when somebody wants the run cancelled, or it gets too expensive."""
        self._show(look, log)
        if not self._is_noted:  # the run's handle, where the journal was away, and that the provider shows it
            is_shown = look.seen is not None
            self._is_noted = note_look(self._plan, log.last, shown=is_shown) and is_shown
        if not log.last.status.is_terminal:
            self._own.check()
            self._guard.check(look, log.last, utc_now())

    def _show(self, look: Look[TrainingRun], log: WatchLog) -> None:
        run = look.seen
        if run is None:
            then = f"next in {look.wait_s:.0f} s" if look.wait_s else "it was the last one"
            say(f"look failed, {then}: {look.error}", warning=True)
            return
        if self._shown.new_word(run):
            payload = {"status": run.provider_status, "name": run.handle.name, "dataset": run.handle.dataset}
            self._announce(run.status.value, run, payload)
        for printed in self._shown.new_log_lines(run):
            say(f"trainer: {printed}")
        line = describe_progress(run, cost_so_far(self._cost, run, utc_now()))
        if self._shown.new_line(run, line):
            say(line, percent=self._shown.percent)
            self._display.progress(self._shown.percent, line, artifact_key("progress", self._plan.request))
        idle_s = log.stalled_s
        if self._shown.new_stall(idle_s):
            say(f"no progress for {idle_s:.0f} s, unusual for this run; it is still being watched", warning=True)
            self._announce("stalled", run, {"idle_s": idle_s})

    def _announce(self, event: str, run: TrainingRun, payload: dict[str, Any]) -> None:
        rehearsal = self._plan.request.sandbox
        announce(f"run.{event}", f"run.{run.handle.run_id}", run.handle.name, payload, rehearsal=rehearsal)
