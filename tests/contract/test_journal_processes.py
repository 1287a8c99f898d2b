"""Many processes, one journal: they race, they open it at once, and they are killed half-way."""

from __future__ import annotations

import time

from pipeline.journal.budget import Caps
from pipeline.journal.store import Journal
from pipeline.models import Unit
from tests.contenders import (
    begin_the_same,
    claim_the_same,
    contend,
    die_half_way,
    open_at_once,
    read_state,
    spend,
)
from tests.intents import LEASE_S, ME, intent_of, plan_of

CROWD = 8
BUDGET = 5


def test_eight_processes_race_for_five_runs(location: str) -> None:
    """Five get one each, three are told why not, and the ledger holds five prices and five attempts."""
    said = contend(CROWD, spend, location, Caps(day_credits=BUDGET * 10 + 9))
    assert said.count("reserved") == BUDGET, said
    refusals = [sentence for sentence in said if sentence != "reserved"]
    assert len(refusals) == CROWD - BUDGET
    assert all("priced at 10 credits" in why and "only 9 credits is left" in why for why in refusals), refusals
    journal = Journal(location)
    held = {record.operation_id: record.run_id for record in journal.open_operations()}
    assert held == {f"op-{number}": f"r{number}" for number in range(CROWD) if said[number] == "reserved"}
    assert journal.spent(Unit.CREDITS.value, sandbox=False, since_s=0) == BUDGET * 10
    journal.close()


def test_one_attempt_is_begun_by_one_of_eight_processes(location: str) -> None:
    """All others are told that it was there before, and get the body of the one that was first."""
    said = contend(CROWD, begin_the_same, location)
    assert sorted(known for known, _ in said) == [False] + [True] * (CROWD - 1)
    first = next(number for number, (known, _) in enumerate(said) if not known)
    assert {body for _, body in said} == {first}


def test_one_attempt_goes_to_one_of_eight_processes(location: str) -> None:
    """An attempt whose owner has gone is taken over by exactly one."""
    journal, key = Journal(location), plan_of().operation_key
    journal.intend(intent_of(plan_of()))  # its lease lapsed long ago
    got = contend(CROWD, claim_the_same, location, key)
    assert got.count(True) == 1, got
    record = journal.find(key)
    assert record is not None
    assert record.flow_run_id == f"flow-{got.index(True)}"
    journal.close()


def test_a_journal_is_made_once_by_eight_processes_that_open_it(location: str) -> None:
    """Nobody meets half a table, and nobody is turned away because others are at it."""
    assert contend(CROWD, open_at_once, location) == [0] * CROWD


def test_another_process_reads_what_was_committed(location: str) -> None:
    """The intent is readable elsewhere as soon as the call has returned."""
    journal, plan = Journal(location), plan_of()
    assert contend(1, read_state, location, plan.operation_key) == [None]
    journal.intend(intent_of(plan))
    expected = ("intent", {"dataset_name": "road-signs", "name": plan.run_name})
    assert contend(1, read_state, location, plan.operation_key) == [expected]
    journal.close()


def test_a_process_that_is_killed_leaves_no_half_attempt(location: str) -> None:
    """Killed between the reservation and the attempt's row: neither is there, and nobody waits for the dead one."""
    die_half_way(location)
    began = time.monotonic()
    journal, plan = Journal(location), plan_of()
    assert journal.open_operations() == ()
    assert journal.spent(Unit.CREDITS.value, sandbox=False, since_s=0) == 0
    intent = intent_of(plan, owner=ME, owner_until_s=time.time() + LEASE_S)
    assert not journal.intend(intent, Caps(day_credits=10))[1]
    assert time.monotonic() - began < 10
    journal.close()
