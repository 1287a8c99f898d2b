"""Flow runs in processes of their own that can be interrupted: the command line in a fork of a warm interpreter."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from pipeline.journal.records import OperationRecord
from pipeline.journal.store import Journal
from sandbox.client import SandboxAccount
from tests.waiting import eventually

END_S = 60.0
"""Longest wait for the end of a process that was told to end."""

_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload(["flows.commandline", "flows.train_pipeline", "tests.fault.processes"])


@dataclass
class Watcher:
    """One ``python -m flows.train_pipeline`` against a sandbox account of its own."""

    account: SandboxAccount
    api: str
    folder: Path
    dataset: str = field(default_factory=lambda: f"ds-{uuid4().hex[:8]}")
    process: ForkServerProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead it to its account and journal."""
        return {
            "TRAIN_PIPELINE_SANDBOX_URL": self.account.url,
            "TRAIN_PIPELINE_SANDBOX_KEY": self.account.api_key,
            "TRAIN_PIPELINE_JOURNAL": str(self.folder / "journal.db"),
        }

    @property
    def arguments(self) -> list[str]:
        """What every command line of this watcher begins with."""
        small = ["--sandbox", "--dataset", self.dataset, "--samples", "2", "--min-agreement", "0"]
        return [*small, "--poll-interval-s", "0.5", "--output-dir", str(self.folder / "runs")]

    def start(self, *arguments: str) -> None:
        """Start the command line."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "err").touch()
        given = (self.api, self.folder, self.environment, [*self.arguments, *arguments])
        self.process = _WARM.Process(target=_command, args=given)
        self.process.start()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        os.kill(self.process.pid or 0, number)

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self.process is not None
        self.process.join(END_S)
        code = self.process.exitcode
        assert code is not None, f"it did not end: {self.said}"
        return code

    def end(self) -> None:
        """Make sure that it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.join(END_S)

    @property
    def said(self) -> str:
        """What it wrote on standard error."""
        return (self.folder / "err").read_text(encoding="utf-8")

    @cached_property
    def flow_run_id(self) -> str:
        """The flow run's id, as soon as there is one."""
        return self.flow_runs(1)[0]

    def flow_runs(self, count: int) -> list[str]:
        """Return the ids of its flow runs, the newest first, as soon as there are so many."""
        name = f"rehearse-{self.dataset}-yolox"
        wanted = {"flow_runs": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC"}

        def known() -> list[str]:
            found = httpx.post(f"{self.api}/flow_runs/filter", json=wanted, timeout=30).raise_for_status().json()
            return [str(run["id"]) for run in found] if len(found) >= count else []

        return eventually(known, f"{count} flow runs {name}", pause_s=0.1)

    def cancel(self) -> None:
        """Ask Prefect to cancel the flow run, as its UI does."""
        cancel_flow_run(self.api, self.flow_run_id)

    def state(self) -> tuple[str, str]:
        """Return the flow run's state as Prefect has it: name and message."""
        state = httpx.get(f"{self.api}/flow_runs/{self.flow_run_id}", timeout=30).raise_for_status().json()["state"]
        return str(state["name"]), str(state["message"])

    def record(self) -> OperationRecord | None:
        """Return what the journal holds."""
        with closing(Journal(str(self.folder / "journal.db"))) as journal:
            return journal.of_flow_run(self.flow_run_id)

    def held(self, unit: str) -> int:
        """Return what the journal counts against the budget."""
        with closing(Journal(str(self.folder / "journal.db"))) as journal:
            return journal.spent(unit, sandbox=True, since_s=0.0)

    def run(self) -> dict[str, Any]:
        """Return the one run on the account's bill, as soon as there is one."""
        (only,) = eventually(lambda: self.account.bill()["runs"], "a run on the bill", pause_s=0.1)
        return dict(only)

    def until(self, look: Callable[[], object], what: str, within_s: float = END_S) -> None:
        """Wait for something, as long as the process lives."""
        process = self.process
        ended = lambda: process is not None and not process.is_alive()  # noqa: E731
        eventually(lambda: look() or ended(), what, within_s=within_s, pause_s=0.2)
        assert process is None or process.is_alive() or look(), f"{what} never came: {self.said}"


def cancel_flow_run(api: str, flow_run_id: str) -> None:
    """Set a flow run to Cancelling, again while the server's database is busy."""
    body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}

    def accepted() -> bool:
        answer = httpx.post(f"{api}/flow_runs/{flow_run_id}/set_state", json=body, timeout=30)
        return answer.is_success and answer.json()["status"] == "ACCEPT"

    eventually(accepted, "the flow run's cancel", pause_s=0.2)


def _command(api: str, folder: Path, environment: dict[str, str], arguments: list[str]) -> None:
    """Be the command line: its own output files, its own environment, the given Prefect server."""
    os.environ.update(environment)
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        with (folder / name).open("ab") as file:
            os.dup2(file.fileno(), stream.fileno() if stream is not None else {"out": 1, "err": 2}[name])
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.commandline import main

    with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        sys.exit(main(arguments))
