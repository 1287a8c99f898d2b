"""Ownership: who lives, who is waited for, and signs of life."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.errors import ConfigurationError, JournalError, OperationBusyError
from pipeline.journal.ownership import LEASE_S, Lease, is_gone, take_over, this_process
from pipeline.journal.records import OperationOutcome, OperationRecord, Owner
from pipeline.journal.store import Journal
from tests.intents import NOON_S, intent_of, plan_of
from tests.unit.conftest import FakeClock
from tests.waiting import eventually

KEY = plan_of().operation_key
START_S = FakeClock().now
SOON_S = 30.0


def owner_of(pid: int, **changes: str) -> Owner:
    """Return a process of this machine, as it would call itself."""
    numbering = this_process("flow-x").born.rpartition("/")[0]
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] if pid else "1"
    facts = {"host": socket.gethostname(), "born": f"{numbering}/{ticks}", "flow_run_id": "flow-1", **changes}
    return Owner(pid=pid, **facts)


@pytest.fixture
def journal(tmp_path: Path, clock: FakeClock) -> Journal:
    """A journal with one attempt, whose clock is the fake one."""
    return Journal(str(tmp_path / "journal.db"), now=lambda: NOON_S + clock.now)


def begin(journal: Journal, owner: Owner) -> OperationRecord:
    """Write down an attempt that a process carries out from the clock's start on."""
    until_s = NOON_S + START_S + LEASE_S
    return journal.intend(intent_of(plan_of(), owner=owner, owner_until_s=until_s))[0]


def take(journal: Journal, record: OperationRecord, owner: Owner, clock: FakeClock) -> OperationRecord:
    """Take over by the fake clock."""
    return take_over(journal, record, owner, clock, now=lambda: NOON_S + clock.now)


# -- who lives --------------------------------------------------------------------------------------------------------


def test_this_process_lives() -> None:
    """It tells the same of itself every time."""
    assert this_process("flow-1") == owner_of(os.getpid())
    assert not is_gone(this_process("flow-1"))


def test_a_process_that_has_ended_is_gone() -> None:
    """Also while nobody has taken note of its end yet."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(child.pid)
    assert not is_gone(owner)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but still in the list of processes
    assert is_gone(owner)
    child.communicate()
    assert is_gone(owner)


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    """The number was given to somebody else: the owner is gone, although the number lives."""
    assert is_gone(owner_of(os.getpid(), born=owner_of(os.getpid()).born + "1"))


def test_somebody_elses_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it may not be signalled says that it is there; whether it is the owner is told by when it began."""

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    owner = owner_of(os.getppid())
    monkeypatch.setattr(os, "kill", refuse)
    assert not is_gone(owner)
    assert is_gone(owner.model_copy(update={"born": owner.born + "1"}))


def test_a_clone_of_this_machine_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of one name, each with a numbering of the same name: what this one does not have may live on the other."""
    dead = owner_of(0).model_copy(update={"pid": 2**22 + 1})
    assert is_gone(dead)
    read = Path.read_text

    def of_the_clone(path: Path, *how: Any, **named: Any) -> str:
        return "another-start\n" if path.name == "boot_id" else read(path, *how, **named)

    monkeypatch.setattr(Path, "read_text", of_the_clone)
    assert not is_gone(dead)
    assert not is_gone(this_process("flow-1"))


@pytest.mark.parametrize(
    "elsewhere", [{"host": "another-machine"}, {"born": "pid:[1]/1"}], ids=["machine", "container of the same name"]
)
def test_of_processes_elsewhere_nothing_is_known(elsewhere: dict[str, str]) -> None:
    """A number that nobody has here may live there."""
    assert not is_gone(owner_of(0, **elsewhere).model_copy(update={"pid": 2**22 + 1}))


# -- taking over ------------------------------------------------------------------------------------------------------


def test_an_attempt_of_a_dead_process_is_taken_at_once(journal: Journal, clock: FakeClock) -> None:
    """Nobody waits for a lease whose owner is known to have ended; it is held for as long as a lease lasts."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    dead = Owner(host=socket.gethostname(), pid=child.pid, born=this_process("").born, flow_run_id="flow-1")
    child.wait()
    me = this_process("flow-2")
    held = take(journal, begin(journal, dead), me, clock)
    assert (held.owner, held.owner_until_s, held.flow_run_id) == (me, NOON_S + START_S + LEASE_S, "flow-2")
    assert clock.slept == []


def test_an_attempt_of_a_process_here_that_lives_is_left_alone(journal: Journal, clock: FakeClock) -> None:
    """At once, with who has it and what to do instead."""
    record = begin(journal, owner_of(os.getppid()))
    with pytest.raises(OperationBusyError) as caught:
        take(journal, record, this_process("flow-2"), clock)
    who = f"'op-1' is being carried out by flow run flow-1 (process {os.getppid()} on {socket.gethostname()})"
    assert who in str(caught.value)
    assert "nothing was started" in str(caught.value)
    assert "on_open_run=new" in str(caught.value)
    assert clock.slept == []
    assert journal.find(KEY) == record


def test_a_process_elsewhere_is_given_the_time_of_its_lease(journal: Journal, clock: FakeClock) -> None:
    """It gives no sign of life, so the attempt is taken when its word has run out, and not before."""
    record = begin(journal, Owner(host="another-machine", pid=1, born="1", flow_run_id="flow-1"))
    me = this_process("flow-2")
    assert take(journal, record, me, clock).owner == me
    assert LEASE_S <= sum(clock.slept) <= LEASE_S + 5


