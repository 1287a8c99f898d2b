"""Stage: resolve the request into a plan and find out whether it can be carried out."""

from __future__ import annotations

import time

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE

from pipeline.download.collection import check_output_dir
from pipeline.errors import NotFoundError, OperationBusyError
from pipeline.journal.ownership import take_over
from pipeline.journal.records import OperationRecord
from pipeline.journal.store import Journal
from pipeline.models import Operation, TrainPlan
from pipeline.provider import Provider
from pipeline.requests import TrainRequest
from pipeline.start.fallback import after_attempt, where_it_stands
from pipeline.start.planning import check_reachable, resolve_plan
from pipeline.start.reattaching import choose_operation, prepared, unanswered
from tasks.crashes import was_brought_back
from tasks.credentials import open_provider
from tasks.deferral import check_deferrable, comes_back
from tasks.display import say
from tasks.journal import current_owner, opened_journal
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="plan",
    task_run_name="plan-{request.data_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def plan_training(request: TrainRequest, operation: Operation) -> TrainPlan:
    """Return the plan of the operation this request is about; nothing is made or spent."""
    with open_provider(request) as provider, opened_journal() as journal:
        chosen = _choose(journal, provider, request, operation)
        plan = resolve_plan(request, provider.profile, chosen)
        record = journal.find(plan.operation_key)
        before = record or (journal.latest(chosen.id, sandbox=request.sandbox) if chosen.attempt > 1 else None)
        attempted = where_it_stands(request, provider.profile, chosen, before)
        if attempted != request:
            kept = {"fingerprint": plan.fingerprint, "config_asked": plan.config_asked}
            plan = resolve_plan(attempted, provider.profile, chosen).model_copy(update=kept)
        check_deferrable(plan)
        if not _is_deferred_run(plan, record):
            paid = record is not None and record.handle is not None
            if (trouble := check_reachable(provider, plan, paid=paid)) is not None:
                say(f"{trouble}; going on all the same, for the training is paid for", warning=True)
        check_output_dir(plan.output_dir)
        if record is not None and record.state.is_open:
            _go_on(journal, record, plan)
    say(f"plan: {plan.run_name} ({request.what}) at {plan.profile.title}")
    say(f"operation: {chosen.id} (--operation comes back to it, and pays nothing again)")
    return plan


def _is_deferred_run(plan: TrainPlan, record: OperationRecord | None) -> bool:
    """Tell whether this is about a run that is paid for and looked at with patience: nothing else may end it."""
    return plan.request.wait == "defer" and record is not None and record.handle is not None


def _go_on(journal: Journal, record: OperationRecord, plan: TrainPlan) -> None:
    owner = current_owner()
    before = record.flow_run_id
    if before != owner.flow_run_id and before is not None and comes_back(before):
        message = f"operation {record.operation_id!r} is carried out by flow run {before}, which comes back to it"
        raise OperationBusyError(
            f"{message}: let it finish, cancel it, or ask with on_open_run=new for another training"
        )
    take_over(journal, record, owner, time, request=plan.request)
    if before != owner.flow_run_id:
        journal.watch_until(record.key, time.time() + plan.poll.deadline_s)
    say(f"going on with operation {record.operation_id}, which is open since an earlier run ({record.state})")


def _choose(journal: Journal, provider: Provider, request: TrainRequest, begun: Operation) -> Operation:
    def is_ours(record: OperationRecord) -> bool:
        if record.account == provider.account:
            return True
        if record.handle is None:
            return False
        try:  # the account's key may have been changed since
            provider.get_run(record.handle)
        except NotFoundError:
            return False
        return True

    def may_follow(record: OperationRecord) -> bool:
        return after_attempt(request, provider.profile, record) is not None or not was_brought_back()

    chosen = choose_operation(
        journal, request, str(runtime.flow_run.id), is_ours, again=begun.again, may_follow=may_follow
    )
    if not provider.profile.finds_runs:
        chosen = unanswered(journal, request, chosen, is_ours)
    return prepared(journal, request, chosen, provider.account, current_owner())


def current_operation(request: TrainRequest) -> Operation:
    """Return the operation this flow run is about as far as it is known before the journal was asked."""
    tries = runtime.flow_run.run_count or 1
    return Operation(id=request.operation or str(runtime.flow_run.id), again=request.operation is not None or tries > 1)
