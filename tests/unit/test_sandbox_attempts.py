"""What a real training pays for: the time of its last child, whether it ends, fails or is cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox import childjobs, documents, lifecycle
from sandbox.accounts import Account, create_account
from sandbox.childjobs import ChildJobs, Job
from sandbox.clock import ManualClock
from sandbox.core import Sandbox, open_sandbox
from sandbox.replicate.jobs import RealTrainings
from sandbox.replicate.prices import MICRO_USD_PER_S
from sandbox.replicate.trainings import Order, cancel, create
from sandbox.replicate.words import MODEL, TRAINING, VERSION
from sandbox.server import build
from sandbox.settings import AccountSettings
from sandbox.store import Row

RATE = MICRO_USD_PER_S["gpu-t4"]
NO_DATA = "data:application/zip;base64,UEsFBg=="
Reopen = Callable[[], Sandbox]


class Process:
    """A child that ends when the test says so."""

    pid = 2**22 + 1  # more than Linux gives out

    def __init__(self, folder: Path) -> None:
        self.folder, self.code = folder, None

    code: int | None

    def poll(self) -> int | None:
        """Return the exit code, None while it works."""
        return self.code

    def wait(self) -> int:
        """Return the exit code at once."""
        return self.code or 0


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The children that were started."""
    made: list[Process] = []

    def spawn(folder: Path, _argv: Sequence[str]) -> Process:
        made.append(Process(folder))
        return made[-1]

    monkeypatch.setattr(childjobs, "_spawn", spawn)
    monkeypatch.setattr(childjobs.os, "killpg", lambda *_: None)
    return made


@pytest.fixture
def clock() -> ManualClock:
    """The time of the sandbox, moved by the tests alone."""
    return ManualClock()


@pytest.fixture
def reopen(tmp_path: Path, clock: ManualClock) -> Iterator[Reopen]:
    """Give a function that opens the home as a server does at its start; nothing runs."""
    opened: list[Sandbox] = []

    def reopened() -> Sandbox:
        opened.append(open_sandbox(tmp_path, clock))
        build(opened[-1], lambda: None, lambda _worker: False)
        return opened[-1]

    yield reopened
    for sandbox in opened:
        sandbox.store.close()


def ordered(sandbox: Sandbox) -> tuple[Account, Row]:
    """Return an account and its training, which waits for a child."""
    account = create_account(sandbox, AccountSettings(engine="real", billing="micro_usd"))
    given = {"train_data": NO_DATA}
    with sandbox.store.write() as tx:
        documents.add(tx, account, MODEL, id="signs", data={"visibility": "private"}, at_s=1.0, name="signs")
        order = Order("sandbox/vision-trainer", "v", "sandbox-user/signs", given, "http://127.0.0.1:1")
        return account, create(sandbox, tx, account, order)


def server_of(sandbox: Sandbox) -> ChildJobs:
    """Return what follows the children, with a child that trains."""
    server = ChildJobs(sandbox, {TRAINING: RealTrainings()})
    server.tick()
    server.tick()
    return server


def now(sandbox: Sandbox, row: Row) -> Row:
    """Return a training as it is."""
    with sandbox.store.read() as tx:
        return documents.reload(tx, row)


def cancelled(sandbox: Sandbox, account: Account, row: Row) -> Row:
    """Cancel a training and return it."""
    with sandbox.store.write() as tx:
        return cancel(sandbox, tx, account, documents.reload(tx, row))


def test_a_cancel_pays_for_the_time_it_ran(reopen: Reopen, clock: ManualClock, children: list[Process]) -> None:
    """From the begin of its child, which is the moment the trainer's own seconds begin at."""
    sandbox = reopen()
    account, row = ordered(sandbox)
    server_of(sandbox)
    clock.advance(30)
    ended = cancelled(sandbox, account, row)
    assert (ended["status"], ended["data"]["seconds"], ended["charged"]) == ("cancelled", 30.0, 30 * RATE)
    assert len(children) == 1


