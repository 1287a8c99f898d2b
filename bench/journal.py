"""What the journal costs a run: everything a run asks of it, beside a journal that does nothing.

As the stages use it: each opens the journal, asks, and closes it again; in between the lease gives signs of life, a
thread's work in a real run and counted here all the same. SQLite and PostgreSQL (a server on this machine, reached
through a socket) take turns with the journal that does nothing, in one process. That keeps one connection, so each run
pays for its first opening, as one in a process of its own does. The database grows while this runs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import cast
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe_machine, parse_quick
from pipeline.journal.bookkeeping import AttemptLog, settle_attempt
from pipeline.journal.budget import Caps
from pipeline.journal.ownership import LEASE_S, this_process
from pipeline.journal.records import OperationRecord, OperationState, Owner
from pipeline.journal.store import Journal
from pipeline.models import Money, Operation, RunStatus, Settlement, TrainingRun, Unit
from pipeline.report.closing import close_attempt
from pipeline.report.dossier import Dossier, utc_now
from pipeline.start.reattaching import choose_operation
from tests.databases import running_postgres
from tests.intents import handle_of, intent_of, plan_of

GOAL_MS = 30.0
"""Most milliseconds a run may spend on the journal."""
SIGNS = 3
"""Signs of life in a run: one minute."""
CAPS = Caps(day_credits=10**12, month_credits=10**12)
EARLIER = 200
"""Runs the journal holds before the first one that is measured."""


class NoJournal:
    """Answers as an empty journal would, and does nothing."""

    def find(self, _key: str) -> None:
        """Know no attempt."""

    def open_like(self, _fingerprint: str) -> tuple[OperationRecord, ...]:
        """Know no attempt."""
        return ()

    def intend(self, *_: object) -> tuple[OperationRecord, bool]:
        """Write nothing down."""
        return _NOTHING, False

    def __getattr__(self, _name: str) -> Callable[..., None]:
        """Do nothing else either."""
        return lambda *_: None


_NOTHING = OperationRecord.model_construct(body={}, state=OperationState.INTENT)


@dataclass
class Tally:
    """What one journal took, in milliseconds."""

    runs_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    steps_ms: dict[str, list[float]] = field(default_factory=dict)


class Run:
    """One run's dealings with a journal, stage by stage."""

    def __init__(self, open_journal: Callable[[], Journal], number: int, tally: Tally) -> None:
        self._open = open_journal
        self._tally = tally
        self._owner: Owner = this_process(f"bench-{number}")
        self._plan = plan_of(f"bench-{number}")
        self._run = TrainingRun(handle=handle_of(f"r{number}"), status=RunStatus.COMPLETED, provider_status="completed")

    @contextmanager
    def _stage(self, name: str) -> Iterator[Journal]:
        began = time.perf_counter()
        journal = self._open()
        yield journal
        journal.close()
        self._tally.steps_ms.setdefault(name, []).append((time.perf_counter() - began) * 1000)

    def go(self) -> None:
        """Plan, create, watch, judge and settle."""
        began, busy, key = time.perf_counter(), time.process_time(), self._plan.operation_key
        with self._stage("plan") as journal:
            choose_operation(journal, self._plan.request, self._owner.flow_run_id, lambda _: True, again=False)
            journal.find(key)
        with self._stage("create (intent, handle)") as journal:
            intent = intent_of(self._plan, 10, owner=self._owner, owner_until_s=time.time() + LEASE_S)
            log = AttemptLog(journal, intent, time, CAPS)
            log.intend(intent.body)
            log.created(self._run.handle)
        for _ in range(SIGNS):
            with self._stage("sign of life") as journal:
                journal.renew(key, self._owner, time.time() + LEASE_S)
        with self._stage("completed") as journal:
            journal.terminal(key)
        with self._stage("let go") as journal:
            journal.release(key, self._owner)
        with self._stage("settle") as journal:
            settle_attempt(journal, key, self._run, _bill())
        with self._stage("close") as journal:
            close_attempt(journal, self._dossier())
        self._tally.runs_ms.append((time.perf_counter() - began) * 1000)
        self._tally.cpu_ms.append((time.process_time() - busy) * 1000)

    def _dossier(self) -> Dossier:
        dossier = Dossier(self._plan.request, Operation(id=self._plan.operation.id), utc_now())
        dossier.plan, dossier.run = self._plan, self._run
        dossier.accept()
        return dossier


def _bill() -> Settlement:
    return Settlement(charged=Money(amount=9, unit=Unit.CREDITS), refunded=Money(amount=0, unit=Unit.CREDITS))


def main() -> int:
    """Measure, print, and return 1 when the goal is missed."""
    rounds = 30 if parse_quick(__doc__) else 300
    print(describe_machine("sqlalchemy", "psycopg"))
    nothing = cast("Journal", NoJournal())
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as folder, running_postgres() as served:
        print(f"one commit of this disk (write and sync 4 KiB): {_sync_ms(Path(folder)):.2f} ms")
        address = served.empty()
        sides: dict[str, Callable[[], Journal]] = {
            "none": lambda: nothing,
            "SQLite": lambda: Journal(str(Path(folder) / "journal.db")),
            "PostgreSQL": lambda: Journal(address),
        }
        tallies = _measure(sides, rounds)
    for name, tally in tallies.items():
        _show(name, tally)
    none_ms = median(tallies["none"].runs_ms)
    cost = {name: median(tally.runs_ms) - none_ms for name, tally in tallies.items() if name != "none"}
    met = all(ms <= GOAL_MS for ms in cost.values())
    figures = ", ".join(f"{name} {ms:.1f} ms" for name, ms in cost.items())
    print(f"a run's journal costs {figures}; needed <= {GOAL_MS:.0f} ms: {'met' if met else 'MISSED'}")
    print(f"load {os.getloadavg()[0]:.1f} after")
    return 0 if met else 1


def _measure(sides: dict[str, Callable[[], Journal]], rounds: int) -> dict[str, Tally]:
    for name, open_journal in sides.items():
        if name != "none":
            _fill(open_journal)
    for number, open_journal in enumerate(sides.values()):
        Run(open_journal, -1 - number, Tally()).go()  # pays for imports and connections
    tallies = {name: Tally() for name in sides}
    for number in range(rounds):
        for name, open_journal in sides.items():
            Run(open_journal, number, tallies[name]).go()
    return tallies


def _fill(open_journal: Callable[[], Journal]) -> None:
    """Put earlier runs into a journal, which look-ups and sums have to pass."""
    journal = open_journal()
    with patch.object(journal, "close"):
        for number in range(EARLIER):
            Run(lambda: journal, -1000 - number, Tally()).go()
    journal.close()


def _sync_ms(folder: Path) -> float:
    taken: list[float] = []
    with (folder / "probe").open("wb") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(os.urandom(4096))
            file.flush()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


def _show(name: str, tally: Tally) -> None:
    times, busy_ms = tally.runs_ms, median(tally.cpu_ms)
    print(f"\n{name}: {median(times):.2f} ms a run ({min(times):.2f} to {max(times):.2f}), {len(times)} runs;", end=" ")
    print(f"of it this process computes {busy_ms:.2f} ms")
    for step, taken in tally.steps_ms.items():
        each = f"{SIGNS} times " if step == "sign of life" else ""
        print(f"  {step:<24} {each}{median(taken):.2f} ms")


if __name__ == "__main__":
    sys.exit(main())
