"""What people see is best effort: Prefect's server may die while a paid run is watched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sandbox.client import SandboxAccount
from tests.conftest import free_port
from tests.fault.workbench import DATASET, STAGES

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
BY_HAND = {
    "mode": "manual",
    "model": "uploaded",
    "steps": [{"status": "running", "epochs": 5}, {"status": "completed"}],
}
"""A training that goes on until the test says so."""


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Look ten times a second until it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S:.0f} s"
        time.sleep(0.1)


def answers(api: str) -> bool:
    """Tell whether the server is up."""
    try:
        return httpx.get(f"{api}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def prefect_server(home: Path, port: int) -> Iterator[Callable[[], None]]:
    """Run a Prefect server on this home and port; yields what kills it without warning."""
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = (home / "server.log").open("ab")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def kill() -> None:
        os.killpg(process.pid, signal.SIGKILL)  # the group is the server's own
        process.wait(30)

    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/api"), "Prefect server")
        yield kill
    finally:
        if process.poll() is None:
            kill()
        log.close()


def looks(account: SandboxAccount) -> int:
    """Return how often the run was looked at."""
    return sum(re.search(STAGES["look"][1], entry["path"]) is not None for entry in account.requests())


def test_a_run_outlives_the_server_that_shows_it(open_account: Callable[..., SandboxAccount], tmp_path: Path) -> None:
    """Killed in mid-run, started again on the same port and database: the watching never stops, one run, accepted."""
    account = open_account(script=BY_HAND)
    port, home = free_port(), tmp_path / "prefect"
    home.mkdir()
    api = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "flows.train_pipeline", "--sandbox", "--dataset", DATASET, "--json"]
    command += ["--samples", "2", "--min-agreement", "0", "--poll-interval-s", "0.5"]
    command += ["--output-dir", str(tmp_path / "runs")]
    environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "client")}
    environment["PYTHONPATH"] = str(ROOT)
    with prefect_server(home, port) as kill:
        flow = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: looks(account) >= 4, "look at the run")
        kill()
        assert not answers(api)
        before = looks(account)
        wait_until(lambda: looks(account) >= before + 4, "look while the server is away")
        assert flow.poll() is None
    with prefect_server(home, port):
        account.advance(account.bill()["runs"][0]["id"], ticks=2)
        out, err = flow.communicate(timeout=PATIENCE_S)
        bill = account.bill()
        assert flow.returncode == 0, err.decode()
        assert json.loads(out)["outcome"] == "accepted"
        assert (bill["started_runs"], bill["active_runs"]) == (1, 0)
        shown = httpx.post(f"{api}/flow_runs/filter", json={}, timeout=30).json()
        assert [(run["state"]["name"]) for run in shown] == ["Completed"]
