"""Caps: whose they are, when they begin, and what a refusal says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.errors import BudgetExceededError
from pipeline.journal.budget import NO_CAPS, Caps, check_cap, day_start_s, month_start_s
from pipeline.models import Money, Unit


def at(*date: int) -> float:
    """Return a time, UTC, as seconds since the epoch."""
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def credits_of(amount: int) -> Money:
    """Return credits."""
    return Money(amount=amount, unit=Unit.CREDITS)


def test_each_unit_has_its_own_caps() -> None:
    """Dollars are counted in millionths; what is not set limits nothing."""
    caps = Caps(day_usd=1.1, month_usd=20, day_credits=3, month_credits=40)
    assert (caps.of_day(Unit.CREDITS), caps.of_month(Unit.CREDITS)) == (credits_of(3), credits_of(40))
    assert caps.of_day(Unit.MICRO_USD) == Money(amount=1_100_000, unit=Unit.MICRO_USD)
    assert caps.of_month(Unit.MICRO_USD) == Money(amount=20_000_000, unit=Unit.MICRO_USD)
    assert [NO_CAPS.of_day(unit) or NO_CAPS.of_month(unit) for unit in Unit] == [None, None]


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        ((2026, 3, 1), (2026, 3, 1), (2026, 3, 1)),
        ((2026, 2, 28, 23, 59, 59, 999_999), (2026, 2, 28), (2026, 2, 1)),
        ((2028, 2, 29, 12), (2028, 2, 29), (2028, 2, 1)),
        ((2026, 12, 31, 23, 59, 59), (2026, 12, 31), (2026, 12, 1)),
        ((2026, 10, 25, 1, 30), (2026, 10, 25), (2026, 10, 1)),
    ],
    ids=["midnight", "last moment", "leap day", "last of the year", "clock change elsewhere"],
)
def test_days_and_months_begin_at_midnight_utc(
    now: tuple[int, ...], day: tuple[int, ...], month: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the machine stands."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert (day_start_s(at(*now)), month_start_s(at(*now))) == (at(*day), at(*month))


def test_the_last_credit_may_be_spent() -> None:
    """A price that fits exactly passes, and so does every price where there is no cap."""
    check_cap(credits_of(6), 4, credits_of(10), "day")
    check_cap(credits_of(10**9), 10**9, None, "day")


@pytest.mark.parametrize(("spent", "left"), [(5, 5), (10, 0), (14, 0)])
def test_a_refusal_says_what_is_left_and_what_to_do(spent: int, left: int) -> None:
    """Never less than nothing, even where bills have passed the cap."""
    with pytest.raises(BudgetExceededError) as caught:
        check_cap(credits_of(6), spent, credits_of(10), "month")
    assert f"priced at 6 credits, but of this month's cap of 10 credits only {left} credits is left" in str(
        caught.value
    )
    assert f"({spent} credits is spent or held" in str(caught.value)
    assert "wait for the next month, raise the cap" in str(caught.value)
    assert caught.value.context.field == "month_cap"
