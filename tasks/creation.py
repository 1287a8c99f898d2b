"""Stage: start the paid training, once."""

from __future__ import annotations

import time

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE

from pipeline.creation import create_once
from pipeline.models import ExportReport, TrainingRun, TrainPlan
from tasks.credentials import open_provider
from tasks.display import announce, say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="create-training",
    task_run_name="create-{plan.run_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,  # safe: every attempt looks the run up first and sends the same idempotency key
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def create_training(plan: TrainPlan, export: ExportReport) -> TrainingRun:
    """Return the operation's training run, found or created."""
    again = plan.request.operation is not None or (runtime.task_run.run_count or 1) > 1
    with open_provider(plan.request) as provider:
        run = create_once(provider, plan, export.export, time, again=again)
    how = "taken over" if run.adopted else "created"
    say(f"training {how}: {run.handle.name} ({run.handle.run_id}), {run.provider_status}")
    announce("run.adopted" if run.adopted else "run.created", f"run.{run.handle.run_id}", run.handle.name, {})
    return run
