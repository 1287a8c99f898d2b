"""Stage: start the paid training, once."""

from __future__ import annotations

import time
from dataclasses import dataclass

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from pydantic import JsonValue

from pipeline.errors import ErrorContext, TrainingCancelledError
from pipeline.journal.bookkeeping import AttemptLog, AttemptNotes
from pipeline.journal.ownership import LEASE_S
from pipeline.journal.rows import Intent
from pipeline.journal.store import Journal
from pipeline.models import CostEstimate, ExportReport, RunStatus, TrainingRun, TrainPlan
from pipeline.provider import Notes, Provider
from pipeline.start.adoption import find_earlier, take_back, take_by_id
from pipeline.start.changes import content_of, ingredients
from pipeline.start.creation import Creating, create_once
from pipeline.start.reattaching import begins_alone
from providers.connect import read_caps
from tasks.credentials import open_provider
from tasks.display import announce, say
from tasks.interruption import own_run_is_cancelled
from tasks.journal import current_owner, opened_journal
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(
    name="create-training",
    task_run_name="create-{plan.run_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,  # safe: every attempt looks the run up first, or stops where it cannot be looked up
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def create_training(plan: TrainPlan, export: ExportReport, cost: CostEstimate | None) -> TrainingRun:
    """Return the operation's training run, found or created."""
    again = plan.operation.again or (runtime.task_run.run_count or 1) > 1
    with open_provider(plan.request) as provider, opened_journal() as journal:
        log = _UnlessCancelled(**vars(_log(journal, provider, plan, export, cost)))
        run = create_once(Creating(provider, plan, log, time), export.export, again=again)
    _show(plan, run)
    return run


def _is_new(journal: Journal, plan: TrainPlan, run_id: str) -> bool:
    """Tell whether a run is none that the journal knows, perhaps of an earlier attempt at the same operation."""
    return journal.of_run(plan.request.provider, run_id) is None


@task(
    name="find-training",
    task_run_name="find-{plan.run_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def find_training(plan: TrainPlan) -> TrainingRun | None:
    """Return the run an earlier attempt at this operation started, or the one to take over, if any."""
    with open_provider(plan.request) as provider, opened_journal() as journal:
        record, log, adopt = journal.find(plan.operation_key), _log(journal, provider, plan), plan.request.adopt
        if record is not None and adopt is not None and record.can_try_again and record.run_id == adopt:
            run: TrainingRun | None = take_back(provider, plan, adopt, log)
        elif plan.request.wait == "defer" and record is not None and record.handle is not None:
            # It comes back again and again: deferring looks, and bears what that meets.
            return TrainingRun(handle=record.handle, status=RunStatus.UNKNOWN, provider_status="unseen", adopted=True)
        elif adopt is not None and (record is None or record.handle is None) and _is_new(journal, plan, adopt):
            run = take_by_id(provider, plan, adopt)
        else:
            handle, order = (record.handle, record.body) if record is not None else (None, None)
            run = find_earlier(provider, plan, handle, order)
        if run is not None:
            log.created(run.handle)
            _show(plan, run)
    return run


class _NotesUnlessCancelled(AttemptNotes):
    """An adapter notes each step before it takes it: the moment to ask whether anybody still wants it."""

    def write(self, notes: dict[str, JsonValue]) -> None:
        """Keep this instead.

        Raises:
            TrainingCancelledError: The flow run is to end.
        """
        if own_run_is_cancelled():
            key = self.intent.plan.operation_key
            if self.journal.find(key) is not None:
                self.journal.cancel_asked(key)
            raise TrainingCancelledError("the flow run was cancelled while its training was being prepared")
        super().write(notes)


@dataclass(frozen=True)
class _UnlessCancelled(AttemptLog):
    """Lets nothing be sent for a flow run that was cancelled in the meantime, as far as Prefect can be asked."""

    @property
    def notes(self) -> Notes:
        """What the adapter remembers of this attempt; nothing more is made for a flow run that is to end."""
        return _NotesUnlessCancelled(self.journal, self.intent)

    def intend(self, body: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], bool]:
        """Commit the intent before anything is sent.

        Raises:
            TrainingCancelledError: The flow run is to end.
        """
        if not own_run_is_cancelled():
            return super().intend(body)
        key, name = self.intent.plan.operation_key, self.intent.plan.run_name
        if self.journal.find(key) is None:
            raise TrainingCancelledError(f"the flow run was cancelled before training {name!r} was started")
        self.journal.cancel_asked(key)
        raise TrainingCancelledError(
            f"the flow run was cancelled; the answer to creating {name!r} was lost before, and the provider does not "
            f"show the run so far",
            ErrorContext(operation="training.create", outcome_unknown=True),
        )


def _log(
    journal: Journal,
    provider: Provider,
    plan: TrainPlan,
    export: ExportReport | None = None,
    cost: CostEstimate | None = None,
) -> AttemptLog:
    intent = Intent(
        plan=plan,
        account=provider.account,
        body={},
        estimate=cost,
        owner=current_owner(),
        owner_until_s=time.time() + LEASE_S,
        content_fingerprint=ingredients(plan, export) if export is not None else None,
        content=content_of(export) if export is not None else None,
        alone_since_s=_looked_at_s() if begins_alone(plan.request) else None,
    )
    return AttemptLog(journal, intent, time, read_caps())


def _looked_at_s() -> float:
    """Return when this flow run began, and with that looked for operations that were open."""
    run = FlowRunContext.get()
    return run.start_time.timestamp() if run is not None else time.time()


def _show(plan: TrainPlan, run: TrainingRun) -> None:
    handle = run.handle
    how = "adopted" if run.adopted else "created"
    say(f"training {how}: {handle.name} ({handle.run_id}), {run.provider_status}")
    for finding in run.warnings:
        say(finding.message, warning=True)
    announce(f"run.{how}", f"run.{handle.run_id}", handle.name, {}, rehearsal=plan.request.sandbox)
