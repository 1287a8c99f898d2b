"""What people see is best effort: Prefect's server may die while a paid run is watched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from sandbox.client import SandboxAccount
from tests.fault.workbench import DATASET, STAGES
from tests.servers import answers, free_port, running_prefect
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
BY_HAND = {
    "mode": "manual",
    "model": "uploaded",
    "steps": [{"status": "running", "epochs": 5}, {"status": "completed"}],
}
"""A training that goes on until the test says so."""


@contextmanager
def watching(folder: Path, api: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command line against this Prefect server, in a process of its own that never outlives the test."""
    command = [sys.executable, "-m", "flows.train_pipeline", "--sandbox", "--dataset", DATASET, "--json"]
    command += ["--samples", "2", "--min-agreement", "0", "--poll-interval-s", "0.5"]
    command += ["--output-dir", str(folder / "runs")]
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])
    environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "client"), "PYTHONPATH": paths}
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as flow:
        try:
            yield flow
        finally:
            flow.kill()


def looks(account: SandboxAccount) -> int:
    """Return how often the run was looked at."""
    return sum(re.search(STAGES["look"][1], entry["path"]) is not None for entry in account.requests())


def test_a_run_outlives_the_server_that_shows_it(open_account: Callable[..., SandboxAccount], tmp_path: Path) -> None:
    """Killed in mid-run, started again on the same port and database: the watching never stops, one run, accepted."""
    account = open_account(script=BY_HAND)
    port, home = free_port(), tmp_path / "prefect"
    api = f"http://127.0.0.1:{port}/api"
    with ExitStack() as until_the_end:
        with running_prefect(home, port) as (_, server):
            flow = until_the_end.enter_context(watching(tmp_path, api))
            eventually(lambda: looks(account) >= 4 or flow.poll() is not None, "looks at the run", pause_s=0.1)
            assert flow.poll() is None, flow.communicate()
            os.killpg(server.pid, signal.SIGKILL)  # the group is the server's own
            server.wait(30)
            eventually(lambda: not answers(f"{api}/health"), "the end of the server")
            before = looks(account)
            eventually(lambda: looks(account) >= before + 4, "looks while the server is away", pause_s=0.1)
            assert flow.poll() is None
        with running_prefect(home, port):
            account.advance(account.bill()["runs"][0]["id"], ticks=2)
            out, err = flow.communicate(timeout=60)
            assert flow.returncode == 0, err.decode()
            assert json.loads(out)["outcome"] == "accepted"
            bill = account.bill()
            assert (bill["started_runs"], bill["active_runs"]) == (1, 0)
            shown = httpx.post(f"{api}/flow_runs/filter", json={}, timeout=30).json()
            assert [run["state"]["name"] for run in shown] == ["Completed"]
