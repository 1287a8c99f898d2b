"""Real trainings kept as documents, between ticks and servers; their children are no processes."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Connection

from sandbox import childjobs, documents
from sandbox.accounts import Account, create_account
from sandbox.childjobs import ChildJobs, Job
from sandbox.core import Sandbox, open_sandbox
from sandbox.lifecycle import Outcome
from sandbox.settings import AccountSettings
from sandbox.store import Row
from sandbox.upkeep import sweep
from tests.waiting import eventually

KIND = "replicate.training"


class Process:
    """A child that ends when the test says so."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.pid = 2**22 + 1  # more than Linux gives out

    def poll(self) -> int | None:
        """Return the exit code, None while it works."""
        return self.code

    def wait(self) -> int:
        """Return the exit code at once."""
        return self.code or 0


@dataclass
class Kind:
    """A training that needs nothing but permission to be prepared."""

    on_restart: Literal["again", "strand"] = "again"
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def prepare(self, job: Job) -> None:
        """Wait for permission."""
        assert self.may_go_on.wait(10)

    def argv(self, job: Job) -> Sequence[str]:
        """Return no command."""
        return []

    def watch(self, tx: Connection, job: Job) -> None:
        """Note nothing."""

    def collect(self, tx: Connection, job: Job, result: Mapping[str, Any]) -> Outcome:
        """Believe the result."""
        return Outcome(str(result["status"]), {"error": result.get("error")})


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox without a server."""
    opened = open_sandbox(tmp_path)
    yield opened
    opened.store.close()


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The children that were started."""
    made: list[Process] = []

    def spawn(_folder: Path, _argv: Sequence[str]) -> Process:
        made.append(Process())
        return made[-1]

    monkeypatch.setattr(childjobs, "_spawn", spawn)
    monkeypatch.setattr(childjobs.os, "killpg", lambda *_: None)
    return made


@pytest.fixture
def kind() -> Kind:
    """A kind whose preparation takes no time."""
    made = Kind()
    made.may_go_on.set()
    return made


def training(sandbox: Sandbox) -> tuple[Account, Row]:
    """Return an account and its open real training."""
    account = create_account(sandbox, AccountSettings())
    with sandbox.store.write() as tx:
        return account, documents.add(tx, account, KIND, id="t", data={"engine": "real"}, status="pending", at_s=1.0)


def now(sandbox: Sandbox, row: Row) -> Row:
    """Return a training as it is."""
    with sandbox.store.read() as tx:
        return documents.reload(tx, row)


def folder_of(sandbox: Sandbox, row: Row) -> Path:
    """Return the folder of a training's child."""
    return sandbox.jobs / documents.job_name(row)


def test_ends_of_servers_are_no_failures(sandbox: Sandbox, spawned: list[Process], kind: Kind) -> None:
    """A training that five servers began and did not finish is begun by the sixth."""
    _, row = training(sandbox)
    for _ in range(6):
        server = ChildJobs(sandbox, {KIND: kind})
        server.tick()
        server.stop()
    assert (len(spawned), now(sandbox, row)["completed_at"]) == (6, None)


def test_a_child_that_dies_three_times_fails_its_training(sandbox: Sandbox, spawned: list[Process], kind: Kind) -> None:
    """Under one server three deaths without a result are enough."""
    _, row = training(sandbox)
    server = ChildJobs(sandbox, {KIND: kind})
    for _ in range(12):
        server.tick()
        spawned[-1].code = -9
    ended = now(sandbox, row)
    assert (len(spawned), ended["status"]) == (3, "failed")
    assert "3 times" in ended["data"]["error"]


def test_a_child_of_the_server_before_is_waited_for(sandbox: Sandbox, spawned: list[Process], kind: Kind) -> None:
    """While it holds the folder nothing is started or removed there; what it writes in the end is taken."""
    _, row = training(sandbox)
    ChildJobs(sandbox, {KIND: kind}).tick()
    folder = folder_of(sandbox, row)
    later = ChildJobs(sandbox, {KIND: kind})
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        later.tick()
        assert (len(spawned), later.is_busy, (folder / "lock").exists()) == (1, False, True)
        (folder / "result.json").write_text(json.dumps({"status": "completed"}))
    later.tick()
    assert (len(spawned), now(sandbox, row)["status"]) == (1, "completed")


def test_a_slow_preparation_holds_up_no_tick(sandbox: Sandbox, spawned: list[Process]) -> None:
    """Ticks return while it goes on, with the slot taken; the child starts once it is over."""
    training(sandbox)
    kind = Kind()
    server = ChildJobs(sandbox, {KIND: kind})
    server.tick()
    server.tick()
    assert (spawned, server.is_busy) == ([], True)
    kind.may_go_on.set()

    def begun() -> list[Process]:
        server.tick()
        return spawned

    eventually(begun, "the child", within_s=5)
    assert len(spawned) == 1


def test_a_stranded_job_keeps_no_folder(sandbox: Sandbox, spawned: list[Process], kind: Kind) -> None:
    """It stays as it is for ever, and its files go: when it is stranded, and at the next start at the latest."""
    _, row = training(sandbox)
    kind.on_restart = "strand"
    ChildJobs(sandbox, {KIND: kind}).tick()
    folder = folder_of(sandbox, row)
    assert folder.is_dir()
    sweep(sandbox)
    assert folder.is_dir()
    ChildJobs(sandbox, {KIND: kind}).tick()
    assert (now(sandbox, row)["data"]["stranded"], folder.exists(), len(spawned)) == (True, False, 1)
    folder.mkdir()
    sweep(sandbox)
    assert not folder.exists()
