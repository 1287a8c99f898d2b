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

from pipeline.journal.ownership import is_gone
from pipeline.journal.store import Journal
from pipeline.provider import Provider
from pipeline.requests import SweepRequest
from pipeline.sweep.mending import Mended, close, end, hold_back
from pipeline.sweep.surveying import look_around
from pipeline.sweep.sweeping import Action, FlowKind, FlowState, Found, SweepClass, Watch, decide
from tasks.credentials import open_provider
from tasks.display import Display, announce, say
from tasks.interruption import GRACE_S, is_wish
from tasks.journal import opened_journal
from tasks.readopting import readopt, way_back
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe

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


def address(request: SweepRequest) -> SweepRequest | None:
    """Return the request for the account it is about: a flow run's training is of whatever account that one used.

    None when that flow run has left nothing open.
    """
    if request.flow_run is None:
        return request
    flow_run_id = request.flow_run.removeprefix(_RESOURCE)
    with opened_journal() as journal:
        record = journal.of_flow_run(flow_run_id)
    if record is None or not record.state.is_open:
        say(f"sweep: flow run {flow_run_id} has left nothing open")
        return None
    asked = record.request
    account = {"provider": asked.provider, "sandbox": asked.sandbox, "credentials": asked.credentials}
    return request.model_copy(update={**account, "flow_run": flow_run_id})


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
            action = decide(item, request)
            done = hold_back(journal, item, action) or _mend(journal, provider, item, action)
            _tell(request, done)
            mended.append(done)
    return tuple(mended)


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
def publish_sweep(request: SweepRequest, mended: tuple[Mended, ...]) -> None:
    """Write the table of what was found, with what was done about it."""
    rows: list[dict[str, Any]] = [dict(to_row(done)) for done in mended]
    key = "rehearsal-sweep" if request.sandbox else "sweep"
    with Display() as display:
        display.table(rows or [{"class": "none"}], key, f"{len(rows)} trainings looked after")


def to_row(done: Mended) -> dict[str, str]:
    """Return a training as a row for people."""
    run, record = done.found.run, done.found.record
    return {
        "class": done.found.sort.value,
        "run": run.handle.name if run is not None else record.run_name if record is not None else "",
        "run_id": run.handle.run_id if run is not None else (record.run_id if record is not None else None) or "",
        "status": run.provider_status if run is not None else "not looked at",
        "operation": record.operation_id if record is not None else "",
        "flow_run": (record.flow_run_id if record is not None else None) or "",
        "reason": done.found.reason,
        "action": done.action.value,
        "outcome": done.said,
    }
