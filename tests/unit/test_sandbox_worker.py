"""The background worker: when it counts as idle, and that one part's trouble does not stop the other."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from sandbox import worker as module
from sandbox.catalog import advance_exports
from sandbox.core import Sandbox, open_sandbox
from sandbox.gate import CONTROL_PREFIX, Gate
from sandbox.store import runs as run_table
from sandbox.worker import Worker
from tests.unit.real_runs import make_account, start_run


class Stopwatch:
    """The time module of the worker, moved by the test."""

    now_s = 100.0

    def monotonic(self) -> float:
        """Return the present."""
        return self.now_s


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """Put the stopwatch where the worker takes the time."""
    made = Stopwatch()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox without a server."""
    opened = open_sandbox(tmp_path)
    yield opened
    opened.store.close()


def test_a_server_is_idle_from_the_end_of_its_work_on(sandbox: Sandbox, watch: Stopwatch) -> None:
    """Time in which something trains is no idle time: the clock starts when the training ended."""
    worker = Worker(sandbox)
    start_run(sandbox, make_account(sandbox))
    watch.now_s += 60
    assert worker.idle_s() == 0
    with sandbox.store.write() as tx:
        tx.execute(update(run_table).values(completed_at=1.0))
    watch.now_s += 2
    assert worker.idle_s() == 2


def test_a_request_is_use_until_it_is_answered(sandbox: Sandbox, watch: Stopwatch) -> None:
    """A long import, or any of several requests, keeps the server; the clock starts when the last one ended."""
    worker = Worker(sandbox)
    app = Gate(_Slow(worker, watch), sandbox, worker.in_use)
    with contextlib.suppress(InterruptedError), worker.in_use():
        asyncio.run(app({"type": "http", "path": f"{CONTROL_PREFIX}/datasets"}, _nothing, _nothing))
        watch.now_s += 60
        assert worker.idle_s() == 0
        raise InterruptedError
    assert worker.idle_s() == 0
    watch.now_s += 3
    assert worker.idle_s() == 3


@dataclass
class _Slow:
    """A control call that takes ten minutes."""

    worker: Worker
    watch: Stopwatch

    async def __call__(self, *_: object) -> None:
        """Take them, and look whether the server would end."""
        self.watch.now_s += 600
        assert self.worker.idle_s() == 0


async def _nothing(*_: object) -> Any:
    """Neither receive nor send."""


def test_trouble_with_exports_does_not_stop_trainings(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two parts are tried one by one, whatever the first of them raises."""
    ticks: list[str] = []
    worker = Worker(sandbox)

    def broken(_: Sandbox) -> float | None:
        raise OSError("disk gone")

    monkeypatch.setattr(module, "advance_exports", broken)
    monkeypatch.setattr(worker._trainer, "tick", lambda: ticks.append("tick"))
    worker._work()
    assert ticks == ["tick"]
    assert advance_exports(sandbox) is None
