"""Stage: price the training and stop here when it is too much."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from pipeline.journal.budget import NO_CAPS
from pipeline.models import CostEstimate, ExportReport, Skipped, TrainPlan
from pipeline.start.pricing import check_affordable, check_unpriced, describe_price
from providers.connect import read_caps
from tasks.credentials import open_provider
from tasks.display import announce, say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="estimate-cost",
    task_run_name="price-{plan.run_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def estimate_cost(plan: TrainPlan, export: ExportReport) -> CostEstimate | Skipped:
    """Return the price, or why there is none; raises when cap or balance do not cover it."""
    with open_provider(plan.request) as provider:
        estimate = provider.estimate_cost(plan, export.export)
    if isinstance(estimate, Skipped):
        check_unpriced(estimate, plan.request)
        say(f"price: not known, {estimate.reason}")
        if read_caps() != NO_CAPS:
            say("the caps by day and month do not count this training: its price is not known", warning=True)
        return estimate
    balance = f", balance {estimate.balance}" if estimate.balance is not None else ""
    say(f"price: {describe_price(estimate)}{balance} ({estimate.source})")
    announce(
        "priced",
        f"operation.{plan.operation_key}",
        plan.run_name,
        estimate.model_dump(mode="json"),
        rehearsal=plan.request.sandbox,
    )
    check_affordable(estimate, plan.request)
    return estimate
