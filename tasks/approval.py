"""Stage: ask a person before a training that costs more than the request lets pass without asking."""

from __future__ import annotations

import sys

from prefect import runtime, suspend_flow_run
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from pydantic import Field

from pipeline.errors import BudgetExceededError, ErrorContext
from pipeline.models import CostEstimate, ExportReport, TrainPlan
from pipeline.pricing import needs_approval
from tasks.display import announce, say

EXPIRES_S = 24 * 3600
"""Seconds a person has to decide; afterwards nothing is started."""
FORM_KEY = "approve-cost"
"""Under which the form is kept: the same one is asked again when the flow run is carried out again."""


class Approval(RunInput):
    """The form on the flow run's page."""

    approved: bool = Field(default=False, description="Start this training and pay for it.")
    reason: str = Field(default="", max_length=500, description="Why, for the record.")


def await_approval(plan: TrainPlan, export: ExportReport, cost: CostEstimate) -> None:
    """Return once the price may be paid; asks only when it is above ``approve_above``.

    A flow run of a deployment is suspended: no process waits for the answer. On a terminal the question is asked there.

    Raises:
        BudgetExceededError: A person said no, nobody answered in time, or there is nobody to ask.
        Pause: The flow run is suspended until somebody answers.
    """
    if not needs_approval(cost, plan.request):
        return
    question = _question(plan, export, cost)
    announce("approval.asked", f"operation.{plan.operation_key}", plan.run_name, {"price": str(cost.total)},
             rehearsal=plan.request.sandbox)  # fmt: skip
    answer = _ask_form(question) if runtime.deployment.id is not None else _ask_here(question)
    if not answer.approved:
        reason = f" ({answer.reason})" if answer.reason else ""
        raise BudgetExceededError(
            f"the training at {cost.total} was not approved{reason}; nothing was started", _CONTEXT
        )
    say(f"approved: {cost.total} {answer.reason}".rstrip())


_CONTEXT = ErrorContext(operation="approval", field="approve_above")


def _question(plan: TrainPlan, export: ExportReport, cost: CostEstimate) -> str:
    images = "an unknown number of" if export.export.image_count is None else str(export.export.image_count)
    balance = f" The balance is {cost.balance}." if cost.balance is not None else ""
    return (
        f"**{plan.run_name}**: train `{plan.request.pipeline}` on {images} images of `{plan.request.dataset}` for "
        f"**{cost.total}** ({cost.gpu_minutes:g} min on {cost.gpu})?{balance}"
    )


def _ask_form(question: str) -> Approval:
    form = Approval.with_initial_data(description=question)
    try:
        return suspend_flow_run(wait_for_input=form, key=FORM_KEY, timeout=EXPIRES_S)
    except FlowPauseTimeout:
        return Approval(approved=False, reason=f"nobody answered within {EXPIRES_S // 3600} h")


def _ask_here(question: str) -> Approval:
    if not sys.stdin.isatty():
        message = "the price is above approve_above and nobody can be asked here: raise it, or start from a deployment"
        raise BudgetExceededError(message, _CONTEXT)
    sys.stderr.write(f"{question.replace('*', '').replace('`', '')} [y/N] ")
    sys.stderr.flush()
    return Approval(approved=sys.stdin.readline().strip().lower() in {"y", "yes"}, reason="asked on the terminal")
