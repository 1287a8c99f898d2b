"""Pictograph's JSON about money, private to the adapter.

Both eras are read by one model each: integer credits or millionths of a dollar, every field of one era optional.
Source: https://docs.pictograph.io and the seed documents, checked 2026-11-20.
"""

from __future__ import annotations

from pydantic import Field, JsonValue

from pipeline.models import Money, Unit
from providers.pictograph.values import Balance, Blocker, LedgerEntry, PriceEstimate, TrainingQuote
from providers.wire import Amount, Figure, Flag, JsonObject, Moment, Objects, Text, Whole, Wire


def _money(amount: int | None, unit: Unit) -> Money | None:
    return None if amount is None else Money(amount=amount, unit=unit)


class BalanceWire(Wire):
    """GET /credits/balance."""

    included_remaining_micro_usd: Whole = None
    budget_remaining_micro_usd: Whole = None
    credits_remaining: Whole = None
    credits_reset_at: Moment = None

    def to_value(self) -> Balance:
        """Convert; dollars win where both units are sent, since the credits are then deprecated."""
        included, budget = self.included_remaining_micro_usd, self.budget_remaining_micro_usd
        if included is None and budget is None:
            credits = _money(self.credits_remaining, Unit.CREDITS)
            return Balance(unit=credits and credits.unit, spendable=credits, resets_at=self.credits_reset_at)
        return Balance(
            unit=Unit.MICRO_USD,
            spendable=_money((included or 0) + (budget or 0), Unit.MICRO_USD),
            included_remaining=_money(included, Unit.MICRO_USD),
            budget_remaining=_money(budget, Unit.MICRO_USD),
            resets_at=self.credits_reset_at,
        )


class LedgerEntryWire(Wire):
    """A row of GET /credits/history."""

    id: str
    operation: str
    amount: Figure
    created_at: Moment = None
    description: Text = None
    metadata: JsonObject = Field(default_factory=dict)

    def to_value(self, unit: Unit) -> LedgerEntry:
        """Convert; the row does not name its unit, the account's balance does."""
        return LedgerEntry(
            id=self.id,
            operation=self.operation,
            amount=Money(amount=round(self.amount), unit=unit),
            created_at=self.created_at,
            description=self.description,
            metadata=self.metadata,
        )


class EstimateWire(Wire):
    """GET /credits/estimate."""

    operation: str
    quantity: Figure
    sufficient: bool = False
    micro_usd_per_unit: Amount | None = None
    total_micro_usd: Amount | None = None
    remaining_micro_usd: Whole = None
    credits_per_unit: Amount | None = None
    total_credits: Amount | None = None
    credits_remaining: Whole = None

    def to_value(self) -> PriceEstimate | None:
        """Convert; None when the answer names no price in either unit."""
        per_unit, total, remaining, unit = (
            (self.micro_usd_per_unit, self.total_micro_usd, self.remaining_micro_usd, Unit.MICRO_USD)
            if self.total_micro_usd is not None
            else (self.credits_per_unit, self.total_credits, self.credits_remaining, Unit.CREDITS)
        )
        if per_unit is None or total is None:
            return None
        return PriceEstimate(
            operation=self.operation,
            quantity=self.quantity,
            per_unit=Money(amount=per_unit, unit=unit),
            total=Money(amount=total, unit=unit),
            remaining=_money(remaining, unit),
            sufficient=self.sufficient,
        )


class _QuotePrice(Wire):
    minutes: Figure
    micro_usd_per_minute: Amount
    total_micro_usd: Amount


class _QuoteBalance(Wire):
    budget_remaining_micro_usd: Whole = None
    covers_estimate: bool


class QuoteWire(Wire):
    """POST /training/quote."""

    gpu_type: str
    estimate: _QuotePrice
    balance: _QuoteBalance
    can_start: bool
    fits: Flag = None
    recommended_gpu_type: Text = None
    image_count: Whole = None
    deleted_images: JsonValue = None
    blocking: Objects = ()

    def to_value(self) -> TrainingQuote:
        """Convert; the deleted images come as a number or as a list."""
        deleted = self.deleted_images
        return TrainingQuote(
            gpu=self.gpu_type,
            minutes=self.estimate.minutes,
            per_minute=Money(amount=self.estimate.micro_usd_per_minute, unit=Unit.MICRO_USD),
            total=Money(amount=self.estimate.total_micro_usd, unit=Unit.MICRO_USD),
            budget_remaining=_money(self.balance.budget_remaining_micro_usd, Unit.MICRO_USD),
            covers_estimate=self.balance.covers_estimate,
            can_start=self.can_start,
            fits=self.fits,
            recommended_gpu=self.recommended_gpu_type,
            image_count=self.image_count,
            deleted_images=len(deleted) if isinstance(deleted, list) else deleted if isinstance(deleted, int) else 0,
            blocking=tuple(
                Blocker(code=str(entry.get("code", "unknown")), message=str(entry.get("message", "no explanation")))
                for entry in self.blocking
            ),
        )