@pytest.mark.parametrize("begins_anew", [True, False])
def test_nobody_pays_for_a_server_that_was_down(
    reopen: Reopen, clock: ManualClock, children: list[Process], begins_anew: bool
) -> None:
    """After twelve hours a cancel pays for the seconds of the child that began anew, or for none."""
    sandbox = reopen()
    account, row = ordered(sandbox)
    server = server_of(sandbox)
    clock.advance(30)
    server.stop()
    clock.advance(12 * 3600)
    sandbox = reopen()
    if begins_anew:
        server_of(sandbox)
        clock.advance(7)
    ended = cancelled(sandbox, account, row)
    assert len(children) == 1 + begins_anew
    seconds = 7 if begins_anew else 0
    assert (ended["data"]["seconds"], ended["charged"]) == (seconds, seconds * RATE)


def test_a_child_that_was_killed_pays_for_its_time(reopen: Reopen, clock: ManualClock, children: list[Process]) -> None:
    """The guard of the child writes how long it ran."""
    sandbox = reopen()
    _, row = ordered(sandbox)
    server = server_of(sandbox)
    result = {"status": "failed", "error": "the training process ended with code -9", "seconds": 5.0}
    (children[0].folder / "result.json").write_text(json.dumps(result))
    children[0].code = -9
    server.tick()
    ended = now(sandbox, row)
    assert (ended["status"], ended["data"]["seconds"], ended["charged"]) == ("failed", 5.0, 5 * RATE)


def test_a_training_that_is_given_up_pays_for_its_last_child(
    reopen: Reopen, clock: ManualClock, children: list[Process]
) -> None:
    """Three children died with their guards: each began anew, the last one is paid for, the wait after it is not."""
    sandbox = reopen()
    _, row = ordered(sandbox)
    server = server_of(sandbox)
    for seconds in (40, 20, 6):
        clock.advance(seconds)
        children[-1].code = -9
        server.tick()
        clock.advance(1000)
        server.tick()
    ended = now(sandbox, row)
    assert (len(children), ended["status"], ended["charged"]) == (3, "failed", 6 * RATE)
    assert "3 times" in ended["data"]["error"]


def test_a_training_that_cannot_be_followed_pays_for_the_time_it_ran(
    reopen: Reopen, clock: ManualClock, children: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the sandbox's own ends it, with the seconds so far."""
    sandbox = reopen()
    _, row = ordered(sandbox)
    server = server_of(sandbox)
    clock.advance(9)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RealTrainings, "watch", broken)
    server.tick()
    ended = now(sandbox, row)
    assert (ended["status"], ended["charged"]) == ("failed", 9 * RATE)


def test_data_that_cannot_be_had_costs_nothing(reopen: Reopen, clock: ManualClock, children: list[Process]) -> None:
    """There was no child."""
    sandbox = reopen()
    _, row = ordered(sandbox)
    with sandbox.store.write() as tx:
        documents.change(tx, row, data={"input": {"train_data": "https://data.invalid/a.zip"}})
    server_of(sandbox)
    ended = now(sandbox, row)
    assert (children, ended["status"], ended["charged"]) == ([], "failed", 0)
    assert "data.invalid" in ended["data"]["error"]


def test_a_cancel_before_the_collecting_leaves_no_version(
    reopen: Reopen, clock: ManualClock, children: list[Process]
) -> None:
    """What its child made goes with its folder: a training that shows as canceled delivers nothing."""
    sandbox = reopen()
    account, row = ordered(sandbox)
    server = server_of(sandbox)
    folder = children[0].folder
    with sandbox.store.read() as tx:
        job = Job(sandbox, account, documents.reload(tx, row), folder)
    cancelled(sandbox, account, row)
    kind = Collecting()
    server._collect(job, kind, {"status": "completed", "seconds": 3})
    with sandbox.store.read() as tx:
        versions = documents.listed(tx, account, VERSION, parent="signs")
    assert (kind.collected, versions, folder.exists()) == (0, [], False)
    assert now(sandbox, row)["status"] == "cancelled"


class Collecting(RealTrainings):
    """Counts how often something is kept."""

    collected = 0

    def collect(self, *_: Any) -> lifecycle.Outcome:
        """Keep nothing."""
        object.__setattr__(self, "collected", self.collected + 1)
        return lifecycle.Outcome("completed")
