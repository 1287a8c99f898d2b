"""What to try after a run that did not fit into the GPU's memory: the next tier, or half the batch."""

from __future__ import annotations

from pipeline.models import RunStatus, TrainingRun, TrainPlan, TrainRequest
from pipeline.planning import resolve_plan


def next_attempt(plan: TrainPlan, run: TrainingRun) -> TrainPlan | None:
    """Return the plan of the operation's next attempt; none when the run failed otherwise, or nothing is left to try.

    It trains the same thing as far as adoption goes: a rerun of the same command comes back to it.
    """
    if run.status is not RunStatus.FAILED or plan.profile.out_of_memory not in (run.error_message or "").lower():
        return None
    request = _smaller(plan, run)
    if request is None:
        return None
    operation = plan.operation.model_copy(update={"attempt": plan.operation.attempt + 1, "again": False})
    again = resolve_plan(request, plan.profile, operation)
    return again.model_copy(update={"fingerprint": plan.fingerprint, "export_name": plan.export_name})


def _smaller(plan: TrainPlan, run: TrainingRun) -> TrainRequest | None:
    request = plan.request
    if request.on_out_of_memory == "larger_gpu":
        tiers = [tier for tier in plan.profile.gpus if tier != "auto"]
        used = run.gpu or request.gpu
        larger = tiers[tiers.index(used) + 1 :] if used in tiers else []
        return request.model_copy(update={"gpu": larger[0]}) if larger else None
    batch = request.config.batch_size
    if request.on_out_of_memory == "half_batch" and batch is not None and batch > 1:
        return request.model_copy(update={"config": request.config.model_copy(update={"batch_size": batch // 2})})
    return None


def as_attempted(request: TrainRequest, attempted: TrainRequest) -> TrainRequest:
    """Return the request as an attempt that is open carried it out: on its tier, with its hyperparameters."""
    return request.model_copy(update={"gpu": attempted.gpu, "config": attempted.config})
