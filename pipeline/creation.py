"""Create the paid training once: find it before creating it, and again whenever the answer was lost."""

from __future__ import annotations

import logging
from dataclasses import replace

from pipeline.adoption import adopt, find_earlier
from pipeline.errors import ProviderError
from pipeline.models import Export, GuaranteeLevel, TrainingRun, TrainPlan
from pipeline.polling import Clock
from pipeline.provider import Provider

logger = logging.getLogger(__name__)

LOOKUPS = 4
"""Look-ups after a create whose answer was lost, before the outcome is reported as unknown."""
SENDINGS = 3
"""Creates sent for one operation, each after the provider has denied the run that the one before may have made."""
LOOKUP_WAIT_S = 2.0
"""Seconds before the second look-up; doubles each time, for lists that lag behind."""


def create_once(
    provider: Provider, plan: TrainPlan, export: Export, clock: Clock, *, again: bool = False
) -> TrainingRun:
    """Return the operation's training run, creating it only when the provider does not have it yet.

    ``again`` says that the operation was tried before, so that its run may exist until the provider denies it.

    Raises:
        ProviderError: The provider refused; or, with ``context.outcome_unknown``, it could not be learned whether
            the run exists, whatever the last sending was answered. A rerun of the same operation looks it up first.
    """
    found = find_earlier(provider, plan) if again else provider.find_run(plan)
    return adopt(plan, found) if found is not None else _send(provider, plan, export, clock, in_doubt=again)


def _send(provider: Provider, plan: TrainPlan, export: Export, clock: Clock, *, in_doubt: bool) -> TrainingRun:
    for _ in range(SENDINGS):
        try:
            return provider.create_run(plan, export)
        except ProviderError as error:
            # A refusal says nothing about what was sent before: the run of an earlier sending may exist unseen.
            if not in_doubt and not error.context.outcome_unknown:
                raise
            last, in_doubt = error, True
        found, listed = _look_up(provider, plan, clock)
        if found is not None:
            return adopt(plan, found)
        may_repeat = listed and plan.profile.guarantee is GuaranteeLevel.EXACTLY_ONCE
        if not last.context.outcome_unknown or not may_repeat:
            break
        logger.warning("%r is not there after a lost answer (%s)", plan.run_name, last)
    raise _unknown(plan, last, listed=listed) from last


def _look_up(provider: Provider, plan: TrainPlan, clock: Clock) -> tuple[TrainingRun | None, bool]:
    """Return the run if it turns up, and whether the provider could be asked at all."""
    listed = False
    for attempt in range(LOOKUPS):
        if attempt:
            clock.sleep(LOOKUP_WAIT_S * 2 ** (attempt - 1))
        try:
            found = provider.find_run(plan)
        except ProviderError:
            listed = False
            continue
        if found is not None:
            return found, True
        listed = True
    return None, listed


def _unknown(plan: TrainPlan, last: ProviderError, *, listed: bool) -> ProviderError:
    known = "is not in the provider's list" if listed else "could not be looked up either"
    what = (
        f"the answer to creating {plan.run_name!r} was lost ({last}) and the run {known}"
        if last.context.outcome_unknown
        else f"creating {plan.run_name!r} was refused ({last}), but an earlier attempt may have created and paid for "
        f"the run, which {known}"
    )
    message = f"{what}; run the same operation again: it looks the run up before creating anything"
    return type(last)(message, replace(last.context, operation="training.create", outcome_unknown=True))
