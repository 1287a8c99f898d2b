"""Runs of a served deployment are stopped: asked to, killed in the middle of it, and together with what serves them.

The last of them comes back by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deployments.automations import BACK, LEAST_S, SILENT, apply
from pipeline.journal.ownership import is_gone
from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.journal.store import Journal
from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tasks.crashes import BACK_AFTER_CRASH
from tests.e2e.conftest import ROOT, address_of, at_server
from tests.e2e.test_deployments import QUICK, final_state, find_deployments, order
from tests.fault.conftest import CLASSES, quiet_detector
from tests.waiting import eventually

BY_HAND = {
    "mode": "manual",
    "model": "uploaded",
    "steps": [{"status": "running", "epochs": 10}, {"status": "completed"}],
}
"""A training that goes on until the test says so."""
PATIENT_S = 90.0
"""Longest wait for a process of Prefect's, on a busy machine."""


@dataclass
class Served:
    """A serving process and what its runs work with: one account, one journal, a data set for each run."""

    api: str
    account: SandboxAccount
    folder: Path
    runs: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start ``python -m deployments.serve``."""
        own = {"PREFECT_API_URL": self.api, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **QUICK}
        journal = {"TRAIN_PIPELINE_JOURNAL": str(self.folder / "journal.db")}
        settings = {**os.environ, **own, **address_of(self.account), **journal}
        with (self.folder / "said.txt").open("ab") as out:
            command = [sys.executable, "-m", "deployments.serve"]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=settings, stdout=out, stderr=out, start_new_session=True
            )

    @property
    def said(self) -> str:
        """What it and its runs wrote."""
        return (self.folder / "said.txt").read_text(encoding="utf-8")

    def order(self, dataset: str) -> str:
        """Order a run for a data set of its own and return its id."""
        self.account.add_dataset(dataset, count=8, size=64)
        small = {"sandbox": True, "samples": 2, "min_agreement": 0, "poll_interval_s": 0.5}
        request = {"dataset": dataset, "output_dir": str(self.folder), **small}
        answer = order(self.api, find_deployments(self.api)["manual"]["id"], request)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def started(self, dataset: str) -> str:
        """Return the id of a data set's flow run, once its training is known to the journal."""
        run = self.runs[dataset]

        def known() -> bool:
            found = self.record(run)
            return found is not None and found.handle is not None

        eventually(known, f"a run for {dataset}: {self.said}", within_s=PATIENT_S, pause_s=0.2)
        return run

    def run_of(self, dataset: str) -> dict[str, Any]:
        """Return the data set's run on the bill; empty while there is none."""
        return next((dict(run) for run in self.account.bill()["runs"] if run["dataset_name"] == dataset), {})

    def record(self, flow_run_id: str) -> OperationRecord | None:
        """Return what the journal holds about a flow run."""
        with closing(Journal(str(self.folder / "journal.db"))) as journal:
            return journal.of_flow_run(flow_run_id)

    def pid_of(self, flow_run_id: str) -> int:
        """Return the process that carries a flow run out."""
        found = self.record(flow_run_id)
        assert found is not None
        assert found.owner is not None
        return found.owner.pid

    def cancel(self, flow_run_id: str) -> None:
        """Ask Prefect to cancel a flow run, as its UI does; again while the server's database is busy."""
        body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        address = f"{self.api}/flow_runs/{flow_run_id}/set_state"
        eventually(lambda: httpx.post(address, json=body, timeout=30).is_success, "the cancel", pause_s=0.2)


