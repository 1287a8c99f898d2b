"""What journal tests begin with: plans, intents and owners, with as little said as possible."""

from __future__ import annotations

from typing import Any

from pipeline.journal.records import Owner
from pipeline.journal.rows import Intent
from pipeline.models import (
    CostEstimate,
    GuaranteeLevel,
    ModelTask,
    Money,
    Operation,
    PollPolicy,
    ProviderProfile,
    RunHandle,
    TrainPlan,
    Unit,
)
from pipeline.provider_requests import PictographRequest
from pipeline.start.planning import resolve_plan

NOON_S = 1_772_366_400.0
"""2026-03-01 12:00 UTC: noon of the first day of a month."""
LEASE_S = 90.0
POLICY = PollPolicy(interval_s=5, floor_s=2, ceiling_s=60, deadline_s=7200)
ME = Owner(host="here", pid=1, born="1", flow_run_id="flow-1")
OTHER = Owner(host="there", pid=2, born="2", flow_run_id="flow-2")


def plan_of(operation_id: str = "op-1", attempt: int = 1, *, sandbox: bool = False, **request: Any) -> TrainPlan:
    """Return the plan of an attempt at an operation."""
    profile = ProviderProfile(
        name="pictograph",
        title="Pictograph",
        poll=POLICY,
        export_poll=POLICY,
        min_images=5,
        run_name_max=100,
        pipelines={"yolox": ModelTask.OBJECT_DETECTION},
        gpus=("a10g",),
        guarantee=GuaranteeLevel.EXACTLY_ONCE,
        run_page="",
        sandbox=sandbox,
    )
    asked = PictographRequest(**{"dataset": "road-signs", "sandbox": sandbox, **request})
    return resolve_plan(asked, profile, Operation(id=operation_id, attempt=attempt))


def price_of(amount: int, unit: Unit = Unit.CREDITS) -> CostEstimate:
    """Return a quote."""
    total = Money(amount=amount, unit=unit)
    return CostEstimate(
        total=total, per_minute=total, gpu_minutes=1, gpu="a10g", balance=None, sufficient=True, source="quote"
    )


def intent_of(plan: TrainPlan, amount: int | None = 10, **changes: Any) -> Intent:
    """Return the intent to pay for a plan."""
    facts: dict[str, Any] = {
        "plan": plan,
        "account": "a" * 16,
        "body": {"dataset_name": plan.request.dataset, "name": plan.run_name},
        "estimate": price_of(amount) if amount is not None else None,
        "owner": ME,
        "owner_until_s": NOON_S + LEASE_S,
    }
    return Intent(**{**facts, **changes})


def handle_of(run_id: str = "r1") -> RunHandle:
    """Return the handle of a run."""
    return RunHandle(provider="pictograph", run_id=run_id, name="run-1", dataset="road-signs")
