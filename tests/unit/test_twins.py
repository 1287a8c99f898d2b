"""The same training begun twice at once: the second one to write its intent down is told, and pays nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import OperationBusyError
from pipeline.journal.records import OperationOutcome, Owner
from pipeline.journal.rows import Intent
from pipeline.journal.store import Journal
from pipeline.start.reattaching import begins_alone
from tests.unit.conftest import make_estimate, make_plan, make_request

NOON_S = 1_800_000_000.0
"""When everything is written down here."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    made = Journal(str(tmp_path / "journal.db"), now=lambda: NOON_S)
    yield made
    made.close()


def intent_of(operation_id: str, *, account: str = "a", since_s: float | None = NOON_S, **request: Any) -> Intent:
    """Return what one flow run is about to pay for."""
    plan = make_plan(operation_id, **request)
    owner = Owner(host="here", pid=1, born="1", flow_run_id=operation_id)
    return Intent(plan, account, {}, make_estimate(), owner, owner_until_s=1e12, alone_since_s=since_s)


def test_the_second_of_two_that_begin_at_once_pays_nothing(journal: Journal) -> None:
    """Neither has found the other open; one intent is written down, one price is held, the other one is named."""
    journal.intend(intent_of("one"))
    with pytest.raises(OperationBusyError, match="begun as operation 'one' in the meantime; nothing was started"):
        journal.intend(intent_of("two"))
    assert [record.operation_id for record in journal.open_operations()] == ["one"]
    assert journal.spent("credits", sandbox=False, since_s=0) == make_estimate().total.amount


@pytest.mark.parametrize("other", [{"since_s": None}, {"account": "b"}, {"dataset": "another"}], ids=str)
def test_what_is_another_training_may_begin(journal: Journal, other: dict[str, Any]) -> None:
    """One that was asked for on purpose, in another account, or of another data set."""
    journal.intend(intent_of("one"))
    record, known = journal.intend(intent_of("two", **other))
    assert (record.operation_id, known) == ("two", False)


def test_the_next_training_begins_once_the_one_before_is_closed(journal: Journal) -> None:
    """Last night's model was judged: tonight's training is a new one."""
    first, _ = journal.intend(intent_of("one"))
    journal.judged(first.key, OperationOutcome.ACCEPTED, "good")
    assert journal.intend(intent_of("two", since_s=NOON_S + 1))[0].operation_id == "two"


def test_a_slow_worker_does_not_begin_what_another_has_finished_meanwhile(journal: Journal) -> None:
    """It looked before the other one began, and writes its intent down after that one's model was judged."""
    first, _ = journal.intend(intent_of("one"))
    journal.judged(first.key, OperationOutcome.ACCEPTED, "good")
    with pytest.raises(OperationBusyError, match="'one' in the meantime"):
        journal.intend(intent_of("two", since_s=NOON_S - 1))


def test_what_another_has_failed_at_meanwhile_may_begin(journal: Journal) -> None:
    """There is no model that it could be left to."""
    first, _ = journal.intend(intent_of("one"))
    journal.ended(first.key, OperationOutcome.FAILED, "out of memory")
    assert journal.intend(intent_of("two", since_s=NOON_S - 1))[0].operation_id == "two"


def test_the_one_that_began_goes_on(journal: Journal) -> None:
    """A second try of the same flow run finds its own intent, not itself in the way."""
    journal.intend(intent_of("one"))
    assert journal.intend(intent_of("one"))[1]


@pytest.mark.parametrize(
    ("request_fields", "alone"),
    [
        ({}, True),
        ({"on_open_run": "fail"}, True),
        ({"on_open_run": "new"}, False),
        ({"operation": "night-1"}, False),
        ({"adopt": "run-1"}, False),
    ],
)
def test_who_asks_for_one_by_name_gets_it(request_fields: dict[str, Any], alone: bool) -> None:
    """Only a request that leaves it open which operation it is about is held against those that are open."""
    assert begins_alone(make_request(**request_fields)) is alone
