"""What to try after a run that did not fit into the GPU's memory: the next tier, or half the batch."""

from __future__ import annotations

from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.models import Operation, ProviderProfile, RunStatus, TrainPlan, WatchedRun
from pipeline.requests import TrainRequest
from pipeline.start.planning import resolve_plan


def next_attempt(plan: TrainPlan, watched: WatchedRun) -> TrainPlan | None:
    """Return the plan of the operation's next attempt; none when the run failed otherwise, or nothing is left to try.

    It trains the same thing as far as adoption and comparison go: a rerun of the same command comes back to it. A run
    that was to be ended is not followed by another one, whatever it says of itself.
    """
    run = watched.run
    if watched.stopped is not None or run.status is not RunStatus.FAILED:
        return None
    request = _smaller(plan.request, plan.profile, run.gpu, run.error_message)
    if request is None:
        return None
    operation = plan.operation.model_copy(update={"attempt": plan.operation.attempt + 1, "again": False})
    again = resolve_plan(request, plan.profile, operation)
    kept = {"fingerprint": plan.fingerprint, "export_name": plan.export_name, "config_asked": plan.config_asked}
    return again.model_copy(update=kept)


def after_attempt(request: TrainRequest, profile: ProviderProfile, ended: OperationRecord) -> TrainRequest | None:
    """Return what an operation's next attempt asks for where the last one did not fit; none when it ended otherwise.

    For whoever comes back between the two: the tier that was to be tried is written down nowhere yet.
    """
    if ended.outcome is not OperationOutcome.FAILED:
        return None
    used = ended.estimate.gpu if ended.estimate is not None else None
    return _smaller(request.as_attempted(ended.request), profile, used, ended.reason)


def where_it_stands(
    request: TrainRequest, profile: ProviderProfile, chosen: Operation, known: OperationRecord | None
) -> TrainRequest:
    """Return the request on the tier and with the batch its operation has got to; ``known`` is its latest attempt."""
    if known is None:
        return request
    if known.attempt == chosen.attempt:
        return request.as_attempted(known.request)
    return after_attempt(request, profile, known) or request


def _smaller(
    request: TrainRequest, profile: ProviderProfile, gpu: str | None, error_message: str | None
) -> TrainRequest | None:
    if profile.out_of_memory not in (error_message or "").lower():
        return None
    return request.smaller(profile.gpus, gpu)
