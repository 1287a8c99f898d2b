"""Stage: resolve the request, and prove that key, data set and output folder are usable."""

from __future__ import annotations

from prefect import runtime, task

from pipeline.collection import check_output_dir
from pipeline.models import Operation, TrainPlan, TrainRequest
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
def plan_training(request: TrainRequest, operation: Operation) -> TrainPlan:
    """Return the plan of this operation; nothing is made or spent."""
    with open_provider(request) as provider:
        plan = resolve_plan(request, provider.profile, operation)
        check_reachable(provider, plan)
        check_output_dir(plan.output_dir)
    say(f"plan: {plan.run_name} ({request.pipeline} on {request.gpu}) at {plan.profile.title}")
    say(f"operation: {operation.id} (--operation comes back to it, and pays nothing again)")
    return plan


def current_operation(request: TrainRequest) -> Operation:
    """Return the operation this flow run is about: the one asked for, or the flow run itself, however often it runs."""
    tries = runtime.flow_run.run_count or 1
    return Operation(id=request.operation or str(runtime.flow_run.id), again=request.operation is not None or tries > 1)
