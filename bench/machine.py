"""What every benchmark needs: its one option, the machine in a line, and servers in processes of their own."""

from __future__ import annotations

import argparse
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
START_S = 120.0
"""Longest wait for a server, on a busy machine with a new database."""


def parse_quick(about: str | None) -> bool:
    """Read the command line: ``--quick`` takes fewer samples."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer samples: for a look, not for a figure to publish")
    return bool(parser.parse_args().quick)


def describe_machine(*packages: str) -> str:
    """Return cores, load, Python and the versions of some packages in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = os.getloadavg()[0]
    return (
        f"machine: {os.cpu_count()} cores ({platform.machine()}), load {load:.1f} before; "
        f"Python {platform.python_version()}, {versions}"
    )


def isolate(root: Path) -> None:
    """Point Prefect and our own settings at a temporary place; must come before the first prefect import."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "PICTOGRAPH_", "TRAIN_PIPELINE_")):
            del os.environ[name]
    os.environ["PREFECT_HOME"] = str(root / "prefect")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_prefect(home: Path) -> Iterator[str]:
    """Serve Prefect from a process of its own with a new database; yields its API address."""
    port = free_port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    api = f"http://127.0.0.1:{port}/api"
    with _running(command, home, f"{api}/health", {"PREFECT_HOME": str(home)}):
        yield api


@contextmanager
def running_sandbox(home: Path) -> Iterator[str]:
    """Serve the sandbox from a process of its own; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "sandbox", "serve", "--home", str(home / "data"), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with _running(command, home, f"{url}/_sandbox/health", {}):
        yield url


@contextmanager
def _running(command: list[str], home: Path, health: str, environment: dict[str, str]) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    log_path = home / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _await_health(process, health, log_path)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_health(process: subprocess.Popen[bytes], health: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(health, timeout=2, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log_path.read_text()[-2000:]}")
        time.sleep(0.1)
