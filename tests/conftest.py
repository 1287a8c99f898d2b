"""Ground for every test: own Prefect home, loopback only, one Prefect server and one sandbox for those that ask."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before the first prefect import: a test must never write into the user's own database or account.
_HOME = tempfile.TemporaryDirectory(prefix="train-pipeline-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _HOME.name
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
os.environ["DO_NOT_TRACK"] = "1"
for _name in [
    name for name in os.environ if name.startswith(("PICTOGRAPH_", "TRAIN_PIPELINE_")) or name == "PREFECT_API_URL"
]:
    if _name != "PICTOGRAPH_1_0_PYTHON":
        del os.environ[_name]

SERVER_START_S = 90.0
"""Longest wait for the Prefect server, on a busy machine with a new database."""

_connect = socket.socket.connect


def _loopback_only(self: socket.socket, address: Any) -> None:
    if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in {"127.0.0.1", "::1", "localhost"}:
        raise AssertionError(f"a test tried to reach {address!r}; tests use loopback only")
    _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _loopback_only)
    yield
    patch.undo()


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server in its own process; yields its API address."""
    import httpx

    home = tmp_path_factory.mktemp("prefect-server")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    # Its pages ask port 4200, whatever --port says, unless they are told where it is.
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_UI_API_URL": api}
    log = (home / "server.log").open("wb")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + SERVER_START_S
    while True:
        try:
            if httpx.get(f"{api}/health", timeout=2).is_success:
                break
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Prefect server did not start: {Path(log.name).read_text()[-2000:]}")
        time.sleep(0.1)
    yield api
    process.terminate()
    process.wait(30)
    log.close()


@pytest.fixture
def prefect_api(prefect_server: str) -> Iterator[str]:
    """The server's address as this process's setting, without the heartbeat that ends every flow a second late."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield prefect_server
