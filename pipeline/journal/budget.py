"""Caps on what may be spent: by day and by month, counted over everything the journal holds."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.errors import BudgetExceededError, ErrorContext
from pipeline.models import Money, Unit
from pipeline.value import Value


class Caps(Value):
    """The most that may be spent in a calendar day and month (UTC); none sets no limit."""

    day_usd: float | None = None
    """US dollars a day, for accounts billed in dollars."""
    month_usd: float | None = None
    """US dollars a month."""
    day_credits: int | None = None
    """Credits a day, for accounts billed in credits."""
    month_credits: int | None = None
    """Credits a month."""

    def of_day(self, unit: Unit) -> Money | None:
        """Return the day's cap in a unit."""
        return _money(self.day_credits if unit is Unit.CREDITS else self.day_usd, unit)

    def of_month(self, unit: Unit) -> Money | None:
        """Return the month's cap in a unit."""
        return _money(self.month_credits if unit is Unit.CREDITS else self.month_usd, unit)


NO_CAPS = Caps()
"""No limit but the request's own."""


def _money(amount: float | None, unit: Unit) -> Money | None:
    if amount is None:
        return None
    return Money(amount=round(amount if unit is Unit.CREDITS else amount * 1_000_000), unit=unit)


def day_start_s(now_s: float) -> float:
    """Return when the calendar day (UTC) of a time began, in seconds since the epoch."""
    now = datetime.fromtimestamp(now_s, UTC)
    return now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def month_start_s(now_s: float) -> float:
    """Return when the calendar month (UTC) of a time began, in seconds since the epoch."""
    now = datetime.fromtimestamp(day_start_s(now_s), UTC)
    return now.replace(day=1).timestamp()


def check_cap(price: Money, spent: int, cap: Money | None, period: str) -> None:
    """Refuse a price that does not fit under a cap beside what is spent and held already.

    Raises:
        BudgetExceededError: It does not fit; the message says what is left.
    """
    if cap is None or spent + price.amount <= cap.amount:
        return
    held = Money(amount=spent, unit=cap.unit)
    left = Money(amount=max(0, cap.amount - spent), unit=cap.unit)
    raise BudgetExceededError(
        f"the training is priced at {price}, but of this {period}'s cap of {cap} only {left} is left ({held} is spent "
        f"or held by other runs); wait for the next {period}, raise the cap, or train shorter or on a cheaper GPU",
        ErrorContext(operation="budget", field=f"{period}_cap"),
    )
