"""The sweep on a real Prefect server: what was started, killed, finished or not ended behind the program's back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from pipeline.journal.records import OperationOutcome, OperationRecord, OperationState
from pipeline.models import Outcome, RunStatus
from pipeline.provider_requests import PictographRequest
from pipeline.requests import SweepRequest
from providers.connect import open_journal
from tests.fault.workbench import Workbench
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
MANUAL = {
    "mode": "manual",
    "model": "uploaded",
    "steps": [{"status": "queued"}, {"status": "running", "epochs": 5}, {"status": "completed"}],
}
"""A training that moves on when it is told to."""


@pytest.fixture
def bench(make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """An account whose trainings move on when they are told to, and a sweep with nothing to wait for."""
    import tasks.sweeping

    made = make_bench(script=MANUAL)
    monkeypatch.setattr(tasks.sweeping, "time", made.clock)
    return made


def record_of(operation_id: str) -> OperationRecord:
    """Return an operation as the journal holds it."""
    with closing(open_journal()) as journal:
        record = journal.latest(operation_id, sandbox=True)
    assert record is not None
    return record


def sweep(**policies: Any) -> Any:
    """Run the real flow and return its final state."""
    from flows.sweep_runs import sweep_runs

    return sweep_runs(SweepRequest(**{"sandbox": True, **policies}), return_state=True)


def newest_table(key: str = "rehearsal-sweep") -> dict[str, dict[str, str]]:
    """Return the rows of the newest table, by the run's id."""
    import json

    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
    return {row["run_id"]: row for row in json.loads(str(found[0].data))}


def events_about(api: str, run_id: str | None) -> list[str]:
    """Return the sweep's events about a training, once there are any."""
    wanted = {
        "event": {"prefix": ["train-pipeline."]},
        "resource": {"id": [f"train-pipeline.run.{run_id}"]},
    }

    def arrived() -> list[str]:
        found = httpx.post(f"{api}/events/filter", json={"filter": wanted, "limit": 50}, timeout=30).json()["events"]
        return [event["event"] for event in found if ".sweep." in event["event"]]

    return eventually(arrived, pause_s=0.1)


def submit(bench: Workbench, name: str) -> OperationRecord:
    """Start a training by a flow run that leaves it to itself."""
    ended = bench.run(wait="none", on_open_run="new", operation=name)
    assert ended.report.outcome is Outcome.SUBMITTED, ended.message
    return record_of(ended.report.operation_id)


def start_by_hand(bench: Workbench) -> str:
    """Start a training by the provider's API alone."""
    with bench.account.http() as http:
        export = http.get("/exports/?limit=1").json()["data"][0]["name"]
        body = {"dataset_name": "ds", "export_name": export, "pipeline_type": "yolox", "gpu_type": "a10g"}
        made = http.post("/training/", json={**body, "name": "by-hand", "config": {}}).raise_for_status().json()
    return str(made["data"]["id"])


def cancel_flow_run(flow_run_id: str | None, message: str | None = None) -> None:
    """Cancel a flow run that no process carries out, as the UI does with a deferred one: no hook hears of it."""
    from prefect import get_client
    from prefect.states import Cancelled

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(flow_run_id), Cancelled(message=message), force=True)


def kill_a_flow(bench: Workbench, api: str) -> OperationRecord:
    """Start the command in a process of its own and kill it without a warning while its training goes on."""
    command = [sys.executable, "-m", "flows.train_pipeline", "--sandbox", "--dataset", "ds", "--operation", "killed"]
    command += ["--output-dir", str(bench.output_dir), "--samples", "2", "--min-agreement", "0"]
    settings = {**os.environ, "PREFECT_API_URL": api}
    said = bench.output_dir.parent / "said.txt"
    with said.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=out, stderr=out)
    try:
        eventually(lambda: _is_created("killed") or process.poll() is not None, pause_s=0.2)
        assert process.poll() is None, said.read_text(encoding="utf-8")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return record_of("killed")


def _is_created(operation_id: str) -> bool:
    with closing(open_journal()) as journal:
        record = journal.latest(operation_id, sandbox=True)
    return record is not None and record.state is OperationState.CREATED


def test_one_sweep_finds_and_handles_everything(bench: Workbench, manual: UUID, prefect_api: str) -> None:
    """A stranger is told of, a killed flow's run and a finished one are gone on with, an unconfirmed cancel is done.

    Doing it again starts nothing again, and the flow runs that were started collect what was paid for once.
    """
    from prefect import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    from flows.train_pipeline import train_pipeline
    from pipeline.report.dossier import read_report

    killed = kill_a_flow(bench, prefect_api)
    done, unended = submit(bench, "done"), submit(bench, "unended")
    stranger = start_by_hand(bench)
    bench.account.advance(str(done.run_id), 2)
    cancel_flow_run(unended.flow_run_id)
    assert bench.started() == 4

    state = sweep()
    assert state.is_completed(), state
    rows = newest_table()
    assert {run_id: (row["class"], row["action"]) for run_id, row in rows.items()} == {
        stranger: ("unknown_to_us", "notify"),
        killed.run_id: ("flow_gone", "adopt"),
        done.run_id: ("uncollected", "adopt"),
        unended.run_id: ("cancel_unconfirmed", "cancel"),
    }
    assert record_of("unended").outcome is OperationOutcome.CANCELLED
    assert bench.active() == 2  # the stranger's and the killed flow's go on

    assert sweep().is_completed()
    assert "is on its way to it" in newest_table()[str(killed.run_id)]["outcome"]
    with get_client(sync_client=True) as client:
        of_it = DeploymentFilter(id=DeploymentFilterId(any_=[manual]))
        asked = client.read_flow_runs(deployment_filter=of_it)
    said = [run.parameters["request"] for run in asked]  # the attempt too: a later one would be paid for again
    assert sorted((request["operation"], request["attempt"]) for request in said) == [("done", 1), ("killed", 1)]
    bench.account.advance(str(killed.run_id), 2)
    for run in asked:
        ended = train_pipeline(PictographRequest(**run.parameters["request"]), return_state=True)
        report = read_report(ended.result(raise_on_failure=False))
        assert report is not None
        assert report.outcome is Outcome.ACCEPTED, report.message
    assert bench.started() == 4