@pytest.fixture(scope="module")
def served(
    sandbox_server: SandboxServer, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """``python -m deployments.serve``, once for all tests of this module."""
    account = sandbox_server.new_account(engine="scripted", dialect="v1", billing="credits", script=BY_HAND)
    account.upload_model(quiet_detector(), classes=",".join(CLASSES), architecture="yolox-s", side=64)
    made = Served(prefect_server, account, tmp_path_factory.mktemp("served"))
    made.start()
    eventually(lambda: "train-pipeline/manual" in made.said, "the deployments", within_s=PATIENT_S, pause_s=0.2)
    made.runs.update({dataset: made.order(dataset) for dataset in ("ds-asked", "ds-killed", "ds-left")})
    yield made
    with suppress(ProcessLookupError):
        os.killpg(made.process.pid, signal.SIGKILL)
    made.process.wait()


def _signals_waiting(pid: int) -> int:
    """Return the signals a stopped process has not taken yet, as the system's bit mask."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("ShdPnd:")).split()[1], 16)


def _check_cancelled(served: Served, run: str, dataset: str) -> None:
    assert served.run_of(dataset)["status"] == "cancelled", served.said
    assert served.run_of(dataset)["refunded"] > 0
    found = served.record(run)
    assert found is not None
    assert (found.outcome, found.billed) == (OperationOutcome.CANCELLED, 0)
    assert found.cancel_asked_at_s is not None
    assert found.cancel_confirmed_at_s is not None


def test_a_cancelled_run_takes_its_training_with_it(served: Served) -> None:
    """Cancelled in Prefect while it watches: the training is cancelled, given back, and closed in the journal."""
    run = served.started("ds-asked")
    served.cancel(run)
    assert final_state(served.api, run)["type"] == "CANCELLED"
    _check_cancelled(served, run, "ds-asked")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see a signal wait")
def test_a_run_killed_in_the_middle_of_it_is_cancelled_by_what_serves_it(served: Served) -> None:
    """Its process never gets to act on the signal: the hook cancels the training that the journal names."""
    run = served.started("ds-killed")
    pid = served.pid_of(run)
    os.kill(pid, signal.SIGSTOP)
    served.cancel(run)
    eventually(lambda: _signals_waiting(pid) & 1 << (signal.SIGTERM - 1), "the signal", pause_s=0.1)
    assert served.run_of("ds-killed")["status"] == "running"
    os.kill(pid, signal.SIGKILL)
    assert final_state(served.api, run)["type"] == "CANCELLED"
    _check_cancelled(served, run, "ds-killed")


def test_the_end_of_what_serves_it_is_survived(served: Served) -> None:
    """Serving ends with SIGTERM, its runs without a word: the training goes on, its operation open, its owner gone.

    Served again, and with nothing heard of its process, the run comes back by itself: accepted, and paid once.
    """
    run = served.started("ds-left")
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(PATIENT_S)
    found = served.record(run)
    assert found is not None
    assert (found.state.is_open, found.cancel_asked_at_s) == (True, None)
    assert found.owner is not None
    owner = found.owner
    eventually(lambda: is_gone(owner), "the end of the run's process", pause_s=0.1)
    assert served.run_of("ds-left")["status"] == "running"
    served.start()
    with _automations(served.api):
        _let_its_last_beat_be_old(served.api, run)
        served.account.advance(str(found.run_id), ticks=2)
        eventually(lambda: BACK_AFTER_CRASH in _states(served.api, run), "the run is back", pause_s=0.2)
    state = final_state(served.api, run)
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed"), served.said[-3000:]
    assert _states(served.api, run).count("Crashed") == 1
    bill = served.account.bill()["runs"]
    assert [one["status"] for one in bill if one["dataset_name"] == "ds-left"] == ["completed"]
    found = served.record(run)
    assert found is not None
    assert found.outcome == OperationOutcome.ACCEPTED


@contextmanager
def _automations(api: str) -> Iterator[None]:
    """Let crashed runs come back, with the shortest silence; gone before a living run could be taken for silent."""
    from prefect import get_client

    with at_server(api), get_client(sync_client=True) as client:
        apply(LEAST_S)
        try:
            yield
        finally:
            for one in [*client.read_automations_by_name(SILENT), *client.read_automations_by_name(BACK)]:
                client.delete_automation(one.id)


def _let_its_last_beat_be_old(api: str, run: str) -> None:
    """Tell the last sign of life of a run's process again, from longer ago: Prefect's processes give one in minutes."""
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}

    def heard() -> list[dict[str, Any]]:
        return list(httpx.post(f"{api}/events/filter", json={"filter": wanted}, timeout=30).json()["events"])

    last = eventually(heard, "a heartbeat", pause_s=0.2)[0]
    when = datetime.now(UTC) - timedelta(seconds=LEAST_S)
    again = {name: last[name] for name in ("event", "resource", "related")}
    told = [{**again, "id": str(uuid4()), "occurred": when.isoformat()}]
    httpx.post(f"{api}/events", json=told, timeout=30).raise_for_status()


def _states(api: str, run: str) -> list[str]:
    """Return the names of all states a flow run has been in."""
    answer = httpx.get(f"{api}/flow_run_states/", params={"flow_run_id": run}, timeout=30).raise_for_status()
    return [str(state["name"]) for state in answer.json()]
