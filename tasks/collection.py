"""Stage: bring the model here and verify its bytes."""

from __future__ import annotations

import time

from prefect import task

from pipeline.collection import CANDIDATE_NAME, collect, describe_artifact
from pipeline.models import ModelArtifact, Skipped, TrainingRun, TrainPlan
from pipeline.readiness import READY_POLL, await_model, once_ready
from pipeline.weights import WEIGHTS_NAME, take_out_model
from tasks.credentials import open_provider
from tasks.display import say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="download-model",
    task_run_name="download-{run.handle.name}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def download_model(plan: TrainPlan, run: TrainingRun) -> ModelArtifact | Skipped:
    """Return the verified model file, a candidate beside the model that was accepted last; or why there is none."""
    if plan.profile.weights == "none":
        return Skipped(stage="download", reason=f"{plan.profile.title} gives no weights away")
    with open_provider(plan.request) as provider:
        model = await_model(provider, run, READY_POLL, time)
        if model.no_weights is not None:
            return Skipped(stage="download", reason=model.no_weights)
        in_archive = plan.profile.weights == "archive"
        file = collect(
            once_ready(lambda at: provider.open_model(model, at), READY_POLL, time),
            plan.output_dir / (WEIGHTS_NAME if in_archive else CANDIDATE_NAME),
            max_bytes=plan.request.max_model_bytes,
            clock=time,
        )
    say(f"model: {file.size_bytes} bytes, verified by {', '.join(file.verified_by) or 'nothing the storage offered'}")
    if in_archive:
        return take_out_model(file, model, plan)
    return describe_artifact(file, model)
