"""Pictograph's account: balance, history, price per unit. Source: seed document "Training", checked 2026-11-20."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import InvalidRequestError
from pipeline.models import Unit
from providers.pictograph.session import PAGE_SIZE, Listing, PictographSession, get
from providers.pictograph.values import Balance, LedgerEntry, PriceEstimate
from providers.pictograph.wire_money import BalanceWire, EstimateWire, LedgerEntryWire

_HISTORY = Listing("credits.history", "/credits/history", "entries")
# How the price list names a GPU minute, newest first.
_GPU_MINUTE_SLUGS = ("training_{gpu}", "training_{gpu}_per_minute")


class Credits:
    """The account's money."""

    def __init__(self, session: PictographSession) -> None:
        self._session = session
        self._unit: Unit | None = None
        self._slug: str | None = None

    def balance(self) -> Balance:
        """Return what the account can spend."""
        balance = self._session.read_flat(get("credits.balance", "/credits/balance"), BalanceWire).to_value()
        if balance.unit is Unit.MICRO_USD:
            self._unit = balance.unit
        return balance

    def unit(self) -> Unit:
        """Return what the account is billed in.

        A balance in dollars says so. One in credits does not: for a time balances were still sent in credits alone
        while prices were already in dollars, so the price of a GPU minute decides.
        """
        if self._unit is None and self.balance().unit is not Unit.MICRO_USD:
            try:
                self.estimate_gpu_minutes("a10g", minutes=1)
            except InvalidRequestError:
                self._unit = Unit.CREDITS
        return self._unit or Unit.CREDITS

    def history(self, *, limit: int = 50, offset: int = 0) -> tuple[LedgerEntry, ...]:
        """Return one page of the ledger."""
        unit = self.unit()
        rows = self._session.list_rows(_HISTORY, LedgerEntryWire, limit, offset)
        return tuple(row.to_value(unit) for row in rows)

    def iter(self, *, page_size: int = PAGE_SIZE) -> Iterator[LedgerEntry]:
        """Yield the whole ledger."""
        unit = self.unit()
        for row in self._session.iter_rows(_HISTORY, LedgerEntryWire, page_size):
            yield row.to_value(unit)

    def estimate(self, operation: str, *, quantity: int) -> PriceEstimate:
        """Return the price of an operation as the price list names it.

        Raises:
            InvalidRequestError: The price list has no such operation.
        """
        request = get("credits.estimate", "/credits/estimate", (("operation", operation), ("quantity", quantity)))
        reply = self._session.call(request)
        estimate = self._session.parse_flat(reply, EstimateWire).to_value()
        if estimate is None:
            raise reply.unreadable("it names no price")
        self._unit = estimate.total.unit
        return estimate

    def estimate_gpu_minutes(self, gpu: str, *, minutes: int) -> PriceEstimate:
        """Return the price of GPU minutes under whichever name this server's price list has for them.

        Raises:
            InvalidRequestError: The price list knows the tier under no name.
        """
        slugs = [self._slug] if self._slug else list(_GPU_MINUTE_SLUGS)
        for slug in slugs:
            try:
                estimate = self.estimate(slug.format(gpu=gpu), quantity=minutes)
            except InvalidRequestError as error:
                if slug == slugs[-1] or "unknown operation" not in error.message.lower():
                    raise
            else:
                self._slug = slug
                return estimate
        raise AssertionError("unreachable: the last name either answers or raises")
