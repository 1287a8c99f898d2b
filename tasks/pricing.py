"""Stage: price the training and stop here when it is too much."""

from __future__ import annotations

from prefect import task

from pipeline.models import CostEstimate, ExportReport, TrainPlan
from pipeline.pricing import check_affordable
from tasks.credentials import open_provider
from tasks.display import announce, say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="estimate-cost",
    task_run_name="price-{plan.run_name}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def estimate_cost(plan: TrainPlan, export: ExportReport) -> CostEstimate:
    """Return the price; raises when cap or balance do not cover it."""
    with open_provider(plan.request) as provider:
        estimate = provider.estimate_cost(plan, export.export)
    balance = f", balance {estimate.balance}" if estimate.balance is not None else ""
    say(f"price: {estimate.total} for {estimate.gpu_minutes:g} min on {estimate.gpu}{balance} ({estimate.source})")
    announce(
        "priced",
        f"operation.{plan.operation_key}",
        plan.run_name,
        estimate.model_dump(mode="json"),
        rehearsal=plan.request.sandbox,
    )
    check_affordable(estimate, plan.request)
    return estimate
