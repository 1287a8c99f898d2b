"""A deferred flow run of a real deployment: asked for, left alone, everything killed, brought back, accepted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from pipeline.journal.records import OperationRecord
from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tasks.journal import opened_journal
from tests.e2e.conftest import ROOT, address_of, at_server
from tests.e2e.test_deployments import QUICK, find_deployments, order
from tests.fault.conftest import CLASSES, quiet_detector
from tests.fault.deployed import DeployedRun
from tests.servers import free_port, running_prefect
from tests.waiting import eventually

STEPS = [{"status": "running", "epochs": 5, "for_looks": 2}, {"status": "completed"}]
"""A training that ends when it is told to."""
WITHIN_S = 120.0
"""Longest wait for a process of a flow run, on a busy machine."""


@pytest.fixture
def account(sandbox_server: SandboxServer) -> SandboxAccount:
    """An account whose trainings move on only when they are advanced."""
    script = {"mode": "manual", "model": "uploaded", "steps": STEPS}
    made = sandbox_server.new_account(engine="scripted", script=script)
    for dataset in ("ds", "other"):
        made.add_dataset(dataset, count=8, size=64)
    made.upload_model(quiet_detector(), classes=",".join(CLASSES), architecture="yolox-s", side=64)
    return made


@dataclass
class Site:
    """A Prefect server and the process that serves its deployments; both can be killed and started again."""

    folder: Path
    address: dict[str, str]
    port: int = field(default_factory=free_port)
    served: subprocess.Popen[bytes] | None = None
    _open: ExitStack = field(default_factory=ExitStack)
    _prefect: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> str:
        """Where the server answers."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def said(self) -> str:
        """What the serving process and its flow runs have said."""
        return (self.folder / "served.log").read_text(encoding="utf-8")

    def start(self) -> None:
        """Start both."""
        _, self._prefect = self._open.enter_context(running_prefect(self.folder / "prefect", self.port))
        settings = {**os.environ, "PREFECT_API_URL": self.api, "PYTHONUNBUFFERED": "1", **QUICK, **self.address}
        with (self.folder / "served.log").open("ab") as out:
            command = [sys.executable, "-m", "deployments.serve"]
            self.served = subprocess.Popen(
                command, cwd=ROOT, env=settings, stdout=out, stderr=out, start_new_session=True
            )

    def kill(self) -> None:
        """End both the hard way, with whatever they have started."""
        for process in (self.served, self._prefect):
            if process is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._open.close()

    def flow_processes(self) -> list[int]:
        """Return the processes of flow runs that live."""
        assert self.served is not None
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                pid, _, rest = entry.read_text(encoding="utf-8", errors="replace").partition(" (")
                if int(rest.rpartition(")")[2].split()[1]) == self.served.pid:
                    found.append(int(pid))
        return found

    def ask(self, **request: Any) -> DeployedRun:
        """Order a run of the deployment that is filled in by hand."""
        deployment = eventually(lambda: find_deployments(self.api).get("manual"), within_s=WITHIN_S, pause_s=0.2)
        small = {"dataset": "ds", "sandbox": True, "samples": 2, "min_agreement": 0, "output_dir": str(self.folder)}
        answer = order(self.api, deployment["id"], {**small, "wait": "defer", **request})
        assert answer.status_code == 201, answer.text
        return DeployedRun(UUID(answer.json()["id"]))

    def until(self, run: DeployedRun, state: str) -> None:
        """Wait for a flow run to be in a state, and for its process to be gone."""
        eventually(
            lambda: run.state == state, f"{state}, {run.state}: {self.said[-3000:]}", within_s=WITHIN_S, pause_s=0.3
        )


@contextmanager
def opened_site(folder: Path, address: dict[str, str]) -> Iterator[Site]:
    """Start a server and a serving process; both are gone afterwards."""
    site = Site(folder, address)
    site.start()
    try:
        with at_server(site.api):
            yield site
    finally:
        site.kill()


def record_of(run: DeployedRun) -> OperationRecord:
    """Return what the journal holds for a flow run."""
    with opened_journal() as journal:
        found = journal.of_flow_run(str(run.id))
    assert found is not None
    return found


def test_it_survives_the_death_of_everything(
    account: SandboxAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Approved on its form, deferred without a process; worker and server killed; accepted, and paid once.

    A second one is cancelled while it is deferred: no process and no hook of ours hears of it, and ``reconcile``, which
    Prefect starts for it, ends its training.
    """
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "journal.db"))
    for name, value in address_of(account).items():
        monkeypatch.setenv(name, value)
    with opened_site(tmp_path, address_of(account)) as site:
        run, cancelled = site.ask(approve_above=0.01), site.ask(dataset="other")
        eventually(site.flow_processes, within_s=WITHIN_S)
        site.until(run, "Suspended")
        site.until(cancelled, "AwaitingTraining")
        assert account.bill()["started_runs"] == 1
        run.answer(approved=True, reason="it is worth it")
        _cancel(site, cancelled)
        site.until(cancelled, "Cancelled")
        site.until(run, "AwaitingTraining")
        eventually(lambda: not record_of(cancelled).state.is_open, "its end", within_s=WITHIN_S, pause_s=0.2)
        assert record_of(cancelled).outcome == "cancelled"
        assert account.bill()["active_runs"] == 1
        eventually(lambda: not site.flow_processes(), within_s=WITHIN_S)
        assert record_of(run).owner is None
        assert account.bill()["started_runs"] == 2
        site.kill()
        account.advance(str(record_of(run).run_id), ticks=2)
        site.start()
        run.bring_forward()
        site.until(run, "Completed")
        assert "approved: $" in site.said
        assert "has ended at the provider" not in site.said
    assert (account.bill()["started_runs"], account.bill()["active_runs"]) == (2, 0)
    assert record_of(run).outcome == "accepted"
    assert len(list(tmp_path.glob("sandbox/ds-yolox-*/model.onnx"))) == 1


def _cancel(site: Site, run: DeployedRun) -> None:
    """Cancel a flow run as the Prefect UI does."""
    wish = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    httpx.post(f"{site.api}/flow_runs/{run.id}/set_state", json=wish, timeout=30).raise_for_status()
