"""Create the paid training once: find it before creating it, and again whenever the answer was lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pydantic import JsonValue

from pipeline.adoption import adopt, find_earlier
from pipeline.bookkeeping import CreationLog
from pipeline.errors import ErrorContext, PipelineError, ProviderError, TransportError, is_retryable
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


@dataclass(frozen=True)
class Creating:
    """What creating works with."""

    provider: Provider
    """Where."""
    plan: TrainPlan
    """What."""
    log: CreationLog
    """What is written down on the way."""
    clock: Clock
    """The ``time`` module, or a fake."""


def create_once(work: Creating, export: Export, *, again: bool = False) -> TrainingRun:
    """Return the operation's training run, creating it only when the provider does not have it yet.

    ``again`` says that the operation was tried before, so that its run may exist until the provider denies it.

    Raises:
        ProviderError: The provider refused; or, with ``context.outcome_unknown``, it could not be learned whether
            the run exists, whatever the last sending was answered. A rerun of the same operation looks it up first.
        BudgetExceededError: The price does not fit under a cap.
        JournalError: The intent could not be written down; nothing was sent.
    """
    plan = work.plan
    found = find_earlier(work.provider, plan) if again else work.provider.find_run(plan)
    if found is not None:
        return _adopted(work, found)
    body, sent_before = work.log.intend(work.provider.order(plan, export))
    if sent_before and not again and (found := find_earlier(work.provider, plan)) is not None:
        return _adopted(work, found)
    if sent_before and plan.profile.guarantee is GuaranteeLevel.AT_MOST_ONCE:
        context = ErrorContext(operation="training.create", outcome_unknown=True)
        raise _unknown(plan, TransportError("the process that sent it ended", context), listed=False)
    return _send(work, body, in_doubt=again or sent_before)


def _send(work: Creating, body: dict[str, JsonValue], *, in_doubt: bool) -> TrainingRun:
    plan = work.plan
    for _ in range(SENDINGS):
        try:
            run = work.provider.create_run(plan, body)
        except ProviderError as error:
            # A refusal says nothing about what was sent before: the run of an earlier sending may exist unseen.
            if not in_doubt and not error.context.outcome_unknown:
                if not is_retryable(error):  # otherwise the same attempt is sent again
                    work.log.refused(str(error))
                raise
            last, in_doubt = error, True
        else:
            _write_down(work, run)
            return run
        found, listed = _look_up(work)
        if found is not None:
            return _adopted(work, found)
        may_repeat = listed and plan.profile.guarantee is GuaranteeLevel.EXACTLY_ONCE
        if not last.context.outcome_unknown or not may_repeat:
            break
        logger.warning("%r is not there after a lost answer (%s)", plan.run_name, last)
    unknown = _unknown(plan, last, listed=listed)
    work.log.unknown(str(unknown))
    raise unknown from last


def _adopted(work: Creating, found: TrainingRun) -> TrainingRun:
    run = adopt(work.plan, found)
    _write_down(work, run)
    return run


def _write_down(work: Creating, run: TrainingRun) -> None:
    """Write the handle down; a journal that fails now must not end the watch over a run that is paid for."""
    try:
        work.log.created(run.handle)
    except PipelineError as error:
        logger.warning("%s; the run is found again by its name %r", error, run.handle.name)


def _look_up(work: Creating) -> tuple[TrainingRun | None, bool]:
    """Return the run if it turns up, and whether the provider could be asked at all."""
    listed = False
    for attempt in range(LOOKUPS):
        if attempt:
            work.clock.sleep(LOOKUP_WAIT_S * 2 ** (attempt - 1))
        try:
            found = work.provider.find_run(work.plan)
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
