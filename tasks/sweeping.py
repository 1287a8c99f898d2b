"""Stages of the sweep: look at everything that may be billed, do what the policies say, and show it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType

from pipeline.errors import PipelineError
from pipeline.journal.ownership import is_gone
from pipeline.journal.store import Journal
from pipeline.provider import Provider
from pipeline.requests import SweepRequest
from pipeline.sweep.accounts import Swept, accounts_of
from pipeline.sweep.intents import told
from pipeline.sweep.mending import Mended, close, end, hold_back
from pipeline.sweep.surveying import look_around
from pipeline.sweep.sweeping import Action, FlowKind, FlowState, Found, SweepClass, Watch, decide
from tasks.credentials import open_provider, providers_with_keys
from tasks.display import Display, announce, say
from tasks.interruption import GRACE_S, is_wish
from tasks.journal import opened_journal
from tasks.readopting import readopt, way_back
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe

NOT_SWEPT = "not_swept"
"""What stands in place of a class for an account that could not be looked after."""
PAGE = 200
"""Flow runs asked for in one call: the most Prefect answers with."""
_RESOURCE = "prefect.flow-run."
_KINDS = {
    StateType.PENDING: FlowKind.RUNNING,  # a process has taken it and is starting up, or died of that
    StateType.RUNNING: FlowKind.RUNNING,
    StateType.COMPLETED: FlowKind.COMPLETED,
    StateType.FAILED: FlowKind.ENDED,
    StateType.CRASHED: FlowKind.ENDED,
    StateType.CANCELLING: FlowKind.CANCELLED,
    StateType.CANCELLED: FlowKind.CANCELLED,
}


def address(request: SweepRequest) -> tuple[SweepRequest, ...]:
    """Return a request for each account that is to be swept, and none twice because its key has two names.

    A flow run's training is of whatever account that one used; there is none when it has left nothing open.

    Raises:
        ConfigurationError: Credentials are named without their provider, or the environment cannot be read.
        JournalError: The journal could not be read.
    """
    if request.flow_run is not None:
        return _address_of_flow_run(request, request.flow_run)
    if request.provider is not None:
        return (request,)
    with opened_journal() as journal:
        records = journal.open_operations()
    return _distinct(accounts_of(request, records, providers_with_keys(sandbox=request.sandbox)))


def _distinct(accounts: tuple[SweepRequest, ...]) -> tuple[SweepRequest, ...]:
    """Leave out what is the same account under another name; what cannot be opened stays, to be told by its sweep."""
    by_hash: dict[str, SweepRequest] = {}
    for number, account in enumerate(accounts):
        try:
            with open_provider(account) as provider:
                by_hash.setdefault(provider.account, account)
        except PipelineError:
            by_hash[f"not opened: {number}"] = account
    return tuple(by_hash.values())


def _address_of_flow_run(request: SweepRequest, flow_run: str) -> tuple[SweepRequest, ...]:
    flow_run_id = flow_run.removeprefix(_RESOURCE)
    with opened_journal() as journal:
        record = journal.of_flow_run(flow_run_id)
    if record is None or not record.state.is_open:
        say(f"sweep: flow run {flow_run_id} has left nothing open")
        return ()
    asked = record.request
    account = {"provider": asked.provider, "sandbox": asked.sandbox, "credentials": asked.credentials}
    return (request.model_copy(update={**account, "flow_run": flow_run_id}),)


def sweep_account(account: SweepRequest, *, alone: bool) -> Swept:
    """Look after one account; of several, one that cannot be looked after is told, and the others are all the same."""
    try:
        return Swept(account, mend_found(account, survey_account(account)))
    except Exception as error:  # whatever one provider, its key or its answers make of it
        if alone:
            raise
        swept = Swept(account, trouble=told(error))
    say(f"sweep: {swept.title} could not be swept: {swept.trouble}", warning=True)
    subject, row = f"account.{account.provider}", _row_of_trouble(swept)
    announce(f"sweep.{NOT_SWEPT}", subject, swept.title, row, rehearsal=account.sandbox)
    return swept


@task(
    name="survey",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def survey_account(request: SweepRequest) -> tuple[Found, ...]:
    """Return what goes on at the provider or is open in the journal; for one flow run, what that started."""
    with open_provider(request) as provider, opened_journal() as journal:
        found = look_around(journal, provider, read_flow_states, Watch(time.time(), is_gone), request.flow_run)
        known = sum(item.record is not None for item in found)
        say(f"sweep of {provider.profile.title}: {known} operations are open, {len(found) - known} runs are not ours")
    return found


def read_flow_states(flow_run_ids: Iterable[str | None]) -> dict[str, FlowState]:
    """Return what Prefect knows of flow runs, one call for each two hundred; those it does not know are left out."""
    wanted = list(dict.fromkeys(one for text in flow_run_ids if (one := _uuid(text)) is not None))
    states: dict[str, FlowState] = {}
    with get_client(sync_client=True) as client:
        for start in range(0, len(wanted), PAGE):
            asked = FlowRunFilter(id=FlowRunFilterId(any_=wanted[start : start + PAGE]))
            for run in client.read_flow_runs(flow_run_filter=asked, limit=PAGE):
                states[str(run.id)] = state_of(run)
    return states


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:  # an operation that was carried out outside of any flow run
        return None


def state_of(run: FlowRun) -> FlowState:
    """Return what a flow run's state says about its coming back."""
    deployment = str(run.deployment_id) if run.deployment_id is not None else None
    if run.state is None:
        return FlowState(FlowKind.WAITING, 0.0, deployment)
    kind = _KINDS.get(run.state.type, FlowKind.WAITING)
    if kind is FlowKind.CANCELLED and not is_wish(run.state):
        kind = FlowKind.ENDED
    due = run.state.state_details.scheduled_time or run.state.state_details.pause_timeout
    return FlowState(kind, run.state.timestamp.timestamp(), deployment, due.timestamp() if due is not None else None)