def test_without_a_deployment_the_way_back_is_told(bench: Workbench, prefect_api: str) -> None:
    """No flow run can be started: the command that goes on with it is in the table, and an event says so."""
    left = submit(bench, "left")
    bench.account.advance(str(left.run_id), 2)
    assert sweep().is_completed()
    row = newest_table()[str(left.run_id)]
    assert (row["class"], row["action"]) == ("uncollected", "notify")
    assert "python -m flows.train_pipeline pictograph --dataset ds --operation left --sandbox" in row["outcome"]
    assert events_about(prefect_api, left.run_id) == ["train-pipeline.rehearsal.sweep.uncollected"]


def test_nobody_is_started_for_ever(bench: Workbench, manual: UUID) -> None:
    """Three flow runs that ended without the model: a person is asked."""
    from prefect import get_client
    from prefect.states import Crashed

    left = submit(bench, "left")
    bench.account.advance(str(left.run_id), 2)
    for number in range(3):
        assert sweep().is_completed()
        row = newest_table()[str(left.run_id)]
        assert (row["action"], number) == ("adopt", number)
        with get_client(sync_client=True) as client:
            started = UUID(re.search(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", row["outcome"])[0])  # type: ignore[index]
            client.set_flow_run_state(started, Crashed(), force=True)
    assert manual
    assert sweep().is_completed()
    row = newest_table()[str(left.run_id)]
    assert row["action"] == "notify"
    assert "3 flow runs have tried and ended" in row["outcome"]


def test_reconciling_looks_after_one_flow_run(bench: Workbench) -> None:
    """Given an event's resource: its training is ended, another one of the same kind and a stranger are left alone.

    Its account is the training's own, which the event does not tell.
    """
    one, other = submit(bench, "one"), submit(bench, "other")
    start_by_hand(bench)
    for record in (one, other):
        cancel_flow_run(record.flow_run_id)
    state = sweep(flow_run=f"prefect.flow-run.{one.flow_run_id}", sandbox=False, flow_gone="notify")
    assert (state.name, state.message) == ("Completed", "at pictograph 1 cancel unconfirmed: cancel")
    assert record_of("one").outcome is OperationOutcome.CANCELLED
    assert record_of("other").state is OperationState.CREATED
    assert bench.active() == 2
    again = sweep(flow_run=one.flow_run_id)
    assert again.message == "nothing goes on and nothing is open"


def test_a_flow_run_that_prefect_turned_away_takes_no_training_with_it(bench: Workbench) -> None:
    """Its slot was taken when it came back: told of by reconcile, and neither cancelled by it nor by the sweep."""
    one = submit(bench, "one")
    cancel_flow_run(one.flow_run_id, "Deployment concurrency limit reached.")
    state = sweep(flow_run=f"prefect.flow-run.{one.flow_run_id}", flow_gone="notify", uncollected="notify")
    assert (state.name, state.message) == ("Completed", "at pictograph 1 flow gone: notify")
    assert sweep().is_completed()
    assert newest_table()[str(one.run_id)]["class"] == "flow_gone"
    assert record_of("one").cancel_asked_at_s is None
    assert bench.active() == 1


def test_what_cannot_be_cancelled_is_said_loudly(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    """The provider refuses every cancel: exit code 1, a state of its own, and the next sweep ends it with 0."""
    from flows.sweep_command import main

    record = submit(bench, "stuck")
    cancel_flow_run(record.flow_run_id)
    bench.account.fault("status", status=503, method="POST", path=r"/cancel$", times=None)
    assert sweep().name == "NotCancelled"
    assert main(["--sandbox"]) == 1
    assert "1 could not be cancelled and may be billed" in capsys.readouterr().err
    bench.account.clear_faults()
    assert main(["--sandbox"]) == 0
    assert "1 cancel unconfirmed" in capsys.readouterr().out
    assert bench.active() == 0
    assert main(["--sandbox", "--flow-gone", "shrug"]) == 2


def test_a_stranger_is_cancelled_when_that_is_asked_for(bench: Workbench) -> None:
    """By ``unknown_runs=cancel`` alone."""
    submit(bench, "ours")
    stranger = start_by_hand(bench)
    assert sweep(unknown_runs="cancel").is_completed()
    assert bench.active() == 1
    with bench.account.http() as http:
        assert http.get(f"/training/{stranger}").json()["data"]["status"] == RunStatus.CANCELLED
