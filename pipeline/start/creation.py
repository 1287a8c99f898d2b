"""Create the paid training once: find it before creating it, and again whenever the answer was lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pydantic import JsonValue

from pipeline.clock import Clock
from pipeline.errors import ErrorContext, PipelineError, ProviderError, TransportError, is_retryable
from pipeline.journal.bookkeeping import CreationLog
from pipeline.models import Export, GuaranteeLevel, TrainingRun, TrainPlan
from pipeline.provider import Provider
from pipeline.start.adoption import adopt, find_earlier

logger = logging.getLogger(__name__)


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
    plan, known = work.plan, work.log.known_order()
    found = find_earlier(work.provider, plan, order=known) if again else work.provider.find_run(plan, known)
    if found is not None:
        return _adopted(work, found)
    order = known if known is not None else work.provider.order(plan, export, work.log.notes)
    body, sent_before = work.log.intend(order)
    if sent_before and not again and (found := find_earlier(work.provider, plan, order=body)) is not None:
        return _adopted(work, found)
    at_most_once = plan.profile.guarantee is GuaranteeLevel.AT_MOST_ONCE
    if sent_before and at_most_once and not plan.request.repeats_unknown:
        context = ErrorContext(operation="training.create", outcome_unknown=True)
        raise _unknown(plan, TransportError("the process that sent it ended", context), listed=False)
    # Of a provider that cannot be asked, the journal's word is all there is: what was not intended was not sent.
    return _send(work, body, in_doubt=sent_before or (again and plan.profile.finds_runs))


def _send(work: Creating, body: dict[str, JsonValue], *, in_doubt: bool) -> TrainingRun:
    plan = work.plan
    for _ in range(plan.profile.creation.sendings):
        try:
            run = work.provider.create_run(plan, body, work.log.notes)
        except ProviderError as error:
            # A refusal says nothing about what was sent before: the run of an earlier sending may exist unseen.
            if not in_doubt and not error.context.outcome_unknown:
                _note_refusal(work, error)
                raise
            last, in_doubt = error, True
        else:
            _write_down(work, run)
            return run
        found, listed = _look_up(work, body)
        if found is not None:
            return _adopted(work, found)
        if listed and _is_local(last):
            work.log.refused(str(last))  # nothing was sent now, and the provider denies what was sent before
            raise last
        once = plan.profile.guarantee is GuaranteeLevel.EXACTLY_ONCE
        may_repeat = (listed and once) or plan.request.repeats_unknown
        if not last.context.outcome_unknown or not may_repeat:
            break
        logger.warning("%r is not there after a lost answer (%s)", plan.run_name, last)
    unknown = _unknown(plan, last, listed=listed)
    work.log.unknown(str(unknown))
    raise unknown from last


def _is_local(error: ProviderError) -> bool:
    """Tell whether an adapter refused before it sent anything, for good."""
    return error.context.status_code is None and not error.context.outcome_unknown and not is_retryable(error)


def _note_refusal(work: Creating, error: ProviderError) -> None:
    """Write down what a create came to that certainly started nothing; one that may be sent again stays intended."""
    if not is_retryable(error):
        work.log.refused(str(error))
    elif work.plan.profile.guarantee is GuaranteeLevel.AT_MOST_ONCE:
        work.log.unsent()  # or nobody could tell this from a create whose answer was lost


def _adopted(work: Creating, found: TrainingRun) -> TrainingRun:
    run = adopt(work.plan, found)
    _write_down(work, run)
    return run


def _write_down(work: Creating, run: TrainingRun) -> None:
    """Write the handle down; a journal that fails now must not end the watch over a run that is paid for."""
    try:
        work.log.created(run.handle)
    except PipelineError as error:
        logger.warning("%s; %s", error, _way_back(work.plan, run))


def _way_back(plan: TrainPlan, run: TrainingRun) -> str:
    """Return how the run is found by a process that is not told its handle."""
    if plan.profile.finds_runs:
        return f"the run is found again by its name {run.handle.name!r}"
    return (
        f"{plan.profile.title} cannot be asked for the run: it is written down at a later look, and should this "
        f"process end before that, --adopt {run.handle.run_id} comes back to it"
    )


def _look_up(work: Creating, body: dict[str, JsonValue]) -> tuple[TrainingRun | None, bool]:
    """Return the run if it turns up, and whether the provider could be asked at all."""
    listed, policy = False, work.plan.profile.creation
    if not work.plan.profile.finds_runs:
        return None, False
    for attempt in range(policy.lookups):
        if attempt:
            work.clock.sleep(min(policy.lookup_wait_s * 2 ** (attempt - 1), policy.lookup_ceiling_s))
        try:
            found = work.provider.find_run(work.plan, body)
        except ProviderError:
            listed = False
            continue
        if found is not None:
            return found, True
        listed = True
    return None, listed


def _unknown(plan: TrainPlan, last: ProviderError, *, listed: bool) -> ProviderError:
    what, next_step = _what_is_unknown(plan, last, listed=listed), _NEXT
    if not plan.profile.finds_runs:
        next_step = (
            f"{plan.profile.title} cannot be asked for it: look there whether a job was made, then adopt it with "
            f"--adopt ID, or run again with on_unknown_create=repeat to make another one"
        )
    context = replace(last.context, operation="training.create", outcome_unknown=True)
    # What nobody can look up is no better known a moment later: only a run that can be found is worth another try.
    kind = type(last) if plan.profile.finds_runs else ProviderError
    return kind(f"{what}; {next_step}", context)


_NEXT = "run the same operation again: it looks the run up before creating anything"


def _what_is_unknown(plan: TrainPlan, last: ProviderError, *, listed: bool) -> str:
    known = "is not in the provider's list" if listed else "could not be looked up either"
    if last.context.outcome_unknown:
        return f"the answer to creating {plan.run_name!r} was lost ({last}) and the run {known}"
    return (
        f"creating {plan.run_name!r} was refused ({last}), but an earlier attempt may have created and paid for the "
        f"run, which {known}"
    )
