"""A Prefect server in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from tests.waiting import end, eventually

PORTS_TRIED = 3
START_S = 120.0
"""Longest wait for a server, on a busy machine with a new database."""


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    """Tell whether somebody answers there."""
    try:
        return httpx.get(address, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def running(command: list[str], health: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it is not needed any more; yields its process once it answers.

    Raises:
        AssertionError: It ended or did not answer in time; the message holds the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as said:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C at the tests must not end it before what it serves
        )
    try:
        eventually(lambda: answers(health) or process.poll() is not None, health, within_s=START_S, pause_s=0.1)
        assert process.poll() is None, f"the server did not start: {log.read_text(encoding='utf-8')[-2000:]}"
        yield process
    finally:
        end(process)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has started and not ended


@contextmanager
def running_prefect(home: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve Prefect with its database in ``home``; yields the API's address and the server's process."""
    with ExitStack() as stack:
        for tries_left in reversed(range(1 if port is not None else PORTS_TRIED)):
            try:
                served = stack.enter_context(_prefect_at(home, port or free_port()))
                break
            except AssertionError:  # somebody else has taken the port meanwhile
                if not tries_left:
                    raise
        yield served


@contextmanager
def _prefect_at(home: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    api = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # Its pages ask port 4200, whatever --port says, unless they are told where it is.
    environment = {"PREFECT_HOME": str(home), "PREFECT_UI_API_URL": api}
    with running(command, f"{api}/health", home / "server.log", **environment) as process:
        yield api, process


def hand_over(timeout_s: float = 20.0) -> None:
    """Let Prefect's background threads deliver what they hold; without its server they would try for a minute."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=timeout_s, at_exit=False)
