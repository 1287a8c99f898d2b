"""An operation passes from one process of a flow run to the next one, and is kept from everybody else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.errors import OperationBusyError
from pipeline.journal.ownership import take_over, this_process
from pipeline.journal.records import OperationRecord, Owner
from pipeline.journal.rows import Intent
from pipeline.journal.store import Journal
from tests.unit.conftest import FakeClock, make_plan

PLAN = make_plan()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal in which this process carries an operation out."""
    journal = Journal(str(tmp_path / "journal.db"))
    owner = this_process("ours")
    journal.intend(Intent(PLAN, "a", {}, None, owner, time.time() + 60))
    return journal


def _record(journal: Journal) -> OperationRecord:
    found = journal.find(PLAN.operation_key)
    assert found is not None
    return found


class _Releasing(FakeClock):
    """A clock during whose first sleep the other process ends."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def sleep(self, seconds: float, /) -> None:
        super().sleep(seconds)
        self._journal.release(PLAN.operation_key, this_process("ours"))


def test_the_next_process_of_a_flow_run_waits_for_the_one_before(journal: Journal) -> None:
    """A deferred flow run that is brought forward at once comes while the process that left is ending."""
    following = Owner(host=this_process("ours").host, pid=os.getpid() + 1, born="later", flow_run_id="ours")
    clock = _Releasing(journal)
    began = clock.monotonic()
    assert take_over(journal, _record(journal), following, clock).owner == following
    assert clock.monotonic() - began == 5.0


def test_another_flow_run_is_told_at_once(journal: Journal, clock: FakeClock) -> None:
    """Of a process of this machine it is known that it lives: there is nothing to wait for."""
    other = Owner(host=this_process("ours").host, pid=os.getpid() + 1, born="later", flow_run_id="theirs")
    began = clock.monotonic()
    with pytest.raises(OperationBusyError, match="flow run ours"):
        take_over(journal, _record(journal), other, clock)
    assert clock.monotonic() == began


def test_a_new_deadline_is_kept(journal: Journal) -> None:
    """It outlives the process; none means that the next one to watch begins anew."""
    for deadline_at_s in (1234.5, None):
        journal.watch_until(PLAN.operation_key, deadline_at_s)
        assert _record(journal).deadline_at_s == deadline_at_s
