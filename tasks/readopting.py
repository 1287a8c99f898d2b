"""Let a flow run go on with a training that has lost its own; never two at a time, and not for ever."""

from __future__ import annotations

import shlex
from typing import Any, cast
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from pipeline.journal.records import OperationRecord
from pipeline.sweep.mending import Mended
from pipeline.sweep.sweeping import Action, Found

MANUAL = "train-pipeline/manual"
"""The deployment that goes on with what was started without one."""
TRIES_MOST = 3
"""Flow runs a sweep starts for one operation; after that a person is asked."""
TAG = "sweep"
"""What marks flow runs that a sweep started."""


def readopt(found: Found) -> Mended:
    """Start a flow run that goes on with an operation, or say how a person can."""
    record = found.record
    if record is None:
        return Mended(found, Action.NOTIFY, "")
    try:
        with get_client(sync_client=True) as client:
            earlier = _earlier(client, record)
            coming = next((run for run in earlier if run.state is None or not run.state.is_final()), None)
            if coming is not None:
                return Mended(found, Action.ADOPT, f"flow run {coming.id} is on its way to it")
            if len(earlier) >= TRIES_MOST:
                said = f"{len(earlier)} flow runs have tried and ended: look at them, then {way_back(record)}"
                return Mended(found, Action.NOTIFY, said)
            deployment = _deployment(client, found.flow.deployment_id)
        if deployment is None:
            return Mended(found, Action.NOTIFY, f"there is no deployment {MANUAL}; {way_back(record)}")
        started = _start(deployment, record, len(earlier))
    except Exception as error:  # whatever Prefect's client raises: the other trainings are to be looked after, too
        return Mended(found, Action.NOTIFY, f"no flow run could be started ({error!r:.200}); {way_back(record)}")
    return Mended(found, Action.ADOPT, f"flow run {started.id} goes on with it")


def way_back(record: OperationRecord) -> str:
    """Return the command that goes on with an operation."""
    asked = record.request
    command = ["python", "-m", "flows.train_pipeline", asked.provider, *asked.options()]
    command += ["--operation", record.operation_id]
    command += ["--credentials", asked.credentials] if asked.credentials else []
    return "go on with it by: " + shlex.join(command + (["--sandbox"] if asked.sandbox else []))


def _tags(record: OperationRecord) -> list[str]:
    return [TAG, f"operation-{record.operation_id}"]


def _earlier(client: SyncPrefectClient, record: OperationRecord) -> list[FlowRun]:
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=_tags(record)))
    return client.read_flow_runs(flow_run_filter=wanted, limit=200)


def _deployment(client: SyncPrefectClient, own: str | None) -> UUID | None:
    if own is not None:
        try:
            return client.read_deployment(own).id
        except ObjectNotFound:
            pass  # deleted since: the manual one can do the same
    try:
        return client.read_deployment_by_name(MANUAL).id
    except ObjectNotFound:
        return None


def _start(deployment: UUID, record: OperationRecord, tries: int) -> FlowRun:
    changes = {"operation": record.operation_id, "attempt": record.attempt, "adopt": None, "wait": _waiting(record)}
    parameters: dict[str, Any] = {"request": {**record.request.model_dump(mode="json"), **changes}}
    started = run_deployment(
        deployment,
        parameters=parameters,
        timeout=0,
        as_subflow=False,  # it must not end with the sweep
        tags=_tags(record),
        idempotency_key=f"sweep-{record.key}-{tries}",  # two sweeps at once start one
    )
    return cast("FlowRun", started)  # a coroutine only inside an event loop


def _waiting(record: OperationRecord) -> str:
    return "hold" if record.request.wait == "none" else record.request.wait
