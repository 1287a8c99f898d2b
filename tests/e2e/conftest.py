"""Ground for the tests of the whole: rehearsals as a user runs them, flow runs on a real Prefect server, read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.models import RunReport
from pipeline.provider_requests import REQUESTS
from pipeline.report.dossier import read_report
from sandbox.client import SandboxAccount
from sandbox.launch import find_running
from sandbox.server import SandboxServer
from tests.conftest import LOOPBACK
from tests.loopback.sitecustomize import LOG_VARIABLE
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
CANARY = "pk_live_canary_7f3a91d2c4"
"""The key of a hosted account that must neither be used nor appear anywhere."""
RUN_S = 240.0
"""Longest wait for one command, on a busy machine."""
CLASSES = "parking,stop,warning"
"""Classes of the road signs, in label order."""
QUICK_STEPS = ({"status": "running"}, {"status": "completed"})
"""The shortest training there is."""
STEPS = (
    {"status": "queued", "for_looks": 2},
    {"status": "running", "for_looks": 6, "epochs": 6},
    {"status": "completed"},
)
"""A training that moves on with every look, so that nothing depends on the clock."""
METRICS = {"mAP50": 0.98, "evaluated_images": 20}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    """Its exit code."""
    out: str
    """Its standard output."""
    err: str
    """Its standard error."""


@dataclass(frozen=True)
class Command:
    """A command under way; it writes to files, so that nobody needs to read along."""

    process: subprocess.Popen[bytes]
    said: Path

    def wait(self) -> Done:
        """Wait for its end."""
        code = self.process.wait(RUN_S)
        texts = [(self.said / name).read_text(encoding="utf-8") for name in ("out", "err")]
        return Done(code, *texts)

    def end(self) -> None:
        """Make sure that it has ended."""
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Ground:
    """Folders of their own for a user who has just installed the project."""

    folder: Path

    @property
    def sandbox_home(self) -> Path:
        """Where the sandbox keeps everything."""
        return self.folder / "sandbox"

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment: nothing configured but a hosted key that must not be used."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT_TRACK"))}
        return {
            **kept,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "TRAIN_PIPELINE_SANDBOX_HOME": str(self.sandbox_home),
            "TRAIN_PIPELINE_JOURNAL": str(self.folder / "journal.db"),
            "PICTOGRAPH_API_KEY": CANARY,
            LOG_VARIABLE: str(self.folder / "connections.jsonl"),
            "PYTHONPATH": os.pathsep.join([LOOPBACK, str(ROOT)]),
            "COLUMNS": "120",
            **changes,
        }

    def start(self, *arguments: str, **environment: str) -> Command:
        """Start ``python -m flows.train_pipeline``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings, said = self.environment(**environment), Path(tempfile.mkdtemp(dir=self.folder, prefix="said-"))
        command = [sys.executable, "-m", "flows.train_pipeline", *arguments]
        with (said / "out").open("wb") as out, (said / "err").open("wb") as err:
            return Command(subprocess.Popen(command, cwd=self.folder, env=settings, stdout=out, stderr=err), said)

    def run(self, *arguments: str, **environment: str) -> Done:
        """Run ``python -m flows.train_pipeline`` to its end."""
        command = self.start(*arguments, **environment)
        try:
            return command.wait()
        finally:
            command.end()

    def noted(self, kind: str) -> list[Any]:
        """Return every ``process`` that ran here, or every ``host`` one of them asked for, in order."""
        lines = (self.folder / "connections.jsonl").read_text(encoding="utf-8").splitlines()
        return [what for said, what in map(json.loads, lines) if said == kind]

    def end_sandbox(self) -> None:
        """End the process that serves this ground's sandbox, if it has not done so itself."""
        found = find_running(self.sandbox_home.resolve())
        if found is not None:
            health = httpx.get(f"{found.url}/_sandbox/health", timeout=30, trust_env=False)
            os.kill(int(health.json()["pid"]), signal.SIGTERM)


@dataclass(frozen=True)
class Rehearsal:
    """One finished command and what it left behind."""

    ground: Ground
    run_folder: str
    done: Done

    @cached_property
    def report(self) -> RunReport:
        """Return the run's report.json, read as the program would."""
        (path,) = self.ground.folder.glob(f"runs/sandbox/{self.run_folder}-*/report.json")
        return RunReport.model_validate_json(path.read_text(encoding="utf-8"))

    @property
    def folder(self) -> Path:
        """Return the run's own folder."""
        assert self.report.plan is not None
        return self.ground.folder / self.report.plan.output_dir


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Folders for the rehearsals, and the end of the sandbox they start."""
    made = Ground(tmp_path_factory.mktemp("user"))
    yield made
    made.end_sandbox()


@pytest.fixture(scope="session")
def started_demo(ground: Ground) -> Iterator[Command]:
    """``python -m flows.train_pipeline`` without arguments, started once for all tests."""
    command = ground.start()
    yield command
    command.end()


@pytest.fixture(scope="session")
def demo(ground: Ground, started_demo: Command, prefect_server: str) -> Rehearsal:
    """The first rehearsal, finished. The tests' own Prefect server, which it does not use, starts up meanwhile."""
    assert prefect_server
    return Rehearsal(ground, "road-signs-yolox", started_demo.wait())


@pytest.fixture(scope="session")
def started_second(ground: Ground, demo: Rehearsal) -> Iterator[Command]:
    """A second rehearsal right after the first one: classification, with its result as JSON."""
    assert demo.done.code == 0, demo.done.err
    command = ground.start("--dataset", "road-signs-classes", "--sandbox", "--pipeline", "classification", "--json")
    yield command
    command.end()


