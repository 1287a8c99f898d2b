"""Cancel a run whose deadline passed, or say plainly that it goes on and is billed."""

from __future__ import annotations

from pipeline.errors import ProviderError
from pipeline.models import TrainPlan, WatchedRun
from pipeline.provider import Provider

_ROUNDING_S = 0.001


def cancel_overdue(provider: Provider, plan: TrainPlan, watched: WatchedRun) -> WatchedRun:
    """Return the run as it is after the deadline: cancelled where the request says so.

    A run that merely could not be seen is left alone: its deadline may be far off. When the provider does not cancel,
    ``gave_up`` says so.
    """
    due = watched.watched_s >= plan.poll.deadline_s - _ROUNDING_S
    if watched.run.status.is_terminal or plan.request.on_deadline != "cancel" or not due:
        return watched
    try:
        return watched.model_copy(update={"run": provider.cancel_run(watched.run.handle)})
    except ProviderError as error:
        reason = (
            f"the deadline passed and it could not be cancelled ({error}); it goes on at the provider and is billed: "
            f"cancel it there, or run the same operation again to collect it"
        )
        return watched.model_copy(update={"gave_up": reason})
