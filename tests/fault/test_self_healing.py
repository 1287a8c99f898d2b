"""A flow run whose process dies without a word comes back by itself, goes on with its training, and not for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from pipeline.models import Outcome, RunReport
from pipeline.report.dossier import read_report
from tests.fault.conftest import SCRIPT
from tests.fault.deployed import deploy
from tests.fault.test_sweep import MANUAL
from tests.fault.workbench import Workbench
from tests.waiting import eventually

SHORTEST_S = 10.0
"""The shortest silence Prefect can watch for."""
FAILING = {"mode": "looks", "steps": [{"status": "running"}, {"status": "failed", "error_message": "CUDA error"}]}
"""A training that ends badly."""


@pytest.fixture
def automations(prefect_api: str) -> Iterator[Callable[[], dict[str, list[dict[str, Any]]]]]:
    """Return a function that returns the server's automations by name; ours are gone afterwards."""
    from deployments.automations import BACK, SILENT

    def known() -> dict[str, list[dict[str, Any]]]:
        answer = httpx.post(f"{prefect_api}/automations/filter", json={"limit": 200}, timeout=30).raise_for_status()
        found: dict[str, list[dict[str, Any]]] = {SILENT: [], BACK: []}
        for one in answer.json():
            found.setdefault(one["name"], []).append(one)
        return found

    yield known
    for name in (SILENT, BACK):
        for one in known()[name]:
            httpx.delete(f"{prefect_api}/automations/{one['id']}", timeout=30).raise_for_status()


def test_automations_are_made_once_and_brought_up_to_date(
    automations: Callable[[], dict[str, list[dict[str, Any]]]], prefect_api: str
) -> None:
    """A second call changes what is there; a twin of the same name goes; what was switched off stays off."""
    from prefect import get_client

    from deployments.automations import BACK, SILENT, apply, define

    assert apply(60.0) == [f"created: {SILENT}", f"created: {BACK}"]
    first = automations()
    with get_client(sync_client=True) as client:
        client.create_automation(define(60.0)[1])
    switched_off = {"enabled": False}
    httpx.patch(f"{prefect_api}/automations/{first[SILENT][0]['id']}", json=switched_off, timeout=30).raise_for_status()
    assert apply(90.0) == [f"updated: {SILENT}", f"updated: {BACK}"]
    second = automations()
    assert [len(second[name]) for name in (SILENT, BACK)] == [1, 1]
    (silent,), (back,) = second[SILENT], second[BACK]
    assert silent["id"] == first[SILENT][0]["id"]
    assert (silent["enabled"], back["enabled"]) == (False, True)
    trigger = silent["trigger"]
    assert (trigger["posture"], trigger["within"], trigger["after"]) == (
        "Proactive",
        90,
        ["prefect.flow-run.heartbeat"],
    )
    assert (trigger["expect"], trigger["for_each"]) == (["prefect.flow-run.*"], ["prefect.resource.id"])
    assert [(one["type"], one["state"]) for one in silent["actions"]] == [("change-flow-run-state", "CRASHED")]
    assert back["trigger"]["expect"] == ["prefect.flow-run.Crashed"]
    assert [one["prefect.resource.role"] for one in back["trigger"]["match_related"]] == ["flow", "deployment"]
    assert [(one["type"], one["state"]) for one in back["actions"]] == [("change-flow-run-state", "SCHEDULED")]


def carry_out(flow_run_id: UUID) -> RunReport:
    """Run a flow run of a deployment in this process, as its worker would."""
    from prefect import get_client
    from prefect.flow_engine import run_flow_sync

    from flows.train_pipeline import train_pipeline

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
    state: Any = run_flow_sync(train_pipeline, flow_run, flow_run.parameters, return_type="state")
    report = read_report(state.result(raise_on_failure=False))
    assert report is not None, state
    return report


def beat(api: str, flow_run_id: UUID, deployment: UUID, ago_s: float) -> None:
    """Give the sign of life that a flow run's process gives."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        flow_id = client.read_flow_run(flow_run_id).flow_id
    event = {
        "id": str(uuid4()),
        "occurred": (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}"},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{flow_id}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "train-pipeline",
            },
            {"prefect.resource.id": f"prefect.deployment.{deployment}", "prefect.resource.role": "deployment"},
        ],
    }
    httpx.post(f"{api}/events", json=[event], timeout=30).raise_for_status()


def test_a_silent_flow_run_comes_back_and_goes_on(
    make_bench: Callable[..., Workbench],
    manual: UUID,
    automations: Callable[[], dict[str, list[dict[str, Any]]]],
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last sign of life is too long ago: marked as crashed, back on the schedule, and its training is collected.

    One training is paid for; a flow run that has come back too often ends with the reason.
    """
    from prefect import get_client
    from prefect.states import Running, Scheduled

    import tasks.crashes
    from deployments.automations import apply

    bench = make_bench(script=MANUAL)
    apply(SHORTEST_S)
    assert len(automations()) >= 2
    request = bench.request(wait="none").model_dump(mode="json")
    with get_client(sync_client=True) as client:
        asked = client.create_flow_run_from_deployment(manual, parameters={"request": request})
        begun = carry_out(asked.id)
        assert (begun.outcome, begun.run is not None) == (Outcome.SUBMITTED, True)
        client.set_flow_run_state(asked.id, Running(), force=True)
        beat(prefect_api, asked.id, manual, ago_s=SHORTEST_S)

        def is_back() -> bool:
            state = client.read_flow_run(asked.id).state
            return state is not None and state.name == tasks.crashes.BACK_AFTER_CRASH

        eventually(is_back, "the flow run comes back", within_s=60, pause_s=0.3)
        assert begun.run is not None
        bench.account.advance(begun.run.handle.run_id, 2)
        ended = carry_out(asked.id)
        assert (ended.outcome, ended.operation_id) == (Outcome.ACCEPTED, begun.operation_id), ended.message
        assert bench.started() == 1
        client.set_flow_run_state(asked.id, Scheduled(name=tasks.crashes.BACK_AFTER_CRASH), force=True)
        monkeypatch.setattr(tasks.crashes, "CRASHES_MOST", 2)
        stopped = carry_out(asked.id)
        assert stopped.outcome is Outcome.FAILED
        assert "has crashed and come back 2 times" in stopped.message


def test_every_beginning_looks_afresh_where_results_are_persisted(make_bench: Callable[..., Workbench]) -> None:
    """Two trainings failed and a person asks a third time: no stage is told what an earlier beginning saw."""
    from prefect.settings import PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings

    bench = make_bench(script=FAILING)
    run = deploy(bench)
    with temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True}):
        assert run.carry_out() == "Failed"
        run.bring_forward("AwaitingRetry")
        assert (run.carry_out(), bench.started()) == ("Failed", 2)
        bench.account.configure(script=SCRIPT)
        run.bring_forward("AwaitingRetry")
        assert (run.carry_out(), bench.started()) == ("Completed", 3)