@task(name="mend", cache_policy=NO_CACHE)
def mend_found(request: SweepRequest, found: tuple[Found, ...]) -> tuple[Mended, ...]:
    """Do what the policies say about each training; one that fails does not keep the others from being looked after."""
    with open_provider(request) as provider, opened_journal() as journal:
        mended = []
        for item in found:
            done = _handle(journal, provider, item, decide(item, request))
            _tell(request, done)
            mended.append(done)
    return tuple(mended)


def _handle(journal: Journal, provider: Provider, item: Found, action: Action) -> Mended:
    try:
        return hold_back(journal, item, action) or _mend(journal, provider, item, action)
    except Exception as error:  # whatever one row makes of it: the others are to be looked after
        return Mended(item, action, f"it could not be done: {told(error)}", failed=True)


def _mend(journal: Journal, provider: Provider, item: Found, action: Action) -> Mended:
    if action is Action.CANCEL:
        return end(journal, provider, item, time, within_s=GRACE_S)
    if action is Action.CLOSE:
        return close(journal, provider, item)
    if action is Action.ADOPT:
        return readopt(item)
    # Nobody goes on with this one unless a person does: the table says how.
    left = item.record if item.sort is SweepClass.UNCOLLECTED and action is Action.NOTIFY else None
    return Mended(item, action, way_back(left) if left is not None else "")


def _tell(request: SweepRequest, done: Mended) -> None:
    if done.action is Action.NOTHING:
        return
    row = to_row(done)
    outcome = f"; {done.said}" if done.said else ""
    say(f"{row['class']}: {row['run']}: {done.found.reason}{outcome}", warning=done.action is not Action.CLOSE)
    run, record = done.found.run, done.found.record
    subject = f"run.{run.handle.run_id}" if run is not None else f"operation.{record.key if record else ''}"
    announce(f"sweep.{row['class']}", subject, row["run"], dict(row), rehearsal=request.sandbox)


@task(name="publish-sweep", cache_policy=NO_CACHE)
def publish_sweep(request: SweepRequest, swept: tuple[Swept, ...]) -> None:
    """Write the table of what was found, with what was done about it, and of the accounts that were not swept."""
    rows: list[dict[str, Any]] = [dict(to_row(done)) for one in swept for done in one.mended]
    looked_after = len(rows)
    rows += [_row_of_trouble(one) for one in swept if one.trouble is not None]
    key = "rehearsal-sweep" if request.sandbox else "sweep"
    with Display() as display:
        display.table(rows or [{"class": "none"}], key, f"{looked_after} trainings looked after")


def _row_of_trouble(swept: Swept) -> dict[str, str]:
    return {"class": NOT_SWEPT, "provider": swept.title, "reason": swept.trouble or "", "run_id": ""}


def to_row(done: Mended) -> dict[str, str]:
    """Return a training as a row for people."""
    run, record = done.found.run, done.found.record
    return {
        "class": done.found.sort.value,
        "provider": run.handle.provider if run is not None else record.provider if record is not None else "",
        "run": run.handle.name if run is not None else record.run_name if record is not None else "",
        "run_id": run.handle.run_id if run is not None else (record.run_id if record is not None else None) or "",
        "status": run.provider_status if run is not None else "not looked at",
        "operation": record.operation_id if record is not None else "",
        "flow_run": (record.flow_run_id if record is not None else None) or "",
        "reason": done.found.reason,
        "action": done.action.value,
        "outcome": done.said,
    }