@pytest.fixture(scope="session")
def second(ground: Ground, started_second: Command) -> Rehearsal:
    """The second rehearsal, finished."""
    return Rehearsal(ground, "road-signs-classes-classification", started_second.wait())


@dataclass(frozen=True)
class FlowRun:
    """One flow run as the Prefect server tells it, by plain HTTP."""

    api: str
    id: str
    report: RunReport

    def get(self, path: str) -> Any:
        """Return what the server answers to a GET."""
        return httpx.get(f"{self.api}{path}", timeout=30).raise_for_status().json()

    def find(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return what the server finds."""
        answer = httpx.post(f"{self.api}{path}", json=query, timeout=30).raise_for_status().json()
        return list(answer["events"] if isinstance(answer, dict) else answer)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the flow run itself."""
        return dict(self.get(f"/flow_runs/{self.id}"))

    def task_runs(self) -> list[dict[str, Any]]:
        """Return its task runs in the order they began; Prefect records them a moment after the fact."""

        def ended() -> list[dict[str, Any]]:
            found = self.find(
                "/task_runs/filter", flow_runs={"id": {"any_": [self.id]}}, sort="EXPECTED_START_TIME_ASC"
            )
            return found if found and all(run["end_time"] for run in found) else []

        return eventually(ended, pause_s=0.2)

    def artifacts(self, kind: str) -> list[dict[str, Any]]:
        """Return its artifacts of one type."""
        wanted = {"flow_run_id": {"any_": [self.id]}, "type": {"any_": [kind]}}
        return self.find("/artifacts/filter", artifacts=wanted, sort="CREATED_DESC")

    def events(self, last: str) -> list[dict[str, Any]]:
        """Return our events of this run in the order they happened, once the last one has arrived."""

        def arrived() -> list[dict[str, Any]]:
            related = {"resources_in_roles": [[f"prefect.flow-run.{self.id}", "flow-run"]]}
            wanted = {"event": {"prefix": ["train-pipeline."]}, "related": related, "order": "ASC"}
            found = self.find("/events/filter", filter=wanted, limit=50)
            return found if any(event["event"] == last for event in found) else []

        return eventually(arrived, pause_s=0.2)

    def log_lines(self, until: str) -> list[str]:
        """Return the lines on the run's page, once one of them contains these words."""

        def arrived() -> list[str]:
            query = {"logs": {"flow_run_id": {"any_": [self.id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
            lines = [str(line["message"]) for line in self.find("/logs/filter", **query)]
            return lines if any(until in line for line in lines) else []

        return eventually(arrived, pause_s=0.2)


@pytest.fixture(scope="session")
def sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox in this process, for scripted trainings."""
    with SandboxServer(tmp_path_factory.mktemp("scripted-sandbox")) as server:
        yield server


@pytest.fixture(scope="session")
def scripted(sandbox_server: SandboxServer, demo: Rehearsal, started_second: Command) -> Callable[..., SandboxAccount]:
    """Make accounts whose trainings follow a script and deliver the model the rehearsal has trained."""
    assert started_second  # it goes on in the background of everything that uses these accounts
    assert demo.report.artifact is not None
    weights = (demo.ground.folder / demo.report.artifact.path).read_bytes()

    def make(*, steps: tuple[dict[str, Any], ...] = STEPS, **settings: Any) -> SandboxAccount:
        script = {"mode": "looks", "steps": steps, "metrics": METRICS, "gpu_minutes": 2, **settings}
        account = sandbox_server.new_account(engine="scripted", script=script)
        account.add_dataset("road-signs", count=40)
        account.upload_model(weights, classes=CLASSES, architecture="yolox-nano", side=128)
        return account

    return make


def address_of(account: SandboxAccount) -> dict[str, str]:
    """Return the variables that lead a run to this account."""
    return {"TRAIN_PIPELINE_SANDBOX_URL": account.url, "TRAIN_PIPELINE_SANDBOX_KEY": account.api_key}


@contextmanager
def at_server(api: str) -> Iterator[None]:
    """Make a Prefect server this process's own, without the heartbeat that ends every flow a second late."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture(scope="session")
def run_flow(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FlowRun]:
    """Run the flow in this process for an account, against the running Prefect server."""
    from flows.train_pipeline import train_pipeline

    def run(account: SandboxAccount, **request: Any) -> FlowRun:
        folder = tmp_path_factory.mktemp("runs")
        asked = {"dataset": "road-signs", "sandbox": True, "output_dir": folder, "poll_interval_s": 0.05, **request}
        with pytest.MonkeyPatch.context() as patch, at_server(prefect_server):
            for name, value in address_of(account).items():
                patch.setenv(name, value)
            state = train_pipeline(REQUESTS[asked.pop("provider", "pictograph")](**asked), return_state=True)
            report = read_report(state.result(raise_on_failure=False))
        assert report is not None, state
        return FlowRun(prefect_server, str(state.state_details.flow_run_id), report)

    return run


@pytest.fixture(scope="session")
def accepted(scripted: Callable[..., SandboxAccount], run_flow: Callable[..., FlowRun]) -> FlowRun:
    """One run that ended well, shared by everything that reads it back."""
    return run_flow(scripted())


def read_json_line(text: str) -> dict[str, Any]:
    """Return the one JSON line a text consists of."""
    lines = text.splitlines()
    assert len(lines) == 1, lines
    return dict(json.loads(lines[0]))
