"""The journal's ledger, on SQLite and on PostgreSQL: held, settled, given back, and never above a cap."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.errors import BudgetExceededError
from pipeline.journal.budget import Caps
from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.journal.store import Journal
from pipeline.models import Unit
from tests.contract.conftest import Hands
from tests.intents import NOON_S, intent_of, plan_of, price_of

KEY = plan_of().operation_key
DAY_S = 86_400.0


def found(journal: Journal, key: str = KEY) -> OperationRecord:
    """Return an attempt that must be there."""
    record = journal.find(key)
    assert record is not None
    return record


def spent(journal: Journal, since_s: float = 0.0, unit: Unit = Unit.CREDITS, *, sandbox: bool = False) -> int:
    """Return what counts since a time."""
    return journal.spent(unit.value, sandbox=sandbox, since_s=since_s)


def at(*date: int) -> float:
    """Return a time, UTC, as seconds since the epoch."""
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def test_a_price_is_held_then_settled(journal: Journal) -> None:
    """What was billed takes the place of what was held, below it or above."""
    for operation, billed in (("a", 3), ("b", 14)):
        plan = plan_of(operation)
        journal.intend(intent_of(plan, 10))
        journal.settle(plan.operation_key, billed)
        assert found(journal, plan.operation_key).billed == billed
    assert spent(journal) == 17


def test_a_refusal_gives_the_reservation_back(journal: Journal) -> None:
    """Nothing was started, so nothing is spent, and the next one fits."""
    caps = Caps(day_credits=10)
    journal.intend(intent_of(plan_of()), caps)
    journal.ended(KEY, OperationOutcome.REFUSED, "no such GPU")
    assert spent(journal) == 0
    journal.intend(intent_of(plan_of(attempt=2)), caps)


@pytest.mark.parametrize("outcome", [OperationOutcome.LOST, OperationOutcome.FAILED])
def test_what_nobody_settled_is_spent_on_its_day_and_held_no_longer(
    journal: Journal, outcome: OperationOutcome, hands: Hands
) -> None:
    """A lost run counts as paid for; it does not narrow the caps of every day to come."""
    journal.intend(intent_of(plan_of(), 10))
    journal.ended(KEY, outcome, "gone")
    assert spent(journal, NOON_S) == 10
    hands.now_s += DAY_S
    assert spent(journal, hands.now_s) == 0
    journal.settle(KEY, 4)  # the bill came after all
    assert spent(journal, NOON_S) == 4


def test_what_is_held_counts_until_it_is_settled_whatever_the_day(journal: Journal, hands: Hands) -> None:
    """A run that began yesterday and goes on narrows today's cap; once billed it is yesterday's."""
    caps = Caps(day_credits=15)
    journal.intend(intent_of(plan_of("a"), 10), caps)
    hands.now_s += DAY_S
    with pytest.raises(BudgetExceededError):
        journal.intend(intent_of(plan_of("b"), 10), caps)
    journal.settle(plan_of("a").operation_key, 10)
    journal.intend(intent_of(plan_of("b"), 10), caps)


def test_a_price_that_does_not_fit_leaves_nothing_behind(journal: Journal) -> None:
    """To the last credit it fits; one more is refused, with the cap, what is left and the way out in the reason."""
    caps = Caps(day_credits=30, month_credits=1000)
    journal.intend(intent_of(plan_of("a"), 25), caps)
    with pytest.raises(BudgetExceededError, match=r"6 credits.*this day's cap of 30 credits only 5 credits.*raise the"):
        journal.intend(intent_of(plan_of("b"), 6), caps)
    assert journal.find(plan_of("b").operation_key) is None
    assert spent(journal) == 25
    journal.intend(intent_of(plan_of("b"), 5), caps)
    assert spent(journal) == 30


@pytest.mark.parametrize(
    ("before", "after", "caps"),
    [
        ((2026, 3, 1, 23, 59, 59), (2026, 3, 2), Caps(day_usd=0.00001)),
        ((2026, 2, 28, 23, 59, 59), (2026, 3, 1), Caps(month_usd=0.00001, day_usd=1)),
        ((2027, 12, 31, 23, 59, 59), (2028, 1, 1), Caps(month_usd=0.00001)),
        ((2028, 2, 29, 23, 59, 59), (2028, 3, 1), Caps(month_usd=0.00001)),
    ],
    ids=["midnight", "end of February", "end of the year", "leap day"],
)
def test_a_cap_begins_anew_at_midnight_utc(
    journal: Journal, hands: Hands, before: tuple[int, ...], after: tuple[int, ...], caps: Caps
) -> None:
    """In the period's last second it is used up; from its end on there is room, and what is spent then counts."""
    hands.now_s = at(*before)
    journal.intend(intent_of(plan_of("a"), estimate=price_of(10, Unit.MICRO_USD)), caps)
    journal.settle(plan_of("a").operation_key, 10)
    again = intent_of(plan_of("b"), estimate=price_of(10, Unit.MICRO_USD))
    with pytest.raises(BudgetExceededError, match=r"wait for the next (day|month)"):
        journal.intend(again, caps)
    hands.now_s = at(*after)
    journal.intend(again, caps)
    journal.settle(plan_of("b").operation_key, 10)
    with pytest.raises(BudgetExceededError):
        journal.intend(intent_of(plan_of("c"), estimate=price_of(1, Unit.MICRO_USD)), caps)


def test_units_and_rehearsals_are_never_mixed(journal: Journal) -> None:
    """Credits do not use up dollars, and what a rehearsal costs is nobody's money."""
    caps = Caps(day_usd=0.00001, day_credits=10)
    full: list[tuple[str, bool, Any]] = [
        ("a", False, price_of(10)),
        ("b", False, price_of(10, Unit.MICRO_USD)),
        ("c", True, price_of(10)),
        ("d", True, price_of(10, Unit.MICRO_USD)),
    ]
    for operation, sandbox, price in full:
        journal.intend(intent_of(plan_of(operation, sandbox=sandbox), estimate=price), caps)
        with pytest.raises(BudgetExceededError):
            journal.intend(intent_of(plan_of(operation + "+", sandbox=sandbox), estimate=price), caps)
    assert [spent(journal, 0, unit, sandbox=side) for unit in Unit for side in (True, False)] == [10] * 4


def test_what_has_no_price_reserves_nothing(journal: Journal) -> None:
    """A provider that does not price its trainings is not held up by a cap."""
    journal.intend(intent_of(plan_of(), None), Caps(day_credits=1, month_usd=1))
    assert (spent(journal), found(journal).price) == (0, None)
