"""The command line in processes that are killed, forked from one that has imported everything: each starts at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import eventually

RUN_S = 120.0
"""Longest wait for one command, on a busy machine."""
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["flows.commandline", "flows.train_pipeline", "tests.fault.forks"])
_turn = threading.Lock()  # the library's list of children is not made for threads


@dataclass(frozen=True)
class Order:
    """What a process is to do."""

    arguments: tuple[str, ...]
    """Of the command."""
    environment: Mapping[str, str]
    """What is added to the environment."""
    api: str
    """Address of Prefect's API."""
    folder: Path
    """Where it works."""
    said: Path
    """Where what it says goes."""


class Running:
    """One command under way, in a process group of its own."""

    def __init__(self, order: Order, carry_out: Callable[[Order], int] | None = None) -> None:
        self._order = order
        order.said.mkdir(parents=True)
        with _turn:
            self._process = _forks.Process(target=_obey, args=(order, carry_out or run_command))
            self._process.start()
        self.pid = self._process.pid or 0

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        with _turn:
            return self._process.exitcode

    @property
    def said(self) -> str:
        """What it told a person."""
        return "".join((self._order.said / name).read_text(encoding="utf-8") for name in ("out", "err"))

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line it ended with."""
        return dict(json.loads((self._order.said / "out").read_text(encoding="utf-8")))

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        eventually(lambda: self.code is not None, "the end of a command", within_s=RUN_S)
        return self.code or 0

    def until(self, look: Callable[[], object], what: str) -> None:
        """Wait until something is seen while it goes on."""
        eventually(lambda: self.code is not None or look(), what, pause_s=0.05)
        assert self.code is None, f"it ended before {what}: {self.said}"

    def kill(self) -> None:
        """End it, and what it has started in its group, without a chance to tidy up."""
        for end in (os.killpg, os.kill):  # one that has only just begun has no group yet
            with suppress(ProcessLookupError):
                end(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL, self.said

    @property
    def cpu_s(self) -> float:
        """Seconds of a processor it has used."""
        with suppress(OSError):
            return sum(map(int, _stat(Path(f"/proc/{self.pid}"))[11:13])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def has_child(self, words: str) -> bool:
        """Tell whether it has started a process whose command holds these words."""
        return any(words in command for command in _commands_below(self.pid))


@contextmanager
def ended_in_any_case(running: Running) -> Iterator[Running]:
    """Make sure that a command does not outlive its test."""
    try:
        yield running
    finally:
        if running.code is None:
            running.kill()


def run_command(order: Order) -> int:
    """Run ``python -m flows.train_pipeline`` in this process."""
    from flows.commandline import main

    return main(order.arguments)


def _obey(order: Order, carry_out: Callable[[Order], int]) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order.said / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.chdir(order.folder)
    os.environ.update(order.environment)
    # Without the heartbeat that ends every flow a second late.
    with temporary_settings({PREFECT_API_URL: order.api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        sys.exit(carry_out(order))


def _stat(entry: Path) -> list[str]:
    """Return what the system says about a process, from its state on."""
    return (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _commands_below(parent: int) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if int(_stat(entry)[1]) == parent:
                yield (entry / "cmdline").read_text(encoding="utf-8", errors="replace")