def test_a_process_elsewhere_that_gives_a_sign_of_life_keeps_it(journal: Journal) -> None:
    """Whoever asks waits no longer than one lease for it."""
    other = Owner(host="another-machine", pid=1, born="1", flow_run_id="flow-1")

    class Renewing(FakeClock):
        def sleep(self, seconds: float, /) -> None:
            super().sleep(seconds)
            assert Journal.renew(journal, KEY, other, NOON_S + self.now + LEASE_S)

    clock = Renewing()
    record = begin(journal, other)
    with pytest.raises(OperationBusyError, match="process 1 on another-machine"):
        take(journal, record, this_process("flow-2"), clock)
    assert sum(clock.slept) <= LEASE_S + 5


def test_an_attempt_that_is_closed_while_it_is_waited_for_is_not_begun_again(journal: Journal) -> None:
    """Its owner, elsewhere, was refused in the meantime: sending its create now would pay on a closed attempt."""

    class Closing(FakeClock):
        def sleep(self, seconds: float, /) -> None:
            super().sleep(seconds)
            journal.ended(KEY, OperationOutcome.REFUSED, "no such GPU")

    record = begin(journal, Owner(host="another-machine", pid=1, born="1", flow_run_id="flow-1"))
    with pytest.raises(OperationBusyError, match=r"'op-1' was closed \(refused\) .* nothing was started"):
        take(journal, record, this_process("flow-2"), Closing())


# -- signs of life ----------------------------------------------------------------------------------------------------


class Noted:
    """A journal that only notes what it is asked, and may refuse."""

    def __init__(self) -> None:
        self.renewed = threading.Semaphore(0)
        self.said: list[tuple[str, str]] = []
        self.closed = 0
        self.refusal: Exception | None = None

    def open(self) -> Journal:
        """Stand in for the journal."""
        return cast("Journal", SimpleNamespace(renew=self.renew, release=self.release, close=self.close))

    def renew(self, key: str, _owner: Owner, _until_s: float) -> bool:
        """Note a sign of life."""
        self.said.append(("renew", key))
        self.renewed.release()
        if self.refusal is not None:
            raise self.refusal
        return True

    def release(self, key: str, _owner: Owner) -> None:
        """Note that it was let go."""
        self.said.append(("release", key))

    def close(self) -> None:
        """Note that the connection was given back."""
        self.closed += 1


def renewed(noted: Noted, times: int) -> None:
    """Wait for signs of life."""
    for _ in range(times):
        assert noted.renewed.acquire(timeout=SOON_S)


def threads() -> list[str]:
    """Return the lease threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name == "lease"]


def test_signs_of_life_are_given_until_the_end_and_then_it_is_let_go() -> None:
    """Again and again, for the attempt that is held then; each with a journal of its own, which is closed."""
    noted = Noted()
    with Lease(noted.open, this_process("flow-1"), renew_s=0.001) as lease:
        lease.hold("first")
        renewed(noted, 3)
        lease.hold("second")
        eventually(lambda: ("renew", "second") in noted.said)
        assert threads() == ["lease"]
    assert threads() == []
    assert noted.said[:3] == [("renew", "first")] * 3
    assert noted.said[-2:] == [("renew", "second"), ("release", "second")]
    assert noted.closed == len(noted.said)


def test_a_lease_that_held_nothing_says_nothing() -> None:
    """A run that stopped before it had an operation leaves the journal alone."""
    noted = Noted()
    with Lease(noted.open, this_process("flow-1"), renew_s=0.001):
        pass
    assert (noted.said, threads()) == ([], [])


@pytest.mark.parametrize("refusal", [JournalError("down"), ConfigurationError("unset")])
def test_a_journal_that_fails_for_a_while_ends_no_run(refusal: Exception) -> None:
    """The next sign of life may get through."""
    noted = Noted()
    noted.refusal = refusal
    with Lease(noted.open, this_process("flow-1"), renew_s=0.001) as lease:
        lease.hold("first")
        renewed(noted, 2)
        noted.refusal = None
        renewed(noted, 2)
    assert noted.said[-1] == ("release", "first")


@pytest.mark.parametrize("refusal", [JournalError("down"), ConfigurationError("unset")])
def test_a_journal_that_cannot_be_opened_ends_no_run(refusal: Exception) -> None:
    """Not in the thread, and not at the end of the run."""
    asked = threading.Semaphore(0)

    def fail() -> Journal:
        asked.release()
        raise refusal

    with Lease(fail, this_process("flow-1"), renew_s=0.001) as lease:
        lease.hold("first")
        assert all(asked.acquire(timeout=SOON_S) for _ in range(3))
    assert threads() == []


def test_a_lease_keeps_others_away_until_it_ends(tmp_path: Path) -> None:
    """With a real journal: its word is prolonged while it is held, and the attempt is free afterwards."""
    opened: Callable[[], Journal] = lambda: Journal(str(tmp_path / "journal.db"))  # noqa: E731
    me, journal = this_process("flow-1"), opened()
    journal.intend(intent_of(plan_of(), owner=me, owner_until_s=0.0))
    seen = threading.Event()

    class Seen(Journal):
        def renew(self, key: str, owner: Owner, until_s: float) -> bool:
            done = super().renew(key, owner, until_s)
            seen.set()
            return done

    with Lease(lambda: Seen(str(tmp_path / "journal.db")), me, renew_s=0.001) as lease:
        lease.hold(KEY)
        assert seen.wait(SOON_S)
        record = journal.find(KEY)
        assert record is not None
        assert record.owner == me
        assert (record.owner_until_s or 0) > NOON_S
    record = journal.find(KEY)
    assert record is not None
    assert (record.owner, record.owner_until_s) == (None, None)
    journal.close()
