"""Stage: resolve the request, and prove that key, data set and output folder are usable."""

from __future__ import annotations

from prefect import task

from pipeline.collection import check_output_dir
from pipeline.models import TrainPlan, TrainRequest
from pipeline.planning import check_reachable, resolve_plan
from tasks.credentials import open_provider
from tasks.display import say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="plan",
    task_run_name="plan-{request.dataset}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def plan_training(request: TrainRequest, operation_id: str) -> TrainPlan:
    """Return the plan of this operation; nothing is made or spent."""
    with open_provider(request) as provider:
        plan = resolve_plan(request, provider.profile, operation_id)
        check_output_dir(plan.output_dir)
        check_reachable(provider, plan)
    say(f"plan: {plan.run_name} ({request.pipeline} on {request.gpu}) at {plan.profile.title}")
    return plan
