"""Processes that use one journal at the same time: each waits at a gate, does its work, and says what came of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from pipeline.errors import BudgetExceededError
from pipeline.journal import store as journal_module
from pipeline.journal.budget import Caps
from pipeline.journal.records import Owner
from pipeline.journal.store import Journal
from tests.intents import LEASE_S, handle_of, intent_of, plan_of

PATIENCE_S = 60.0
# A server process that has imported this module hands out copies of itself: real processes, without eight imports.
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def contend(count: int, work: Callable[..., object], *given: object) -> list[Any]:
    """Run ``work(number, gate, *given)`` in so many processes at once and return what they say, in their order."""
    gate, said = _CONTEXT.Barrier(count), _CONTEXT.Queue()
    crowd = [_CONTEXT.Process(target=_tell, args=(said, work, number, gate, *given)) for number in range(count)]
    for process in crowd:
        process.start()
    answers = dict(said.get(timeout=PATIENCE_S) for _ in crowd)
    for process in crowd:
        process.join(PATIENCE_S)
        process.close()
    said.close()
    said.join_thread()
    return [answers[number] for number in range(count)]


def _tell(said: Any, work: Callable[..., object], number: int, *given: object) -> None:
    try:
        said.put((number, work(number, *given)))
    except BaseException as error:  # said, or the test would wait for it until its patience ends
        said.put((number, error))


def spend(number: int, gate: Any, location: str, caps: Caps) -> str:
    """Reserve the price of one training, and follow it to its handle."""
    journal = Journal(location)
    plan = plan_of(f"op-{number}")
    gate.wait(PATIENCE_S)
    try:
        journal.intend(_lasting(intent_of(plan)), caps)
    except BudgetExceededError as error:
        return str(error)
    journal.created(plan.operation_key, handle_of(f"r{number}"))
    journal.close()
    return "reserved"


def begin_the_same(number: int, gate: Any, location: str) -> tuple[bool, object]:
    """Write the intent of one and the same attempt down."""
    journal = Journal(location)
    intent = replace(_lasting(intent_of(plan_of())), body={"sent by": number})
    gate.wait(PATIENCE_S)
    record, known = journal.intend(intent)
    journal.close()
    return known, (record.body or {}).get("sent by")


def claim_the_same(number: int, gate: Any, location: str, key: str) -> bool:
    """Try to become the owner of one and the same attempt."""
    owner = Owner(host=f"host-{number}", pid=1, born="1", flow_run_id=f"flow-{number}")
    journal = Journal(location)
    gate.wait(PATIENCE_S)
    held = journal.claim(key, owner, time.time() + LEASE_S, lambda _: False)
    journal.close()
    return held.owner == owner


def open_at_once(_number: int, gate: Any, location: str) -> int:
    """Open the journal and read from it."""
    gate.wait(PATIENCE_S)
    journal = Journal(location)
    found = len(journal.open_operations())
    journal.close()
    return found


def die_half_way(location: str) -> None:
    """End as by SIGKILL between reserving an attempt's price and writing the attempt down."""
    process = _CONTEXT.Process(target=_intend_and_die, args=(location,))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL, process.exitcode
    process.close()


def _intend_and_die(location: str) -> None:
    def die(*_: object) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    journal = Journal(location)
    vars(journal_module)["new_row"] = die  # called when the reservation is written and not committed
    journal.intend(_lasting(intent_of(plan_of())))


def read_state(_number: int, _gate: Any, location: str, key: str) -> tuple[str, object] | None:
    """Read an attempt."""
    journal = Journal(location)
    record = journal.find(key)
    journal.close()
    return (record.state.value, record.body) if record is not None else None


def _lasting(intent: Any) -> Any:
    return replace(intent, owner_until_s=time.time() + LEASE_S)
