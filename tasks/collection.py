"""Stage: bring the model here and verify its bytes."""

from __future__ import annotations

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from pipeline.download.weights import fetch_model
from pipeline.models import ModelArtifact, Skipped, TrainingRun, TrainPlan
from tasks.credentials import open_provider
from tasks.display import say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="download-model",
    task_run_name="download-{run.handle.name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def download_model(plan: TrainPlan, run: TrainingRun) -> ModelArtifact | Skipped:
    """Return the verified model file, a candidate beside the model that was accepted last; or why there is none."""
    with open_provider(plan.request) as provider:
        got = fetch_model(provider, plan, run, time)
    if isinstance(got, Skipped):
        say(f"no model here: {got.reason}")
    else:
        say(f"model: {got.size_bytes} bytes, verified by {', '.join(got.verified_by) or 'nothing the storage offered'}")
        for finding in got.findings:
            say(finding.message, warning=True)
    return got
