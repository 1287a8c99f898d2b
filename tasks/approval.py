"""Stage: ask a person before a training that costs more than the request lets pass without asking."""

from __future__ import annotations

import sys
from itertools import count
from typing import cast

from prefect import runtime, suspend_flow_run
from prefect.context import FlowRunContext
from prefect.input import RunInput, read_flow_run_input
from prefect.input.run_input import keyset_from_base_key
from pydantic import Field

from pipeline.errors import BudgetExceededError, ErrorContext
from pipeline.models import KEY_IN_NAME, CostEstimate, ExportReport, TrainPlan
from pipeline.start.changes import compare_with_last
from pipeline.start.pricing import needs_approval
from tasks.display import announce, say
from tasks.journal import opened_journal

EXPIRES_S = 24 * 3600
"""Seconds a person has to decide; then Prefect ends the flow run as Failed, and nothing was started."""


class Approval(RunInput):
    """The form on the flow run's page."""

    approved: bool = Field(default=False, description="Start this training and pay for it.")
    reason: str = Field(default="", max_length=500, description="Why, for the record.")


def await_approval(plan: TrainPlan, export: ExportReport, cost: CostEstimate) -> None:
    """Return once the price may be paid; asks only when it is above ``approve_above``.

    A flow run of a deployment is suspended: no process waits for the answer. On a terminal the question is asked there.

    Raises:
        BudgetExceededError: A person said no, or there is nobody to ask.
        JournalError: What is different since the last model cannot be read.
        Pause: The flow run is suspended until somebody answers.
    """
    if not needs_approval(cost, plan.request):
        return
    question = _question(plan, export, cost)
    answer = _ask_form(question, plan, cost) if runtime.deployment.id is not None else _ask_here(question)
    because = f" ({answer.reason})" if answer.reason else ""
    if not answer.approved:
        _announce("refused", plan, {"price": str(cost.total), "reason": answer.reason})
        message = f"the training at {cost.total} was not approved{because}; nothing was started"
        raise BudgetExceededError(message, _CONTEXT)
    _announce("given", plan, {"price": str(cost.total), "reason": answer.reason})
    say(f"approved: {cost.total}{because}")


def _announce(what: str, plan: TrainPlan, payload: dict[str, str]) -> None:
    subject = f"operation.{plan.operation_key}"
    announce(f"approval.{what}", subject, plan.run_name, payload, rehearsal=plan.request.sandbox)


_CONTEXT = ErrorContext(operation="approval", field="approve_above")


def _question(plan: TrainPlan, export: ExportReport, cost: CostEstimate) -> str:
    images = "an unknown number of" if export.export.image_count is None else str(export.export.image_count)
    balance = f" The balance is {cost.balance}." if cost.balance is not None else ""
    with opened_journal() as journal:
        _, since = compare_with_last(journal, plan, export)
    return (
        f"**{plan.run_name}**: train `{plan.request.kind}` on {images} images of `{plan.request.dataset}` for "
        f"**{cost.total}** ({cost.gpu_minutes:g} min on {cost.gpu})?{balance} Since the last accepted model: {since}."
    )


def _ask_form(question: str, plan: TrainPlan, cost: CostEstimate) -> Approval:
    """Return the answer to the form, or suspend the flow run until there is one.

    A yes is to one attempt at one price, and is never asked for twice. A no ends the flow run; when a person has
    Prefect run it again after that, the form is shown again: Prefect forgets that it was, but keeps the old answer.
    """
    stem = f"approve-{plan.operation_key[:KEY_IN_NAME]}-{cost.total.amount}"
    for number in count(1):
        key = f"{stem}-{number}"
        kept = keyset_from_base_key(f"suspended-{key}")
        answer = cast("Approval", Approval.load(kept))  # one that is missing reads as no
        if answer.approved or key in _asked_now():
            return answer
        if read_flow_run_input(kept["schema"]) is None:
            _announce("asked", plan, {"price": str(cost.total)})
            form = Approval.with_initial_data(description=question)
            return suspend_flow_run(wait_for_input=form, key=key, timeout=EXPIRES_S)
    raise AssertionError("counting has no end")


def _asked_now() -> set[str]:
    """Return what this flow run was suspended for since it last began anew: it is carried out again from the top."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return set()
    return context.flow_run.empirical_policy.pause_keys or set()


def _ask_here(question: str) -> Approval:
    if sys.stdin is None or not sys.stdin.isatty():
        message = "the price is above approve_above and nobody can be asked here: raise it, or start from a deployment"
        raise BudgetExceededError(message, _CONTEXT)
    say(f"{question.replace('*', '').replace('`', '')} [y/N]", asks=True)
    return Approval(approved=sys.stdin.readline().strip().lower() in {"y", "yes"}, reason="asked on the terminal")
