"""Stage: start the paid training, once."""

from __future__ import annotations

import time

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE

from pipeline.adoption import find_earlier
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
    again = plan.operation.again or (runtime.task_run.run_count or 1) > 1
    with open_provider(plan.request) as provider:
        run = create_once(provider, plan, export.export, time, again=again)
    _show(plan, run)
    return run


@task(
    name="find-training",
    task_run_name="find-{plan.run_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def find_training(plan: TrainPlan) -> TrainingRun | None:
    """Return the run an earlier attempt at this operation started, if any."""
    with open_provider(plan.request) as provider:
        run = find_earlier(provider, plan)
    if run is not None:
        _show(plan, run)
    return run


def _show(plan: TrainPlan, run: TrainingRun) -> None:
    handle = run.handle
    how = "adopted" if run.adopted else "created"
    say(f"training {how}: {handle.name} ({handle.run_id}), {run.provider_status}")
    for finding in run.warnings:
        say(finding.message, warning=True)
    announce(f"run.{how}", f"run.{handle.run_id}", handle.name, {}, rehearsal=plan.request.sandbox)
