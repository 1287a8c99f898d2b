"""Create the paid training once: find it before creating it, and again whenever the answer was lost."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import ErrorContext, ProviderError
from pipeline.models import Export, TrainingRun, TrainPlan
from pipeline.polling import Clock
from pipeline.provider import Provider

LOOKUPS = 4
"""Look-ups after a create whose answer was lost, before the outcome is reported as unknown."""
LOOKUP_WAIT_S = 2.0
"""Seconds before the second look-up; doubles each time, for lists that lag behind."""


def create_once(
    provider: Provider, plan: TrainPlan, export: Export, clock: Clock, *, again: bool = False
) -> TrainingRun:
    """Return the operation's training run, creating it only when the provider does not have it yet.

    ``again`` says that the operation was tried before, so that its run may exist until the provider denies it.

    Raises:
        ProviderError: The provider refused; or, with ``context.outcome_unknown``, it could not be learned whether
            the run exists. Nothing is sent again in that case: a rerun of the same operation looks it up first.
    """
    try:
        found = provider.find_run(plan)
    except ProviderError as error:
        if not again:
            raise
        message = f"an earlier attempt may have created {plan.run_name!r}, which could not be looked up: {error}"
        raise type(error)(message, replace(error.context, outcome_unknown=True)) from error
    if found is not None:
        return _adopted(found)
    try:
        return provider.create_run(plan, export)
    except ProviderError as error:
        if not error.context.outcome_unknown:
            raise
        return _recover(provider, plan, clock, error)


def _recover(provider: Provider, plan: TrainPlan, clock: Clock, lost: ProviderError) -> TrainingRun:
    listed = False
    for attempt in range(LOOKUPS):
        if attempt:
            clock.sleep(LOOKUP_WAIT_S * 2 ** (attempt - 1))
        try:
            found = provider.find_run(plan)
        except ProviderError:
            continue
        if found is not None:
            return _adopted(found)
        listed = True
    context = ErrorContext(operation="training.create", outcome_unknown=True)
    known = "is not in the provider's list" if listed else "could not be looked up either"
    message = (
        f"the answer to creating {plan.run_name!r} was lost ({lost}) and the run {known}; "
        f"run the same operation again: it looks the run up before creating anything"
    )
    raise type(lost)(message, context) from lost


def _adopted(run: TrainingRun) -> TrainingRun:
    return run.model_copy(update={"adopted": True})
